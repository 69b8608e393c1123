"""Train the Self-Attention GAN: section 2.1 of the article, from its losses to the loop.

    python train.py                                    attention in both networks, 30,000 steps -> runs/full/
    python train.py --no-gen-attn --no-disc-attn       without it in G, in D or, as here, in both -> runs/no-attn/
    python train.py --resume runs/full                 goes on exactly where it stopped
    torchrun --nproc-per-node 2 train.py               on two GPUs, each with half of every batch, for batch norm too

In a step the discriminator D learns to tell photos from the generator's fakes, and then the generator G learns to make
D call its fakes photos.  Here are the losses, what keeps D useful to G, the step, the average that draws the pictures,
what is random, and the loop.  The networks are in model.py; which options a run goes on with is in config.py, and what
it keeps in run.py.
"""

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import update_bn

from common import Parser, number, run_script
from config import complete_options, place_attention
from data import load_folder
from model import Z_DIM, Discriminator, Generator, build, to_float
from parallel import average_gradients, init_processes, my_share, to_device
from run import Run

# The losses.  D gives a logit; the article's D(x) is sigmoid(logit), the probability that x is a photo.  With
# softplus(t) = log(1 + exp(t)), -log sigmoid(t) is softplus(-t) and -log(1 - sigmoid(t)) is softplus(t), so that we
# never take the logarithm of a probability that was rounded to 0.


