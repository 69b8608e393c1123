"""Train the Self-Attention GAN (section 2.1): the losses of eq. 1-3, one step, one loop.

    python train.py                                    attention in both, 30,000 steps -> runs/full/
    python train.py --no-gen-attn --no-disc-attn       no attention in G, in D or, as here, in both -> runs/no-attn/
    python train.py --resume runs/full                 go on exactly where it stopped
    torchrun --nproc-per-node 2 train.py               on two GPUs, each with half of every batch

A run folder holds config.json, log.csv, samples/ (grids of the same 64 z), snapshots/ (averaged generators) and
checkpoint.pt.  Ctrl-C saves and stops.
"""

import datetime
import hashlib
import json
import os
import shlex
import time
from contextlib import nullcontext
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import update_bn

import common
import fid
import run
from common import Parser, Progress, UserError, number, run_script
from data import image_grid, load_folder
from model import Z_DIM, Discriminator, Generator, build, generate, spectral_norm_once, to_float
from run import CHANGEABLE, MILESTONES, SCHEDULE, rank, read_config, variant, world_size

R1_EVERY = 8  # the penalty changes slowly: every 8th step, 8 times as strong (Karras et al. 2020, who also adapt Adam)
COLUMNS = ["step", "d_loss", "g_loss", "d_real", "d_fake", "gamma_g", "gamma_d", "images_per_s", "fid"]


# D gives logits: D(x) of the article is sigmoid(logit).  With softplus(t) = log(1 + exp t),
# -log sigmoid(t) = softplus(-t) and -log(1 - sigmoid(t)) = softplus(t): no log of a rounded 0, ever.


def discriminator_loss(real_logits, fake_logits):
    """Eq. 2, negated so that descending it ascends eq. 2:  -E[log D(x)] - E[log(1 - D(G(z)))]."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits):
    """Eq. 3, negated, the non-saturating form of eq. 1:  -E[log D(G(z))]."""
    return F.softplus(-fake_logits).mean()


def r1_penalty(discriminator, real):
    """E |grad of the logit at a photo|^2: keeps D flat where the photos are (Mescheder et al. 2018)."""
    real = real.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the one that has second derivatives
        # Each logit depends on its own photo alone, so the gradient of their sum holds that of each.
        (grad,) = torch.autograd.grad(discriminator(real).float().sum(), real, create_graph=True)  # (B, 3, H, W)
    return grad.float().square().sum(dim=(1, 2, 3)).mean()


# All randomness of a step comes from (seed, step): runs resume exactly, and the variants see the same photos and z.


def random_generator(*key):
    """A torch random generator that depends on the given whole numbers only."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


@lru_cache(maxsize=2)
def photo_order(seed, epoch, count):
    """The order in which an epoch, one pass over the photos, shows them."""
    return torch.randperm(count, generator=random_generator(seed, 0, epoch))


