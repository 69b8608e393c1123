"""Section 2.1: the losses (eq. 1-3), what keeps D honest, what is random, one step and the moving average."""

import itertools
import math
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from test_attention import attend_elsewhere
from torch import nn
from torch.nn import functional as F

import train
from attention import attend
from model import Z_DIM, to_float

ROOT = Path(train.__file__).resolve().parent


def changed(before, after):
    return any(not torch.equal(*pair) for pair in zip(before.parameters(), after.parameters(), strict=True))


def small_gan(*more):
    given = ["--width=4", "--attn-at=16", "--precision=fp32", *more]
    return train.make_gan(32, train.parse_options([f"--data={ROOT}", "--out=none", *given]), "cpu")


def some_photos(count=20):
    return torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def some_batch(batch=4, step=0):
    return train.draw_batch(0, step, batch, 20, 4)


def moved(x, shift, most=4):
    """translate(), by padding and cutting."""
    padded, side = F.pad(x, (most,) * 4, mode="reflect"), x.shape[-1]
    places = (most - shift).tolist()
    return torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(padded, places, strict=True)])


# The losses ---------------------------------------------------------------------------------------------------


def test_losses_are_the_negated_equations_2_and_3():
    real, fake = torch.randn(2, 9, dtype=torch.float64) * 5
    d_real, d_fake = real.sigmoid(), fake.sigmoid()
    eq_2 = d_real.log().mean() + (1 - d_fake).log().mean()
    torch.testing.assert_close(train.discriminator_loss(real, fake), -eq_2, rtol=1e-9, atol=0)
    torch.testing.assert_close(train.generator_loss(fake), -d_fake.log().mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("logit", "d_loss", "d_slopes", "g_loss", "g_slope"),
    [(1e3, 1e3, (0, 1), 0, 0), (-1e3, 1e3, (-1, 0), 1e3, -1), (0, 2 * math.log(2), (-0.5, 0.5), math.log(2), -0.5)],
)
def test_losses_and_gradients_are_right_at_extreme_logits(logit, d_loss, d_slopes, g_loss, g_slope):
    real, fake = (torch.tensor([float(logit)], requires_grad=True) for _ in range(2))
    loss = train.discriminator_loss(real, fake)
    assert loss.item() == pytest.approx(d_loss, rel=1e-6)
    assert torch.autograd.grad(loss, (real, fake)) == d_slopes
    loss = train.generator_loss(fake)
    assert loss.item() == pytest.approx(g_loss, rel=1e-6)
    assert torch.autograd.grad(loss, fake) == (g_slope,)


def test_the_penalty_of_a_linear_discriminator_is_its_weights_square():
    w = torch.randn(3 * 8 * 8, requires_grad=True)
    penalty = train.r1_penalty(lambda x: x.flatten(1) @ w + 7, torch.randn(5, 3, 8, 8), nullcontext())
    torch.testing.assert_close(penalty, w.square().sum())
    torch.testing.assert_close(torch.autograd.grad(penalty, w)[0], 2 * w)


def test_the_penalty_has_a_gradient_through_torchs_attention_kernel(monkeypatch):
    w = torch.ones(3, requires_grad=True)

    def discriminator(x):
        tokens = x.flatten(2).transpose(1, 2).contiguous()  # (B, N, 3), as the fast kernel wants it
        return (attend_elsewhere(tokens, tokens, tokens) @ w).square().sum(dim=1)

    train.r1_penalty(discriminator, torch.rand(2, 3, 4, 4), nullcontext()).backward()
    assert w.grad.all()
    monkeypatch.setattr(train, "sdpa_kernel", lambda _: nullcontext())  # so that torch takes the fastest
    with pytest.raises(RuntimeError, match="derivative"):
        train.r1_penalty(discriminator, torch.rand(2, 3, 4, 4), nullcontext()).backward()


def test_torchs_formula_is_as_good_in_bfloat16_as_the_one_that_trains_on_a_cpu():
    """On CUDA the penalty takes torch's, which attention.py lets stay in bfloat16, for less memory."""
    assert torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    draw = torch.Generator().manual_seed(0)
    qkv = [torch.randn(2, 64, width, generator=draw).bfloat16().float() for width in (8, 8, 32)]

    def second_derivatives(attend, dtype):
        inputs = [x.to(dtype).requires_grad_() for x in qkv]
        with train.sdpa_kernel(train.SDPBackend.MATH):
            first = torch.autograd.grad(attend(*inputs).float().square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(gradient.float().square().sum() for gradient in first), inputs)
        return torch.cat([gradient.float().flatten() for gradient in second])

    wanted = second_derivatives(attend, torch.float32)
    torchs, ours = (
        ((second_derivatives(way, torch.bfloat16) - wanted).norm() / wanted.norm()).item()
        for way in (attend_elsewhere, attend)
    )
    assert torchs < 1.1 * ours < 0.1


