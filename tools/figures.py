"""The labelled pictures and drawings of README.md, docs/ and experiment/.

python -m tools.figures                     those that need nothing but pretrained.pt -> docs/
python -m tools.figures step                print one real training step in numbers, half a minute of one CPU core
python -m tools.figures strip runs/full     the same dogs along a training -> docs/strip.png
python -m tools.figures default runs/full   more of them -> docs/default.jpg
python -m tools.figures recipe RUN ...      runs side by side, named by their folders -> docs/recipe.jpg
python -m tools.figures variants RUN ...    and named by what has attention -> experiment/variants.jpg
python -m tools.figures curves RUN ...      over the steps -> experiment/curves.svg

Not made here are docs/look.png, a screenshot of look.py's page, and experiment/attention.jpg, by sample.py.
"""

import math
import os
import re
from argparse import Namespace
from copy import deepcopy
from html import escape
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import sample
import snapshots
import train
from attention import attention_map
from common import Parser, UserError, run_script
from config import read_config, variant
from data import read_image
from distances import frechet_distance
from experiment import report
from experiment.toy import draw_photo
from files import atomic_write
from model import channels_at, to_float
from snapshots import generate, image_grid

ROOT = Path(__file__).resolve().parent.parent

# Drawings: SVG files, whose colours follow the reader's light or dark mode -----------------------------------

STYLE = """
text{fill:#1f2328;font:16px system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif}
.s{font-size:15px}.b{font-weight:600}.c{text-anchor:middle}.r{text-anchor:end}
.bg{fill:#fff}.m{fill:#59636e}.gt{fill:#0969da}.dt{fill:#bc4c00}.at{fill:#8250df}
.n{fill:none;stroke:#59636e}.g{fill:#ddf4ff;stroke:#0969da}.d{fill:#fff1e5;stroke:#bc4c00}.a{fill:#fbefff;stroke:#8250df}
.ml{stroke:#59636e}.gl{stroke:#0969da}.dl{stroke:#bc4c00}.al{stroke:#8250df}
.ml,.gl,.dl,.al{fill:none;stroke-width:2.5}.thin{stroke-width:1.6}.dash{stroke-dasharray:6 5}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.bg{fill:#0d1117}.m{fill:#9198a1}.gt{fill:#58a6ff}.dt{fill:#f0883e}.at{fill:#bc8cff}
.n{stroke:#9198a1}.g{fill:#0c2d6b;stroke:#58a6ff}.d{fill:#4d2200;stroke:#f0883e}.a{fill:#341a5c;stroke:#bc8cff}
.ml{stroke:#9198a1}.gl{stroke:#58a6ff}.dl{stroke:#f0883e}.al{stroke:#bc8cff}}
"""  # g: generator, d: discriminator, a: attention, m: muted; t: text, l: line


def svg(width, height, what, *parts):
    """The text of an SVG file on a white or, in dark mode, dark ground.  `what`: told to those who can't see it."""
    heads = "".join(
        f'<marker id="{line}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L10 5L0 10z" class="{head}"/></marker>'
        for line, head in (("gl", "gt"), ("dl", "dt"), ("al", "at"), ("n", "m"))
    )
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(what)}">'
    ground = f'<rect class="bg" width="{width}" height="{height}" rx="8"/>'
    return "\n".join([begin, f"<style>{STYLE}</style><defs>{heads}</defs>", ground, *parts, "</svg>\n"])


def text(x, y, words, kind=""):
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(str(words))}</text>'


def box(x, y, width, height, kind, opacity=1):
    size = f'width="{width:g}" height="{height:g}" rx="4" opacity="{opacity:g}"'
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" {size}/>'


def line(path, kind, arrow=False):
    end = f' marker-end="url(#{kind.split()[0]})"' if arrow else ""
    return f'<path class="{kind}" d="{path}"{end}/>'


def dot(x, y, kind, radius=3):
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def on(frame, x, y):
    """Where a point of a diagram is drawn.  `frame`: where its (0, 0) is, and pixels per unit of x and of y."""
    left, zero, unit_x, unit_y = frame
    return left + unit_x * x, zero - unit_y * y


def curve(frame, function, first, last, kind):
    points = (on(frame, x, function(x)) for x in np.linspace(first, last, 121))
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def slope(function, x):
    return (function(x + 0.01) - function(x - 0.01)) / 0.02


def softplus(t):
    return math.log1p(math.exp(t))


