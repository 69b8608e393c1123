"""Section 4 as one HTML page: runs side by side, in pictures, curves and figures.

    python report.py runs/*                                  -> report.html, and curves.svg in each run folder
    python report.py runs/* --breeds datasets/dogs64         and how many breeds each run draws

Runs of one variant that differ in nothing but their seeds are drawn as their mean and range.  Runs may be unfinished.
The page holds everything and needs no network, so it can be sent as one file.
"""

import base64
import csv
import html
import io
import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image

import data
import fid
from data import Parser, Progress, UserError, replacing, run
from sample import attention_maps, attention_sheet, find_snapshot, latents, load_generator
from train import FREE, MILESTONES, features_of_fakes, read_config, variant

VARIANTS = ["full", "no-attn", "no-gen-attn", "no-disc-attn"]
WIDTH, HEIGHT, LEFT, TOP = 640, 200, 64, 44  # of a panel and its margins, in pixels
POINTS = 60  # a curve has at most so many: means over equal parts of the run
RULE = (
    "A curve stops falling where it never again falls by more than a twentieth of its whole fall, which begins at the "
    "highest point of the run's first half; not yet, if less than a fifth of the run is left then. It can't be told "
    "where it falls by no more than five times what neighbouring points differ by, as any curve of up to five points "
    "does. D's loss falls when D learns photos by heart, too: look at the samples."
)
# Colour and dash both tell which line it is: for colour-blind readers (Okabe and Ito's colours) and in print.
DASHES = ["", "7 3", "2 3", "10 3 2 3", "14 4", "4 2"]
STYLE = """
svg{font:12px sans-serif;fill:#222;max-width:100%;height:auto}
.axis,.grid{stroke:#888;fill:none}.grid{stroke-opacity:.3}.stop{stroke:#888;stroke-dasharray:3 3}
.s0{--c:#0072b2}.s1{--c:#d55e00}.s2{--c:#009e73}.s3{--c:#cc79a7}.s4{--c:#999999}.s5{--c:#b8860b}
polyline{fill:none;stroke:var(--c);stroke-width:1.8}circle{fill:var(--c);fill-opacity:.25}circle:hover{fill-opacity:1}
polygon{fill:var(--c);fill-opacity:.18}
"""
PAGE_STYLE = """
body{font-family:sans-serif;line-height:1.45;max-width:72em;margin:auto;padding:1em}
:root{color-scheme:light dark}
img{max-width:100%;height:auto}.scroll{overflow-x:auto}table{border-collapse:collapse}
h1,h2,h3,p{overflow-wrap:anywhere}td,th{padding:.3em .6em;text-align:left;vertical-align:top}
tr+tr{border-top:1px solid #8884}
@media(prefers-color-scheme:dark){svg{fill:#ddd}.s0{--c:#56b4e9}.s1{--c:#ff8c42}}
"""


# Reading a run ------------------------------------------------------------------------------------------------


def read_log(folder):
    """log.csv of a run -> [{column: text}].  Raises UserError if there is none or it's empty."""
    try:
        with open(folder / "log.csv", newline="") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no run to read there ({error})") from None
    rows = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))  # the last line may be half written
    if not rows:
        raise UserError(f"{folder}/log.csv has no rows yet (train.py writes one every 10 steps)")
    return rows


def read_run(folder):
    """A run folder as one object: name, variant, seed, steps, options, and `points` by column of the log."""
    config, rows = read_config(folder), read_log(folder)
    options = config["options"]
    columns = ["d_loss", "g_loss", "d_real", "d_fake", "fid", "images_per_s"]
    try:
        points = {name: points_of(rows, name) for name in columns}
        points |= {f"{name} {n + 1}": points_of(rows, name, n) for name in ("gamma_g", "gamma_d") for n in range(5)}
        if not points["d_loss"]:
            raise ValueError("no d_loss in it")
    except (KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}/log.csv isn't a log of train.py ({error})") from None
    same = {key: value for key, value in options.items() if key not in FREE | {"seed", "weights", "fid_samples"}}
    photos = f"{config['photos']:,} photos ({config['photos_sha256'][:6]})"  # distances to others can't be compared
    name, samples = fid.UNTRAINED if options.get("weights") == "random" else "FID", options.get("fid_samples", 0)
    return SimpleNamespace(
        folder=folder,
        variant=variant(SimpleNamespace(**options)),
        seed=options["seed"],
        steps=int(rows[-1]["step"]),
        planned=options["steps"],
        minutes=options.get("minutes"),
        config=config,
        group=json.dumps([same, config["photos_sha256"]], sort_keys=True),
        points={column: values for column, values in points.items() if values},
        distance=f"{name}, {samples:,} samples, {photos}" if points["fid"] else "not measured",
    )