def draw_step(seed, step, batch, count):
    """What is random in a step: z for D's turn and for G's, which of `count` photos, which to mirror, translations.

    -> (batch, Z_DIM) twice; (batch,) indices; (batch,) bool; (batch, 3, 2) in -1..1, for photos, D's fakes and G's.
    """
    rng = random_generator(seed, 1, step)
    z_d, z_g = torch.randn(2, batch, Z_DIM, generator=rng)
    places = range(step * batch, (step + 1) * batch)
    index = torch.stack([photo_order(seed, place // count, count)[place % count] for place in places])
    mirror = torch.rand(batch, generator=rng) < 0.5
    return z_d, z_g, index, mirror, 2 * torch.rand(batch, 3, 2, generator=rng) - 1


def translate(x, shift):
    """Pictures (B, C, S, S), each moved by its own shift (B, 2) of rows and columns; at the edge it is mirrored.

    So D learns the photos less by heart: each comes in many places (Zhao et al. 2020; theirs have black edges).  Rows
    and columns are picked by products with matrices of 0 and 1: fast, with the same gradient whatever the threads.
    """
    size = x.shape[-1]
    source = torch.arange(size, device=x.device) - shift[:, :, None]  # (B, 2, S)
    source = size - 1 - (size - 1 - source.abs()).abs()  # -1 -> 1, S -> S - 2
    rows, columns = F.one_hot(source, size).to(x.dtype).unbind(1)  # (B, S, S) each
    return rows[:, None] @ x @ columns[:, None].mT


def train_step(generator, discriminator, optimizer_g, optimizer_d, real, z_d, z_g, shifts, r1_weight, autocast):
    """First D descends its loss on photos and fakes, then G on new fakes (section 2.1).

    real: (B, 3, S, S) in [-1, 1]; z_d, z_g: (B, Z_DIM); shifts: (B, 3, 2), whole pixels; r1_weight: 0 in most steps.
    Returns a tensor (5,) on the device, to be summed up: the losses of D and G, the mean D(x) and D(G(z)), and 1.
    """
    real = translate(real, shifts[:, 0])
    with spectral_norm_once(generator, discriminator), autocast:  # D's turn
        with torch.no_grad():
            fake = translate(generator(z_d), shifts[:, 1]).to(real.dtype)
        real_logits, fake_logits = discriminator(torch.cat([real, fake])).float().chunk(2)
        d_loss = discriminator_loss(real_logits, fake_logits)
    optimizer_d.zero_grad()
    d_loss.backward()
    if r1_weight:  # a pass of its own needs less memory; backward() adds its gradient to that of the loss
        with spectral_norm_once(discriminator.eval()), autocast:  # eval(): spectral norm is estimated once a turn
            penalty = r1_weight * r1_penalty(discriminator, real)
        penalty.backward()
    average_gradients(discriminator)
    optimizer_d.step()

    discriminator.train().requires_grad_(False)  # G's turn: the gradient passes through D, not into its weights
    with spectral_norm_once(generator, discriminator), autocast:
        g_loss = generator_loss(discriminator(translate(generator(z_g), shifts[:, 2])).float())
    optimizer_g.zero_grad()
    g_loss.backward()
    average_gradients(generator)
    optimizer_g.step()
    discriminator.requires_grad_(True)
    figures = [d_loss, g_loss, real_logits.sigmoid().mean(), fake_logits.sigmoid().mean(), torch.ones_like(d_loss)]
    return torch.stack(figures).detach()


def average_gradients(network):
    """Under torchrun each process has the gradients of its share of the batch: all go on with their mean."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in network.parameters()]
    flat = torch.cat([g.flatten() for g in gradients])  # one message instead of dozens
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.div_(world_size()).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


@torch.no_grad()
def update_ema(generator_ema, generator, step, decay):
    """Move the averaged generator a little towards the trained one, more at the start, where all is still moving.

    It takes no part in the training, and its pictures are better: the wobble of single steps is averaged out.
    """
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(generator_ema.parameters()), list(generator.parameters()), 1 - decay)
    # Spectral norm's vectors; batch norm's statistics are measured when they are needed.
    torch._foreach_copy_(list(generator_ema.buffers()), list(generator.buffers()))


def to_device(x, device):
    """Without waiting for it: on CUDA from pinned memory."""
    return x.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else x.to(device)


def make_networks(size, options, device):
    """Generator, discriminator and their optimisers as the options say; the seed decides the first weights."""
    networks, optimizers = [], []
    for index, (kind, lr) in enumerate([(Generator, options.lr_g), (Discriminator, options.lr_d)]):
        torch.manual_seed(2 * options.seed + index)
        try:
            networks.append(build(kind, size, vars(options)).to(device))
        except ValueError as error:
            raise UserError(f"--data, --attn-at: {error}") from None
        optimizers.append(torch.optim.Adam(networks[-1].parameters(), lr=lr, betas=options.betas, fused=True))
    return *networks, *optimizers


def has_bfloat16(device):
    """Whether the device computes in bfloat16 faster than in float32."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    features = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.7 and older can't tell
    return device == "cpu" and bool(features.get("avx512_bf16") or features.get("amx_bf16"))


class RunFolder:
    """What a run writes, and how it goes on where its checkpoint is: the log is cut back to that.

    `parts`: {name: module or optimiser} that a checkpoint holds.
    """

    def __init__(self, path, config, parts):
        self.path, self.config, self.parts, self.log_bytes = path, config, parts, 0

    def load(self):
        """Put the checkpoint into the parts -> its step, or 0 if there is none.  Raises UserError if it isn't ours."""
        if not (self.path / "checkpoint.pt").exists():
            if len(list(self.path.glob("snapshots/*.pt"))) > 1:  # one: killed before its first checkpoint
                raise UserError(f"{self.path}: its checkpoint.pt is gone, so the run can't go on; begin another --out")
            return 0
        checkpoint = common.load_checkpoint(self.path / "checkpoint.pt")
        try:
            for name, part in self.parts.items():
                part.load_state_dict(checkpoint[name])
            self.log_bytes = checkpoint["log_bytes"]
            if (self.path / "log.csv").stat().st_size < self.log_bytes:
                raise ValueError("log.csv has lost rows that it had then")
            return int(checkpoint["step"])
        except Exception as error:  # torch raises many kinds here
            raise UserError(f"{self.path / 'checkpoint.pt'} doesn't fit this run ({error})") from None

    def open(self):
        """Write the config and cut the log back: from here on the folder changes."""
        with common.atomic_write(self.path / "config.json") as temporary:
            temporary.write_text(json.dumps(self.config, indent=1) + "\n", encoding="utf-8")
        for name in ("samples", "snapshots"):
            (self.path / name).mkdir(exist_ok=True)
        with open(self.path / "log.csv", "ab") as log:
            log.truncate(self.log_bytes)
        if not self.log_bytes:
            self.write_row(COLUMNS)

    def write_row(self, row):
        with open(self.path / "log.csv", "a", encoding="utf-8", newline="") as log:
            log.write(",".join(map(str, row)) + "\n")

    def save(self, step):
        with open(self.path / "log.csv", "ab") as log:
            os.fsync(log.fileno())
            log_bytes = log.tell()
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"step": step, "log_bytes": log_bytes, "config": self.config}
        common.save_checkpoint(self.path / "checkpoint.pt", state)

    def write_samples(self, generator_ema, z, step):
        """A grid of pictures of z, and a snapshot of the averaged generator."""
        with common.atomic_write(self.path / "samples" / f"{step:06d}.png") as temporary:
            image_grid(generate(generator_ema, z)).save(temporary, "PNG")
        snapshot = {"generator_ema": generator_ema.state_dict(), "step": step, "config": self.config}
        common.save_checkpoint(self.path / "snapshots" / f"{step:06d}.pt", snapshot)


def fid_meter(options, device):
    """A function from a generator to the FID of 5,000 of its pictures, always of the same z, to the photos."""
    inception = fid.load_inception(options.inception, device)
    z = torch.randn(5000, Z_DIM, generator=random_generator(options.seed, 3))
    stats = options.real_stats
    real = fid.read_statistics(stats) if stats else fid.folder_statistics(options.data, inception)

    def measure(generator):
        parts = z.split(48)[rank() :: world_size()]
        fakes = fid.collect(inception(generate(generator, part).float() / 255) for part in parts)
        return fid.frechet_distance(*real[:2], *fakes[:2])

    return measure


def gammas(network):
    """gamma of each attention layer, as the log has it: '' for none, '0.12 -0.03' for two."""
    return " ".join(f"{layer.gamma.item():.5f}" for layer in network.attention.values())


def check_finite(step, sums, networks):
    """Raise UserError if a loss or a weight is infinite or not a number: before it gets into a checkpoint."""
    tensors = [sums, *(p for network in networks for p in network.parameters())]
    if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
        raise UserError(f"step {step}: a loss or weight is not finite; try lower --lr-g and --lr-d")


def train(options):
    """Train as the options of parse_options() say, from the run's checkpoint if there is one -> the run folder."""
    photos = load_folder(options.data)  # (N, 3, S, S), uint8; 22,000 dogs of 64x64 are 270 MB
    out, count, size = options.out, len(photos), photos.shape[-1]
    options.attn_at = options.attn_at or [size // 2]
    config = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    config = {"options": config, "size": size, "photos": count}
    config["photos_sha256"] = hashlib.sha256(photos.numpy()).hexdigest()
    if options.resume and config["photos_sha256"] != read_config(out)["photos_sha256"]:
        raise UserError(f"{options.data} doesn't hold the pictures that {out} began with: name those with --data")
    device = run.init_processes(options.device)
    print(f"{options.data}: {count:,} pictures of {size}x{size}")
    if options.batch % world_size():
        raise UserError(f"--batch {options.batch} can't be dealt out to {world_size()} processes evenly")

    generator, discriminator, optimizer_g, optimizer_d = trained = make_networks(size, options, device)
    generator_ema = deepcopy(generator).requires_grad_(False)
    parts = {"generator": generator, "discriminator": discriminator, "generator_ema": generator_ema}
    folder = RunFolder(out, config, parts | {"optimizer_g": optimizer_g, "optimizer_d": optimizer_d})
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=options.precision == "bf16")
    # The first 64 make the grids of samples, all measure batch norm's statistics.
    z_fixed = torch.randn(1024, Z_DIM, generator=random_generator(options.seed, 2)).to(device)
    measure_fid = fid_meter(options, device) if options.fid_every else None
    minutes = float("inf") if options.minutes is None else options.minutes
    periods = options.log_every, options.sample_every, options.fid_every
    photos, progress, begin = photos.to(device), Progress(), time.monotonic()

    out.mkdir(parents=True, exist_ok=True)
    with common.lock(out) if rank() == 0 else nullcontext(), run.stop_signal() as stop:
        step, sums = folder.load(), torch.zeros(5, device=device)
        for optimizer, lr in (optimizer_g, options.lr_g), (optimizer_d, options.lr_d):
            optimizer.param_groups[0]["lr"] = lr  # the checkpoint's may be another
        first_step, last_row, last_save = step, begin, begin
        if rank() == 0:
            folder.open()
        while True:
            # Maintenance comes before the step and ends by saving, so that no half of it is ever resumed.
            last = step >= options.steps
            row_due, samples_due, fid_due = (n and (step in MILESTONES or step % n == 0) for n in periods)
            samples_due = samples_due or last or step in MILESTONES
            if step > first_step and (row_due or samples_due or fid_due):
                if dist.is_initialized():
                    dist.all_reduce(sums)
                check_finite(step, sums, (generator, discriminator))
                now = time.monotonic()
                if run.max_over_ranks(bool(stop) or now - begin > minutes * 60):
                    last = samples_due = True
                if samples_due or fid_due:
                    update_bn(z_fixed.split(64), generator_ema)  # averaged weights need statistics of their own
                distance = f"{measure_fid(generator_ema):.4f}" if fid_due else ""
                if rank() == 0:
                    figures = [f"{mean:.5f}" for mean in (sums[:4] / sums[4]).tolist()]
                    rate = f"{sums[4].item() / world_size() * options.batch / (now - last_row):.1f}"
                    folder.write_row([step, *figures, gammas(generator), gammas(discriminator), rate, distance])
                    if samples_due:
                        folder.write_samples(generator_ema, z_fixed[:64], step)
                    past = time.monotonic() - begin
                    left = round(max(0, min((options.steps - step) * past / (step - first_step), 60 * minutes - past)))
                    text = f"step {step:,} of {options.steps:,}  d_loss {figures[0][:-2]}  g_loss {figures[1][:-2]}"
                    text += f"  FID {distance}" if distance else ""
                    progress(f"{text}  {rate} images/s  {datetime.timedelta(seconds=left)} left", last=last or fid_due)
                    if samples_due or fid_due or now - last_save > 60:
                        folder.save(step)
                        last_save = now
                sums, last_row = torch.zeros_like(sums), time.monotonic()
            if last:
                break

            draws = draw_step(options.seed, step, options.batch, count)
            z_d, z_g, index, mirror, shifts = (to_device(x.chunk(world_size())[rank()], device) for x in draws)
            real = photos[index]  # (B, 3, S, S)
            real = to_float(torch.where(mirror[:, None, None, None], real.flip(3), real))
            r1_weight = options.r1 / 2 * R1_EVERY if step % R1_EVERY == 0 else 0
            shifts = (options.translation * size * shifts).round().long()
            sums += train_step(*trained, real, z_d, z_g, shifts, r1_weight, autocast)
            update_ema(generator_ema, generator, step, options.ema)
            step += 1
    limit = f" --minutes {options.minutes:g}" if options.minutes else ""
    go_on = f"python train.py --resume {shlex.quote(out.as_posix())}{limit}"
    print(f"{out}: {step:,} steps done; see {out / 'samples'}" + (f"; go on: {go_on}" if step < options.steps else ""))
    return out


def parse_options(arguments=None):
    """The options of the command line, completed and checked against the run to resume, if there is one."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("datasets/dogs64"), metavar="DIR", help="square pictures of one size")
    add("--out", type=Path, metavar="DIR", help="the run folder; default: runs/full, runs/no-attn, ...")
    add("--resume", type=Path, metavar="DIR", help="go on with the run in this folder, with its options")
    add("--steps", type=number(int, 1, 10**9), default=30000, help="steps in all, each one of D and one of G")
    add("--minutes", type=number(float, 0), help="stop after so many, if the steps aren't done; --resume goes on")
    add("--no-gen-attn", action="store_true", help="no attention in the generator")
    add("--no-disc-attn", action="store_true", help="no attention in the discriminator")
    add("--attn-at", type=int, nargs="+", metavar="R", help="resolutions with attention; default: half the pictures'")
    add("--width", type=number(int, 2, 4096), default=64, help="channels at half the resolution; doubled as it halves")
    add("--batch", type=number(int, 1, 10**5), default=64, help="photos per step")
    add("--lr-g", type=number(float, 0, 1), help="learning rate of the generator (Adam); default: 0.0256 / width")
    add("--lr-d", type=number(float, 0, 1), help="learning rate of the discriminator (Adam); default: 0.0256 / width")
    add("--betas", type=number(float, 0, 0.9999), nargs=2, default=[0.0, 0.99], metavar="B", help="Adam's")
    add("--r1", type=number(float, 0), default=0.2, metavar="GAMMA", help="D pays GAMMA/2 |gradient|^2; 0: none")
    add("--translation", type=number(float, 0, 0.5), default=0.125, help="of what D sees: up to this part of a side")
    add("--spectral-norm", action="store_true", help="on every convolution of both networks, as in SAGAN")
    add("--ema", type=number(float, 0, 1), default=0.999, help="decay per step of the averaged generator")
    add("--precision", choices=("fp32", "bf16"), help="default: bf16 where the device has it")
    add("--log-every", type=number(int, 1), default=10, metavar="STEPS", help="a row in log.csv: means over so many")
    add("--sample-every", type=number(int, 1), metavar="STEPS", help="samples and snapshots beyond the milestones")
    add("--fid-every", type=number(int, 1), metavar="STEPS", help="FID of 5,000 samples into log.csv; milestones, too")
    add("--real-stats", type=Path, metavar="NPZ", help="the photos' statistics, from fid.py --save-stats")
    add("--inception", type=Path, metavar="FILE", help="Inception's weights, if not fetched")
    parser.add_seed_and_device()

    options = parser.parse_args(arguments)
    options.precision = options.precision or ("bf16" if has_bfloat16(options.device) else "fp32")
    if options.resume:
        if options.out not in (None, options.resume):
            raise UserError(f"--resume goes on in {options.resume}: leave --out out")
        before = read_config(options.resume)["options"]
        if differing := before.keys() ^ vars(options).keys():
            raise UserError(f"{options.resume} is of another version of train.py ({', '.join(sorted(differing))})")
        parser.set_defaults(**{key: value for key, value in before.items() if key != "minutes"})
        options = parser.parse_args(arguments)
        for key, value in before.items():
            if key not in CHANGEABLE | SCHEDULE and getattr(options, key) != value:
                name = f"--{key.replace('_', '-')}"
                raise UserError(f"{options.resume} was begun with {name} {value}: leave {name} out")
        options.data, options.out = Path(options.data), options.resume
    # Twice the width, half the rate: a rule of thumb from two sizes (docs/recipe.md).
    options.lr_g, options.lr_d = (0.0256 / options.width if x is None else x for x in (options.lr_g, options.lr_d))
    options.out = options.out or Path("runs") / variant(options)
    if not options.data.is_dir():
        raise UserError(f"{options.data}: no such folder; `python data.py` makes one, --data names another")
    if not options.resume and options.out.is_dir() and any(p.name[0] != "." for p in options.out.iterdir()):
        raise UserError(f"{options.out} isn't empty: go on with --resume {options.out}, or choose another --out")
    return options


if __name__ == "__main__":
    run_script(lambda: train(parse_options()))
