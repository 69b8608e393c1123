"""Train the Self-Attention GAN (section 2): eq. 1-3 as functions, and one plain loop.

    python train.py                                    attention in both, 30,000 steps -> runs/full/
    python train.py --no-gen-attn                      no attention in the generator -> runs/no-gen-attn/
    python train.py --no-gen-attn --no-disc-attn       none at all -> runs/no-attn/
    python train.py --resume runs/full                 go on where it stopped
    torchrun --nproc-per-node 2 train.py               on two GPUs, each with half of every batch

A run folder holds config.json, log.csv, samples/ (one fixed set of z), snapshots/ (generators) and checkpoint.pt.
Ctrl-C saves and stops.
"""

import argparse
import datetime
import hashlib
import io
import json
import math
import os
import platform
import signal
import time
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import fid
from data import (
    Parser,
    Progress,
    UserError,
    any_process,
    has_device,
    join_processes,
    number,
    rank_and_world,
    read_checkpoint,
    read_folder,
    replacing,
    run,
    tile,
    write_checkpoint,
    write_json,
)
from model import Discriminator, Generator, generate, refresh_batch_norm, to_float

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MILESTONES = {500, 1000, 2500, 5000, 10000, 15000, 20000, 24000, 30000}  # section 4 looks at all but 1000
COLUMNS = ["step", "d_loss", "g_loss", "d_real", "d_fake", "gamma_g", "gamma_d", "images_per_s", "fid"]
# What may differ when a run is resumed; everything else would make it another run.
FREE = {"steps", "data", "device", "out", "resume", "compile"}
FREE |= {"minutes", "log_every", "sample_every", "save_every", "fid_every"}


# The losses (section 2.1) -------------------------------------------------------------------------------------
#
# D gives logits: D(x) of the article is sigmoid(logit).  With softplus(t) = log(1 + exp t),
# -log sigmoid(t) = softplus(-t) and -log(1 - sigmoid(t)) = softplus(t): no log of a rounded 0, ever.


def discriminator_loss(real_logits, fake_logits):
    """Eq. 2, negated so that descending it ascends eq. 2:  -E[log D(x)] - E[log(1 - D(G(z)))]."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits):
    """Eq. 3, negated, the non-saturating form of eq. 1:  -E[log D(G(z))]."""
    return F.softplus(-fake_logits).mean()


# Randomness ---------------------------------------------------------------------------------------------------
#
# Every random number of a step comes from (seed, step) alone.  So a resumed run goes on exactly, the article's
# variants see the same photos and the same z, and nothing that runs in between can disturb them.


def random_generator(*key):
    """A torch random generator that depends on the given whole numbers only."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


@lru_cache(maxsize=2)
def photo_order(seed, epoch, count):
    """The order in which an epoch, one pass over the photos, shows them."""
    return torch.randperm(count, generator=random_generator(seed, 0, epoch))