# Randomness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [3, 10, 25])
def test_each_epoch_shows_each_photo_once_in_an_order_of_its_own(batch):
    order = torch.cat([train.draw_batch(1, step, batch, 10, 4).index for step in range(10)])
    epochs = order[: len(order) // 10 * 10].view(-1, 10)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(10).expand(len(epochs), 10))
    assert len(epochs.unique(dim=0)) == len(epochs)


def test_what_a_step_draws_depends_on_seed_and_step_alone():
    first = train.draw_batch(3, 7, 4, 100, 8.0)
    torch.randn(11), np.random.default_rng().normal(), train.draw_batch(3, 8, 4, 100, 8.0)
    assert all(map(torch.equal, first, train.draw_batch(3, 7, 4, 100, 8.0)))
    assert [tuple(x.shape) for x in first] == [(4,), (4, 2), (4, 2), (4, 2), (4, Z_DIM), (4, Z_DIM), (4,)]
    for others in (train.draw_batch(3, 8, 4, 100, 8.0), train.draw_batch(4, 7, 4, 100, 8.0)):
        assert not any(map(torch.equal, first[:6], others[:6]))
    many = train.draw_batch(0, 0, 1000, 10, 8.0)
    assert 0.4 < many.flip.float().mean() < 0.6
    shifts = many.shift_real, many.shift_d, many.shift_g
    assert all(shift.unique().tolist() == list(range(-8, 9)) for shift in shifts)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations((*shifts, many.z_d, many.z_g), 2))


# One step -----------------------------------------------------------------------------------------------------


def test_a_translation_moves_each_picture_and_mirrors_it_at_the_edge():
    pictures, shift = to_float(some_photos(64)), some_batch(64).shift_real
    assert len(shift.unique(dim=0)) > 32
    assert torch.equal(train.translate(pictures, shift), moved(pictures, shift))


def test_a_translations_gradient_is_the_same_every_time_on_many_threads():
    """Or a resumed run would not be the run that was never stopped."""
    pictures, shift = to_float(some_photos(64)), some_batch(64).shift_real
    mix, threads = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1)), torch.get_num_threads()
    torch.set_num_threads(15)
    try:
        x = pictures.requires_grad_()
        first, *others = (torch.autograd.grad((train.translate(x, shift) * mix).sum(), x)[0] for _ in range(20))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("r1_weight", [0, 0.2])
def test_a_step_is_d_down_its_loss_and_then_g_down_its_own(r1_weight):
    gan, by_hand, start = small_gan(), small_gan(), small_gan()  # alike
    gan, by_hand = (
        one._replace(
            optimizer_g=torch.optim.SGD(one.generator.parameters(), 0.1),
            optimizer_d=torch.optim.SGD(one.discriminator.parameters(), 0.1),
        )
        for one in (gan, by_hand)
    )
    photos, batch = some_photos(), some_batch()
    scalars = train.train_step(gan, photos, batch, r1_weight)

    generator, discriminator, _, optimizer_g, optimizer_d, _ = by_hand
    real = [photos[i].flip(2) if turned else photos[i] for i, turned in zip(batch.index, batch.flip, strict=True)]
    real = moved(to_float(torch.stack(real)), batch.shift_real)
    fake = moved(generator(batch.z_d).detach(), batch.shift_d)
    d_real, d_fake = discriminator(real), discriminator(fake)
    d_loss = F.softplus(-d_real).mean() + F.softplus(d_fake).mean()
    seen = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(seen).sum(), seen, create_graph=True)
    (d_loss + r1_weight * slope.square().sum() / 4).backward()
    own = [p.grad.clone() for p in discriminator.parameters()]
    optimizer_d.step()
    optimizer_g.zero_grad()
    g_loss = F.softplus(-discriminator(moved(generator(batch.z_g), batch.shift_g))).mean()
    g_loss.backward()
    optimizer_g.step()

    means = {"d_real": d_real.sigmoid().mean(), "d_fake": d_fake.sigmoid().mean()}
    wanted = {"d_loss": d_loss, "g_loss": g_loss} | means
    torch.testing.assert_close(scalars, {name: value.detach() for name, value in wanted.items()})
    torch.testing.assert_close([p.grad for p in gan.discriminator.parameters()], own)  # G's turn spends nothing on D's
    for ours, hand, old in zip(gan[:2], by_hand[:2], start[:2], strict=True):
        assert changed(old, ours)
        torch.testing.assert_close(dict(ours.named_parameters()), dict(hand.named_parameters()))


@pytest.mark.parametrize(("more", "wanted"), [((), torch.bfloat16), (("--spectral-norm",), torch.float32)])
def test_a_step_computes_in_bfloat16_but_with_spectral_norm_in_float32(more, wanted):
    gan, seen = small_gan("--precision=bf16", *more), set()
    for network in gan[:2]:
        for conv in network.modules():
            if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)):
                conv.register_forward_hook(lambda conv, given, output: seen.add(output.dtype))
    scalars = train.train_step(gan, some_photos(), some_batch(), 0.2)
    assert seen == {wanted} and all(value.isfinite() and value.dtype == torch.float32 for value in scalars.values())


def test_the_average_follows_by_its_decay_and_at_first_faster():
    gan, start = small_gan(), small_gan("--seed=1").generator_ema
    for step, decay, kept in ((10**18, 1.0, 1), (0, 0.999, 1 / 10), (90, 0.999, 91 / 100), (10**6, 0.999, 0.999)):
        average = deepcopy(start)
        train.update_ema(gan._replace(generator_ema=average), step, decay)
        for ours, old, new in zip(*(network.parameters() for network in (average, start, gan[0])), strict=True):
            torch.testing.assert_close(ours, kept * old + (1 - kept) * new)
