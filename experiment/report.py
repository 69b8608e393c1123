"""Section 4 as one page: the runs of the four variants in pictures, curves and figures.

    python -m experiment.report runs/*        -> report.html, one file that needs no network

It draws what is in the run folders: config.json, log.csv, samples/ and, once the snapshots are judged, metrics.csv of
experiment/evaluate.py and fid.csv of fid.py.  Runs that differ in nothing but their seeds are drawn as their mean and
range.  A file that can't be read is left out and named.
"""

import base64
import csv
import io
import os
from argparse import Namespace
from collections import Counter, defaultdict
from contextlib import contextmanager
from html import escape
from pathlib import Path
from statistics import fmean

from PIL import Image

from common import Parser, UserError, atomic_write, run_script
from experiment.curves import ARTICLE, averages, draw, stops_improving, tell
from run import CHANGEABLE, read_config, variant

VARIANTS = {"full": "both", "no-attn": "neither", "no-gen-attn": "the discriminator", "no-disc-attn": "the generator"}
# Columns of metrics.csv and log.csv: title, unit, values that the axis must include, what the panel shows.
PANELS = {
    "distance": ("EfficientNet distance", "", (), "Fréchet distance of EfficientNet-Lite0: the lower, the better."),
    "kid": ("EfficientNet KID", "x 1,000", (0,), "Kernel distance of the same features: the lower, the better."),
    "fid": ("FID", "", (), "Fréchet distance of Inception, to the photos: the lower, the better."),
    "precision": ("Precision", "share", (0,), "Generated dogs among the real ones; of blobs it tells nothing."),
    "recall": ("Recall", "share", (0,), "Real dogs that lie among the generated ones."),
    "density": ("Density", "", (0,), "As precision, counting each real dog that is near, not whether one is."),
    "coverage": ("Coverage", "share", (0,), "As recall, but near is what is near for the real dogs."),
    "dogs": ("Dogs", "share", (0,), "Pictures that a trained network takes for a dog."),
    "breeds": ("Breeds", "breeds", (0,), "Effective number: n for n equally frequent breeds."),
    "big_share": ("Big breeds", "share", (0,), "Of the generated dogs, those of breeds of 55 cm or more."),
    "big": ("Recall of big breeds", "share", (0,), "Recall among the real dogs of breeds of 55 cm or more."),
    "others": ("Recall of the others", "share", (0,), "Recall among all other real dogs."),
    "nearest": ("Nearest photo", "", (0,), "The nearest hundredth: 0 if learnt by heart, 1 for unseen dogs."),
    "far": ("Far attention", "share", (0,), "Attention in G that goes farther than a quarter of the side."),
    "d_loss": ("Loss of D", "nats", (), "Eq. 2, negated; 1.39 where D can't tell real from generated."),
    "g_loss": ("Loss of G", "nats", (), "Eq. 3, negated; 0.69 where D can't tell real from generated."),
    "d_real": ("D(x)", "", (0.5,), "D's mean answer to photos; 0.5 is a guess."),
    "d_fake": ("D(G(z))", "", (0.5,), "D's mean answer to generated dogs; 0.5 is a guess."),
    "gamma_g": ("|Gamma| in G", "", (0,), "The weight of attention in G; its sign means nothing."),
    "gamma_d": ("|Gamma| in D", "", (0,), "The weight of attention in D; its sign means nothing."),
    "images_per_s": ("Speed", "images/s", (0,), "Photos trained on a second."),
}
MEASURES, STOPS = list(PANELS)[:14], ["d_loss", "fid", "distance"]  # of single steps; for section 4.1.5
# Options that don't change what a run learns; the last three are those of older runs.
HARMLESS = CHANGEABLE | {"seed", "inception", "real_stats", "fid_every"}
KEY = '<svg class="key {}" viewBox="0 0 32 8"><path class="line" d="M0 4h32"/></svg>{}'  # style and name of a curve
COLUMNS, ROWS, TILE = 6, 4, 66  # of dogs in a picture, and the pixels of one with its gap
STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")


# Reading a run ------------------------------------------------------------------------------------------------


def code_of(config):
    """A run's config.json -> words for the code that trained it, and what differs where the code does."""
    code = config.get("code") or {"commit": "unknown", "changed": False, "sha256": ""}
    changed = " with changes" * code["changed"]
    return f"{code['commit'] or code['sha256']}{changed}", f"{code['sha256']}{config.get('changes') or ''}"


@contextmanager
def left_out(path):
    """Whatever is wrong with a file inside the block, the page does without it, and a line names it."""
    try:
        yield
    except Exception as error:  # a broken file makes csv and Pillow raise nearly anything
        print(f"left out: {path}: {' '.join(f'{type(error).__name__}: {error}'.split())[:200]}")