def photos_of_step(seed, step, batch, count):
    """The photos of a step: (batch,) indices below `count`.  A batch may end one epoch and begin the next."""
    places = range(step * batch, (step + 1) * batch)
    return torch.stack([photo_order(seed, place // count, count)[place % count] for place in places])


def noise_of_step(seed, step, batch, z_dim):
    """Standard normal z for D's turn and for G's, (batch, z_dim) each, and which photos to mirror, (batch,)."""
    rng = random_generator(seed, 1, step)
    z = torch.randn(2, batch, z_dim, generator=rng)
    return z[0], z[1], torch.rand(batch, generator=rng) < 0.5


def shifts_of_step(seed, step, batch, reach):
    """How far pictures are moved before D sees them: (3, batch, 2) whole pixels right and down, up to +-`reach`.

    One for each photo and each fake in D's turn, and for each fake in G's.
    """
    return torch.randint(-reach, reach + 1, (3, batch, 2), generator=random_generator(seed, 3, step))


def sample_noise(seed, count, z_dim):
    """The fixed z, (count, z_dim), with which batch norm is measured; the first 64 are those of all sample sheets."""
    return torch.randn(count, z_dim, generator=random_generator(seed, 2))


# One step -----------------------------------------------------------------------------------------------------


def make_networks(size, options):
    """Generator, discriminator and their optimisers as the options say; the seed decides the first weights."""
    common = {"size": size, "width": options.width, "attention_pool": options.attn_pool}
    torch.manual_seed(2 * options.seed)
    at = () if options.no_gen_attn else options.attn_at
    generator = Generator(z_dim=options.z_dim, attention_at=at, modulate=options.modulate, **common)
    torch.manual_seed(2 * options.seed + 1)
    at = () if options.no_disc_attn else options.attn_at
    discriminator = Discriminator(attention_at=at, logit_gain=options.logit_gain, **common)

    optimizers = []
    for network, lr in ((generator, options.lr_g), (discriminator, options.lr_d)):
        network.to(options.device, memory_format=torch.channels_last)  # convolutions are faster than channels-first
        optimizers.append(torch.optim.Adam(network.parameters(), lr=lr, betas=(0.0, 0.9), fused=True))
    return generator, discriminator, *optimizers


def in_parallel(network):
    """The network as torchrun's processes train it together: backward() averages the gradients over all of them.

    Buffers needn't be sent: spectral norm's vectors follow from the weights, so they are the same everywhere, and
    batch norm's running statistics aren't used in training.
    """
    if not dist.is_initialized():
        return network
    device = next(network.parameters()).device
    return DistributedDataParallel(network, [device] if device.type == "cuda" else None, forward_sync_buffers=False)


def own_share(x, dim=0):
    """This process's part of a batch of all of them: the same numbers as in one process, in the same order."""
    rank, world = rank_and_world()
    return x.chunk(world, dim)[rank]


def shift(x, pixels):
    """Each picture of x (B, 3, H, W) moved by its own whole `pixels` (B, 2) to the right and down; grey comes in.

    D sees photos and fakes moved in the same way, so that it learns few photos by heart more slowly, and G, which gets
    its gradient through this, has no reason to move its own (Zhao et al. 2020).
    """
    if not pixels.any():
        return x
    move = torch.eye(2, 3, device=x.device).repeat(len(x), 1, 1)
    move[:, :, 2] = (-2 * pixels / torch.tensor([x.size(3), x.size(2)])).to(x.device)  # the picture is 2 wide
    grid = F.affine_grid(move, x.shape, align_corners=False)
    return F.grid_sample(x.float(), grid, mode="nearest", align_corners=False)


def train_step(generator, discriminator, optimizer_g, optimizer_d, real, z_d, z_g, shifts, precision):
    """First D descends its loss on photos and fakes, then G on new fakes (section 2.1).

    real: (B, 3, H, W) in [-1, 1]; z_d, z_g: (B, z_dim); shifts: (3, B, 2), on the CPU, see shifts_of_step;
    precision: torch.float32 or torch.bfloat16.  Networks may be those of in_parallel, each with its share of a batch.
    Returns a tensor of four on the device: the losses of D and G, and the mean D(x) and D(G(z)).
    """
    autocast = torch.autocast(real.device.type, dtype=precision, enabled=precision != torch.float32)
    with autocast:
        with torch.no_grad():  # D's turn: G gets no gradient, so nothing of its pass need be kept
            fake = generator(z_d)
        # One pass for both: D has no batch norm, so each logit is the same as in a pass of its own.
        pictures = shift(torch.cat([real, fake.to(real.dtype)]), shifts[:2].flatten(0, 1))
        logits = discriminator(pictures).float()
    real_logits, fake_logits = logits.chunk(2)
    d_loss = discriminator_loss(real_logits, fake_logits)
    optimizer_d.zero_grad()
    d_loss.backward()
    optimizer_d.step()

    discriminator.requires_grad_(False)  # G's turn: the gradient passes through D, not into its weights
    judge = discriminator.module if dist.is_initialized() else discriminator  # no gradients of its own to average
    with autocast:
        logits = judge(shift(generator(z_g), shifts[2])).float()
    g_loss = generator_loss(logits)
    optimizer_g.zero_grad()
    g_loss.backward()
    optimizer_g.step()
    discriminator.requires_grad_(True)
    figures = torch.stack([d_loss, g_loss, real_logits.sigmoid().mean(), fake_logits.sigmoid().mean()]).detach()
    if dist.is_initialized():
        dist.all_reduce(figures)
        figures /= dist.get_world_size()
    return figures


@torch.no_grad()
def update_average(average, generator, step, decay):
    """Move the averaged generator a little towards the trained one, more at the start, where all is still moving.

    It takes no part in the training, and its pictures are better: the wobble of single steps is averaged out.
    """
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - decay)
    # Spectral norm's vectors; batch norm's statistics are measured when they're needed.
    torch._foreach_copy_(list(average.buffers()), list(generator.buffers()))


# A run --------------------------------------------------------------------------------------------------------


def has_bfloat16(device):
    """Whether the device computes in bfloat16 faster than in float32."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    features = torch.cpu.get_capabilities()
    return device == "cpu" and bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def gammas(network):
    """gamma of each attention layer, as the log has it: '' for none, '0.12 -0.03' for two."""
    return " ".join(f"{layer.gamma.item():.5f}" for layer in network.attention.values())


def variant(options):
    """The article's name for a choice of attention, which names the run folder too."""
    gen, disc = not options.no_gen_attn, not options.no_disc_attn
    return {(1, 1): "full", (0, 1): "no-gen-attn", (1, 0): "no-disc-attn", (0, 0): "no-attn"}[gen, disc]


def distance_meter(options):
    """A function from a generator to the FID of its pictures to the photos, always from the same z.

    The photos' statistics are kept beside their folder, for all runs.  With untrained weights it's no FID.
    """
    inception = fid.load_inception(options.weights, options.device)
    real = fid.folder_statistics(options.data, inception)
    fid.print_counts([(options.data, real), ("samples", {"count": options.fid_samples})])
    z = torch.randn(options.fid_samples, options.z_dim, generator=random_generator(options.seed, 4))

    def measure(generator):
        return fid.distance(real, fid.collect(features_of_fakes(generator, z, inception), inception))

    return measure


def features_of_fakes(generator, z, inception):
    """Inception's features of the pictures for z (N, z_dim): yields (B, 2048); under torchrun this process's share."""
    rank, world = rank_and_world()
    for part in z.split(50)[rank::world]:
        yield inception(generate(generator, part).float() / 255)


@contextmanager
def catching_signals():
    """Inside the block Ctrl-C and SIGTERM fill the list it gives, for the loop to see.  Twice: out at once."""
    caught, before = [], {}

    def note(signum, _):
        if caught:
            raise KeyboardInterrupt
        caught.append(signum)
        if rank_and_world()[0] == 0:  # print() may be at work already, and can't be called again
            os.write(2, b"\nstopping after this step (and its FID, if due); once more: back to the last checkpoint\n")

    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            before[signum] = signal.signal(signum, note)
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def alone_in(folder):
    """Inside the block no other process that asks gets in.  Raises UserError if one is inside."""
    if fcntl is None:
        yield
        return
    directory = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
    except BlockingIOError:
        raise UserError(f"{folder}: another process is training there") from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(directory)


def train(options):
    """Train as the options of parse_options() say, from the run's checkpoint if they say resume -> the run folder."""
    config = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    out, batch = options.out, options.batch
    if not options.data.is_dir():
        raise UserError(
            f"{options.data}: no pictures there. Make some: `python data.py` (the Stanford Dogs) or "
            "`python data.py --toy 2048` (drawn dogs; then train with --data datasets/toy64)"
        )
    left_by_a_kill = {"config.json.part"}  # before anything else was there
    if not options.resume and out.exists() and {path.name for path in out.iterdir()} - left_by_a_kill:
        raise UserError(f"{out} isn't empty: go on with --resume {out} if it's a run, or choose another --out")
    crops = options.data / "crops.json"
    if crops.exists() and '"crops"' not in crops.read_text(errors="replace"):  # data.py adds it at the end
        raise UserError(f"{options.data}: the cropping isn't done or was stopped: run data.py (again) first")
    pictures = read_folder(options.data)  # all of them: 20,580 at 64x64 are 253 MB
    count, _, height, size = pictures.shape
    if (height, size) not in [(32, 32), (64, 64), (128, 128)]:
        raise UserError(f"{options.data}: the pictures are {size}x{height}, not 32x32, 64x64 or 128x128")

    digest = hashlib.sha256(pictures.numpy()).hexdigest()
    config = {"options": config, "size": size, "photos": count, "photos_sha256": digest}
    if options.resume and digest != read_config(out)["photos_sha256"]:
        raise UserError(
            f"{options.data} doesn't hold the {read_config(out)['photos']} pictures that {out} began with: name those "
            "with --data, or begin another run in another --out"
        )
    options.device = device = join_processes(options.device)
    rank, world = rank_and_world()
    if batch % world:
        raise UserError(f"--batch {batch} can't be dealt out to {world} processes evenly")
    precision = torch.bfloat16 if options.precision == "bf16" else torch.float32
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    try:
        networks = make_networks(size, options)
    except ValueError as error:
        raise UserError(f"--attn-at: {error}") from None
    generator, discriminator, optimizer_g, optimizer_d = networks
    average = deepcopy(generator).requires_grad_(False)
    if dist.is_initialized() and device.startswith("cuda"):  # torch has none for CPUs: there, each its share's
        generator = nn.SyncBatchNorm.convert_sync_batchnorm(generator)
    state = {"generator": generator, "discriminator": discriminator, "average": average}
    state |= {"optimizer_g": optimizer_g, "optimizer_d": optimizer_d}
    step, pending, log_bytes = 0, [], 0
    if options.resume and (out / "checkpoint.pt").exists():
        checkpoint = read_checkpoint(out / "checkpoint.pt")
        try:
            for name, part in state.items():
                part.load_state_dict(checkpoint[name])
            step, log_bytes = int(checkpoint["step"]), int(checkpoint["log_bytes"])
            pending = list(checkpoint["pending"].to(device).view(-1, 4))
            if min(step, log_bytes) < 0:
                raise ValueError(f"step {step}, {log_bytes} bytes of the log")
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, AttributeError) as error:
            raise UserError(f"{out / 'checkpoint.pt'} doesn't fit this run ({error})") from None
        if not (out / "log.csv").is_file() or (out / "log.csv").stat().st_size < log_bytes:
            raise UserError(f"{out / 'log.csv'} has lost rows that it had at the last checkpoint: put it back")
        if step > options.steps:
            raise UserError(f"{out} has done {step} steps already, more than --steps {options.steps}")
    elif options.resume:
        print(f"{out} has no checkpoint yet: starting at step 0")
    elif rank == 0 and device == "cpu" and options.width >= 64:
        print("full width is slow on a CPU; `make dogs` trains a smaller network and shows dogs within the hour")
    steps = torch.tensor([step, -step])
    if dist.is_initialized():  # all meet here: they have looked at the folder before one writes to it
        dist.all_reduce(steps, dist.ReduceOp.MAX)
    if steps.sum() != 0:
        raise UserError(f"{out}: not all processes see the same checkpoint there: the machines must share the folder")

    def due():
        """Whether this step measures FID, and whether it writes a row."""
        fid_due = bool(options.fid_every) and (step % options.fid_every == 0 or step == options.steps)
        return fid_due, fid_due or step % options.log_every == 0 or step == options.steps

    undone = bool(pending) and due()[1]  # stopped when FID was measured: the step is done, its row isn't
    measure = distance_meter(options) if options.fid_every and (step < options.steps or undone) else None
    if options.compile:
        generator.compile()
        discriminator.compile()
    networks = in_parallel(generator), in_parallel(discriminator), optimizer_g, optimizer_d

    z_refresh = sample_noise(options.seed, 1024, options.z_dim).to(device)

    def check():
        check_finite(pending, step, out)
        if not torch.stack([p.isfinite().all() for network in networks[:2] for p in network.parameters()]).all():
            raise UserError(
                f"step {step}: a weight isn't finite any more; {out / 'checkpoint.pt'} is from before that"
            )

    def save():
        if rank > 0:
            return
        log.flush()
        os.fsync(log.fileno())  # the checkpoint tells how much of it is true
        parts = {name: part.state_dict() for name, part in state.items()}
        figures = torch.stack(pending).cpu() if pending else torch.empty(0, 4)
        figures = {"step": step, "pending": figures, "log_bytes": log.tell()}
        write_checkpoint(out / "checkpoint.pt", parts | figures | {"config": config}, sync=True)

    def show():
        """The sheet of samples and the snapshot of this step."""
        if rank > 0:
            return
        for folder in ("samples", "snapshots"):
            (out / folder).mkdir(exist_ok=True)
        sheet = tile(generate(average, z_refresh[:64]))
        with replacing(out / "samples" / f"{step:06d}.png", sync=True) as temporary:
            sheet.save(temporary, "PNG")
        weights = {"generator": generator.state_dict(), "average": average.state_dict()}
        write_checkpoint(out / "snapshots" / f"{step:06d}.pt", weights | {"step": step, "config": config}, sync=True)

    pictures = pictures.to(device)
    progress, start_step, begin = Progress(), step, time.monotonic()
    start = last_save = begin
    last_row, last_row_step = start, step
    with ExitStack() as held:
        log = io.StringIO()
        if rank == 0:  # one process writes
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone_in(out))
            for folder in ("samples", "snapshots"):  # only there: sample.py may be writing elsewhere in the run
                for left_over in (out / folder).glob("*.part"):  # of a run that was killed
                    left_over.unlink()
            write_json(out / "config.json", config | {"versions": versions}, sync=True)  # the first file in it
            log = held.enter_context(open(out / "log.csv", "r+" if log_bytes else "w"))
        caught = held.enter_context(catching_signals())
        log.seek(log_bytes)
        log.truncate()  # rows from after the checkpoint will be written again
        if not log_bytes:
            log.write(",".join(COLUMNS) + "\n")
        stop = False
        while (step < options.steps or undone) and not stop:
            if not undone:
                z_d, z_g, mirror = (t.to(device) for t in noise_of_step(options.seed, step, batch, options.z_dim))
                real = own_share(pictures[photos_of_step(options.seed, step, batch, count).to(device)])
                real = to_float(torch.where(own_share(mirror)[:, None, None, None], real.flip(3), real))
                shifts = shifts_of_step(options.seed, step, batch, round(options.shift * size))
                own = own_share(z_d), own_share(z_g), own_share(shifts, dim=1)
                pending.append(train_step(*networks, real, *own, precision))
                update_average(average, generator, step, options.ema)
                step += 1
            undone = False

            fid_due, row_due = due()
            time_is_up = options.minutes is not None and time.monotonic() - begin >= 60 * options.minutes
            last_here = rank == 0 and (time_is_up or bool(caught) or step == options.steps)  # its clock decides
            show_due = last_here or step in MILESTONES or step % (options.sample_every or math.inf) == 0
            age = time.monotonic() - last_save
            save_due = age > 60 if options.save_every is None else step % options.save_every == 0
            if row_due or show_due or save_due:
                check()  # and wait for the device
            now = time.monotonic()
            if show_due or fid_due:
                refresh_batch_norm(average, z_refresh)
            if row_due:
                rate = f"{(step - last_row_step) * batch / (now - last_row):.1f}" if step > last_row_step else ""
                row = [f"{mean:.5f}" for mean in torch.stack(pending).mean(dim=0).tolist()]
                distance, note = "", ""
                if fid_due:
                    save()  # it may take longer than who stops us waits
                    progress(f"step {step:,}: the distance of {options.fid_samples:,} samples", last=True)
                    distance = f"{measure(average):.4f}"
                    name = fid.UNTRAINED if options.weights == "random" else "FID"
                    seconds = time.monotonic() - now
                    note = f"{name} {distance} ({seconds:.0f} s)  "
                row += [gammas(generator), gammas(discriminator), rate, distance]
                log.write(f"{step},{','.join(row)}\n")
                log.flush()
                pending, last_row, last_row_step = [], now, step
                speed = (step - start_step) / (now - start)
                left = (options.steps - step) / speed if speed else math.inf
                if options.minutes is not None:
                    left = min(left, max(0, begin + 60 * options.minutes - time.monotonic()))
                left = datetime.timedelta(seconds=round(left)) if left < math.inf else "?"
                progress(
                    f"step {step:,} of {options.steps:,}  d_loss {row[0]:.6}  g_loss {row[1]:.6}  "
                    f"{note}{speed:.2f} steps/s  {speed * batch:.1f} images/s  {left} left",
                    last=step == options.steps or fid_due,
                )
            if show_due:
                show()
            save_due, stop = any_process(save_due or step == options.steps, last_here or bool(caught))
            if save_due or stop:
                check()
                save()
                last_save = time.monotonic()
            pause = time.monotonic() - now  # FID, sheets and checkpoints are no part of the training's speed
            start, last_row = start + pause, last_row + pause
        if rank == 0 and not (out / "samples" / f"{step:06d}.png").exists():  # killed after its checkpoint
            refresh_batch_norm(average, z_refresh)
            show()
    if step < options.steps:
        print("\n" * progress.terminal + f"saved at step {step:,}; go on with: python train.py --resume {out}")
    else:
        print(f"{out}: {step:,} steps done; look at {out}/samples/{step:06d}.png, or run: python sample.py {out}")
    return out