def draw_attention():
    """A leg asks for a head: the attention of one position in numbers, computed by attention_map."""
    names, gamma = ["sky", "head", "grass", "leg"], 0.5
    x = torch.tensor([[0.0, 0, 0], [0, 1, 10], [0, 0, 2], [1, 0, 1]])  # (N, 3): how much leg, head, brown
    query, key, value = 3 * x[:, :1], x[:, 1:2], x[:, 2:]  # (N, 1) each
    scores = query[3] * key.flatten()  # (N,): the leg's row, and so below
    shares = attention_map(query[None], key[None])[0, 3]
    mixed = shares * value.flatten()

    def cells(numbers, form="g"):
        return [format(number, form) for number in numbers.flatten().tolist()]

    table = [  # label, a number for each position, their sum
        ("", names, "sum"),
        "",
        ("x:  how much leg", cells(x[:, 0]), ""),
        ("how much head", cells(x[:, 1]), ""),
        ("how much brown", cells(x[:, 2]), ""),
        "",
        ("query = 3 · leg", cells(query), ""),
        ("key = head", cells(key), ""),
        ("value = brown", cells(value), ""),
        "The leg's query, 3, meets every key:",
        ("score = 3 · key", cells(scores), ""),
        ("exp(score)", cells(scores.exp(), ".1f"), f"{scores.exp().sum():.1f}"),
        ("share = exp / sum", cells(shares, ".3f"), f"{shares.sum():g}"),
        ("share · value", cells(mixed, ".2f"), f"{mixed.sum():.2f}"),
        "The leg's new brown, with gamma = 0.5:",
    ]
    parts = []
    for name, x0, y0, kind in zip(names, (20, 112) * 2, (20, 20, 78, 78), "nana", strict=True):
        parts += [box(x0, y0, 88, 54, kind), text(x0 + 44, y0 + 33, name, "c")]
    parts.append(line("M156 90V66", "al", arrow=True))
    story = ("A feature map of 2x2 places.", "How brown is this dog? The head", "knows it, and the leg doesn't.")
    parts += [text(222, 40 + 26 * row, words) for row, words in enumerate((*story, "So the leg asks for a head."))]
    y, columns = 168, (226, 306, 386, 466)
    for row in table:
        if isinstance(row, str):  # a heading, or only a rule
            parts += [line(f"M20 {y - 20}H548", "n"), text(20, y + 4, row, "b at")]
            y += 34 if row else 2
            continue
        label, words, total = row
        parts += [text(182, y, label, "r"), text(522, y, total, "c b")]
        for place, (at, word) in enumerate(zip(columns, words, strict=True)):
            if label.startswith("share ="):
                parts.append(box(at - 36, y - 19, 72, 26, "a", shares[place].item()))
            if (label[:5], place) in (("query", 3), ("key =", 1), ("value", 1)):
                parts.append(box(at - 20, y - 18, 40, 24, "a"))
            parts.append(text(at, y, word, "c" if label else "c b"))
        y += 30
    new = x[3, 2].item() + gamma * mixed.sum().item()
    last = f"y = x + gamma · sum = {x[3, 2]:g} + {gamma} · {mixed.sum():.2f} = {new:.1f}"
    parts += [text(20, y, last), text(20, y + 40, "The other three have query 0. All their scores are 0,", "m")]
    parts.append(text(20, y + 65, "so each share is 1/4, and they get the mean of the values.", "m"))
    what = "The leg's query meets the head's key in numbers: the head's share is 0.870, and the leg turns brown"
    return svg(568, y + 84, what, *parts)


def draw_networks():
    """Both networks at width 64, G above and D below, and where the gradients of both losses go."""
    parts = [text(20, 30, "Generator G", "b gt"), text(20, 244, "Discriminator D", "b dt")]
    rows = ("z", 4, 8, 16, 32, "attention", 64, "fake"), ("logit", 4, 8, 16, "attention", 32, 64, "photo")
    for names, y, kind, to_right in zip(rows, (104, 310), "gd", (True, False), strict=True):
        x = 20
        for name in names:
            if isinstance(name, int):  # a feature map: the more positions, the higher, and the fewer channels
                width, height = 52 - 6 * math.log2(name), 14 * math.log2(name) - 4
                parts.append(box(x, y - height / 2, width, height, kind))
                parts.append(text(x + width / 2, y + 58, f"{name}x{name}", "c s"))
                parts.append(text(x + width / 2, y + 76, f"x{channels_at(name, 64, 64)}", "c s m"))
            else:
                width, height = {"attention": (12, 66), "z": (44, 28), "logit": (44, 28)}.get(name, (72, 72))
                parts.append(box(x, y - height / 2, width, height, "a" if name == "attention" else "n"))
                parts.append(text(x + width / 2, y - 42 if name == "attention" else y + 5, name, "c s"))
            if name != names[-1]:
                ends = (x + width + 6, x + width + 41) if to_right else (x + width + 41, x + width + 6)
                parts.append(line(f"M{ends[0]:g} {y}H{ends[1]:g}", "n", arrow=True))
            x += width + 47
    parts += [
        line("M560 144V204H524V290H506", "n", arrow=True),
        line("M52 328V402H500", "dl thin dash", arrow=True),
        line("M36 328V416H628V104H622", "gl thin dash", arrow=True),
        line("M600 144V192H66", "gl thin dash", arrow=True),
        text(20, 446, "D descends its loss on photos and fakes, and the gradient goes into D's weights.", "s dt"),
        text(20, 470, "G descends its own: the gradient passes through D, which stays, into G's weights.", "s gt"),
    ]
    what = "G turns z into a fake through maps of 4x4 to 64x64, D turns a fake or a photo into one logit the other way"
    return svg(640, 486, f"{what}; both have attention at 32x32", *parts)