def points_of(rows, column, place=0):
    """[(step, number)] of a column, of its place-th number where it holds several; [] if nothing was measured."""
    found = [(int(row["step"]), row[column].split()) for row in rows]
    points = [(step, float(numbers[place])) for step, numbers in found if len(numbers) > place]
    if not all(step > 0 and math.isfinite(number) for step, number in points):
        raise ValueError(f"{column}: a step below 1, or no number")
    return points


def averages(curves):
    """[(step, mean, lowest, highest)] over curves [(step, value)], at most POINTS: means over equal parts of the run.

    Of the steps that all curves have which came so far, since some may have been measured more often than others.
    """
    curves = [dict(points) for points in curves if points]
    last = [max(curve) for curve in curves]
    steps = [
        step
        for step in sorted(set().union(*curves))
        if all(step in curve or step > end for curve, end in zip(curves, last, strict=True))
    ]
    size = -(-len(steps) // POINTS) or 1
    points = []
    for begin in range(0, len(steps), size):
        part = steps[begin : begin + size]
        found = [[curve[step] for step in part if step in curve] for curve in curves]
        means = [sum(values) / len(values) for values in found if values]
        points.append((part[-1], sum(means) / len(means), min(means), max(means)))
    return points


def over_seeds(runs, column):
    return averages([run.points[column] for run in runs if column in run.points])


def stops_improving(points, tolerance=0.05, patience=0.2):
    """The step at which a curve stops falling (section 4.1.5), math.inf if it hasn't yet, None if it can't be told.

    points: [(step, value)], lower is better.  Counted from the highest point of the run's first half on: before
    that, the networks are only finding their balance.  It's the first step after which the curve never again falls
    by more than `tolerance` of its whole fall.  At least a share `patience` of the run must follow, since the last
    steps of any run are followed by no improvement: a curve that stops later counts as still falling.  It can't be
    told unless it falls by more than five times what neighbouring points differ by, since noise falls, too.  Means of
    some steps are compared, or single steps would decide.
    """
    points = averages([points])
    values = [point[1] for point in points]
    early = values[: (len(values) + 1) // 2]
    begin = early.index(max(early)) if early else 0
    rest = values[begin:]
    scatter = sum(abs(b - a) for a, b in pairwise(rest)) / max(len(rest), 1)
    fall = rest[0] - min(rest) if rest else 0
    if fall <= 5 * scatter:
        return None
    for index in range(begin, len(points)):
        step = points[index][0]
        if step > (1 - patience) * points[-1][0]:
            break
        if min(values[index:]) >= values[index] - tolerance * fall:
            return step
    return math.inf


# Curves -------------------------------------------------------------------------------------------------------


def ticks(low, high, count=5):
    """Round numbers between low and high, about `count` of them."""
    rough = (high - low) / count
    base = 10 ** math.floor(math.log10(rough))
    step = next(base * m for m in (1, 2, 5, 10) if base * m >= rough)
    return [step * n for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def draw(title, curves, stops=(), zero=False):
    """One panel as SVG.  curves: [(name, [(step, value, lowest, highest)])]; stops: steps to mark, [(step, name)].

    Without a step to show it's the empty string.
    """
    curves = [(number, name, points) for number, (name, points) in enumerate(curves) if points]
    if not curves:
        return ""
    last = max(point[0] for _, _, points in curves for point in points)
    values = [value for _, _, points in curves for point in points for value in point[1:]] + [0] * zero
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    rows = -(-len(curves) // 3)
    top = TOP + 18 * rows

    def x(step):
        return f"{LEFT + WIDTH * step / last:.1f}"

    def y(value):
        return f"{top + HEIGHT * (high - value) / (high - low):.1f}"

    parts = [f'<text x="{LEFT}" y="18" font-weight="bold">{html.escape(title)}</text>']
    for value in ticks(low, high):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value)}h{WIDTH}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(y(value)) + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for step in ticks(0, last):
        parts.append(f'<text x="{x(step)}" y="{top + HEIGHT + 18}" text-anchor="middle">{step:,.0f}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {top}v{HEIGHT}h{WIDTH}"/>')
    parts.append(f'<text x="{LEFT + WIDTH / 2}" y="{top + HEIGHT + 36}" text-anchor="middle">steps</text>')
    for place, (number, name, points) in enumerate(curves):
        style = f'class="s{number % 6}"'
        dash = f'stroke-dasharray="{DASHES[number % 6]}"'
        if any(lowest < highest for *_, lowest, highest in points):
            edge = [(p[0], p[3]) for p in points] + [(p[0], p[2]) for p in reversed(points)]
            parts.append(f'<polygon {style} points="{" ".join(f"{x(a)},{y(b)}" for a, b in edge)}"/>')
        path = " ".join(f"{x(point[0])},{y(point[1])}" for point in points)
        name = html.escape(name)
        parts.append(f'<polyline {style} {dash} points="{path}"><title>{name}</title></polyline>')
        for step, value, lowest, highest in points:
            spread = f" ({lowest:.4g} to {highest:.4g})" if lowest < highest else ""
            label = f"<title>{name}, step {step:,}: {value:.4g}{spread}</title>"
            parts.append(f'<circle {style} r="4" cx="{x(step)}" cy="{y(value)}">{label}</circle>')
        left, baseline = LEFT + 220 * (place % 3), 38 + 18 * (place // 3)
        parts.append(f'<polyline {style} {dash} points="{left},{baseline - 4} {left + 34},{baseline - 4}"/>')
        parts.append(f'<text x="{left + 40}" y="{baseline}">{name}</text>')
    for step, name in stops:
        parts.append(f'<path class="stop" d="M{x(step)} {top}v{HEIGHT}"/>')
        parts.append(f'<text x="{float(x(step)) + 4:.1f}" y="{top + 12}">{html.escape(name)}</text>')
    box = f"0 0 {LEFT + WIDTH + 36} {top + HEIGHT + 44}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img">{"".join(parts)}</svg>\n'


def panels_of(runs):
    """The curves of runs of one variant: losses, D's answers, gamma, and the distance where it was measured."""

    def panel(title, columns, **more):
        return draw(title, [(name, over_seeds(runs, column)) for column, name in columns], **more)

    layers = [(f"gamma_{side} {n + 1}", f"{side.upper()}, layer {n + 1}") for side in "gd" for n in range(5)]
    return [
        panel("loss (nats)", [("d_loss", "discriminator"), ("g_loss", "generator")], zero=True),
        panel("mean of sigmoid D", [("d_real", "on photos, D(x)"), ("d_fake", "on fakes, D(G(z))")], zero=True),
        panel("gamma of each attention layer", layers, zero=True),
        *(distance_panel(name, {name: runs}) for name in distances_of(runs)),
    ]


def distances_of(runs):
    """The names of the distances that were measured: those by other networks or to other photos can't be compared."""
    return sorted({run.distance for run in runs if "fid" in run.points})


def distance_panel(distance, groups):
    """One panel of one distance; groups: {name: runs}, of which only those count that measured this one."""
    members = {name: [run for run in runs if run.distance == distance] for name, runs in groups.items()}
    return draw(distance, [(name, over_seeds(runs, "fid")) for name, runs in members.items()])


def write_curves(folder, panels):
    """The panels of one run above one another in its curves.svg, for where no page can be shown."""
    top, parts = 0, []
    for panel in filter(None, panels):
        width, height = (float(number) for number in panel.split('viewBox="0 0 ')[1].split('"')[0].split())
        parts.append(panel.replace("<svg ", f'<svg y="{top}" width="{width}" height="{height}" ', 1))
        top += height
    with replacing(folder / "curves.svg") as temporary:
        temporary.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top:.0f}"><style>{STYLE}</style>'
            f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
        )


# Pictures -----------------------------------------------------------------------------------------------------


def embed(image, alt):
    """A Pillow image as an <img> that holds its pixels, as JPEG: the page is to be sent."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    source = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" width="{image.width}" src="data:image/jpeg;base64,{source}">'


def sheet_of(run, step):
    """The upper left quarter of a sheet of samples: the same z in all runs of a seed.  '' if there is none."""
    path = run.folder / f"samples/{step:06d}.png"
    if not path.exists():
        return ""
    try:
        with Image.open(path) as image:
            return embed(image.crop((0, 0, image.width // 2, image.height // 2)), f"{run.folder} {step}")
    except (OSError, Image.DecompressionBombError) as error:
        return html.escape(f"{path}: {error}")


def steps_shown(run):
    """The steps of a run that have a sheet of samples: the milestones of section 4, and the last."""
    steps = sorted(int(path.stem) for path in (run.folder / "samples").glob("*.png") if path.stem.isdigit())
    return [step for step in steps if step in MILESTONES or step == steps[-1]]


@torch.no_grad()
def far_share(generator, count=16):
    """{layer: (share of attention farther than a quarter of the side from its query, the same if it fell evenly)}."""
    pictures, maps = attention_maps(generator, latents(0, count, generator.z_dim)[:count])
    shares = {}
    for r, attention in maps.items():  # (N, H*W, M); with pooled keys M is a quarter
        queries, keys = (grid(math.isqrt(n), pictures.shape[-1]) for n in attention.shape[1:])
        away = (torch.cdist(queries, keys) > pictures.shape[-1] / 4).float()
        shares[r] = float((attention * away).sum(dim=-1).mean()), float(away.mean())
    return shares


def grid(side, size):
    """The middles of side x side places on a picture of `size` pixels -> (side * side, 2)."""
    middle = (torch.arange(side) + 0.5) * size / side
    return torch.cartesian_prod(middle, middle)


def attention_section(run):
    """Where the full run's generator looks, from snapshot to snapshot: a table of shares and a few maps."""
    rows, pictures = [], []
    for step in steps_shown(run):
        path = run.folder / f"snapshots/{step:06d}.pt"
        try:
            generator, _ = load_generator(path)
        except (UserError, OSError):
            continue  # no snapshot, or none that can be read: the others tell
        if generator.attention:
            for r, (share, even) in far_share(generator).items():
                rows.append((f"{step:,}", f"{r}x{r}", f"{share:.2f}", f"{even:.2f}"))
            pictures.append(
                f"<p>{step:,} steps<br>{embed(attention_sheet(generator, 0, 2, 1), f'maps at {step}')}</p>"
            )
    if not rows:
        return ""
    head = (
        "step",
        "layer",
        "share of the attention farther away than a quarter of the picture's side",
        "if it fell evenly",
    )
    note = "Two generated dogs with five points each; then, in each point's colour, where it looks.  The same z."
    return f"<h2>Where attention looks</h2>{table(head, rows)}<p>{note}</p>{''.join(pictures)}"


@torch.no_grad()
def breeds_section(runs, folder, weights, count, device="cpu"):
    """Mode collapse (section 4.1.3): to how many breeds of real crops the pictures of each run are nearest."""
    paths = fid.list_images(folder)
    breeds, inception = fid.breeds_of(paths), fid.load_inception(weights, device)
    real = torch.cat(list(fid.features_of(folder, paths, inception))).cpu()
    sets, progress = [(f"the {len(paths):,} real crops, each against the others", real)], Progress(file=sys.stderr)
    for index, one in enumerate(runs, 1):
        try:
            generator, step = load_generator(find_snapshot(one.folder), device)
        except (UserError, OSError) as error:
            print(f"no breeds of {one.folder}: {error}")
            continue
        z = latents(0, count, generator.z_dim)[:count]
        fakes = torch.cat(list(features_of_fakes(generator, z, inception))).cpu()
        sets.append((f"{one.folder} at step {step:,}", fakes))
        progress(f"breeds: {index} of {len(runs)} runs", last=index == len(runs))
    rows = [(html.escape(name), *fid.breeds_covered(features, real, breeds)[1:]) for name, features in sets]
    kind = "an untrained" if inception.weights.startswith("random") else "a trained"
    note = (
        f"{count:,} pictures of each run; each counts for the breed of the real crop that is nearest in the features "
        f"of {kind} Inception network. The effective number is n for n breeds that are equally frequent. "
        "Fewer pictures find fewer breeds: compare rows of equal counts."
    )
    head = ("pictures", "breeds covered", "effective number", "mean distance to the nearest crop")
    return f"<h2>Breeds (section 4.1.3)</h2><p>{note}</p>{table(head, rows)}"


# The page -----------------------------------------------------------------------------------------------------


def table(head, rows):
    """A table whose cells are HTML."""

    def cells(row, tag):
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in row) + "</tr>"

    body = "".join(cells(row, "td") for row in rows)
    return f'<div class="scroll"><table>{cells(head, "th")}{body}</table></div>'


