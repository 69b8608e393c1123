"""How fast the scripts are next to plain ways of doing the same; run by hand, on the processor, offline.

    python tests/bench.py                              all nine parts, about a quarter of an hour
    python tests/bench.py --only 1 4 --rounds 9        some of them, more carefully
    python tests/bench.py --photos datasets/stanford-dogs    part 4 on real photos instead of drawn textures

It prints: 1. ms for one attention, forward and backward, by three ways;  2. images/s of a training step, plain
and ours;  3. the share of our step outside the networks;  4. photos/s of cropping, plain and ours, and how much
decoding at reduced size changes a crop;  5. pictures/s of FID's Inception network, plain and ours;  6. seconds of
the Frechet distance, by sqrtm and ours;  7. FID's peak memory for 1,000 and 20,000 pictures;  8. memory, files,
threads and speed of a training of 2,000 steps, at its start and its end;  9. images/s of a training by one process
with two threads and by two with one each.  All contestants of parts 1 to 6 take turns in one run, after a warm-up, and
the best round of each counts: compare the ratios, the times depend on the machine.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from copy import deepcopy
from pathlib import Path
from unittest import mock

import numpy as np
import scipy.linalg
import torch
from PIL import Image
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import attention
import data
import fid
import train
from model import to_float

BATCH, SIZE, PHOTOS = 32, 64, 20_580


def in_turns(contestants, rounds):
    """{name: function} -> {name: seconds of its best round}; A B C A B C ..., after one warm-up of each."""
    best = dict.fromkeys(contestants, float("inf"))
    for turn in range(rounds + 1):
        for name, function in contestants.items():
            start = time.perf_counter()
            function()
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


# 1. Attention -------------------------------------------------------------------------------------------------


def torch_attention(query, key, value):
    """torch's own kernel: one width for all three, and four dimensions (one head), or it takes a slow path."""
    widen = (0, value.shape[2] - query.shape[2])
    query, key = F.pad(query, widen), F.pad(key, widen)
    return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]


def bench_attention(options):
    print("1. attention, forward + backward, 64 maps of 32x32, 64 channels (by hand = 1)")
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        inputs = [torch.randn(64, 32 * 32, c).to(dtype).requires_grad_() for c in (8, 8, 64)]
        grad = torch.randn(64, 32 * 32, 64).to(dtype)
        ways = {"by hand": attention.attention_by_hand, "torch's sdpa": torch_attention, "attend": attention.attend}
        runs = {name: lambda way=way: torch.autograd.grad(way(*inputs), inputs, grad) for name, way in ways.items()}  # noqa: B023
        best = in_turns(runs, options.rounds)
        for name, seconds in best.items():
            print(f"   {str(dtype)[6:]:9} {name:13} {1000 * seconds:8.1f} ms   {best['by hand'] / seconds:5.2f} x")


# 2. and 3. A training step ------------------------------------------------------------------------------------


class Plain:
    """A step as first written: float32, channels first, the map in memory, two passes of D, nothing spared."""

    def __init__(self, pictures):
        self.pictures = pictures
        with redirect_stdout(io.StringIO()):
            networks = train.make_networks(SIZE, train.parse_options(["--device", "cpu"]))[:2]
        self.g, self.d = (network.to(memory_format=torch.contiguous_format) for network in networks)
        self.optimizer_g = torch.optim.Adam(self.g.parameters(), lr=1e-4, betas=(0.0, 0.9))
        self.optimizer_d = torch.optim.Adam(self.d.parameters(), lr=4e-4, betas=(0.0, 0.9))

    @mock.patch.object(attention, "attend", attention.attention_by_hand)
    def __call__(self):
        real = self.pictures[torch.randint(PHOTOS, (BATCH,))].float() / 127.5 - 1
        fake = self.g(torch.randn(BATCH, 128))  # not detached: the gradient goes on into G, for nothing
        d_loss = train.discriminator_loss(self.d(real), self.d(fake))
        self.optimizer_d.zero_grad()
        d_loss.backward()
        self.optimizer_d.step()
        g_loss = train.generator_loss(self.d(self.g(torch.randn(BATCH, 128))))
        self.optimizer_g.zero_grad()
        g_loss.backward()  # into D's weights too, for nothing
        self.optimizer_g.step()


