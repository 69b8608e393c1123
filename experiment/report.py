"""Section 4 as one page: the runs of the four variants in pictures, curves and figures.

    python -m experiment.report runs/*        -> report.html, one file that needs no network

It draws a run's config.json, log.csv and samples/, and metrics.csv and fid.csv, if experiment/evaluate.py and fid.py
have judged it.  Left out, and named in a line, is what can't be read, or was measured with another count, seed or real
pictures than most of the runs.  Runs that differ in nothing but their seeds are drawn as their mean and range.
"""

import base64
import io
import math
import os
from argparse import Namespace
from collections import Counter, defaultdict
from html import escape
from itertools import groupby
from pathlib import Path
from statistics import fmean, mode

from PIL import Image

from common import Parser, UserError, html_file, run_script
from config import CHANGEABLE, read_config, variant
from data import explain, read_image
from files import atomic_write
from run import COLUMNS, MILESTONES

ARTICLE = sorted(MILESTONES - {1000})  # the steps that section 4 looks at
VARIANTS = {"full": "both", "no-attn": "neither", "no-gen-attn": "the discriminator", "no-disc-attn": "the generator"}
FILES = {"log.csv": COLUMNS, "metrics.csv": ["step", "count", "distance"], "fid.csv": ["step", "count", "fid"]}
FACTS = {"seeds", "--width", "--batch", "--attn-at", "commit", *(f"pictures, {name}" for name in FILES)}  # always told
# Columns of FILES: title, unit, values that the axis must include, what the panel shows.
PANELS = {
    "distance": ("EfficientNet distance", "", (), "Fréchet distance of its features: the lower, the better."),
    "kid": ("KID", "x 1,000", (0,), "Kernel distance of the same features: the lower, the better."),
    "fid": ("FID", "", (), "Fréchet Inception distance to the photos: the lower, the better."),
    "precision": ("Precision", "share", (0,), "Generated dogs among the real ones; of blobs it tells nothing."),
    "recall": ("Recall", "share", (0,), "Real dogs that lie among the generated ones."),
    "density": ("Density", "", (0,), "Precision that counts how many real dogs are near; 1 for real dogs."),
    "coverage": ("Coverage", "share", (0,), "Real dogs with a generated one among their nearest neighbours."),
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
    "gamma_g": ("|Gamma| in G", "", (0,), "The weight in G, not in its moving average; its sign means nothing."),
    "gamma_d": ("|Gamma| in D", "", (0,), "The weight of attention in D; its sign means nothing."),
    "images_per_s": ("Speed", "images/s", (0,), "Photos trained on a second."),
}
MEASURES, STOPS = list(PANELS)[:14], ["d_loss", "fid", "distance"]  # of single steps; for section 4.1.5
POINTS = 100  # a curve has at most so many
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, LETTERS = 460, 250, 46, 106, 22, 32, 24  # of panels, margins, labels
KEY = '<svg class="key {}" viewBox="0 0 32 8"><path class="line" d="M0 4h32"/></svg>{}'  # style and name of a curve
ACROSS, DOWN, TILE = 6, 4, 66  # of dogs in a picture, and the pixels of one with its gap
# Colour (Okabe and Ito's) and dash both tell the variant, for colour-blind readers.
STYLE = """
:root{color-scheme:light dark;--ink:#222;--paper:#fff;--faint:#707070}.s0{--c:#0072b2}.s1{--c:#d55e00;--d:7 3}
.s2{--c:#009e73;--d:2 2}.s3{--c:#cc79a7;--d:9 2 2 2}.s4{--c:#8f7d00;--d:4 4}.s5{--c:#888;--d:12 3}
.s6{--c:var(--ink);--d:1 3}.s7{--c:#8b63d9;--d:5 2 1 2 1 2}@media screen and (prefers-color-scheme:dark){
:root{--ink:#ddd;--paper:#161616;--faint:#999}.s0{--c:#56b4e9}.s1{--c:#f0803c}.s2{--c:#1fc195}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:88rem;margin:auto;
padding:1em}p{max-width:60em}h1{font-size:1.7em}h2{font-size:1.3em;margin:2em 0 .5em}h3{font-size:1em;margin:0}
.panels{display:grid;gap:1.5em;grid-template-columns:repeat(auto-fill,minmax(min(100%,24em),1fr))}
.pictures{display:grid;gap:.7em;margin-bottom:.7em;grid-template-columns:repeat(4,1fr)}
@media(max-width:60em){.pictures{grid-template-columns:1fr 1fr}}@media(max-width:30em){.pictures{display:block}}
figure{margin:0;break-inside:avoid}figcaption,.note{font-size:.875em;color:var(--faint)}
svg,img{display:block;width:100%;height:auto}svg.key{display:inline;width:2.2em;margin-right:.4em}
text{font-size:12px;fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:3px}.leader{stroke-width:.8}
.line{fill:none;stroke-dasharray:var(--d);stroke-width:1.8}.line,.leader{stroke:var(--c)}.band,.stop{fill:var(--c)}
.band{fill-opacity:.16}.axis,.grid{stroke:var(--faint);fill:none}.grid{stroke-opacity:.28}.hover:hover{opacity:.15}
.hover{stroke:var(--ink);stroke-width:5px;opacity:0}.scroll{overflow-x:auto;background:linear-gradient(270deg,
var(--paper) 40%,#0000) 100%/3em 100% no-repeat local,linear-gradient(270deg,#8888,#0000) 100%/1em 100% no-repeat}
table{border-collapse:collapse;font-size:.875em;font-variant-numeric:tabular-nums}tbody{border-top:1px solid}
td,th{padding:.2em .6em;text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left;
position:sticky;left:0;background:var(--paper)}@media(max-width:30em){td:first-child{white-space:normal;min-width:9em}}
"""