def check_finite(pending, step, out):
    """Raise UserError naming the first of the pending steps with a loss that is infinite or not a number."""
    figures = torch.stack(pending).cpu() if pending else torch.empty(0, 4)
    bad = (~figures.isfinite()).any(dim=1).nonzero().flatten().tolist()
    if bad:
        d_loss, g_loss = figures[bad[0], :2].tolist()
        raise UserError(
            f"step {step - len(figures) + bad[0] + 1}: d_loss is {d_loss}, g_loss {g_loss}. Mostly the learning rates "
            f"are too high (--lr-g, --lr-d). {out / 'checkpoint.pt'} is the last good one, if there is one"
        )


def read_config(run_folder):
    """The config.json of a run: options, size, photos, versions, ...  Raises UserError if the folder holds no run."""
    try:
        config = json.loads((run_folder / "config.json").read_text())
        if missing := {"seed", "device", "steps", "no_gen_attn", "no_disc_attn"} - config["options"].keys():
            raise KeyError(f"no {', '.join(sorted(missing))}")
        found = {key: config[key] for key in ("options", "size", "photos", "photos_sha256")}
        found["options"] = {"modulate": False} | found["options"]  # a run may be older than that option
        return found | {"versions": config.get("versions", {})}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{run_folder}: no run to read there ({error})") from None