class Ours:
    """A turn of the loop in train.train; `outside` and `whole` add up the seconds of its turns."""

    def __init__(self, pictures, precision, *arguments):
        self.pictures, self.precision, self.step, self.pending = pictures, precision, 0, []
        self.networks = train.make_networks(SIZE, train.parse_options(["--device", "cpu", *arguments]))
        self.average = deepcopy(self.networks[0]).requires_grad_(False)
        self.outside = self.whole = 0.0

    def __call__(self):
        start = time.perf_counter()
        z_d, z_g, mirror = train.noise_of_step(0, self.step, BATCH, 128)
        real = self.pictures[train.photos_of_step(0, self.step, BATCH, PHOTOS)]
        real = to_float(torch.where(mirror[:, None, None, None], real.flip(3), real))
        shifts = train.shifts_of_step(0, self.step, BATCH, SIZE // 8)
        before = time.perf_counter()
        figures = train.train_step(*self.networks, real, z_d, z_g, shifts, self.precision)
        after = time.perf_counter()
        self.pending.append(figures)
        train.update_average(self.average, self.networks[0], self.step, 0.999)
        self.step += 1
        if self.step % 10 == 0:
            torch.stack(self.pending).mean(dim=0).tolist()
            self.pending = []
        end = time.perf_counter()
        self.outside += (before - start) + (end - after)
        self.whole += end - start


def figures_seconds(turns=100):
    """What the four figures at the end of train.train_step take: no part of the networks' work either."""
    loss, logits = torch.zeros((), requires_grad=True), torch.zeros(BATCH, requires_grad=True)
    start = time.perf_counter()
    for _ in range(turns):
        torch.stack([loss, loss, logits.sigmoid().mean(), logits.sigmoid().mean()]).detach()
    return (time.perf_counter() - start) / turns


def some_pictures():
    return torch.randint(256, (PHOTOS, 3, SIZE, SIZE), dtype=torch.uint8)


def bench_step(options):
    print(f"2. a training step, width 64, batch {BATCH}, attention at 32x32 in both networks (plain = 1)")
    pictures, none = some_pictures(), ("--no-gen-attn", "--no-disc-attn")
    steps = {
        "plain": Plain(pictures),
        "ours, float32": Ours(pictures, torch.float32),
        "ours, bfloat16": Ours(pictures, torch.bfloat16),
        "ours, float32, no attention": Ours(pictures, torch.float32, *none),
        "ours, bfloat16, no attention": Ours(pictures, torch.bfloat16, *none),
    }
    best = in_turns(steps, options.rounds)
    for name, seconds in best.items():
        print(f"   {name:29} {BATCH / seconds:7.1f} images/s   {best['plain'] / seconds:5.2f} x")


def bench_outside(options):
    ours = Ours(some_pictures(), torch.bfloat16)
    for _ in range(2):
        ours()
    ours.outside = ours.whole = 0.0
    turns = 2 * options.rounds
    for _ in range(turns):
        ours()
    share = (ours.outside / turns + figures_seconds()) / (ours.whole / turns)
    print(f"3. outside the networks: {100 * share:.2f} % of our bfloat16 step of {1000 * ours.whole / turns:.0f} ms")
    print("   (noise, photos, averaged generator, figures; promised: under 3 %)")


# 4. Cropping --------------------------------------------------------------------------------------------------

ANNOTATION = (
    "<annotation><size><width>500</width><height>375</height><depth>3</depth></size><object><name>dog</name><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object></annotation>"
)


def draw_photos(folder, count=200):
    """Smooth random textures of 500x375 with a box of about 300x280, in Stanford's layout."""
    rng = np.random.default_rng(0)
    for part in ("Images", "Annotation"):
        (folder / part / "n00000000-texture").mkdir(parents=True)
    for number in range(count):
        name = f"n00000000-texture/n00000000_{number}"
        layers = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((12, 16), (94, 125))]
        coarse, fine = (Image.fromarray(layer).resize((500, 375), Image.Resampling.BICUBIC) for layer in layers)
        Image.blend(coarse, fine, 0.3).save(folder / "Images" / f"{name}.jpg", quality=90)
        x, y, w, h = rng.integers((0, 0, 280, 260), (180, 75, 321, 301)).tolist()
        (folder / "Annotation" / name).write_text(ANNOTATION.format(x, y, x + w, y + h))