def summary(runs):
    """A row for each run: how far it came, what it scored, where it stopped improving."""
    rows = []
    for one in runs:
        distances = one.points.get("fid", [])
        best = min(distances, key=lambda point: point[1], default=None)
        gammas = [f"{key[6].upper()} {one.points[key][-1][1]:.3f}" for key in one.points if key.startswith("gamma")]
        rates = sorted(value for _, value in one.points.get("images_per_s", []))
        rows.append(
            (
                html.escape(str(one.folder)),
                one.variant,
                one.seed,
                f"{one.steps:,}" + (f" of {one.planned:,}" if one.steps < one.planned and not one.minutes else ""),
                one.distance,
                f"{distances[-1][1]:.2f}" if distances else "",
                f"{best[1]:.2f} at {best[0]:,}" if best else "",
                tell(stops_improving(distances)) if distances else "",
                tell(stops_improving(one.points["d_loss"])),
                ", ".join(gammas) or "no attention",
                f"{rates[len(rates) // 2]:.0f}" if rates else "",
            )
        )
    head = ("run", "variant", "seed", "steps", "distance to the photos", "its last value", "its lowest")
    head += ("it stops falling at", "D's loss stops falling at", "gamma of each layer at the end", "images/s, median")
    return table(head, rows)


def tell(step):
    return {None: "can't be told", math.inf: "not yet"}.get(step) or f"{step:,}"