def read_columns(path):
    """PANELS' columns of a .csv -> {column: [(step, value)]}, and the counts and fingerprints in it, as a text.

    Raises nearly anything.
    """
    text, columns, judged = path.read_text(encoding="utf-8-sig"), {}, set()
    for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):  # the last line may be half written
        step = int(row["step"])
        if "count" in row:
            judged.add(f"{int(row['count']):,} {row.get('fingerprint') or ''}".strip())
        for name in PANELS.keys() & row.keys():
            if cells := [float(cell) for cell in row[name].split()]:  # a number for each layer with attention
                value = fmean(map(abs, cells)) if "gamma" in name else cells[0]
                if not (abs(value) < 1e100 and 0 < step < 1e10):  # larger ones, and nan, can't be drawn
                    raise ValueError(f"{name} is {row[name]} at step {step}")
                columns.setdefault(name, {})[step] = value
    if not columns:
        raise ValueError("no figures in it")
    return {name: sorted(points.items()) for name, points in columns.items()}, " or ".join(sorted(judged))


def read_run(folder):
    """A run folder -> its options, and folder, name, variant, code, last step, points {column: [(step, value)]}.

    judged: {file: counts and fingerprints}; traits: what averaged runs have in common.  Raises nearly anything.
    """
    config = read_config(folder)
    one = Namespace(**config["options"], folder=folder, points=defaultdict(list), judged=defaultdict(str))
    one.name = os.fsencode(folder).decode("utf-8", "backslashreplace")  # the locale may have read it as ASCII
    one.variant, one.seed, (one.code, code) = variant(one), int(one.seed), code_of(config)
    one.traits = {key: config["options"][key] for key in sorted(config["options"].keys() - HARMLESS)}
    one.traits |= {"size": config["size"], "photos": str(config["photos_sha256"])[:8], "code": code}
    for name in ("log.csv", "metrics.csv", "fid.csv"):
        if name == "log.csv" or (folder / name).exists():
            with left_out(folder / name):
                columns, one.judged[name] = read_columns(folder / name)
                one.points |= columns
    one.last = max((points[-1][0] for points in one.points.values()), default=0)
    return one


def group(runs):
    """[(label, style, runs to be averaged)] in the article's order.

    Where a variant is in several groups, folders are the labels, and each has its own colour.
    """
    order, groups = list(VARIANTS), {}
    times = Counter((repr(one.traits), one.seed) for one in runs)
    twice = {traits for (traits, _), count in times.items() if count > 1}  # a seed that comes twice is no second seed
    for one in sorted(runs, key=lambda one: (order.index(one.variant), one.seed, one.name)):
        groups.setdefault(one.name if repr(one.traits) in twice else repr(one.traits), []).append(one)
    if len({one.variant for one in runs}) == len(groups):
        return [(runs[0].variant, f"s{order.index(runs[0].variant)}", runs) for runs in groups.values()]
    return [(runs[0].name, f"s{place % 8}", runs) for place, runs in enumerate(groups.values())]


# The page -----------------------------------------------------------------------------------------------------


def title(column):
    return PANELS[column][0]


def panel(column, groups, last):
    """A column's curves of all groups under its title, and one line that says what they show."""
    name, unit, include, caption = PANELS[column]
    curves = [(label, style, averages([one.points[column] for one in runs])) for label, style, runs in groups]
    stops = [(stops_improving(one.points[column]), style) for _, style, runs in groups for one in runs]
    stops = [(step, style) for step, style in stops if column in STOPS and not isinstance(step, str)]
    svg = draw(curves, last, unit, include, stops)
    return f"<figure><h3>{name}</h3>{svg}<figcaption>{caption}</figcaption></figure>"


def picture(run, step, label):
    """The first dogs of a run's sheet of samples under a label, in an <img> that holds its pixels; "" if none."""
    path = run.folder / "samples" / f"{step:06d}.png"
    if not path.exists():
        return ""
    with left_out(path):
        with Image.open(path) as sheet:
            side = (sheet.width - 2) // 8  # of a dog and its gap: a sheet has eight a row
            dogs = sheet.convert("RGB").crop((0, 0, COLUMNS * side + 2, ROWS * side + 2))
        dogs = dogs.resize((COLUMNS * TILE + 2, ROWS * TILE + 2))
        dogs.save(jpeg := io.BytesIO(), "JPEG", quality=80)
        data, label = base64.b64encode(jpeg.getvalue()).decode(), escape(label)
        return f'<figure><h3>{label}</h3><img alt="{label}" src="data:image/jpeg;base64,{data}"></figure>'
    return ""