def plain_crop(photo, box):
    return Image.open(photo).convert("RGB").crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def boxes_of(photo, annotations):
    return data.read_boxes(annotations / photo.parent.name / photo.stem)[1]


def plain_loop(files, annotations):
    with tempfile.TemporaryDirectory() as out:
        for photo in files:
            for number, box in enumerate(boxes_of(photo, annotations)):
                plain_crop(photo, box).save(f"{out}/{photo.stem}_{number}.png")


def our_crops(source):
    with tempfile.TemporaryDirectory() as out, redirect_stdout(io.StringIO()):
        data.crop_dogs(source, Path(out), SIZE)


def difference(files, annotations, folder):
    """Mean |difference| in grey levels of our crops to those of full decoding, photos enlarged to 1500x1100."""
    enlarged, differences = folder / "enlarged.jpg", []
    for photo in files:
        with Image.open(photo) as image:
            x, y = 1500 / image.width, 1100 / image.height
            image.convert("RGB").resize((1500, 1100), Image.Resampling.BICUBIC).save(enlarged, quality=90)
        for left, top, right, bottom in boxes_of(photo, annotations):
            box = (round(left * x), round(top * y), round(right * x), round(bottom * y))
            ours = data.crop_photo(enlarged, [box], (1500, 1100), SIZE, False)[0]
            differences.append(np.abs(np.float32(ours) - np.float32(plain_crop(enlarged, box))).mean())
    return np.mean(differences)


def bench_crops(options):
    with tempfile.TemporaryDirectory() as folder:
        source = options.photos or Path(folder) / "drawn"
        if not options.photos:
            draw_photos(source)
        photos, annotations = data.find_dogs(source)
        files = sorted(path for path in photos.glob("*/*") if path.suffix.lower() in data.EXTENSIONS)
        ways = {"plain loop": lambda: plain_loop(files, annotations), "crop_dogs": lambda: our_crops(source)}
        best = in_turns(ways, options.rounds)
        print(f"4. cropping {len(files):,} {'photos' if options.photos else 'drawn textures'} (promised: 1.6 x)")
        for name, seconds in best.items():
            print(f"   {name:13} {len(files) / seconds:8.1f} photos/s   {best['plain loop'] / seconds:5.2f} x")
        change = difference(files[:20], annotations, Path(folder))
        print(f"   decoding 1500x1100 at reduced size changes a crop by {change:.2f} grey levels on average")


# 5. to 7. FID -------------------------------------------------------------------------------------------------


def bench_inception(options):
    images = torch.rand(48, 3, 64, 64)
    plain = fid.Inception().eval()
    fid.initialise(plain)
    ours, half = fid.load_inception("random"), fid.load_inception("random", precision="bf16")
    ways = {
        "plain, 48 at a time": lambda: plain.features(images),
        "plain, 8 at a time": lambda: [plain.features(part) for part in images.split(8)],
        "ours, float32": lambda: ours(images),
        "ours, bfloat16": lambda: half(images),
    }
    best = in_turns(ways, options.rounds)
    print("5. Inception forward, 64x64 pictures (promised: 1.8 x)")
    for name, seconds in best.items():
        print(f"   {name:20} {48 / seconds:7.1f} pictures/s   {best['plain, 48 at a time'] / seconds:5.2f} x")


def sqrtm_distance(mu1, sigma1, mu2, sigma2):
    """The formula as it stands."""
    root = np.trace(scipy.linalg.sqrtm(sigma1 @ sigma2)).real
    return np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * root


def bench_distance(options):
    print("6. Frechet distance of 2048 features (sqrtm = 1; promised: 10 x)")
    rng = np.random.default_rng(0)
    mixture = (
        rng.standard_normal((2048, 2048)) * np.exp(-np.arange(2048) / 300)[:, None]
    )  # a spectrum as features have
    for count in (5000, 200):
        sets = [rng.standard_normal((count, 2048)) @ mixture for _ in range(2)]
        pair = [part for x in sets for part in (x.mean(0), np.cov(x, rowvar=False))]
        ways = {"sqrtm": lambda: sqrtm_distance(*pair), "ours": lambda: fid.frechet_distance(*pair)}  # noqa: B023
        best = in_turns(ways, min(options.rounds, 2))
        for name, seconds in best.items():
            print(f"   {count:5,} pictures, {name:5} {seconds:6.2f} s   {best['sqrtm'] / seconds:5.1f} x")


