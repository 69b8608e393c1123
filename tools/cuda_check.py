"""Parts of tools/cuda_check.sh, which calls them: python cuda_check.py PART ..."""

import csv
import json
import math
import os
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

import train
from attention import SelfAttention, attend, attend_fast
from model import Z_DIM, Discriminator, build, to_float

DEVICE = os.environ["DEVICE"]
CUDA = DEVICE.startswith("cuda")
GOLDEN = Path(train.__file__).parent / "tests/golden"


def say(text):
    print(f"= {text}", flush=True)


def relative(found, wanted):
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    return ((found - wanted).norm() / wanted.norm()).item()


def exact_float32():
    """Training may use TF32 in convolutions; to be compared with a CPU it must not."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def attention():
    """The layer on the device against the formula in float64 on the CPU; and which kernels take its tensors."""
    exact_float32()
    torch.manual_seed(0)
    inputs = [torch.randn(4, 1024, width).bfloat16().float().requires_grad_() for width in (8, 8, 64)]
    wanted = attend(*(x.double() for x in inputs))
    wanted_grads = torch.autograd.grad(wanted.square().sum(), inputs)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 6e-2)):
        on_device = [x.detach().to(DEVICE, dtype).requires_grad_() for x in inputs]
        found = attend_fast(*on_device)
        grads = torch.autograd.grad(found.float().square().sum(), on_device)
        errors = [relative(*pair) for pair in zip((found, *grads), (wanted, *wanted_grads), strict=True)]
        kernels = []
        for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            try:
                with sdpa_kernel(kernel):
                    torch.nn.functional.scaled_dot_product_attention(*(x[:, None] for x in on_device), scale=1.0)
                kernels.append(kernel.name)
            except RuntimeError:
                pass
        say(f"attention in {str(dtype)[6:]}: off by {max(errors):.1e}; fused kernels: {', '.join(kernels) or 'none'}")
        assert max(errors) < tolerance, f"attention in {dtype} is off: {errors}"


def penalty():
    """R1 has second derivatives of the attention: the same on the device as on the CPU, and not without MATH."""
    exact_float32()
    options = {"no_disc_attn": False, "width": 32, "attn_at": [32], "spectral_norm": False}
    real = to_float(torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))

    def gradients(device, dtype=torch.float32):
        torch.manual_seed(0)
        discriminator = build(Discriminator, 64, options).to(device)
        torch.nn.init.constant_(discriminator.attention["32"].gamma, 0.5)
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            value = train.r1_penalty(discriminator, real.to(device))
        value.backward()
        grads = {name: p.grad for name, p in discriminator.named_parameters() if p.grad is not None}
        assert {f"attention.32.{name}" for name in ("query.weight", "key.weight", "gamma")} <= grads.keys()
        return value, torch.cat([grad.flatten() for grad in grads.values()])

    wanted, wanted_grads = gradients("cpu")
    for dtype, tolerance in ((torch.float32, 1e-2), (torch.bfloat16, 0.3)):
        value, grads = gradients(DEVICE, dtype)
        errors = relative(value, wanted), relative(grads, wanted_grads)
        say(f"R1 in {str(dtype)[6:]}: off by {errors[0]:.1e}, its gradient by {errors[1]:.1e}")
        assert max(errors) < tolerance, f"R1 in {dtype} is off: {errors}"
    layer, x = SelfAttention(64).to(DEVICE), torch.randn(1, 64, 32, 32, device=DEVICE, requires_grad=True)
    torch.nn.init.constant_(layer.gamma, 0.5)
    try:
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)[0].square().sum().backward()
        say("second derivatives work without SDPBackend.MATH, too")
    except RuntimeError as error:
        say(f"without SDPBackend.MATH, as expected: {str(error)[:80]}")


def first_steps(device, precision, *arguments, steps=2):
    """A small training's first steps -> their figures (steps, 4), and the gradients of the last."""
    arguments = ["--data=.", "--out=none", f"--device={device}", f"--precision={precision}", *arguments]
    options = train.parse_options([*arguments, "--width=16", "--batch=8", "--attn-at=16"])
    networks = train.make_networks(64, options, device)
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")
    for network in networks[:2]:
        for layer in network.attention.values():
            torch.nn.init.constant_(layer.gamma, 0.5)
    draw, figures = torch.Generator().manual_seed(0), []
    shifts = torch.randint(-8, 9, (8, 3, 2), generator=draw).to(device)
    pictures = torch.nn.functional.interpolate(torch.rand(8, 3, 8, 8, generator=draw), 64) * 2 - 1
    pictures = pictures.to(device, memory_format=torch.channels_last)
    for step in range(steps):
        z_d, z_g = (z.to(device) for z in torch.randn(2, 8, Z_DIM, generator=draw))
        r1 = options.r1 / 2 * train.R1_EVERY if step % train.R1_EVERY == 0 else 0
        figures.append(train.train_step(*networks, pictures, z_d, z_g, shifts, r1, autocast)[:4].cpu())
    return torch.stack(figures), torch.cat([p.grad.cpu().flatten() for n in networks[:2] for p in n.parameters()])


