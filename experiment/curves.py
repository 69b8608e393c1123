"""Curves of several runs in one panel, as SVG; their means over seeds, and where each stops improving.

For report.py.  A curve is [(step, value)], and a mean of curves [(step, mean, lowest, highest)].
"""

import math
from collections import defaultdict
from html import escape
from itertools import pairwise
from statistics import fmean

from run import MILESTONES

ARTICLE = sorted(MILESTONES - {1000})  # the steps that section 4 looks at
POINTS = 100  # a curve has at most so many
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 250, 46, 92, 22, 32  # of a panel and its margins


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
    power = 10.0 ** math.floor(math.log10((high - low) / 6))
    step = next(f * power for f in (1, 2, 5, 10) if high - low < 6 * f * power)
    return [step * n for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def move_apart(heights, gap=13):
    """Heights of labels, those closer than `gap` moved apart: down from the top one on, then up from the bottom."""
    heights, order = list(heights), sorted(range(len(heights)), key=heights.__getitem__)
    for above, below in pairwise(order):
        heights[below] = max(heights[below], heights[above] + gap)
    limit = HEIGHT - BOTTOM
    for place in reversed(order):
        heights[place] = min(heights[place], limit)
        limit = heights[place] - gap
    return heights


def tell(point):
    """A point of averages() as text: mean ± half the range."""
    _, mean, low, high = point
    digits = 3 if abs(mean) < 1 else 2 if abs(mean) < 10 else 1 if abs(mean) < 1000 else 0
    return f"{mean:,.{digits}f}" + (f" ± {(high - low) / 2:,.{digits}f}" if low < high else "")


def draw(curves, last, unit="", include=(), stops=()):
    """One panel as SVG.  curves: [(label, style, [(step, mean, lowest, highest)])]; stops: [(step, style)] to mark."""
    curves = [curve for curve in curves if curve[2]]
    values = [value for *_, points in curves for point in points for value in point[1:]] + list(include)
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.5 + abs(high)
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
    taken = []
    for step, style in sorted(stops):  # those that would hide each other are piled up
        level = next(n for n in range(len(stops)) if all(n != m or x(step) - other >= 10 for other, m in taken))
        taken.append((x(step), level))
        parts.append(f'<path class="stop {style}" d="M{x(step)} {bottom - 9 - 9 * level}l5 9h-10z"/>')
    for step in sorted({step for *_, points in curves for step, *_ in points}):
        told = [f"{label}: {tell(point)}" for label, _, points in curves for point in points if point[0] == step]
        tip = escape("\n".join([f"step {step:,.0f}", *told]))
        parts.append(f'<path class="hover" d="M{x(step)} {TOP}V{bottom}"><title>{tip}</title></path>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
