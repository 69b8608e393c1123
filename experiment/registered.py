"""The five questions that experiment/README.md registered before the runs, answered from the runs' metrics.csv.

    python -m experiment.registered experiment/results/*

The folders are named variant-seed, as those of `make ablation`, and control_seed; others are left out.  Prints two
Markdown tables: the means of the variants and of the controls (experiment/controls.py), and the answers.  The effect
of D and the controls' differences were not registered.  Before a question has all its seeds, with all four variants
measured, nothing but their number is printed of it, because one could stop when an answer pleases.

"p, exact" is that of a permutation test within the seeds: figures never go from one seed to another.  In questions 1
to 3 the label "in both" goes to each of the four runs of a seed, in all combinations of the seeds (4^8).  In 4 and 5
two runs of a seed that are alike in D keep or swap their labels "with" and "without attention in G", in all
combinations (2^6), and for the effect of D the other way round.  p is the share of them whose difference, whatever its
sign, is at least as large as the one found.
"""

import itertools
import math
from argparse import Namespace
from pathlib import Path

import numpy as np
from scipy import stats

from common import Parser, UserError, run_script
from config import read_config, variant
from experiment.evaluate import read_metrics

VARIANTS = {"full": "in both", "no-disc-attn": "in G only", "no-gen-attn": "in D only", "no-attn": "in neither"}
BOTH = [1, -1 / 3, -1 / 3, -1 / 3]  # attention in both minus the mean of the others, in the order of VARIANTS
IN_G, IN_D = [1 / 2, 1 / 2, -1 / 2, -1 / 2], [1 / 2, -1 / 2, 1 / 2, -1 / 2]  # main effects of attention in G and in D
EARLY, LATE = range(3, 11), range(3, 6)  # the seeds that were registered
END = (25000, 26250, 27500, 28750, 30000)  # a run's figure late in training is the mean over these
QUESTIONS = [  # what is asked, the column, the steps, the weights of the variants, the seeds
    ("1. both - rest, distance at 500", "distance", (500,), BOTH, EARLY),
    ("2. both - rest, distance at 2,500", "distance", (2500,), BOTH, EARLY),
    ("3. both - rest, distance at 5,000", "distance", (5000,), BOTH, EARLY),
    ("4. effect of G, distance late", "distance", END, IN_G, LATE),
    ("5. effect of G, recall late", "recall", END, IN_G, LATE),
]
BESIDE = [(f"effect of G, {name} late", name, END, IN_G, LATE) for name in ("precision", "density", "coverage")]
BESIDE += [(f"effect of D, {name} late", name, END, IN_D, LATE) for name in ("distance", "recall")]


def read_runs(folders):
    """Run folders -> {(variant or control, seed): rows of metrics.csv}.  Raises UserError if measured differently."""
    runs, counts, crops = {}, set(), set()
    for folder in (folder for folder in folders if not folder.is_file()):  # report.html stands beside the runs
        config = read_config(folder)
        options, control = Namespace(**config["options"]), (config.get("code") or {}).get("control", "")
        name = control if control and variant(options) == "full" else variant(options)
        if folder.name != f"{name}{'_' if control else '-'}{options.seed}":
            print(f"left out, for its name: {folder}, seed {options.seed} of {name}")
            continue
        if (name, options.seed) in runs:
            raise UserError(f"{folder}: a second run of {name} with seed {options.seed}")
        rows = runs[name, options.seed] = read_metrics(folder / "metrics.csv")
        for row in rows.values():
            against, _, judged_with = (row.get("fingerprint") or "").partition("+")[0].partition(" ")
            if judged_with != control:
                told = f"measured with {judged_with or 'learned'} attention, trained with {control or 'learned'}"
                raise UserError(f"{folder}: {told}")
            counts.add(row["count"])
            crops |= {against} - {""}  # seeds 1 and 2 were measured before there were fingerprints
    if len(counts) > 1 or len(crops) > 1:
        raise UserError(f"measured with different counts, {sorted(counts)}, or crops or seeds, {sorted(crops)}")
    return runs


def values(runs, column, steps, seeds, names=tuple(VARIANTS)):
    """The figures (k, n), each the mean over the steps, of those n seeds that have them under all k names."""

    def value(run):
        return np.mean([float(runs.get(run, {}).get(step, {}).get(column) or "nan") for step in steps])

    figures = np.array([[value((name, seed)) for seed in seeds] for name in names])
    return figures[:, ~np.isnan(figures).any(axis=0)]