def when_to_stop(run):
    """The full run's distance and D's loss one above the other (figure 13), both points marked, and samples there."""
    panels, told, shown = [], [], steps_shown(run)
    at = set(shown[-1:])
    for column, name in (("fid", run.distance), ("d_loss", "discriminator loss (nats)")):
        step = stops_improving(run.points.get(column, []))
        seen = step not in (None, math.inf)
        panels.append(draw(name, [(name, over_seeds([run], column))], [(step, f"{step:,}")] if seen else []))
        told.append(f"{name} stops falling: {tell(step)}" if panels[-1] else f"{column}: not measured")
        at |= {min(shown, key=lambda other, step=step: abs(other - step))} if seen and shown else set()
    sheets = [f"<p>{step:,} steps<br>{sheet_of(run, step)}</p>" for step in sorted(at)]
    return (
        f"<h2>When to stop (section 4.1.5): {html.escape(str(run.folder))}</h2>{''.join(panels)}"
        f"<p>{html.escape('; '.join(told))}. {RULE}</p>{''.join(sheets)}"
    )


def group(runs):
    """{name: runs that differ in their seeds only}, in the article's order of the variants."""
    groups = {}
    for one in sorted(runs, key=lambda one: (VARIANTS.index(one.variant), one.group, one.seed)):
        groups.setdefault(one.group, []).append(one)
    variants = [members[0].variant for members in groups.values()]
    named = {}
    for members in groups.values():
        # A variant's name tells a group as long as there is one of it; then the folder does.
        name = members[0].variant if variants.count(members[0].variant) == 1 else str(members[0].folder)
        seeds = len({member.seed for member in members})
        named[name + f" ({seeds} seeds)" * (seeds > 1)] = members
    return named


