"""Section 4 as one page: the runs of the four variants in pictures, curves and figures.

    python -m experiment.report runs/*        -> report.html, one file that needs no network

It draws what is in the run folders: config.json, log.csv, samples/ and, once experiment/evaluate.py has judged the
snapshots, metrics.csv.  Runs that differ in nothing but their seeds are drawn as their mean and range.
"""

import base64
import csv
import io
import math
import os
from argparse import Namespace
from collections import defaultdict
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from PIL import Image, ImageDraw, ImageFont

from common import Parser, UserError, atomic_write, run_script
from run import CHANGEABLE, MILESTONES, read_config, variant

ARTICLE = sorted(MILESTONES - {1000})  # the steps that section 4 looks at
VARIANTS = {"full": "both", "no-attn": "neither", "no-gen-attn": "the discriminator", "no-disc-attn": "the generator"}
# Columns of metrics.csv and log.csv: title, unit, values that the axis must include, what the panel shows.
PANELS = {
    "distance": ("Distance", "", (), "Fréchet distance, EfficientNet-Lite0: the lower, the better."),
    "kid": ("KID", "x 1,000", (0,), "Kernel distance of the same features: the lower, the better."),
    "fid": ("FID", "", (), "Fréchet Inception distance to the photos: the lower, the better."),
    "precision": ("Precision", "share", (0,), "Generated dogs among the real ones; of blobs it tells nothing."),
    "recall": ("Recall", "share", (0,), "Real dogs that lie among the generated ones."),
    "dogs": ("Dogs", "share", (0,), "Pictures that a trained network takes for a dog."),
    "breeds": ("Breeds", "breeds", (0,), "Effective number: n for n equally frequent breeds."),
    "big": ("Recall of big breeds", "share", (0,), "Recall among the real dogs of breeds of 55 cm or more."),
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
MEASURES, STOPS = list(PANELS)[:10], ["d_loss", "fid", "distance"]  # of single steps; for section 4.1.5
POINTS = 100  # a curve has at most so many
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 250, 46, 92, 22, 32  # of a panel and its margins
KEY = '<svg class="key {}" viewBox="0 0 32 8"><path class="line" d="M0 4h32"/></svg>{}'  # style and name of a curve
COLUMNS, ROWS, TILE = 6, 4, 66  # of dogs in a picture, and the pixels of one with its gap
# Colour (Okabe and Ito's) and dash both tell the variant, for colour-blind readers.
STYLE = """
:root{color-scheme:light dark;--ink:#222;--paper:#fff;--faint:#707070}
.s0{--c:#0072b2}.s1{--c:#d55e00;--d:7 3}.s2{--c:#009e73;--d:2 2}.s3{--c:#cc79a7;--d:9 2 2 2}
@media screen and (prefers-color-scheme:dark){
:root{--ink:#ddd;--paper:#161616;--faint:#999}.s0{--c:#56b4e9}.s1{--c:#f0803c}.s2{--c:#1fc195}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:88rem;margin:auto}
body{padding:1em}p{max-width:60em}h1{font-size:1.7em}h2{font-size:1.3em;margin:2em 0 .5em}h3{font-size:1em;margin:0}
.panels,.pictures{display:grid;gap:1.5em;grid-template-columns:repeat(auto-fill,minmax(min(100%,24em),1fr))}
.pictures{gap:.7em;margin-bottom:.7em;grid-template-columns:repeat(auto-fill,minmax(min(100%,19em),1fr))}
figure{margin:0;break-inside:avoid}figcaption,.note{font-size:.875em;color:var(--faint)}
svg,img{display:block;width:100%;height:auto}svg.key{display:inline;width:2.2em;margin-right:.4em}
text{font-size:12px;fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:3px}
.line{fill:none;stroke:var(--c);stroke-dasharray:var(--d);stroke-width:1.8}.leader{stroke:var(--c);stroke-width:.8}
.band,.stop{fill:var(--c)}.band{fill-opacity:.16}.axis,.grid{stroke:var(--faint);fill:none}.grid{stroke-opacity:.28}
.hover{stroke:var(--ink);stroke-width:5px;stroke-opacity:0}.hover:hover{stroke-opacity:.15}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.875em;font-variant-numeric:tabular-nums}tbody{border-top:1px solid}
td,th{padding:.2em .6em;text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left}
"""


# Reading a run ------------------------------------------------------------------------------------------------


def read_columns(path):
    """Column "count" and PANELS' columns of a log.csv or metrics.csv -> {column: [(step, value)]}; [] if it has none.

    The gamma of a network's second layer with attention is "gamma_g 2".  Raises ValueError, KeyError, TypeError.
    """
    text, columns = path.read_text(encoding="utf-8"), {}
    for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):  # the last line may be half written
        for name in {*PANELS, "count"} & row.keys():
            for layer, cell in enumerate(row[name].split(), 1):
                if not math.isfinite(float(cell)):
                    raise ValueError(f"{name} is {cell}")
                value = abs(float(cell)) if "gamma" in name else float(cell)
                columns.setdefault(name if layer == 1 else f"{name} {layer}", {})[int(row["step"])] = value
    return defaultdict(list, {name: sorted(points.items()) for name, points in columns.items()})


