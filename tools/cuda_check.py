"""Parts of tools/cuda_check.sh, which calls them: python cuda_check.py PART ...  What they say begins with "= "."""

import csv
import json
import math
import os
import re
import sys
from itertools import product
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F
from torch.nn.attention import SDPBackend

import train
from attention import attend, attend_fast
from config import has_bfloat16
from model import to_float, to_uint8
from parallel import to_device
from tools.bench import medians, training

DEVICE = os.environ["DEVICE"]
CUDA = DEVICE.startswith("cuda")
GOLDEN = Path(train.__file__).parent / "tests/golden"
NO_ATTENTION = "--no-gen-attn", "--no-disc-attn"


def say(text):
    print(f"= {text}", flush=True)


def relative(found, wanted):
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    return ((found - wanted).norm() / wanted.norm()).item()


def exact_float32():
    """Training may use TF32 in convolutions; to be compared with a CPU it must not."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def attention():
    """attend_fast and its gradients against the formula in float64 on the CPU, the kernel that torch chose, memory."""
    exact_float32()
    torch.manual_seed(0)
    # As at width 64 with attention at 32x32: 1,024 positions, queries of 8 numbers, values of 64.
    inputs = [torch.randn(4, 1024, width).bfloat16().float().requires_grad_() for width in (8, 8, 64)]
    wanted = attend(*(x.double() for x in inputs))
    wanted_grads = torch.autograd.grad(wanted, inputs, wanted.float())
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 6e-2)):
        on_device = [x.detach().to(DEVICE, dtype).requires_grad_() for x in inputs]
        choice = SDPBackend(torch._fused_sdp_choice(*(x.unsqueeze(1) for x in on_device), scale=1.0)).name
        found = attend_fast(*on_device)
        grads = torch.autograd.grad(found, on_device, found.detach())
        errors = [relative(*pair) for pair in zip((found, *grads), (wanted, *wanted_grads), strict=True)]
        who = f"torch chose {choice}" if CUDA else f"the formula, where torch would choose {choice}"
        say(f"attention in {str(dtype)[6:]}: {who}; off by {errors[0]:.1e}, its gradients by {max(errors[1:]):.1e}")
        assert max(errors) < tolerance, f"attention in {dtype} is off: {errors}"
    if CUDA:
        dtype = torch.bfloat16 if has_bfloat16(DEVICE) else torch.float32  # what a training takes here
        many = [torch.randn(128, 1024, width, device=DEVICE, dtype=dtype, requires_grad=True) for width in (8, 8, 64)]
        before, one = torch.cuda.memory_allocated(), 128 * 1024**2 * dtype.itemsize
        torch.cuda.reset_peak_memory_stats()
        found = attend_fast(*many)
        torch.autograd.grad(found, many, found.detach())
        peak = torch.cuda.max_memory_allocated() - before
        say(f"attention of 128 pictures: {peak / 2**20:,.0f} MiB, where their maps alone would be {one / 2**20:,.0f}")
        assert peak < 2 * one, (
            "the attention keeps its maps: with their gradient the formula has more than two of them"
        )


def small_gan(device, precision, *arguments):
    """A GAN and its options at width 32, its attention at work.

    It is at 16x16: there queries have 8 numbers, fewer of which no fused kernel takes in bfloat16.
    """
    arguments = ["--data=.", "--out=none", f"--device={device}", f"--precision={precision}", *arguments]
    options = train.parse_options([*arguments, "--width=32", "--batch=8", "--attn-at=16"])
    gan = train.make_gan(64, options, device)
    for network in gan[:2]:
        for layer in network.attention.values():
            assert len(layer.query.weight) == 8
            torch.nn.init.constant_(layer.gamma, 0.5)
    return gan, options


def small_photos():
    """Eight coarse ones, uint8 (8, 3, 64, 64)."""
    coarse = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return to_uint8(2 * F.interpolate(coarse, 64) - 1)


def penalty():
    """R1 has second derivatives of the attention: they are on the device what they are on the CPU."""
    exact_float32()

    def gradients(device, precision):
        gan, _ = small_gan(device, precision)
        value = train.r1_penalty(gan.discriminator, to_float(small_photos().to(device)), gan.autocast)
        value.backward()
        grads = {name: p.grad for name, p in gan.discriminator.named_parameters() if p.grad is not None}
        assert {f"attention.16.{name}" for name in ("query.weight", "key.weight", "gamma")} <= grads.keys()
        return value, torch.cat([grad.flatten() for grad in grads.values()])

    wanted, wanted_grads = gradients("cpu", "fp32")
    for precision, tolerance in (("fp32", 1e-2), ("bf16", 0.3)):
        value, grads = gradients(DEVICE, precision)
        errors = relative(value, wanted), relative(grads, wanted_grads)
        say(f"R1 in {precision}: off by {errors[0]:.1e}, its gradient by {errors[1]:.1e}")
        assert max(errors) < tolerance, f"R1 in {precision} is off: {errors}"


def first_steps(device, precision, *arguments, steps=2):
    """A small training's first steps -> their figures (steps, 4), and the gradients of the last."""
    gan, options = small_gan(device, precision, *arguments)
    photos, figures = small_photos().to(device), []
    for step in range(steps):
        batch = to_device(train.draw_batch(0, step, 8, 8, 8), device)
        r1_weight = options.r1 / 2 * train.R1_EVERY if step % train.R1_EVERY == 0 else 0
        figures.append(torch.stack(list(train.train_step(gan, photos, batch, r1_weight).values())).cpu())
    return torch.stack(figures), torch.cat([p.grad.cpu().flatten() for n in gan[:2] for p in n.parameters()])


