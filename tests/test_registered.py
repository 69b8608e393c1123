"""The registered questions: each statistic against a known answer."""

import csv
import json
import sys

import numpy as np
import pytest
from scipy import stats

from experiment import registered
from experiment.evaluate import COLUMNS


def test_a_contrast_of_two_groups_is_students_t_test():
    groups = np.random.default_rng(0).normal([[0.3], [0]], size=(2, 6))
    difference, half, t, freedom, p = registered.contrast(groups, [1, -1])
    wanted = stats.ttest_ind(*groups)
    assert (t, p, freedom) == (pytest.approx(wanted.statistic), pytest.approx(wanted.pvalue), wanted.df)
    interval = wanted.confidence_interval(0.95)
    assert (difference - half, difference + half) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_holms_correction_by_hand():
    assert registered.holm([0.04, 0.01, 0.03, 0.2]) == pytest.approx([0.09, 0.04, 0.09, 0.2])
    assert registered.holm([0.5, 0.9]) == pytest.approx([1, 1])


def test_a_permutation_counts_the_labels_that_do_as_well():
    best = np.array([[9.0, 9, 9], [0, 0, 0], [0, 0, 0], [0, 0, 0]])  # one of 4 labels in each of 3 seeds
    assert registered.permutation_p(best, registered.BOTH) == pytest.approx(1 / 64)
    in_g = np.array([[5.0, 5], [5, 5], [1, 1], [1, 1]])  # 2^4 labels; the opposite of all is as large
    assert registered.permutation_p(in_g, registered.IN_G) == pytest.approx(2 / 16)


def test_runs_answer_the_questions_that_they_can(tmp_path, monkeypatch, capsys):
    folders = []
    for name in registered.VARIANTS:
        for seed in registered.EARLY:
            folder = tmp_path / f"{name}-{seed}"
            folder.mkdir()
            options = {"no_gen_attn": name in ("no-gen-attn", "no-attn"), "seed": seed}
            options["no_disc_attn"] = name in ("no-disc-attn", "no-attn")
            config = {"options": options, "size": 64, "photos": 9, "photos_sha256": ""}
            (folder / "config.json").write_text(json.dumps(config))
            with open(folder / "metrics.csv", "w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, restval="")
                writer.writeheader()
                distance = 100 + seed % 3 + 10 * (name == "full")
                writer.writerow({"step": 500, "count": 2000, "distance": distance})
            folders.append(str(folder))
    monkeypatch.setattr(sys, "argv", ["registered.py", *folders])
    registered.main()
    first, late = (
        line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith(("| 1.", "| 4."))
    )
    assert float(first[2]) == 10 and "not yet" in late[6] and "nan" in late[2]