# Reading a run ------------------------------------------------------------------------------------------------
def read_run(folder):
    """A run folder -> folder, name, variant, seed, key, facts, size, attention_at; None if it can't be read.

    Runs of one key differ in nothing but their seeds.  Facts are texts to show.
    """
    one = Namespace(folder=folder, points=defaultdict(list), last=0)
    one.name = os.fsencode(folder).decode("utf-8", "backslashreplace")  # the locale may have read it as ASCII
    try:
        config = read_config(folder)
        options, code = config["options"], config.get("code") or {}
        one.size, one.seed, one.variant = int(config["size"]), int(options["seed"]), variant(Namespace(**options))
        one.attention_at = list(dict.fromkeys(map(int, options["attn_at"])))  # each once, as the networks have them
        alike = {"seed", "no_gen_attn", "no_disc_attn", "fid_every", "real_stats", "inception"}  # or told elsewhere
        facts = {f"--{n.replace('_', '-')}": str(options[n]) for n in sorted(options.keys() - CHANGEABLE - alike)}
        facts |= {"photos": f"{config['photos_sha256']:.12}", "code": f"{code.get('sha256', '')}"}
        facts["changed at"] = "; ".join(config.get("changes", []))
        one.key, one.facts = str((one.variant, facts)), {"seeds": str(one.seed), **facts}
        one.facts["commit"] = f"{code.get('commit')}{', changed' * code['changed']}" if code else ""
        return one
    except Exception as error:  # a file edited by hand may hold anything
        hint = f"; there are runs in it: try {folder}/*" if any(folder.glob("*/config.json")) else ""
        print(f"left out: {error if isinstance(error, UserError) else f'{folder}/config.json: {error!r}'}{hint}")


def read_rows(run, name):
    """A run's file of FILES -> {step: ((count, fingerprint), {"kid" or "gamma_g 16": value})}; tells what it omits."""
    path, kept, bad = run.folder / name, {}, []
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        if name == "log.csv" or os.path.lexists(path):
            print(f"left out: {path}: {explain(error)}")
        return {}
    head, *rows = [line.split(",") for line in text[: text.rfind("\n") + 1].splitlines()] or [[]]  # no half last line
    names = {n: [f"{n} {r}" for r in run.attention_at] if "gamma" in n else [n] for n in ("count", *PANELS)}
    for cells in rows:
        try:
            row = dict(zip(head, map(str.strip, cells), strict=True))
            pairs = (pair for n in names if row.get(n) for pair in zip(names[n], row[n].split(), strict=True))
            values = {column: abs(float(cell)) if "gamma" in column else float(cell) for column, cell in pairs}
            if not 0 < (step := int(row["step"])) < 1e9 or not all(abs(value) < 1e30 for value in values.values()):
                raise ValueError
            count = f"{values.pop('count'):,.0f}" if "count" in FILES[name] else ""
            kept[step] = (count, row.get("fingerprint", "")[:12]), values  # a control's name may follow
        except (LookupError, ValueError):
            bad.append(",".join(cells))
    told = [f"{len(bad)} of {len(rows)} rows ({first!r:.80})" for first in bad[:1]]
    told += [f"no column {column}" for column in FILES[name] if column not in head]
    if told or not rows:
        print(f"left out: {path}: {', '.join(told) or 'no rows'}")
    return kept