def losses():
    """Losses and gradients of the first steps on the device against those of the CPU in float32.

    Gradients without learning: Adam's first steps are nearly signs, which make much of a gradient's rounding.  And
    the tolerances are wide: on a CPU, weights off by a millionth change gradients by 1e-3, as ReLU's kinks are passed.
    """
    exact_float32()
    still, both = ("--lr-g=0", "--lr-d=0"), ("fp32", "bf16")
    tolerances = {"fp32": (1e-4, 0.01, 1e-2), "bf16": (0.01, 0.1, 0.3)}  # of the first losses, all losses, gradients
    variants = {"full": ((), both), "no attention": (NO_ATTENTION, both)}
    variants["spectral norm"] = ("--spectral-norm",), ("fp32",)  # which computes in float32 alone
    for name, (arguments, precisions) in variants.items():
        wanted, _ = first_steps("cpu", "fp32", *arguments)
        _, wanted_gradients = first_steps("cpu", "fp32", *arguments, *still, steps=1)
        for precision in precisions:
            found, _ = first_steps(DEVICE, precision, *arguments)
            _, gradients = first_steps(DEVICE, precision, *arguments, *still, steps=1)
            off = (found - wanted).abs().amax(1).tolist()
            error = relative(gradients, wanted_gradients)
            told = ", ".join(f"{value:.1e}" for value in off)
            say(f"{name}, {precision}: losses of the first steps off by {told}; gradients by {error:.1e}")
            first, later, gradient = tolerances[precision]
            assert off[0] < first and max(off) < later and error < gradient, f"{name}, {precision}: {off}, {error}"