def draw_losses():
    """Both losses against D's logit, and where a new G stands if D sees through it."""
    d, g, new = (156, 266, 22, 33), (466, 166, 22, 17), -4
    parts = [text(24, 34, "Loss of D (eq. 2)", "b"), text(334, 34, "Loss of G for a fake", "b")]
    for frame, marks in ((d, (2, 4, 6)), (g, (-6, 6))):
        left, zero = frame[:2]
        parts.append(line(f"M{left - 132} {zero}H{left + 132}M{left} 62V270", "n"))
        parts += [text(on(frame, t, 0)[0], zero + 20, t, "c s m") for t in (-6, -3, 3, 6)]
        parts += [text(left - 6, on(frame, 0, t)[1] + 5, t, "r s m") for t in marks]
        parts += [text(left + 6, 72, "loss", "s m"), text(left + 132, zero - 8, "logit", "r s m")]
    parts += [curve(d, lambda t: softplus(-t), -6, 6, "dl"), text(84, 118, "photo", "dt")]
    parts += [curve(d, softplus, -6, 6, "dl dash"), text(186, 118, "fake", "dt")]
    parts.append(line(f"M{on(g, new, 0)[0]} 62V286", "n dash"))
    parts.append(text(320, 304, "a new G, if D sees through it", "b s"))
    eq_3, eq_1 = ("gl", "gt", 480, 104), ("ml dash", "m", 382, 210)
    for name, loss, (kind, colour, x, y) in (("3", lambda t: softplus(-t), eq_3), ("1", lambda t: -softplus(t), eq_1)):
        parts += [curve(g, loss, -6, 6, kind), dot(*on(g, new, loss(new)), colour, 5)]
        parts += [text(x, y, f"eq. {name}:", colour), text(x, y + 20, f"slope {slope(loss, new):.2f}", f"s {colour}")]
    what = "The losses against D's logit; at logit -4 G's loss is steep in eq. 3 and flat in eq. 1"
    return svg(620, 318, what, *parts)


def draw_slope():
    """Why D must be smooth: a fake beside a cliff gets no direction, and on a slope it does."""
    parts = []
    cases = [
        (20, "A cliff: D without R1", 30, 1, "flat: which way?", ("steep:", "R1 is large"), 140),
        (330, "A slope: D with R1", 2.2, 0.6, "this way", ("gentle:", "R1 is small"), 190),
    ]
    for left, title, steep, high, words, price, price_y in cases:
        frame = (left, 140, 270, 75)

        def logit(t, steep=steep, high=high):
            return high * math.tanh(steep * (t - 0.6))

        x, y = on(frame, 0.2, logit(0.2))
        end_x, end_y = on(frame, 0.42, logit(0.2) + 0.22 * slope(logit, 0.2))
        parts += [text(left, 30, title, "b"), text(left, 60, "D's logit", "s dt")]
        parts += [line(f"M{left} 240H{left + 270}", "n"), curve(frame, logit, 0, 1, "dl")]
        parts += [text(left, 262, "fakes", "s gt"), text(left + 182, 262, "photos", "s c m")]
        parts += [dot(*on(frame, t, logit(t)), "m", 5) for t in (0.62, 0.65, 0.68, 0.71)]
        parts += [text(left + 192, price_y + 22 * row, part, "s m") for row, part in enumerate(price)]
        parts += [dot(x, y, "gt", 6), text(left, y - 28, words, "gt")]
        if slope(logit, 0.2) > 0.01:
            parts.append(line(f"M{x:.1f} {y:.1f}L{end_x:.1f} {end_y:.1f}", "gl", arrow=True))
    return svg(620, 280, "A fake on the flat part beside a cliff gets no direction; on a slope it does", *parts)