def table(head, *blocks):
    """A table of blocks of rows whose cells are HTML."""
    rows = [["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in block] for block in blocks]
    head = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tbody>{''.join(block)}</tbody>" for block in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def settings(groups):
    """Rows that tell what each group's runs were, and how many pictures they were judged by."""
    traits = [runs[0].traits for *_, runs in groups]
    differing = [key for key in traits[0] if len({repr(some.get(key)) for some in traits}) > 1]
    differing = [key for key in differing if key not in ("no_gen_attn", "no_disc_attn", "code")]

    def row(name, tell):
        return [name, *(escape(" or ".join(sorted({tell(one) for one in runs} - {""}))) for *_, runs in groups)]

    rows = [
        ["seeds", *(", ".join(str(one.seed) for one in runs) for *_, runs in groups)],
        row("width, batch, attention at", lambda one: f"{one.width}, {one.batch}, {one.attn_at}"),
        row("differ in", lambda one: ", ".join(f"{key} {one.traits.get(key)}" for key in differing)),
        row("code", lambda one: one.code),
        row("pictures judged, against", lambda one: one.judged["metrics.csv"]),
        row("pictures for FID, against", lambda one: one.judged["fid.csv"]),
    ]
    return [cells for cells in rows if any(cells[1:])]


def figures(groups, columns, step=None):
    """A row for each variant: each column at a step, or where its curve ends."""
    rows = []
    for label, style, runs in groups:
        rows.append([KEY.format(style, escape(label))])
        for column in columns:
            points = averages([one.points[column] for one in runs])
            rows[-1].append("".join(tell(point) for point in points if point[0] == (step or points[-1][0])))
    return rows


def when_to_stop(groups, columns):
    """A row for each run: where its curves stop improving and, in brackets, the last column there."""
    rows = []
    for label, style, one in ((label, style, one) for label, style, runs in groups for one in runs):
        rows.append([KEY.format(style, escape(label)), one.seed, f"{one.last:,}"])
        for stop in (stops_improving(one.points[column]) for column in columns):
            if not isinstance(stop, str):
                near = sorted(averages([one.points[columns[-1]]]), key=lambda point: abs(point[0] - stop))
                stop = f"{stop:,.0f} ({''.join(map(tell, near[:1]))})"
            rows[-1].append(stop)
        rows[-1].append(escape(one.name))
    return rows


def page(runs):
    """All of it for runs that read_run gave -> HTML."""
    groups, last = group(runs), max(one.last for one in runs)
    found = {column for one in runs for column in one.points}
    columns = [column for column in PANELS if column in found]
    final = [column for column in columns if column not in ("g_loss", "d_real", "d_fake")]
    measures = [column for column in columns if column in MEASURES]
    steps = sorted({*(step for step in ARTICLE if step <= last), last}) if measures else []
    head, *results = zip(["", *map(title, final)], *figures(groups, final), strict=True)
    by_step = [[[f"step {step:,}"], *figures(groups, measures, step)] for step in steps]
    stops = [column for column in STOPS if column in columns]
    pictures = ""
    for step in sorted({*ARTICLE, *(one.last for one in runs)}):
        shown = "".join(picture(members[0], step, f"{label}, step {step:,}") for label, _, members in groups)
        pictures += f'<div class="pictures">{shown}</div>' * bool(shown)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Self-Attention GAN on dogs</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style>
<h1>Self-Attention GAN on dogs: attention on and off</h1>
<p>{"; ".join(f"<b>{name}</b>: attention in {where}" for name, where in VARIANTS.items())}.</p>
{table(head, settings(groups), results)}
<p class="note">At the end, mean ± half the range over seeds; of what is logged, over the last hundredth. Both
distances fall as more pictures are judged: compare equal numbers, judged against the same photos.</p>
<h2>Curves (section 4.2)</h2>
<p class="note">Lines are means over seeds, bands reach from the lowest seed to the highest. Ticks are the steps that
section 4 looks at; triangles on the axis tell where each run stops improving, by the rule below.</p>
<div class="panels">{"".join(panel(column, groups, last) for column in columns)}</div>
<h2>When to stop (section 4.1.5)</h2>
{table(["variant", "seed", "steps", *(f"{title(c)} stops" for c in stops), "run"], when_to_stop(groups, stops))}
<p class="note">A curve stops improving where it has fallen by 95 % of all that it ever falls, counted from the highest
of the first half of its points; of noise, too, so compare the seeds. Not yet: that is in the run's last fifth. In
brackets: {"".join(map(title, stops[-1:]))} there, or where it was measured next to that.</p>
<h2>Step by step (sections 4.1.1 to 4.1.4)</h2>
{table(["", *map(title, measures)], *by_step)}
<p class="note">The first {COLUMNS * ROWS} dogs of each grid of samples, unselected, of each variant's first seed.</p>
{pictures}</html>
"""


def main():
    parser = Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders of train.py")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page to write")
    args = parser.parse_args()
    runs = []
    for folder in {folder.resolve(): folder for folder in args.runs}.values():  # each once, whatever its path
        with left_out(folder / "config.json"):
            one = read_run(folder)
            runs += [one] * bool(one.points)
    if not runs:
        raise UserError("none of these folders holds a run with figures: name some that train.py made")
    with atomic_write(args.out) as temporary:
        temporary.write_text(page(runs), encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    run_script(main)