def read_runs(folders):
    """Run folders -> [read_run()] with last and points {column: [(step, value)]}; prints what is left out.

    Each file votes for how most of its rows were measured, and only what was measured as most files say is drawn.
    """
    folders = {folder.resolve(): folder for folder in folders if not os.path.isfile(folder)}.values()  # each once
    runs = [run for folder in folders if (run := read_run(folder))]
    for name in FILES:
        files = [(run, rows) for run in runs if (rows := read_rows(run, name))]
        usual = mode([mode(how for how, _ in rows.values()) for _, rows in files] or [None])  # the first of equals
        for run, rows in files:
            if odd := [how[0] for how, _ in rows.values() if how != usual]:
                why = f"count {odd[0]}, the others {usual[0]}" if odd[0] != usual[0] else "other photos, seed, weights"
                print(f"left out: {run.folder / name}: {len(odd)} of {len(rows)} rows ({why})")
            for step in sorted(step for step, (how, _) in rows.items() if how == usual):
                run.facts[f"pictures, {name}"] = usual[0]
                for column, value in rows[step][1].items():
                    run.points[column].append((step, value))
                    run.last = max(run.last, step)
    return [run for run in runs if run.last]


def group(runs):
    """[(label, style, runs of one key)] in the article's order; labels are variants, or folders if variants repeat."""
    order, groups, twins = list(VARIANTS), defaultdict(list), Counter((one.key, one.seed) for one in runs)
    for one in sorted(runs, key=lambda one: (order.index(one.variant), one.seed)):
        groups[one.key, one.name if twins[one.key, one.seed] > 1 else ""].append(one)  # equal seeds stand alone
    common = os.path.commonpath([os.path.dirname(os.path.abspath(one.name)) for one in runs])
    kinds, names = [members[0].variant for members in groups.values()], []
    for first, *others in groups.values():
        name, seeds = os.path.relpath(first.name, common), [str(one.seed) for one in (first, *others)]
        names.append(f"{name.removesuffix(f'-{seeds[0]}')}, seeds {', '.join(seeds)}" if others else name)
    unique = len(set(kinds)) == len(kinds)
    styles = [f"s{order.index(kind) if unique else place % 8}" for place, kind in enumerate(kinds)]
    return list(zip(kinds if unique else names, styles, groups.values(), strict=True))