def losses():
    """Losses and gradients of the first steps on the device against those of the CPU in float32.

    Gradients without learning: Adam's first steps are nearly signs, which make much of a gradient's rounding.  And
    the tolerances are wide: on a CPU, weights off by a millionth change gradients by 1e-3, as ReLU's kinks are passed.
    """
    exact_float32()
    none, still = ("--no-gen-attn", "--no-disc-attn"), ("--lr-g=0", "--lr-d=0")
    for name, arguments in (("full", ()), ("no attention", none), ("spectral norm", ("--spectral-norm",))):
        wanted, _ = first_steps("cpu", "fp32", *arguments)
        _, wanted_gradients = first_steps("cpu", "fp32", *arguments, *still, steps=1)
        for precision, first, later, gradient in (("fp32", 1e-4, 0.01, 1e-2), ("bf16", 0.01, 0.1, 0.3)):
            found, _ = first_steps(DEVICE, precision, *arguments)
            _, gradients = first_steps(DEVICE, precision, *arguments, *still, steps=1)
            off = (found - wanted).abs().amax(1).tolist()
            error = relative(gradients, wanted_gradients)
            losses = ", ".join(f"{value:.1e}" for value in off)
            say(f"{name}, {precision}: losses of the first steps off by {losses}; gradients by {error:.1e}")
            assert off[0] < first and max(off) < later and error < gradient, f"{name}, {precision}: {off}, {error}"


def speed():
    """Images/s and memory of a training step at the full size."""
    width, batch, steps = (64, 64, 40) if CUDA else (8, 8, 2)
    for name, more in (("full", ()), ("no attention", ("--no-gen-attn", "--no-disc-attn"))):
        for precision in ("fp32", "bf16"):
            arguments = ["--data=.", "--out=none", f"--device={DEVICE}", f"--precision={precision}", *more]
            options = train.parse_options([*arguments, f"--width={width}", f"--batch={batch}", "--attn-at=32"])
            networks = train.make_networks(64, options, DEVICE)
            autocast = torch.autocast(torch.device(DEVICE).type, torch.bfloat16, enabled=precision == "bf16")
            real, z = torch.rand(batch, 3, 64, 64), torch.randn(batch, Z_DIM, device=DEVICE)
            real = real.to(DEVICE, memory_format=torch.channels_last)
            shifts = torch.randint(-8, 9, (batch, 3, 2), device=DEVICE)
            for step in range(-16 if CUDA else 0, steps):
                if step == 0:
                    if CUDA:
                        torch.cuda.synchronize()
                        torch.cuda.reset_peak_memory_stats()
                    begin = time.perf_counter()
                train.train_step(*networks, real, z, z, shifts, 0.8 if step % train.R1_EVERY == 0 else 0, autocast)
            if CUDA:
                torch.cuda.synchronize()
            rate = steps * batch / (time.perf_counter() - begin)
            memory = f", peak memory {torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB" if CUDA else ""
            say(f"step of {name}, width {width}, batch {batch}, {precision}: {rate:,.0f} images/s{memory}")


def log(folder, last):
    """A run's log: every row once, all of it finite; its speed."""
    with open(f"{folder}/log.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    assert steps == list(range(2, int(last) + 1, 2)), steps
    assert all(math.isfinite(float(row[name])) for row in rows for name in ("d_loss", "g_loss", "d_real", "d_fake"))
    end = rows[-1]
    say(
        f"{folder}, step {last}: d_loss {end['d_loss']}, g_loss {end['g_loss']}, gamma {end['gamma_g'] or '-'} "
        f"{end['gamma_d'] or '-'}, {end['images_per_s']} images/s"
    )


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
        count = folder["count"] if CUDA else 8
        for index, pixels in enumerate(recipe.synthetic_images(folder["image_seed"], count, 64)):
            Image.fromarray(pixels).save(f"{name}/{index:05d}.png")


def fid_value(*logs):
    """FID as fid.py printed it: the golden one on CUDA, where all pictures are taken; the same in every log."""
    found = [float(Path(path).read_text(encoding="utf-8").split("FID: ")[1].split()[0]) for path in logs]
    golden = json.loads((GOLDEN / "golden_end_to_end.json").read_text(encoding="utf-8"))["pairs"][1]["exact"]
    wanted = golden if CUDA else found[0]
    speeds = [line for line in Path(logs[0]).read_text(encoding="utf-8").splitlines() if "a second" in line]
    say(f"FID {', '.join(map(str, found))}; {f'golden {golden:.4f}; ' if CUDA else ''}{speeds[-1]}")
    assert all(abs(value / wanted - 1) < 1e-4 for value in found), f"{found} isn't {wanted}"


globals()[sys.argv[1]](*sys.argv[2:])