def read_run(folder):
    """A run folder -> its options, and folder, name, variant, key, size, last step, points {column: [(step, value)]}.

    Runs of one key differ in nothing but their seeds.  Raises UserError if there is nothing to draw.
    """
    config = read_config(folder)
    try:
        points = read_columns(folder / "log.csv")
        if (folder / "metrics.csv").exists():
            points |= read_columns(folder / "metrics.csv")
        one = Namespace(**config["options"], folder=folder, size=config["size"], points=points)
        one.name = os.fsencode(folder).decode("utf-8", "backslashreplace")  # the locale may have read it as ASCII
        one.variant, one.last = variant(one), points["d_loss"][-1][0]
        fixed = config["options"].keys() - CHANGEABLE - {"seed"}
        one.key = repr([config["photos_sha256"], *sorted((option, config["options"][option]) for option in fixed)])
        return one
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: no log.csv or metrics.csv to draw ({type(error).__name__}: {error})") from None


def group(runs):
    """[(label, style, runs of one key)] in the article's order; if a variant has several keys, folders are labels."""
    order, groups = list(VARIANTS), {}
    for one in sorted(runs, key=lambda one: (order.index(one.variant), one.seed)):
        groups.setdefault(one.key, []).append(one)
    unique = len({one.variant for one in runs}) == len(groups)
    labels = [members[0].variant if unique else members[0].name for members in groups.values()]
    styles = [f"s{order.index(members[0].variant)}" for members in groups.values()]
    return list(zip(labels, styles, groups.values(), strict=True))


# Curves -------------------------------------------------------------------------------------------------------