# Curves -------------------------------------------------------------------------------------------------------
def averages(curves):
    """Curves [(step, value)], one for each seed -> their mean and range [(step, mean, lowest, highest)].

    Curves of more than POINTS points are first averaged over equal parts of the run.  A point needs all curves that
    came so far, since one may have been measured more often than another.
    """
    curves = [points for points in curves if points]
    last = max((points[-1][0] for points in curves), default=0)
    size = -(-last // POINTS) if max(map(len, curves), default=0) > POINTS else 1
    averaged, parts = [], []  # parts of the run: [{number: [mean step, mean value]}]
    for points in curves:
        grouped = groupby(points, lambda point: -(-point[0] // size))
        parts.append({number: list(map(fmean, zip(*some, strict=True))) for number, some in grouped})
    for number in sorted(set().union(*parts)):
        found = [part[number] for part in parts if number in part]
        if len(found) == sum(max(part) >= number for part in parts):
            steps, means = zip(*found, strict=True)
            averaged.append((fmean(steps), fmean(means), min(means), max(means)))
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


def draw(curves, last, unit="", include=(), stops=()):
    """One panel as SVG.  curves: [(label, style, [(step, mean, lowest, highest)])]; stops: [(step, style)] to mark."""
    curves = [curve for curve in curves if curve[2]]
    values = [value for *_, points in curves for point in points for value in point[1:]] + list(include)
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.06 * abs(high) or 0.5
    low, high = low - room * (low not in include), high + room * (high == low or high not in include)
    short = {label: label.replace(", seeds", "")[:LETTERS] for label, *_ in curves}
    right, bottom = WIDTH - max(RIGHT, *(14 + 6.5 * len(label) for label in short.values())), HEIGHT - BOTTOM

    def x(step):
        return round(LEFT + (right - LEFT) * step / last, 1)

    def y(value):
        return round(TOP + (bottom - TOP) * (high - value) / (high - low), 1)

    parts = [f'<text x="{LEFT}" y="12">{unit}</text><text x="{right + 20}" y="{bottom + 18}">k steps</text>']
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    tick = next(f * 10.0**power for power in range(-9, 31) for f in (1, 2, 5) if high - low < 6 * f * 10.0**power)
    for value in (tick * n for n in range(math.ceil(low / tick - 1e-9), math.floor(high / tick + 1e-9) + 1)):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value)}H{right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    marks, label_end = [step for step in ARTICLE if step <= last], 0
    for step in marks + [last] * (not marks or last > 1.07 * marks[-1]):
        parts.append(f'<path class="grid" d="M{x(step)} {TOP}V{bottom + 4}"/>')
        if x(step) > label_end:
            parts.append(f'<text x="{x(step)}" y="{bottom + 18}" text-anchor="middle">{step / 1000:.3g}</text>')
            label_end = x(step) + 24
    heights = []  # of labels, from the lowest curve's up, each at the free place that is nearest to its curve's end
    for label, style, points in sorted(curves, key=lambda curve: curve[2][-1][1]):
        line, lower, upper = ([f"{x(point[0])},{y(point[of])}" for point in points] for of in (1, 2, 3))
        end, height = x(points[-1][0]), y(points[-1][1])
        free = [place for place in range(8, bottom + 1) if all(abs(place - other) >= 13 for other in heights)]
        heights.append(min(free, key=lambda place: abs(place - height), default=height))
        parts.append(f'<polygon class="band {style}" points="{" ".join(upper + lower[::-1])}"/>')
        parts.append(f'<polyline class="line {style}" points="{" ".join(line)}"/>')
        parts.append(f'<path class="leader {style}" d="M{line[-1]}L{end + 12} {heights[-1]}"/>')
        parts.append(f'<text x="{end + 14}" y="{heights[-1] + 4}">{escape(short[label])}</text>')
    rows = [[] for _ in stops]  # of triangles: those that would hide each other are stacked
    for step, style in stops:
        place, row = next(pair for pair in enumerate(rows) if all(abs(x(step) - other) >= 10 for other in pair[1]))
        row.append(x(step))
        parts.append(f'<path class="stop {style}" d="M{x(step)} {bottom - 9 * place - 9}l5 9h-10z"/>')
    for step in sorted({step for *_, points in curves for step, *_ in points}):
        told = [f"{label}: {tell(point)}" for label, _, points in curves for point in points if point[0] == step]
        tip = escape("\n".join([f"step {step:,.0f}", *told]))
        parts.append(f'<path class="hover" d="M{x(step)} {TOP}V{bottom}"><title>{tip}</title></path>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


# The page -----------------------------------------------------------------------------------------------------
def tell(point):
    """A point of averages() as text: mean ± half the range."""
    _, mean, low, high = point
    shape = (".3f", ".2f", ".1f", ",.0f", ".3g")[sum(abs(mean) >= limit for limit in (1, 10, 1000, 1e7))]
    return f"{mean:{shape}}" + (f" ± {(high - low) / 2:{shape}}" if low < high else "")


def title(column):
    return PANELS[column.split()[0]][0] + "".join(f" at {side}x{side}" for side in column.split()[1:])


def panel(column, groups, last):
    """A column's curves of all groups under its title, and one line that says what they show."""
    _, unit, include, caption = PANELS[column.split()[0]]
    curves = [(label, style, averages([one.points[column] for one in runs])) for label, style, runs in groups]
    stops = [(stops_improving(one.points[column]), style) for _, style, runs in groups for one in runs]
    shown = [stop for stop in stops if column in STOPS and not isinstance(stop[0], str)]
    svg = draw(curves, last, unit, include, shown)
    return f"<figure><h3>{title(column)}</h3>{svg}<figcaption>{caption}</figcaption></figure>"


def picture(run, step, label):
    """The first dogs of a run's grid of samples over a label, as a <figure> that holds its pixels; "" if none."""
    path, side = run.folder / "samples" / f"{step:06d}.png", run.size + 2  # with the gap
    try:
        grid = Image.fromarray(read_image(path))
        if grid.width != 8 * side + 2:
            raise UserError(f"{path}: not eight pictures of {run.size} pixels side by side")
    except UserError as error:
        if path.exists():
            print(f"left out: {error}")
        return ""
    dogs = grid.crop((0, 0, ACROSS * side + 2, DOWN * side + 2))
    dogs.resize((ACROSS * TILE + 2, DOWN * TILE + 2)).save(jpeg := io.BytesIO(), "JPEG", quality=80)
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"
    return f'<figure><img alt="{escape(label)}" src="{source}"><figcaption>{escape(label)}</figcaption></figure>'


def table(head, *blocks):
    """A table of blocks of rows whose cells are HTML."""
    rows = ["".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in block) for block in blocks]
    head = "".join(f"<th>{cell}</th>" for cell in head)
    return f'<div class="scroll"><table><tr>{head}</tr><tbody>{"</tbody><tbody>".join(rows)}</tbody></table></div>'


def settings(groups):
    """Rows that tell what each group's runs were, and all in which they differ."""
    names = dict.fromkeys(name for *_, runs in groups for one in runs for name in one.facts)
    cells = [["; ".join(dict.fromkeys(one.facts.get(n, "") for one in runs)) for *_, runs in groups] for n in names]
    rows = [[name, *map(escape, row)] for name, row in zip(names, cells, strict=True)]
    return [row for row in rows if len(set(row[1:])) > 1 or (row[0] in FACTS and any(row[1:]))]


def figures(groups, columns, step=None):
    """A row for each group: each column at a step, or where its curve ends."""
    for label, style, runs in groups:
        curves = [averages([one.points[column] for one in runs]) for column in columns]
        cells = ["".join(tell(p) for p in points if p[0] == (step or points[-1][0])) for points in curves]
        yield [KEY.format(style, escape(label)), *cells]


def when_to_stop(groups, columns):
    """A row for each run: where its curves stop improving and, in brackets, the last column there."""
    for label, style, one in ((label, style, one) for label, style, runs in groups for one in runs):
        row = [KEY.format(style, escape(label)), one.seed, f"{one.last:,}"]
        for points in (one.points[column] for column in columns):
            row.append(stops_improving(points) if points else "")
            if not isinstance(stop := row[-1], str):
                near = sorted(averages([one.points[columns[-1]]]), key=lambda point: abs(point[0] - stop))[:1]
                row[-1] = f"{stop:,.0f}{''.join(f' ({tell(point)})' for point in near)}"
        yield [*row, escape(one.name)]


def page(runs):
    """All of it for runs that read_run gave -> HTML."""
    groups, last = group(runs), max(one.last for one in runs)
    columns = sorted({c for one in runs for c in one.points}, key=lambda c: ([*PANELS].index(c.split()[0]), len(c), c))
    measures, stops = ([column for column in some if column in columns] for some in (MEASURES, STOPS))
    head, *results = zip(["", *map(title, columns)], *figures(groups, columns), strict=True)
    samples = {int(path.stem) for one in runs for path in (one.folder / "samples").glob("[0-9]" * 6 + ".png")}
    few = sorted(samples)[:: -len(samples) // 4 or -1] if last < ARTICLE[1] else []  # up to four, for a short run
    steps = [step for step in sorted({*ARTICLE, *few, *(one.last for one in runs)}) if step <= last]
    by_step = [[[f"step {step:,}"], *figures(groups, measures, step)] for step in steps if measures]
    rows = [[picture(runs[0], step, f"{label}, step {step:,}") for label, _, runs in groups] for step in steps]
    pictures = "".join(f'<div class="pictures">{"".join(row)}</div>' for row in rows)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Self-Attention GAN on dogs</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style>
<h1>Self-Attention GAN on dogs: attention on and off</h1>
<p>{"; ".join(f"<b>{name}</b>: attention in {where}" for name, where in VARIANTS.items())}.</p>
{table(head, settings(groups), results)}
<p class="note">At the end, mean ± half the range over seeds; of what is logged, over the last hundredth.</p>
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
{table(["", *map(title, measures)], *by_step) if by_step else ""}
<p class="note">The first {ACROSS * DOWN} dogs of each grid of samples, unselected, of each variant's first seed.</p>
{pictures}</html>
"""


def main():
    parser = Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders of train.py")
    parser.add_argument("--out", type=html_file, default=Path("report.html"), help="the page to write")
    args = parser.parse_args()
    if not (runs := read_runs(args.runs)):
        raise UserError("none of these folders holds a run with figures: name some that train.py made")
    with atomic_write(args.out) as temporary:
        temporary.write_text(page(runs), encoding="utf-8", errors="backslashreplace")
    print(args.out)


if __name__ == "__main__":
    run_script(main)