def page(runs, breeds=""):
    """All sections for runs that read_run gave, with that of the breeds -> HTML."""
    groups = group(runs)
    distances = distances_of(runs)
    title = "Self-Attention GAN on dogs"
    if any(fid.UNTRAINED in name for name in distances):
        title += f": {fid.UNTRAINED}"
    steps = sorted({step for members in groups.values() for step in steps_shown(members[0])})
    rows = [(f"{step:,}", *(sheet_of(members[0], step) for members in groups.values())) for step in steps]
    seeds = sorted({members[0].seed for members in groups.values()})
    about = "The upper left 16 of each sheet of samples, unselected"
    about += f", of seed {seeds[0]}: the same z in a row." if len(seeds) == 1 else "."

    def compare(title, column, **more):
        return draw(title, [(name, over_seeds(members, column)) for name, members in groups.items()], **more)

    spread = "Lines are means over seeds, bands reach from the lowest to the highest. "
    full = next((members[0] for members in groups.values() if members[0].variant == "full"), None)
    head = ("steps", *map(html.escape, groups))
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        summary([run for members in groups.values() for run in members]),
        f"<h2>Samples at the milestones (sections 4.1.1 to 4.1.4)</h2><p>{about}</p>{table(head, rows)}",
        "<h2>Curves of all variants (section 4.2)</h2>",
        f"<p>{spread * any(len(members) > 1 for members in groups.values())}Point at a curve for its values.</p>",
        *(distance_panel(distance, groups) for distance in distances),
        compare("discriminator loss (nats)", "d_loss", zero=True),
        compare("generator loss (nats)", "g_loss", zero=True),
        breeds,
        when_to_stop(full) if full else "",
        attention_section(full) if full else "",
        "<h2>Each variant</h2>",
    ]
    for name, members in groups.items():
        options = html.escape(json.dumps(members[0].config, indent=1))
        note = f"<details><summary>options</summary><pre>{options}</pre></details>"
        parts.append(f"<h3>{html.escape(name)}</h3>{''.join(panels_of(members))}{note}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}{PAGE_STYLE}</style>{''.join(parts)}</html>\n"
    )