def cloud(seed, spread=1, centre=0):
    """40 points (40, 2) whose mean is (centre, 0) and whose covariance is spread**2 times the identity, exactly."""
    points = np.random.default_rng(seed).standard_normal((40, 2))
    points -= points.mean(axis=0)
    points = points @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T))).T
    return points * spread + (centre, 0)


def draw_fid():
    """The Frechet distance of two clouds of points in a plane, where one sees what it is made of."""
    photos, parts = cloud(0), []
    cases = [  # title, generated points, the radius of their dots, how the distance comes about
        ("Another centre", cloud(1, centre=2), 3, "2²"),
        ("Half the spread", cloud(1, spread=0.5), 3, "2 · (1 + 1/4 - 2 · 1/2)"),
        ("Mode collapse", cloud(1, spread=0), 7, "2 · (1 + 0 - 2 · 0)"),
    ]
    for middle, (title, fakes, radius, how) in zip((105, 310, 515), cases, strict=True):
        for points, kind, r in ((photos, "n", 3), (fakes, "gt", radius)):
            shift = middle - 13 * fakes[:, 0].mean()
            parts += dict.fromkeys(dot(shift + 26 * x, 130 - 26 * y, kind, r) for x, y in points)
        both = [statistic for points in (photos, fakes) for statistic in (points.mean(axis=0), np.cov(points.T))]
        parts += [text(middle, 30, title, "c b"), text(middle, 268, f"= {how}", "c m")]
        parts.append(text(middle, 244, f"distance {frechet_distance(*both):.1f}", "c b"))
    parts += [dot(80, 300, "n", 4), text(92, 305, "photos, variance 1 each way")]
    parts += [dot(340, 300, "gt", 4), text(352, 305, "generated")]
    what = "Photos and generated points in a plane: centres 2 apart, half the spread, all generated in one place"
    return svg(620, 320, what, *parts)


# Pictures of runs ---------------------------------------------------------------------------------------------

SHEETS = {  # file, steps beside the newest, dogs in a row and rows of a panel, panels in a row
    "strip": ("docs/strip.png", (500, 1000, 2500, 5000, 10000), (2, 3), 6),
    "default": ("docs/default.jpg", (500, 2500, 5000), (5, 4), 2),
    "recipe": ("docs/recipe.jpg", (), (5, 4), 2),
    "variants": ("experiment/variants.jpg", (), (5, 4), 2),
}


def draw_sheet(name, folders):
    """The first dogs of each run's sheets of samples: the same z at every step and, with equal seeds, in every run."""
    _, chosen, (columns, rows), panels_in_a_row = SHEETS[name]
    panels = []
    for folder in folders:
        config, sheets = read_config(folder), sorted((folder / "samples").glob("*.png"))
        if not sheets:
            raise UserError(f"{folder}: no samples there yet")
        side = config["size"] + 2  # of a dog with the gap
        attention = report.VARIANTS[variant(Namespace(**config["options"]))]
        for path in sheets:
            step = int(path.stem)
            if step in chosen or path == sheets[-1]:
                dogs = Image.fromarray(read_image(path)).crop((0, 0, columns * side + 2, rows * side + 2))
                words = {"recipe": folder.name.replace("-", " "), "variants": f"attention in {attention}"}
                panels.append((words.get(name, f"step {step:,}"), dogs))
    return sample.labelled(panels, panels_in_a_row)


def draw_curves(folders):
    """Four panels of experiment/report.py, which has the rest."""
    runs = report.read_runs(folders)
    if not runs:
        raise UserError("none of these folders holds a run with figures")
    groups = report.group(runs)
    last = max(run.last for *_, runs in groups for run in runs)
    have = {name for *_, runs in groups for run in runs for name, points in run.points.items() if points}
    parts = [f"<style>{re.sub('svg,img{.*?}', '', report.STYLE)}</style>"]  # in a page they fill their column
    for place, column in enumerate(name for name in ("distance", "recall", "dogs", "d_loss") if name in have):
        x, y = place % 2 * 460, place // 2 * 290
        found = re.search("<svg.*</svg>", report.panel(column, groups, last), re.DOTALL)[0]
        parts.append(text(x + 16, y + 26, report.title(column), "b s"))
        parts.append(found.replace("<svg", f'<svg x="{x}" y="{y + 34}" width="460" height="250"', 1))
    return svg(920, y + 290, "Distance, recall, dogs and loss of D over the steps", *parts)