def discriminator_loss(real_logits, fake_logits):
    """The negative of what eq. 2 ascends, because an optimiser descends: -E[log D(x)] - E[log(1 - D(G(z)))]."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits):
    """The negative of what eq. 3 ascends: -E[log D(G(z))], the non-saturating loss.

    In eq. 1 G descends E[log(1 - D(G(z)))].  That is flat where D is sure of the fakes, so that a new G has almost no
    gradient.
    """
    return F.softplus(-fake_logits).mean()


# What keeps D useful to G.  D could win by a cliff between photos and fakes, which shows G no direction, or by
# learning the photos by heart.  So R1 keeps its logit smooth, and translation shows it each photo in many places.

R1_EVERY = 8  # the penalty changes slowly, so it is taken every 8th step and 8 times as strong (Karras et al. 2020)


def r1_penalty(discriminator, real, autocast):
    """E |gradient of a photo's logit with respect to its pixels|^2 (Mescheder et al. 2018), real (B, 3, S, S).

    SAGAN divides each weight matrix by its largest singular value instead; the pictures came out no better
    (docs/recipe.md).  The loss takes half of the penalty, times --r1.
    """
    real = real.detach().requires_grad_()
    # The penalty is a gradient, so its own gradient is a second derivative: fast attention kernels have none.
    with autocast, sdpa_kernel(SDPBackend.MATH):
        logits = discriminator(real).float()
    # Each logit depends on its own photo alone, so the gradient of the logits' sum holds the gradient of each.
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)  # (B, 3, S, S)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def translate(x, shift):
    """Pictures (B, C, S, S), each moved by shift (B, 2), int64: pixels down and right, and mirrored at the edges.

    Photos and fakes are both moved, or D would know fakes by that.  A long run without it stopped at a distance from
    real photos of 101, as docs/recipe.md measures it; with it, that run went on to 94.  It comes from DiffAugment
    (Zhao et al. 2020), which leaves grey edges.  Products with matrices of 0 and 1 pick the rows and columns, because
    that is faster than cutting picture by picture, and because the gradient then doesn't depend on the number of
    threads.
    """
    last = x.shape[-1] - 1
    source = (torch.arange(last + 1, device=x.device) - shift[:, :, None]).abs()  # (B, 2, S): -1 is mirrored to 1
    source = torch.minimum(source, 2 * last - source)  # and S, beyond the other edge, to S - 2
    rows, columns = F.one_hot(source, last + 1).to(x.dtype).unbind(1)  # (B, S, S) each, with one 1 in each row
    return rows[:, None] @ x @ columns[:, None].mT


class Batch(NamedTuple):
    """All that is random in a step."""

    index: torch.Tensor  # (B,), int64: which photos
    shift_real: torch.Tensor  # (B, 2), int64, pixels: how they are translated
    shift_d: torch.Tensor  # (B, 2): how the fakes are in D's turn
    shift_g: torch.Tensor  # (B, 2): how the fakes are in G's turn
    z_d: torch.Tensor  # (B, Z_DIM), standard normal: G's input in D's turn
    z_g: torch.Tensor  # (B, Z_DIM): G's input in its own turn
    flip: torch.Tensor  # (B,), bool: which photos are flipped, left to right


def train_step(gan, photos, batch, r1_weight):
    """One step: D descends its loss on photos and fakes, then G descends its own on new fakes (section 2.1).

    gan: what make_gan gives; photos: (N, 3, S, S), uint8, all of them; r1_weight: 0 in most steps.  Returns a dict of
    scalars on the device: D's loss without R1, G's loss after D's turn, and the mean D(x) and D(G(z)) before D's turn.
    """
    generator, discriminator = gan.generator, gan.discriminator
    real = photos[batch.index]  # (B, 3, S, S)
    real = to_float(torch.where(batch.flip[:, None, None, None], real.flip(3), real))
    real = translate(real, batch.shift_real)

    with gan.autocast:  # D's turn, eq. 2
        with torch.no_grad():
            fake = translate(generator(batch.z_d), batch.shift_d)
        # One pass for both, because two take up to a tenth longer; without batch norm in D the logits are the same.
        real_logits, fake_logits = discriminator(torch.cat([real, fake])).float().chunk(2)  # (B,) each
        d_loss = discriminator_loss(real_logits, fake_logits)
    gan.optimizer_d.zero_grad()
    d_loss.backward()
    if r1_weight:
        (r1_weight * r1_penalty(discriminator, real, gan.autocast)).backward()  # adds its gradient to that of the loss
    average_gradients(discriminator)  # of all processes, if there are several
    gan.optimizer_d.step()

    discriminator.requires_grad_(False)  # G's turn, eq. 3: D only passes the gradient on, and needs none itself
    with gan.autocast:
        g_loss = generator_loss(discriminator(translate(generator(batch.z_g), batch.shift_g)).float())
    gan.optimizer_g.zero_grad()
    g_loss.backward()
    average_gradients(generator)
    gan.optimizer_g.step()
    discriminator.requires_grad_(True)
    d_real, d_fake = real_logits.sigmoid().mean(), fake_logits.sigmoid().mean()
    scalars = {"d_loss": d_loss, "g_loss": g_loss, "d_real": d_real, "d_fake": d_fake}
    return {name: value.detach() for name, value in scalars.items()}


@torch.no_grad()
def update_ema(gan, step, decay):
    """Move the averaged generator a little towards the trained one, by more at the start, where all is still moving.

    It takes no part in the training.  It draws all pictures that a run keeps, because the wobble of single steps is
    averaged out: with a decay of 0.999 it remembers about 1,000 steps.
    """
    decay = min(decay, (1 + step) / (10 + step))  # 0.1 in the first step, 0.9 after 80, 0.99 after 890
    for average, latest in zip(gan.generator_ema.parameters(), gan.generator.parameters(), strict=True):
        average.lerp_(latest, 1 - decay)


# The GAN is complete.  What follows builds it from options, and runs it.


class GAN(NamedTuple):
    generator: torch.nn.Module
    discriminator: torch.nn.Module
    generator_ema: torch.nn.Module  # the average of the generator's weights over the last steps
    optimizer_g: torch.optim.Optimizer
    optimizer_d: torch.optim.Optimizer
    autocast: torch.autocast  # inside it convolutions and products are in bfloat16, if the run's precision is that


def make_gan(size, options, device):
    """The GAN for pictures of size x size, as a run's options say; the seed decides the first weights."""
    # On mps batch norm's gradients are wrong in the order of memory that is faster elsewhere (pytorch issue 175189).
    layout = torch.contiguous_format if device == "mps" else torch.channels_last
    torch.manual_seed(2 * options.seed)
    generator = build(Generator, size, vars(options)).to(device, memory_format=layout)
    torch.manual_seed(2 * options.seed + 1)  # a seed of its own, so that D starts alike whatever G is
    discriminator = build(Discriminator, size, vars(options)).to(device, memory_format=layout)
    optimizer_g, optimizer_d = (
        torch.optim.Adam(network.parameters(), lr=lr, betas=options.betas, fused=True)
        for network, lr in ((generator, options.lr_g), (discriminator, options.lr_d))
    )
    # On CUDA, autocast would compute spectral norm in half precision too, which would change the training.
    bfloat16 = options.precision == "bf16" and not options.spectral_norm
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16)
    generator_ema = deepcopy(generator).requires_grad_(False)
    return GAN(generator, discriminator, generator_ema, optimizer_g, optimizer_d, autocast)


# What is random in a step depends on the seed and the step's number, and on nothing that happened before.  So a
# stopped run goes on exactly, and the article's four variants see the same photos and the same z.


