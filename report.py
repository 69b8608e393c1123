"""The course of one or more runs as one HTML page.

    python report.py runs/*           -> report.html, and curves.svg in each run folder

For each run: the losses, what D thinks of photos and fakes, gamma of the attention layers, and the sample sheets.
The page holds everything, so it can be sent as one file.  Runs may be unfinished.
"""

import base64
import csv
import html
from pathlib import Path

from data import Parser, UserError, replacing, run

# What each panel shows: title, then (column of log.csv, its name).  Solid and dashed, blue and orange: the lines
# can be told apart in black and white and by colour-blind readers.
PANELS = [
    ("loss (nats)", [("d_loss", "discriminator"), ("g_loss", "generator")]),
    ("mean of sigmoid D", [("d_real", "on photos, D(x)"), ("d_fake", "on fakes, D(G(z))")]),
    ("gamma of the attention", [("gamma_g", "generator"), ("gamma_d", "discriminator")]),
]
STYLES = ['stroke="#0072b2"', 'stroke="#d55e00" stroke-dasharray="7 3"']
WIDTH, HEIGHT, LEFT, GAP = 720, 150, 60, 46  # of a panel, its margin, and what is between two, in pixels


def read_log(folder):
    """log.csv of a run -> [{column: text}].  Raises UserError if there is none or it's empty."""
    try:
        with open(folder / "log.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{folder}: no run to read there ({error})") from None
    if not rows:
        raise UserError(f"{folder}/log.csv has no rows yet (train.py writes one every 10 steps)")
    return rows


def smooth(values, reach):
    """Means over 2 * reach + 1 neighbours, fewer at the ends: single steps of a GAN jump about."""
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def line(rows, column, layer):
    """The points (step, value) of a column's layer-th number; [] where nothing was measured."""
    points = [(int(row["step"]), row[column].split()) for row in rows]
    points = [(step, float(values[layer])) for step, values in points if len(values) > layer]
    means = smooth([value for _, value in points], len(points) // 100)
    return [(step, mean) for (step, _), mean in zip(points, means, strict=True)]


def draw_curves(rows):
    """A run's log -> an SVG picture with the three panels above one another."""
    last = max(int(row["step"]) for row in rows)
    parts, top = [], 30
    for title, columns in PANELS:
        lines = [(name, style, line(rows, column, layer))
                 for (column, name), style in zip(columns, STYLES, strict=True) for layer in range(5)]  # fmt: skip
        lines = [(name, style, points) for name, style, points in lines if points]
        values = [value for _, _, points in lines for _, value in points]
        if not values:
            continue
        low, high = min(0, *values), max(values)
        high += (high == low) * 1e-9
        parts.append(f'<text x="{LEFT}" y="{top - 10}" font-weight="bold">{title}</text>')
        for value in (low, 0 if low < 0 < high else (low + high) / 2, high):
            y = top + HEIGHT * (high - value) / (high - low)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + WIDTH}" stroke="#ccc"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
        for name, style, points in lines:
            path = " ".join(
                f"{LEFT + WIDTH * step / last:.1f},{top + HEIGHT * (high - value) / (high - low):.1f}"
                for step, value in points
            )
            parts.append(
                f'<polyline points="{path}" fill="none" stroke-width="1.6" {style}><title>{name}</title></polyline>'
            )
        for number, (_, name) in enumerate(columns):
            x = LEFT + 220 + 200 * number
            parts.append(f'<path d="M{x} {top - 14}h30" stroke-width="2" {STYLES[number]}/>')
            parts.append(f'<text x="{x + 36}" y="{top - 10}">{name}</text>')
        top += HEIGHT + GAP
    for quarter in range(5):
        x = LEFT + WIDTH * quarter / 4
        parts.append(f'<text x="{x}" y="{top - GAP + 20}" text-anchor="middle">{last * quarter // 4:,}</text>')
    parts.append(f'<text x="{LEFT + WIDTH / 2}" y="{top - GAP + 38}" text-anchor="middle">steps</text>')
    size, font = f"0 0 {LEFT + WIDTH + 30} {top}", 'font-family="sans-serif" font-size="12" fill="#222"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" {font}>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def describe(folder):
    """One run as a section of the page; writes its curves.svg too."""
    curves = draw_curves(read_log(folder))
    with replacing(folder / "curves.svg") as temporary:
        temporary.write_text(curves)
    pictures = sorted((folder / "samples").glob("*.png")) + sorted(folder.glob("*.png"))
    figures = "".join(
        f'<figure><img alt="" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        f"<figcaption>{html.escape(path.stem)}</figcaption></figure>"
        for path in pictures
    )
    config = html.escape((folder / "config.json").read_text())
    return (
        f"<h2>{html.escape(str(folder))}</h2>{curves}<div>{figures}</div>"
        f"<details><summary>options and versions</summary><pre>{config}</pre></details>"
    )


def main():
    parser = Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders of train.py")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page to write")
    args = parser.parse_args()
    sections = []
    for folder in args.runs:
        try:
            sections.append(describe(folder))
        except (UserError, OSError, KeyError, ValueError, AttributeError) as error:  # one bad run spoils no page
            print(f"left out: {error}")
    if not sections:
        raise UserError("none of these folders holds a run with figures")
    with replacing(args.out) as temporary:
        temporary.write_text(
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>sagan-dogs</title>'
            '<meta name="viewport" content="width=device-width">'
            "<style>body{font-family:sans-serif;max-width:70em;margin:auto;padding:1em;color-scheme:light dark}"
            "svg,img{max-width:100%}figure{display:inline-block;margin:.5em}</style>"
            f"<h1>Self-Attention GAN on dogs</h1>{''.join(sections)}</html>\n"
        )
    print(args.out)


if __name__ == "__main__":
    run(main)
