"""How many heads do generated toy dogs have?  Counted by a small network that learns it on drawn ones (4.1.4).

    python -m experiment.heads runs/toy-heads/*        1,000 dogs of each run's newest snapshot

It is trained on toys of experiment/toy.py of which a third are drawn without a head, a third with one and a third with
two, the second beside the first or at the other end of the body.  Other drawn toys tell how often it is wrong.
Generated heads can be malformed as no drawn one is, so look at some dogs, too, and compare runs rather than believe a
single figure.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common import Parser, Progress, number, run_script
from data import cut
from experiment import toy
from model import to_float
from snapshots import find_snapshot, generate, latents, load_generator

HEADS = ("none", "one", "two")


def draw_toy(seed, index, heads, size):
    """Toy number `index` of a seed with 0, 1 or 2 heads on its dogs -> uint8 (3, size, size), cropped to the first."""
    draw_head, rng = toy.draw_head, np.random.default_rng([seed, index, 2])

    def draw_heads(back, layer, top, breed, at, turn, front):
        places = [at, -at.conjugate()]  # its own, and at the other end of the body
        if abs(at.real) < breed.head or rng.random() < 0.5:  # or beside the first, to any side but down
            places[1] = at + breed.head * rng.uniform(1.3, 2.2) * np.exp(1j * rng.uniform(-0.3, np.pi + 0.3))
        for place in places[:heads]:
            draw_head(back, layer, top, breed, place, turn, front)

    toy.draw_head = draw_heads
    try:
        photo, _, boxes = toy.draw_photo(seed, index)
    finally:
        toy.draw_head = draw_head
    return torch.from_numpy(np.array(cut(photo, boxes[0], size))).permute(2, 0, 1)


def draw_toys(seed, count, size):
    """`count` toys, uint8 (count, 3, size, size), and how many heads each has, (count,): 0, 1, 2, 0, ..."""
    progress, toys = Progress(), []
    for index in range(count):
        # Breeds take turns, too: as 3 doesn't divide their 8, each comes with every number of heads.
        toys.append(draw_toy(seed, index, index % 3, size))
        progress(f"{index + 1:,} of {count:,} toys drawn", last=index + 1 == count)
    return torch.stack(toys), torch.arange(count) % 3


def make_counter(size):
    """A network from pictures (B, 3, size, size) in [-1, 1] to logits (B, 3) of no head, one and two."""
    layers, channels = [], 3
    for wider in (32, 64, 128):
        layers += [nn.Conv2d(channels, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU(), nn.MaxPool2d(2)]
        channels = wider
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels * (size // 8) ** 2, 3))


def learn(counter, toys, heads, epochs=20, batch=64):
    """Train the network on toys (N, 3, S, S), uint8, flipped and of random brightness, by the cross-entropy."""
    optimizer = torch.optim.AdamW(counter.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * -(-len(toys) // batch))
    progress = Progress()
    for epoch in range(epochs):
        for some in torch.randperm(len(toys)).split(batch):
            x = to_float(toys[some])
            x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x) * (
                0.8 + 0.4 * torch.rand(len(x), 1, 1, 1)
            )
            loss = F.cross_entropy(counter(x), heads[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        progress(f"epoch {epoch + 1} of {epochs}: cross-entropy {loss.item():.3f}", last=epoch + 1 == epochs)


@torch.no_grad()
def count_heads(counter, pictures):
    """Pictures (N, 3, S, S), uint8 -> the most probable number of heads of each, (N,)."""
    return torch.cat([counter.eval()(to_float(some)).argmax(dim=1) for some in pictures.cpu().split(256)])


def shares(found):
    return " | ".join(f"{(found == heads).double().mean():.3f}" for heads in range(3))


def main():
    parser = Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders or snapshots, trained on toys")
    parser.add_argument("--count", type=number(int, 1), default=1000, help="dogs of each run")
    parser.add_argument(
        "--toys", type=number(int, 9), default=6000, help="drawn toys to learn on; a quarter more test"
    )
    parser.add_argument("--seed", type=number(int, 0, 2**32 - 1), default=0, help="where all random numbers start")
    options = parser.parse_args()
    z, drawn = latents(options.seed, options.count), {}
    for run in options.runs:
        drawn[run] = generate(load_generator(find_snapshot(run))[0], z)
    (size,) = {pictures.shape[-1] for pictures in drawn.values()}
    torch.manual_seed(options.seed)
    counter = make_counter(size)
    learn(counter, *draw_toys(options.seed + 1, options.toys, size))  # seed 0 drew the GAN's own photos
    toys, heads = draw_toys(options.seed + 2, options.toys // 4, size)
    found = count_heads(counter, toys)
    print(f"\n| {options.toys // 4:,} other drawn toys with | none found | one | two |\n| --- | --- | --- | --- |")
    for true, name in enumerate(HEADS):
        print(f"| {name} | {shares(found[heads == true])} |")
    print("\n| run | none | one | two |\n| --- | --- | --- | --- |")
    for run, pictures in drawn.items():
        print(f"| {run} | {shares(count_heads(counter, pictures))} |")


if __name__ == "__main__":
    run_script(main)
