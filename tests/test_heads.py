"""Counting heads of toy dogs (experiment/heads.py)."""

import re
import sys

import numpy as np
import torch

from data import cut
from experiment import heads, toy


def test_toys_have_as_many_heads_as_asked_for(monkeypatch):
    drawn, draw_head = [], toy.draw_head
    monkeypatch.setattr(toy, "draw_head", lambda *arguments: drawn.append(arguments[4]) or draw_head(*arguments))
    counting = toy.draw_head
    for index in range(40):
        photo, breed, boxes = toy.draw_photo(5, index)
        for count in range(3) if index < 8 else [2]:
            drawn.clear()
            picture = heads.draw_toy(5, index, count, 32)
            assert len(drawn) == count * len(boxes) and toy.draw_head is counting
            places = np.array(drawn).reshape(len(boxes), -1)
            assert count < 2 or (abs(places[:, 0] - places[:, 1]) > breed.head).all()  # not the same place twice
            if count == 1:
                assert (picture.permute(1, 2, 0).numpy() == np.array(cut(photo, boxes[0], 32))).all()


def test_a_counter_learns_what_can_be_learnt():
    torch.manual_seed(0)
    spots = torch.randint(0, 100, (240, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(240) % 3
    for picture, label in zip(spots, labels, strict=True):
        for spot in range(label):
            picture[:, 4:12, 4 + 16 * spot : 12 + 16 * spot] = 255
    counter = heads.make_counter(32)
    heads.learn(counter, spots[:180], labels[:180], epochs=8)
    assert (heads.count_heads(counter, spots[180:]) == labels[180:]).double().mean() > 0.95


def test_the_counts_of_a_run_stand_below_the_counter_s_own_errors(ten_steps, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["heads", str(ten_steps), "--count=7", "--toys=12"])
    heads.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    names = [row[0].strip("| ") for row in rows]
    assert names == ["3 other drawn toys with", "---", "none", "one", "two", "run", "---", str(ten_steps)]
    shares = [[float(cell.strip(" |")) for cell in row[1:]] for row in rows if re.search(r"\d\.\d", row[-1])]
    assert len(shares) == 4 and all(abs(sum(row) - 1) < 0.002 for row in shares)