def random_generator(*key):
    """A torch random generator that depends on the given whole numbers only."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


@lru_cache(maxsize=2)
def photo_order(seed, epoch, count):
    """The order in which an epoch, one pass over the photos, shows them."""
    return torch.randperm(count, generator=random_generator(seed, 0, epoch))


def draw_batch(seed, step, batch_size, count, max_shift):
    """The Batch of a step, on the CPU: `batch_size` of `count` photos, moved by up to `max_shift` pixels."""
    rng = random_generator(seed, 1, step)
    z_d, z_g = torch.randn(2, batch_size, Z_DIM, generator=rng)
    shown = range(step * batch_size, (step + 1) * batch_size)  # photos are counted through all epochs
    index = torch.stack([photo_order(seed, n // count, count)[n % count] for n in shown])
    flip = torch.rand(batch_size, generator=rng) < 0.5
    shifts = (max_shift * (2 * torch.rand(batch_size, 3, 2, generator=rng) - 1)).round().long()
    return Batch(index, *shifts.unbind(1), z_d, z_g, flip)  # three shifts: of the photos, and of both turns' fakes


def measure_statistics(gan, z):
    """Measure batch norm's means and variances in the averaged generator on z (N, Z_DIM).

    G's own would not do, because other weights have other statistics.
    """
    for average, latest in zip(gan.generator_ema.buffers(), gan.generator.buffers(), strict=True):
        average.copy_(latest)  # G's are a good start for spectral norm, which finds its vectors step by step
    update_bn(z.split(64), gan.generator_ema)


def train(options):
    """Train as the options of parse_options() say, from the run's checkpoint if there is one -> the run folder."""
    photos = load_folder(options.data)  # (N, 3, S, S), uint8; 22,000 dogs of 64x64 are 270 MB
    count, size = len(photos), photos.shape[-1]
    place_attention(options, size)
    device = init_processes(options.device)
    gan = make_gan(size, options, device)
    run = Run(options, photos, gan)
    photos = photos.to(device)
    # The first 64 make the sheets of samples; all of them measure batch norm's statistics.
    z_fixed = torch.randn(1024, Z_DIM, generator=random_generator(options.seed, 2)).to(device)

    with run:  # locks its folder, and goes on where its checkpoint is
        for step in run.steps():  # counted from 0
            batch = draw_batch(options.seed, step, options.batch, count, options.translation * size)
            r1_weight = options.r1 / 2 * R1_EVERY if step % R1_EVERY == 0 else 0
            scalars = train_step(gan, photos, to_device(my_share(batch), device), r1_weight)
            update_ema(gan, step, options.ema)
            run.add(scalars)

            # Once in a while:
            if run.row_due():
                run.check_stop()  # after Ctrl-C or --minutes this step is the last: samples, checkpoint, end
                run.write_row()  # the means since the last row -> log.csv
            if run.samples_due():
                measure_statistics(gan, z_fixed)
                run.write_samples(z_fixed[:64])  # and a snapshot of the averaged generator
            run.save_if_due()
    return options.out


def parse_options(arguments=None):
    """The options of the command line, completed and checked against the run to resume, if there is one."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("datasets/dogs64"), metavar="DIR", help="square pictures of one size")
    add("--out", type=Path, metavar="DIR", help="the run folder; default: runs/full, runs/no-attn, ...")
    add("--resume", type=Path, metavar="DIR", help="go on with the run in this folder, with its options")
    add("--steps", type=number(int, 1, 10**9), default=30000, help="steps in all, each one of D and one of G")
    add("--minutes", type=number(float, 0), help="stop after so many minutes; --resume goes on")
    add("--no-gen-attn", action="store_true", help="no attention in the generator")
    add("--no-disc-attn", action="store_true", help="no attention in the discriminator")
    add("--attn-at", type=int, nargs="+", metavar="R", help="sizes of maps with attention; default: size/2, up to 32")
    add("--width", type=number(int, 2, 4096), default=64, help="channels at half the side, twice as many at a quarter")
    add("--batch", type=number(int, 1, 10**5), default=64, help="photos per step")
    add("--lr-g", type=number(float, 0, 1), help="learning rate of the generator (Adam); default: 0.0256 / width")
    add("--lr-d", type=number(float, 0, 1), help="learning rate of the discriminator (Adam); default: 0.0256 / width")
    add("--betas", type=number(float, 0, 0.9999), nargs=2, default=[0.0, 0.99], metavar="B", help="Adam's")
    add("--r1", type=number(float, 0), default=0.2, metavar="R1", help="D pays R1/2 |gradient|^2; 0: none")
    add("--translation", type=number(float, 0, 0.5), default=0.125, help="the most that D's input is moved, in sides")
    add("--spectral-norm", action="store_true", help="on every convolution of both networks, as in SAGAN; in float32")
    add("--ema", type=number(float, 0, 1), default=0.999, help="decay per step of the averaged generator")
    add("--precision", choices=("fp32", "bf16"), help="default: bf16 where the device has it")
    add("--log-every", type=number(int, 1), default=10, metavar="STEPS", help="steps whose means are a row of log.csv")
    add("--sample-every", type=number(int, 1), metavar="STEPS", help="samples beyond those at 500, 1000, 2500, ...")
    parser.add_seed_and_device()
    return complete_options(parser, arguments)


if __name__ == "__main__":
    run_script(lambda: train(parse_options()))