def parse_options(arguments=None):
    """The options of the command line, completed and checked against the run to resume, if there is one."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("datasets/dogs64"), metavar="DIR", help="square pictures of one size")
    add("--out", type=Path, metavar="DIR", help="the run folder; default runs/full, runs/no-attn, ...")
    add("--resume", type=Path, metavar="DIR", help="go on with the run in this folder, with its options")
    add("--steps", type=number(int, 1), default=30000, help="steps in all, each one of D and one of G")
    add("--minutes", type=number(float, 0), help="stop after so many, if the steps aren't done; --resume goes on")
    add("--batch", type=number(int, 1, 10**5), default=64, help="photos a step")
    add("--no-gen-attn", action="store_true", help="no attention in the generator")
    add("--no-disc-attn", action="store_true", help="no attention in the discriminator")
    add("--attn-at", type=int, nargs="+", default=[32], metavar="R", help="resolutions with attention")
    add("--attn-pool", action="store_true", help="keys and values max-pooled 2x2, as the original SAGAN code")
    add("--modulate", action="store_true", help="z also scales and shifts every feature map of G")
    add("--width", type=number(int, 1, 4096), default=64, help="channels c at half the side, 2c at a quarter, ...")
    add("--logit-gain", type=number(float, 0.01, 1000), default=1.0, help="D's logits are multiplied by this")
    add("--shift", type=number(float, 0, 0.5), default=0.125, metavar="SHARE",
        help="D sees pictures moved at random by up to this share of their side; 0: none")  # fmt: skip
    add("--z-dim", type=number(int, 1, 10**5), default=128, help="how many normals make a picture")
    add("--lr-g", type=number(float, 0, 1), default=1e-4, help="learning rate of G (Adam, betas 0 and 0.9)")
    add("--lr-d", type=number(float, 0, 1), default=4e-4, help="learning rate of D")
    add("--ema", type=number(float, 0, 1), default=0.999, help="decay a step of the averaged generator")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: bf16 where the device has it")
    add("--compile", action="store_true", help="torch.compile both networks: no faster on a CPU, not tried on a GPU")
    add("--log-every", type=number(int, 1), default=10, metavar="STEPS", help="a row in log.csv: means over as many")
    add("--sample-every", type=number(int, 1), metavar="STEPS", help="samples and snapshots beyond the milestones")
    add("--save-every", type=number(int, 1), metavar="STEPS", help="checkpoints; default: once a minute")
    add("--fid-every", type=number(int, 1), metavar="STEPS", help="measure FID to the photos in --data, into log.csv")
    add("--fid-samples", type=number(int, 2, 10**7), default=5000, metavar="N", help="on so many, always the same z")
    add("--weights", metavar="FILE", help="Inception's, see fid.py; random: an untrained network, no FID")
    parser.add_seed_and_device()

    def parse(before=None):
        options = parser.parse_args(arguments, before)
        options.attn_at = sorted(set(options.attn_at))
        if options.precision == "auto":
            options.precision = "bf16" if has_bfloat16(options.device) else "fp32"
        return options

    options = parse()
    if options.resume:
        out = options.resume
        if options.out not in (None, out):
            raise UserError(f"--resume goes on in {out}: leave --out out")
        before = read_config(out)["options"]
        before.pop("minutes", None)  # they were meant for that time
        if not has_device(before["device"]):
            del before["device"]
        # argparse leaves alone what is set already, so only what the command line says differs from `before`.
        options = parse(argparse.Namespace(**before))
        for key, value in before.items():
            unused = key in ("weights", "fid_samples") and not before.get("fid_every")
            if key not in FREE and not unused and getattr(options, key) != value:
                name = f"--{key.replace('_', '-')}"
                raise UserError(f"{out} was begun with {name} {value}, not {getattr(options, key)}: leave {name} out")
        options.data = Path(options.data)
        options.out = out
    options.out = options.out or Path("runs") / variant(options)
    return options


if __name__ == "__main__":
    run(lambda: train(parse_options()))