class Stub(torch.nn.Linear):
    """In place of Inception, so that 20,000 pictures take seconds: only what is around the network is measured."""

    weights = "stub"

    def forward(self, images):
        return images.flatten(1)[:, :2048]


def peak_memory(folder):
    """Peak MB of a new process that makes the statistics of a folder (Linux)."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); import bench\n"
        f"bench.fid.folder_statistics({str(folder)!r}, bench.Stub(1, 1), cache=False)\n"
        "status = dict(line.split(':') for line in open('/proc/self/status'))\n"  # rusage counts the parent's, too
        "print(int(status['VmHWM'].split()[0]) / 1024)"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def bench_memory(_):
    print("7. peak memory of FID's statistics, the network left out (promised: no more than 150 MB apart)")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for count in (1000, 20000):
            target = Path(folder) / str(count)
            target.mkdir()
            for number in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
                picture.save(target / f"{number}.png", compress_level=0)
            print(f"   {count:6,} pictures {peak_memory(target):7.0f} MB")


# 8. and 9. Whole trainings ------------------------------------------------------------------------------------


def write_photos(folder, count=200):
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index}.png")


def process_now():
    """MB of memory, open files and threads of this process (Linux), and the time."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory, threads = int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])
    return memory, len(list(Path("/proc/self/fd").iterdir())), threads, time.perf_counter()


def bench_long_run(_):
    print("8. a training of 2,000 steps, width 8, batch 16, a sheet and a snapshot every 100 (some two minutes)")
    states, average = [], train.update_average

    def noting(*arguments):
        average(*arguments)
        states.append(process_now())

    with tempfile.TemporaryDirectory() as folder, mock.patch("train.update_average", noting):
        write_photos(Path(folder))
        arguments = ["--data", folder, "--out", f"{folder}/run", "--steps=2000", "--width=8", "--batch=16"]
        with redirect_stdout(io.StringIO()):
            train.train(train.parse_options([*arguments, "--attn-at=16", "--sample-every=100"]))
    for first, last in ((100, 200), (1900, 2000)):
        memory, files, threads, end = states[last - 1]
        speed = (last - first) / (end - states[first - 1][3])
        print(f"   step {last:5,}: {memory:6.1f} MB, {files} files, {threads} threads, {speed:.1f} steps/s before it")
    print(f"   memory at step 2,000 is {states[1999][0] / states[199][0]:.3f} of that at 200 (promised: 1.02)")


def bench_processes(_):
    print("9. training, 100 steps twice, width 32, batch 32, attention at 16x16 (one process with two threads = 1)")
    root, speeds = Path(__file__).resolve().parent.parent, []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "photos").mkdir()
        write_photos(Path(folder) / "photos")
        for count, threads in ((1, 2), (2, 1)):
            out = f"{folder}/{count}"
            how = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if count > 1 else []
            options = ["--width=32", "--batch=32", "--attn-at=16", "--steps=100", "--data", f"{folder}/photos"]
            command = [sys.executable, *how, "train.py", *options, "--out", out]
            environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
            subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
            rates = np.genfromtxt(f"{out}/log.csv", delimiter=",", names=True)["images_per_s"]
            speeds.append(float(np.median(rates)))
            print(f"   {count} x {threads} threads: {speeds[-1]:6.1f} images/s  {speeds[-1] / speeds[0]:.2f} x")


PARTS = [bench_attention, bench_step, bench_outside, bench_crops, bench_inception, bench_distance, bench_memory]
PARTS += [bench_long_run, bench_processes]


def main():
    parser = data.Parser(__doc__)
    parser.add_argument("--only", type=int, nargs="+", choices=range(1, 10), default=range(1, 10),
        metavar="N", help="which parts, 1 to 9; default: all")  # fmt: skip
    parser.add_argument("--rounds", type=data.number(int, 1), default=5, help="rounds after the warm-up")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="a copy of the Stanford Dogs for part 4")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for part in sorted(set(options.only)):
        PARTS[part - 1](options)


if __name__ == "__main__":
    data.run(main)