def contrast(groups, weights):
    """The weighted sum of the means of groups (k, n), tested against 0 with the variance pooled within them.

    Returns (difference, half of its 95 % interval, t, two-sided p, degrees of freedom).
    """
    n, freedom = groups.shape[1], groups.size - len(groups)
    error = math.sqrt(groups.var(axis=1, ddof=1).mean() * np.square(weights).sum() / n)
    difference = float(weights @ groups.mean(axis=1))
    p = 2 * stats.t.sf(abs(difference / error), freedom)
    return difference, stats.t.ppf(0.975, freedom) * error, difference / error, float(p), freedom


def cells_of(groups, weights, digits):
    """`contrast` as the cells of a table: difference, interval, t with its freedom, p; and p as a number."""
    difference, half, t, p, freedom = contrast(groups, weights)
    low, high = (f"{end:.{digits}f}" for end in (difference - half, difference + half))
    return [f"{difference:.{digits}f}", f"{low} to {high}", f"{t:.2f} ({freedom})", f"{p:.3f}"], p


def permutation_p(groups, weights):
    """The share of all relabellings of groups (4, seeds) within the seeds whose difference is as large, + or -."""
    if weights == BOTH:  # what the labels that a seed's runs could have had give: (seeds, 4)
        choices = np.stack([np.roll(weights, shift) @ groups for shift in range(4)], axis=1)
    else:  # (2 * seeds, 2)
        pairs = (groups[np.array(weights) > 0] - groups[np.array(weights) < 0]).ravel() / 2
        choices = np.stack([pairs, -pairs], axis=1)
    sums = np.array([sum(labels) for labels in itertools.product(*choices)])  # 4^8 or 2^6 for all seeds
    return float((abs(sums) >= abs(sums[0]) - 1e-9).mean())  # the first is the one found


def holm(ps):
    """Holm's correction: the smallest of m is multiplied by m, the next by m - 1, ..., none below those before."""
    order, corrected = np.argsort(ps), np.empty(len(ps))
    corrected[order] = np.maximum.accumulate(np.minimum(1, np.arange(len(ps), 0, -1) * np.array(ps)[order]))
    return corrected


def table(head, *rows):
    print("\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n")


def main():
    parser = Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders with metrics.csv")
    runs = read_runs(parser.parse_args().runs)
    asked, every_seed = [text for text, *_ in QUESTIONS], sorted({seed for _, seed in runs})
    controls = sorted({name for name, _ in runs} - VARIANTS.keys())
    means, rows, ps = {"attention": [*VARIANTS.values(), "*one run's spread*", *controls]}, [], {}
    for text, column, steps, weights, seeds in QUESTIONS + BESIDE:
        groups, every = (values(runs, column, steps, some) for some in (seeds, every_seed))
        there = f"{groups.shape[1]} of {len(seeds)}"
        if groups.shape[1] < len(seeds):
            rows.append([text, *["not yet"] * 6, there, "not yet"])
            continue
        digits = 1 if column == "distance" else 3
        cells, ps[text] = cells_of(groups, weights, digits)
        spread = math.sqrt(groups.var(axis=1, ddof=1).mean())
        name = f"{column}, {'late' if steps == END else f'{steps[0]:,}'}"
        means[name] = [f"{value:.{digits}f}" for value in [*groups.mean(axis=1), spread]]
        for control in controls:
            its = values(runs, column, steps, every_seed, [control])
            means[name].append(f"{its.mean():.{digits}f} ({its.size})" if its.size else "")
        more = ["not yet" if text in asked else "", f"{permutation_p(groups, weights):.3f}", there]
        all_seeds = "{:.{d}f} +- {:.{d}f} ({})".format(*contrast(every, weights)[:2], every.shape[1], d=digits)
        rows.append([text, *cells, *more, all_seeds])
    if ps.keys() >= set(asked):
        for row, p in zip(rows, holm([ps[text] for text in asked]), strict=False):
            row[5] = f"{p:.3f}"
    for control, column in itertools.product(controls, ("distance", "recall", "precision")):
        groups = values(runs, column, END, LATE), values(runs, column, END, every_seed, [control])
        if groups[0].shape[1] == groups[1].shape[1] == len(LATE):  # not before the variants are there, either
            cells, _ = cells_of(np.concatenate(groups), [-1, 0, 0, 0, 1], 1 if column == "distance" else 3)
            rows.append([f"{control} - in both, {column} late", *cells, "", "", f"{len(LATE)} of each", ""])
    table(*zip(*([name, *column] for name, column in means.items()), strict=True))
    head = ["question", "difference", "95 % interval", "t (freedom)", "p", "Holm", "p, exact", "seeds", "all seeds"]
    table(head, *rows)


if __name__ == "__main__":
    run_script(main)
