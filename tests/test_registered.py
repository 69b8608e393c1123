"""The registered questions (experiment/registered.py): figures of which one knows the answer."""

import csv
import itertools
import json
import math
import shutil
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from scipy import stats

from common import UserError
from experiment import evaluate, registered

LATE = {25000: -2, 26250: 1, 27500: 5, 28750: -3, 30000: -1}  # what cancels out over the five snapshots
SWITCHES = {
    "full": (False, False),
    "no-disc-attn": (False, True),
    "no-gen-attn": (True, False),
    "no-attn": (True, True),
}


def make_runs(folder, value, seeds=range(3, 11), count=2000):
    """Runs whose distance and recall at a step are value(variant, seed, step), as evaluate.py leaves them."""
    for name, seed in itertools.product(SWITCHES, seeds):
        run = folder / f"{name}-{seed}"
        run.mkdir(parents=True)
        options = dict(zip(("no_gen_attn", "no_disc_attn"), SWITCHES[name], strict=True)) | {"seed": seed}
        config = {"options": options, "size": 64, "photos": 2, "photos_sha256": ""}
        (run / "config.json").write_text(json.dumps(config))
        with open(run / "metrics.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, evaluate.COLUMNS, restval="")
            writer.writeheader()
            for step in (step for step in (500, 2500, 5000, 24000, *LATE) if step <= 5000 or seed <= 5):
                figures = dict.fromkeys(("distance", "recall", "precision", "density"), value(name, seed, step))
                writer.writerow({"step": step, "count": count, "fingerprint": "abc", **figures})
    return sorted(folder.iterdir())


def tables(capsys):
    """The tables printed since the last call, as {first cell of a row: the others}."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def ask(monkeypatch, *folders):
    monkeypatch.setattr(sys, "argv", ["registered", *map(str, folders)])
    registered.main()


def test_the_differences_are_those_that_were_put_in(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)

    def value(name, seed, step):
        gen = 0 if SWITCHES[name][0] else 7
        disc = 0 if SWITCHES[name][1] else 4
        late = gen + disc + LATE.get(step, 0)
        return 100 + step / 100 + (late if step in LATE else 60 * (name == "full")) + random.normal() / 2

    folders = make_runs(tmp_path / "runs", value, seeds=range(1, 11))
    ask(monkeypatch, *folders)
    found = tables(capsys)
    for text, difference in (("1. both - rest, distance at 500", 60), ("4. effect of G, distance late", 7)):
        row = found[text]
        low, high = map(float, row[1].split(" to "))
        assert float(row[0]) == pytest.approx(difference, abs=0.8) and low < float(row[0]) < high
        assert row[2].endswith(" (28)" if "500" in text else " (8)") and float(row[4]) == 0
        assert row[6] == ("8 of 8" if "500" in text else "3 of 3")
        assert row[7].endswith("(10)" if "500" in text else "(5)")  # seeds 1 and 2, too
    assert found["1. both - rest, distance at 500"][5] == "0.000"  # 1 of 4^8
    assert found["4. effect of G, distance late"][5] == "0.031"  # 2 of 2^6
    assert set(found["effect of G, coverage late"]) == {"not yet", "0 of 3"}
    early = registered.values(registered.read_runs(folders), "distance", (500,), registered.EARLY)
    assert float(found["*one run's spread*"][0]) == pytest.approx(
        math.sqrt(early.var(axis=1, ddof=1).mean()), abs=0.051
    )
    assert float(found["effect of D, distance late"][0]) == pytest.approx(4, abs=0.8)
    early = [float(cell) for cell in (found[name][0] for name in registered.VARIANTS.values())]
    assert early == pytest.approx([165, 105, 105, 105], abs=0.8)


def test_two_groups_are_compared_as_by_the_t_test():
    one, two = np.random.default_rng(1).normal(size=(2, 9))
    difference, half, t, p, freedom = registered.contrast(np.stack([one, two]), [1, -1])
    known = stats.ttest_ind(one, two)
    assert (difference, t, p, freedom) == pytest.approx((one.mean() - two.mean(), *known, 16))
    interval = known.confidence_interval()
    assert (difference - half, difference + half) == pytest.approx((interval.low, interval.high))


def test_four_groups_are_compared_as_by_a_linear_model():
    groups = np.random.default_rng(2).normal(size=(4, 8)) + np.array([[3], [0], [1], [2]])
    design = np.kron(np.eye(4), np.ones((8, 1)))  # a mean for each group
    coefficients, residual, *_ = np.linalg.lstsq(design, groups.ravel(), rcond=None)
    weights = np.array(registered.BOTH)
    error = math.sqrt(residual[0] / 28 * weights @ np.linalg.inv(design.T @ design) @ weights)
    difference, _, t, p, freedom = registered.contrast(groups, registered.BOTH)
    assert (difference, t, freedom) == pytest.approx((weights @ coefficients, weights @ coefficients / error, 28))
    assert p == pytest.approx(2 * stats.t(28).sf(abs(t)))


def test_holm_by_hand():
    # 5 x 0.01, 4 x 0.011, which is less, so as before; 3 x 0.02; 2 x 0.04; 1 x 0.9
    ps = [0.02, 0.01, 0.9, 0.011, 0.04]
    assert registered.holm(ps) == pytest.approx([0.06, 0.05, 0.9, 0.05, 0.08])
    assert registered.holm([0.3, 0.4, 0.9]) == pytest.approx([0.9, 0.9, 0.9])


def test_relabelling_within_seeds_by_brute_force():
    groups = np.random.default_rng(3).normal(size=(4, 2)) + np.array([[1], [0], [0], [0]])
    means = []
    for first, second in itertools.product(range(4), repeat=2):
        both = (groups[first, 0] + groups[second, 1]) / 2
        means.append(both - (groups.sum() / 2 - both) / 3)
    assert registered.permutation_p(groups, registered.BOTH) == np.mean(np.abs(means) >= abs(means[0]) - 1e-9)
    for weights, pairs in ((registered.IN_G, ((0, 2), (1, 3))), (registered.IN_D, ((0, 1), (2, 3)))):
        effects = []
        for swaps in itertools.product((False, True), repeat=4):
            swapped = groups.copy()
            for swap, (pair, seed) in zip(swaps, itertools.product(pairs, range(2)), strict=True):
                if swap:
                    swapped[list(pair), seed] = swapped[list(pair[::-1]), seed]
            effects.append(weights @ swapped.mean(axis=1))
        assert registered.permutation_p(groups, weights) == np.mean(np.abs(effects) >= abs(effects[0]) - 1e-9)


def test_runs_not_measured_alike_or_not_named_after_their_seed_are_told(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(4)
    folders = make_runs(tmp_path / "runs", lambda *_: random.normal())
    (odd,) = make_runs(tmp_path / "other", lambda *_: 1e6, seeds=[7])[:1]
    control = odd.rename(odd.with_name("uniform-1"))  # its config can't tell it from full-7
    (tmp_path / "report.html").touch()  # stands beside published runs
    ask(monkeypatch, *folders, control, tmp_path / "report.html")
    assert f"left out, for its name: {control}" in capsys.readouterr().out
    with pytest.raises(UserError, match="full-99"):
        ask(monkeypatch, *folders, tmp_path / "full-99")
    others = make_runs(tmp_path / "count", lambda *_: 1, count=1000)
    with pytest.raises(UserError, match="1000"):
        ask(monkeypatch, *folders[1:], others[0])


def test_controls_stand_beside_the_variants(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(6)
    folders = make_runs(tmp_path / "runs", lambda name, seed, step: random.normal() + 2 * (name == "full"))
    ask(monkeypatch, *folders)
    without = capsys.readouterr().out.splitlines()
    full = registered.values(registered.read_runs(folders), "recall", registered.END, registered.LATE)[0]
    make_runs(tmp_path / "other", lambda name, seed, step: 3 * seed + LATE.get(step, 0), seeds=(3, 4, 5))
    for seed in (3, 4, 5):
        run = (tmp_path / "other" / f"full-{seed}").rename(tmp_path / "other" / f"uniform_{seed}")
        config = json.loads((run / "config.json").read_text()) | {"code": {"control": "uniform"}}
        (run / "config.json").write_text(json.dumps(config))
        (run / "metrics.csv").write_text((run / "metrics.csv").read_text().replace(",abc", ",abc uniform"))
        folders.append(run)
    ask(monkeypatch, *folders[:-1])  # two seeds are told, but not compared with the variants' three
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("| uniform | 10.5 (2) |")] == without != lines
    ask(monkeypatch, *folders)
    found = tables(capsys)
    assert found["uniform"] == ["12.0 (3)"] * 4 + ["12.000 (3)"] * 3
    row = found["uniform - in both, recall late"]
    assert float(row[0]) == pytest.approx(12 - full.mean(), abs=1e-3) and row[2].endswith(" (10)")
    fingerprints = {"abc uniform+def": None, "other uniform": "crops", "abc": "learned", "abc identity": "identity"}
    for fingerprint, told in fingerprints.items():
        (run / "metrics.csv").write_text((run / "metrics.csv").read_text().replace("abc uniform", fingerprint))
        with pytest.raises(UserError, match=told) if told else nullcontext():
            ask(monkeypatch, *folders)
        (run / "metrics.csv").write_text((run / "metrics.csv").read_text().replace(fingerprint, "abc uniform"))
    capsys.readouterr()
    ask(monkeypatch, *(folder for folder in folders if folder.name not in ("full-3", "uniform_5")))
    assert not [text for text in tables(capsys) if text.startswith("uniform - ")]  # nor before the variants are there
    again = shutil.copytree(folders[0], tmp_path / "again" / folders[0].name)
    with pytest.raises(UserError, match="second"):
        ask(monkeypatch, *folders, again)


def test_nothing_is_told_of_a_question_before_all_its_seeds_are_there(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(5)
    folders = make_runs(tmp_path, lambda *_: random.normal())

    def answers(*missing):
        ask(monkeypatch, *(folder for folder in folders if folder.name not in missing))
        found = tables(capsys)
        return found["attention"], {text: cells for text, cells in found.items() if text[:1] in tuple("12345")}

    # Seed 9 belongs to the early questions alone; p, Holm's correction, and the exact p are cells 3, 4 and 5.
    columns, cells = answers("no-attn-9")
    assert columns == ["distance, late", "recall, late", "precision, late", "density, late"]
    assert [set(row) for row in cells.values()][:3] == [{"not yet", "7 of 8"}] * 3
    late = [row for text, row in cells.items() if text[0] in "45"]
    assert [row[6] for row in late] == ["3 of 3"] * 2 and all(float(row[3]) + float(row[5]) > 0 for row in late)
    assert {row[4] for row in late} == {"not yet"}  # which takes all five
    complete = answers()[1].values()
    holm = registered.holm([float(row[3]) for row in complete])
    assert [float(row[4]) for row in complete] == pytest.approx(holm, abs=0.003)  # of p with three decimals
    # Seed 3 belongs to all.
    columns, cells = answers("full-3")
    assert columns == []
    assert {cell for row in cells.values() for cell in row} == {"not yet", "7 of 8", "2 of 3"}