def steps():
    """Time and peak memory of a plain step and one with R1 at the full size; and whether they wait for the GPU."""
    width, batch, side, rounds = (64, 64, 32, 10) if CUDA else (8, 4, 8, 1)
    size = f"--width={width}", f"--batch={batch}", f"--attn-at={side}"
    # cudnn.benchmark comes last, because torch goes on with the kernels that it has found so.
    for benchmark, (name, more), precision in product(
        (False, True) if CUDA else (False,),
        (("full", ()), ("no attention", NO_ATTENTION)),
        ("bf16", "fp32") if has_bfloat16(DEVICE) else ("fp32",),
    ):
        torch.backends.cudnn.benchmark = benchmark
        turn = training(DEVICE, f"--precision={precision}", *size, *more)
        turn(0), turn(1)
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        found = medians({"plain": lambda turn=turn: turn(1), "R1": lambda turn=turn: turn(0)}, rounds, DEVICE)
        plain, r1 = (1000 * seconds for seconds in found.values())
        label = f"{name}, {width} x {batch}, {precision}{', cudnn.benchmark' if benchmark else ''}"
        memory = f", {torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB at most" if CUDA else ""
        rate = 8000 * batch / (7 * plain + r1)
        say(f"{label}: plain step {plain:.1f} ms, with R1 {r1:.1f} ms, {rate:,.0f} images/s{memory}")
    torch.backends.cudnn.benchmark = False
    if not CUDA:
        say("whether a step waits for the GPU can't be told on a CPU")
        return
    turn = training(DEVICE, *size)
    turn(0), turn(1)
    torch.cuda.set_sync_debug_mode("error")  # what waits raises a RuntimeError
    turn(1), turn(8)
    torch.cuda.set_sync_debug_mode("default")
    say("neither a plain step nor one with R1 waits for the GPU")


def logs(last, every, *folders):
    """Runs' logs have every row once, all of it finite; what their last rows say."""
    for folder in folders:
        with open(f"{folder}/log.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found = [int(row["step"]) for row in rows]
        assert found == list(range(int(every), int(last) + 1, int(every))), f"{folder}: {found}"
        values = [float(row[name]) for row in rows for name in ("d_loss", "g_loss", "d_real", "d_fake")]
        assert all(map(math.isfinite, values)), f"{folder}: a figure isn't finite"
        figures = ", ".join(f"{name} {rows[-1][name] or '-'}" for name in ("d_loss", "g_loss", "gamma_g", "gamma_d"))
        say(f"{folder}, step {last}: {figures}, {rows[-1]['images_per_s']} images/s")


def resumed(*folders):
    """Runs a, b of one go and c of two: c differs from a no more than b does."""
    a, b, c = (torch.load(f"{folder}/checkpoint.pt", weights_only=True)["generator"] for folder in folders)
    again, halves = (max((x[k].float() - a[k].float()).abs().max().item() for k in a) for x in (b, c))
    say(f"weights of a second run differ by {again:.1e}, of a resumed one by {halves:.1e} (0: to the bit the same)")
    assert halves <= 10 * again, "a resumed run goes on in another way"


def fid_inputs():
    """Made-up weights and pictures whose FID pytorch-fid has computed."""
    from golden import recipe

    torch.save(recipe.synthetic_state_dict(0, recipe.read_names(GOLDEN / "inception_names.txt")), "weights.pth")
    golden = json.loads((GOLDEN / "golden_end_to_end.json").read_text(encoding="utf-8"))
    for name in "bc":
        Path(name).mkdir()
        folder = golden["folders"][name]
        count = folder["count"] if CUDA else 4
        for index, pixels in enumerate(recipe.synthetic_images(folder["image_seed"], count, 64)):
            Image.fromarray(pixels).save(f"{name}/{index:05d}.png")


def fid_value(*logs):
    """FID as fid.py printed it: the golden one on CUDA, where all pictures are taken; the same in every log."""
    texts = [Path(path).read_text(encoding="utf-8") for path in logs]
    found = [float(text.split("FID: ")[1].split()[0]) for text in texts]
    golden = json.loads((GOLDEN / "golden_end_to_end.json").read_text(encoding="utf-8"))["pairs"][1]["exact"]
    wanted = golden if CUDA else found[0]
    speed = re.findall(r"[\d.,]+ a second", texts[0])[-1]
    say(f"FID {', '.join(map(str, found))}; {f'golden {golden:.4f}; ' if CUDA else ''}{speed}")
    assert all(abs(value / wanted - 1) < 1e-4 for value in found), f"{found} isn't {wanted}"


globals()[sys.argv[1]](*sys.argv[2:])