# One step in numbers ------------------------------------------------------------------------------------------


def print_step(steps=200, count=256):
    """Train on toys of 32x32, and print what the next step's two turns do, as a table in Markdown.

    Both turns see the same z here, and nothing is translated or flipped, so that the rows can be compared.  Another
    kind of processor rounds otherwise, which after 200 steps changes the second decimal.
    """
    toys = (draw_photo(0, index) for index in range(count))  # (image, breed, boxes) each
    crops = [np.array(toy.crop(boxes[0]).resize((32, 32), Image.Resampling.BICUBIC)) for toy, _, boxes in toys]
    photos = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)  # (count, 3, 32, 32)
    size = ["--width=16", "--batch=16", "--attn-at=16", "--device=cpu", "--precision=fp32"]
    options = train.parse_options([f"--data={ROOT}", f"--out={os.devnull}", *size])
    gan = train.make_gan(32, options, "cpu")
    for step in range(steps + 1):
        r1_weight = options.r1 / 2 * train.R1_EVERY if step % train.R1_EVERY == 0 else 0
        most = options.translation * 32 if step < steps else 0  # pixels
        batch = train.draw_batch(0, step, options.batch, count, most)
        if step < steps:
            train.train_step(gan, photos, batch, r1_weight)
    batch = batch._replace(z_g=batch.z_d, flip=batch.flip & False)

    @torch.no_grad()
    def row(when):
        real_logits = gan.discriminator(to_float(photos[batch.index]))
        fake_logits = gan.discriminator(gan.generator(batch.z_d))
        losses = train.discriminator_loss(real_logits, fake_logits), train.generator_loss(fake_logits)
        figures = real_logits.sigmoid().mean(), fake_logits.sigmoid().mean(), *losses
        print(f"| {when} | {' | '.join(f'{figure:.2f}' for figure in figures)} |")

    print("| | D(photo) | D(fake) | loss of D | loss of G |\n| --- | --- | --- | --- | --- |")
    row("before")
    before = deepcopy(gan.generator.state_dict())
    train.train_step(gan, photos, batch, r1_weight)
    after = deepcopy(gan.generator.state_dict())
    gan.generator.load_state_dict(before)  # D has had its turn, and G hasn't
    row("after D's turn")
    gan.generator.load_state_dict(after)
    row("after G's turn")


# All of them --------------------------------------------------------------------------------------------------

DRAWINGS = {
    "docs/attention.svg": draw_attention,
    "docs/networks.svg": draw_networks,
    "docs/losses.svg": draw_losses,
    "docs/slope.svg": draw_slope,
    "docs/fid.svg": draw_fid,
}
PICTURES = {  # of pretrained.pt
    "docs/grid.png": lambda generator: image_grid(generate(generator, snapshots.latents(0, 64))),
    "docs/attention.jpg": lambda generator: sample.attention_sheet(generator, 0),
    "docs/gamma.jpg": lambda generator: sample.gamma_sheet(generator, 0, [1, 0.75, 0.5, 0.25, 0]),
}


def write(path, figure):
    """A drawing's text or a Pillow image -> its file."""
    if isinstance(figure, str):
        with atomic_write(path) as temporary:
            temporary.write_text(figure, encoding="utf-8")
    else:
        sample.save_picture(figure, path)
    print(path)


def main():
    parser = Parser(__doc__)
    names = [*SHEETS, "curves", "step"]
    parser.add_argument("figure", nargs="?", choices=names, help="one that takes runs, or a step in numbers")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders of train.py")
    parser.add_argument("--root", type=Path, default=ROOT, help="where docs/ and experiment/ are")
    args = parser.parse_args()
    if args.figure in (*SHEETS, "curves") and not args.runs:
        raise UserError(f"{args.figure}: name the run folders to draw")
    if args.figure == "step":
        torch.set_num_threads(1)  # because the number of threads changes the rounding, too
        print_step()
    elif args.figure == "curves":
        write(args.root / "experiment/curves.svg", draw_curves(args.runs))
    elif args.figure:
        write(args.root / SHEETS[args.figure][0], draw_sheet(args.figure, args.runs))
    else:
        generator, _ = snapshots.load_generator(snapshots.PRETRAINED)
        for path, draw in PICTURES.items():
            write(args.root / path, draw(generator))
        for path, draw in DRAWINGS.items():
            write(args.root / path, draw())


if __name__ == "__main__":
    run_script(main)