def main():
    parser = Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders of train.py")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page to write")
    parser.add_argument(
        "--breeds", type=Path, metavar="DIR", help="crops of data.py: which breeds are covered? (slow)"
    )
    parser.add_argument("--weights", metavar="FILE", help="Inception's for --breeds, see fid.py")
    parser.add_argument(
        "--count", type=data.number(int, 1, 10**6), default=1000, help="pictures of each, for --breeds"
    )
    parser.add_device()
    args = parser.parse_args()
    if args.out.is_dir():
        parser.error(f"--out is the page to write, and {args.out} is a folder")
    if not args.out.parent.is_dir():
        raise UserError(f"{args.out.parent}: no such folder")
    runs = []
    for folder in dict.fromkeys(args.runs):
        try:
            runs.append(read_run(folder))
        except (UserError, OSError) as error:  # one bad run spoils no page
            print(f"left out: {error}")
    if not runs:
        raise UserError("none of these folders holds a run with figures")
    breeds = breeds_section(runs, args.breeds, args.weights, args.count, args.device) if args.breeds else ""
    with replacing(args.out) as temporary:
        temporary.write_text(page(runs, breeds))
    for one in runs:
        write_curves(one.folder, panels_of([one]))
    print(args.out)


if __name__ == "__main__":
    run(main)