def averages(curves):
    """Curves [(step, value)], one for each seed -> their mean and range [(step, mean, lowest, highest)].

    Curves of more than POINTS points are first averaged over equal parts of the run.  A point needs all curves that
    came so far, since one may have been measured more often than another.
    """
    curves = [points for points in curves if points]
    last = max((points[-1][0] for points in curves), default=0)
    size = -(-last // POINTS) if max(map(len, curves), default=0) > POINTS else 1
    parts = defaultdict(lambda: defaultdict(list))  # {part: {curve: points}}
    for curve, points in enumerate(curves):
        for step, value in points:
            parts[-(-step // size)][curve].append((step, value))
    averaged = []
    for part, found in sorted(parts.items()):
        if len(found) == sum(points[-1][0] > (part - 1) * size for points in curves):
            means = [fmean(value for _, value in points) for points in found.values()]
            step = fmean(step for points in found.values() for step, _ in points)
            averaged.append((step, fmean(means), min(means), max(means)))
    return averaged


def stops_improving(points):
    """Where a curve [(step, value)] stops falling (section 4.1.5) -> a step, "not yet" or "never falls".

    The page states the rule.  Before its highest point both networks only find their balance.
    """
    points = averages([points])
    begin = max(range((len(points) + 1) // 2), key=lambda place: points[place][1], default=0)
    values = [mean for _, mean, *_ in points[begin:]] or [0]
    fall = values[0] - min(values)
    if not fall:
        return "never falls"
    step = next(step for step, mean, *_ in points[begin:] if mean - min(values) <= fall / 20)
    return step if step <= 0.8 * points[-1][0] else "not yet"


def ticks(low, high):
    """Round numbers between low and high, at most six."""
    step = next(f * 10.0**power for power in range(-9, 12) for f in (1, 2, 5) if high - low < 6 * f * 10.0**power)
    return [step * n for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def move_apart(heights, gap=13):
    """Heights of labels, those closer than `gap` moved apart, all beside the panel."""
    heights, order = list(heights), sorted(range(len(heights)), key=heights.__getitem__)
    for _ in range(100):
        for above, below in pairwise(order):
            overlap = max(0, gap - (heights[below] - heights[above]))
            heights[above], heights[below] = heights[above] - overlap / 2, heights[below] + overlap / 2
        heights = [min(max(height, 8), HEIGHT - BOTTOM) for height in heights]
    return heights


def draw(curves, last, unit="", include=(), stops=()):
    """One panel as SVG.  curves: [(label, style, [(step, mean, lowest, highest)])]; stops: [(step, style)] to mark."""
    curves = [curve for curve in curves if curve[2]]
    values = [value for *_, points in curves for point in points for value in point[1:]] + list(include)
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.5
    low, high = low - room * (low not in include), high + room * (high == low or high not in include)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(step):
        return round(LEFT + (right - LEFT) * step / last, 1)

    def y(value):
        return round(TOP + (bottom - TOP) * (high - value) / (high - low), 1)

    parts = [f'<text x="{LEFT}" y="12">{unit}</text><text x="{right + 12}" y="{bottom + 18}">k steps</text>']
    for value in ticks(low, high):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value)}H{right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    marks, label_end = [step for step in ARTICLE if step <= last], 0
    for step in marks + [last] * (not marks or last > 1.07 * marks[-1]):
        parts.append(f'<path class="grid" d="M{x(step)} {TOP}V{bottom + 4}"/>')
        if x(step) > label_end:
            parts.append(f'<text x="{x(step)}" y="{bottom + 18}" text-anchor="middle">{step / 1000:.3g}</text>')
            label_end = x(step) + 24
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    heights = move_apart([y(points[-1][1]) for *_, points in curves])
    for (label, style, points), height in zip(curves, heights, strict=True):
        path = [f"{x(step)},{y(mean)}" for step, mean, *_ in points]
        end = x(points[-1][0])
        edge = [(x(p[0]), y(p[3])) for p in points] + [(x(p[0]), y(p[2])) for p in reversed(points)]
        parts.append(f'<polygon class="band {style}" points="{" ".join(f"{a},{b}" for a, b in edge)}"/>')
        parts.append(f'<polyline class="line {style}" points="{" ".join(path)}"/>')
        parts.append(f'<path class="leader {style}" d="M{path[-1]}L{end + 12} {height:.1f}"/>')
        parts.append(f'<text x="{end + 14}" y="{height + 4:.1f}">{escape(label)}</text>')
    parts += [f'<path class="stop {style}" d="M{x(step)} {bottom - 9}l5 9h-10z"/>' for step, style in stops]
    for step in sorted({step for *_, points in curves for step, *_ in points}):
        told = [f"{label}: {tell(point)}" for label, _, points in curves for point in points if point[0] == step]
        tip = escape("\n".join([f"step {step:,.0f}", *told]))
        parts.append(f'<path class="hover" d="M{x(step)} {TOP}V{bottom}"><title>{tip}</title></path>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


# The page -----------------------------------------------------------------------------------------------------


def tell(point):
    """A point of averages() as text: mean ± half the range."""
    _, mean, low, high = point
    digits = 3 if abs(mean) < 1 else 2 if abs(mean) < 10 else 1 if abs(mean) < 1000 else 0
    return f"{mean:,.{digits}f}" + (f" ± {(high - low) / 2:,.{digits}f}" if low < high else "")


def title(column):
    return PANELS[column.split()[0]][0] + "".join(f", layer {number}" for number in column.split()[1:])


def panel(column, groups, last):
    """A column's curves of all groups under its title, and one line that says what they show."""
    _, unit, include, caption = PANELS[column.split()[0]]
    curves = [(label, style, averages([one.points[column] for one in runs])) for label, style, runs in groups]
    stops = [(stops_improving(one.points[column]), style) for _, style, runs in groups for one in runs]
    stops = [(step, style) for step, style in stops if column in STOPS and not isinstance(step, str)]
    svg = draw(curves, last, unit, include, stops)
    return f"<figure><h3>{title(column)}</h3>{svg}<figcaption>{caption}</figcaption></figure>"


def picture(run, step, label):
    """The first dogs of a run's grid of samples under a label, as an <img> that holds its pixels; "" if none."""
    path, side = run.folder / "samples" / f"{step:06d}.png", run.size + 2  # with the gap
    if not path.exists():
        return ""
    with Image.open(path) as grid:
        dogs = grid.convert("RGB").crop((0, 0, COLUMNS * side + 2, ROWS * side + 2))
    image = Image.new("RGB", (COLUMNS * TILE + 2, ROWS * TILE + 26), "white")
    image.paste(dogs.resize((COLUMNS * TILE + 2, ROWS * TILE + 2)), (0, 24))
    ImageDraw.Draw(image).text((3, 3), label, fill="black", font=ImageFont.load_default(17))
    image.save(jpeg := io.BytesIO(), "JPEG", quality=80)
    return f'<img alt="{escape(label)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}">'


def table(head, *blocks):
    """A table of blocks of rows whose cells are HTML."""
    rows = [["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in block] for block in blocks]
    head = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tbody>{''.join(block)}</tbody>" for block in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def settings(groups):
    """Rows that tell what each variant's runs were, and how many pictures their metrics.csv compares."""
    members = [runs for *_, runs in groups]
    counts = [sorted({count for one in runs for _, count in one.points["count"]}) for runs in members]
    return [
        ["seeds", *(", ".join(str(one.seed) for one in runs) for runs in members)],
        ["width, batch, attention at", *(f"{runs[0].width}, {runs[0].batch}, {runs[0].attn_at}" for runs in members)],
        ["pictures judged", *(" or ".join(f"{count:,.0f}" for count in some) for some in counts)],
    ]


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
    found = {column for one in runs for column, points in one.points.items() if points}
    columns = [column for name in PANELS for column in sorted(found) if column.split()[0] == name]
    final = [column for column in columns if column not in ("g_loss", "d_real", "d_fake")]
    measures = [column for column in columns if column in MEASURES]
    steps = sorted({*(step for step in ARTICLE if step <= last), last}) if measures else []
    head, *results = zip(["", *map(title, final)], *figures(groups, final), strict=True)
    by_step = [[[f"step {step:,}"], *figures(groups, measures, step)] for step in steps]
    stops = [column for column in STOPS if column in columns]
    pictures = ""
    for step in sorted({*ARTICLE, *(one.last for one in runs)}):
        shown = "".join(picture(members[0], step, f"{label}, step {step:,}") for label, _, members in groups)
        pictures += f'<div class="pictures">{shown}</div>'
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Self-Attention GAN on dogs</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style>
<h1>Self-Attention GAN on dogs: attention on and off</h1>
<p>{"; ".join(f"<b>{name}</b>: attention in {where}" for name, where in VARIANTS.items())}.</p>
{table(head, settings(groups), results)}
<p class="note">At the end, mean ± half the range over seeds; of what is logged, over the last hundredth. The distance
falls as more pictures are judged: compare equal numbers.</p>
<h2>Curves (section 4.2)</h2>
<p class="note">Lines are means over seeds, bands reach from the lowest seed to the highest. Ticks are the steps that
section 4 looks at; triangles on the axis tell where each run stops improving, by the rule below.</p>
<div class="panels">{"".join(panel(column, groups, last) for column in columns)}</div>
<h2>When to stop (section 4.1.5)</h2>
{table(["variant", "seed", "steps", *(f"{title(c)} stops" for c in stops), "run"], when_to_stop(groups, stops))}
<p class="note">A curve stops improving where it has fallen by 95 % of all that it ever falls, counted from the highest
of the first half of its points; of noise, too, so compare the seeds. Not yet: that is in the run's last fifth. In
brackets: {title(stops[-1])} there, or where it was measured next to that.</p>
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
        try:
            runs.append(read_run(folder))
        except UserError as error:  # one bad run spoils no page
            print(f"left out: {error}")
    if not runs:
        raise UserError("none of these folders holds a run with figures: name some that train.py made")
    with atomic_write(args.out) as temporary:
        temporary.write_text(page(runs), encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    run_script(main)
