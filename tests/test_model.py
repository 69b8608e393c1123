"""The two networks: shapes, what attention adds to them, and what spectral normalisation promises."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from model import Discriminator, Generator, channels_at, generate, refresh_batch_norm, resolutions, to_float, to_uint8

CHOICES = [
    (size, at, pool)
    for size in (32, 64, 128)
    for at in ((), (16,), (32,), (16, 32))
    for pool in (False, True)
    if set(at) <= set(resolutions(size))
]


def both(size=32, width=4, attention_at=(16,), pool=False, seed=0, modulate=False):
    networks = []
    for kind, extra in ((Generator, {"z_dim": 8, "modulate": modulate}), (Discriminator, {})):
        torch.manual_seed(seed)
        networks.append(kind(size, width, attention_at=attention_at, attention_pool=pool, **extra))
    return networks


def count(network):
    return sum(p.numel() for p in network.parameters())


def convolutions(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


@pytest.mark.parametrize("modulate", [False, True])
@pytest.mark.parametrize(("size", "at", "pool"), CHOICES)
def test_shapes_and_ranges_are_as_promised(size, at, pool, modulate):
    generator, discriminator = both(size, attention_at=at, pool=pool, modulate=modulate)
    pictures = generator(torch.randn(2, 8))
    logits = discriminator(pictures)
    assert pictures.shape == (2, 3, size, size)
    assert pictures.abs().max() <= 1
    assert logits.shape == (2,)
    assert list(generator.attention) == list(discriminator.attention) == [str(r) for r in at]
    logits.sum().backward()
    assert all(p.grad is not None for network in (generator, discriminator) for p in network.parameters())


@pytest.mark.parametrize(("size", "at", "pool"), CHOICES)
def test_attention_adds_exactly_its_own_parameters(size, at, pool):
    expected = sum(2 * c * max(1, c // 8) + c * c + 1 for c in (channels_at(r, size, 4) for r in at))
    for with_it, without in zip(both(size, 4, at, pool), both(size, 4, ()), strict=True):
        assert count(with_it) - count(without) == expected


@pytest.mark.parametrize("modulate", [False, True])
@pytest.mark.parametrize("at", [(16,), (32,), (16, 32)])
def test_one_seed_starts_all_variants_alike(at, modulate):
    pairs = both(64, attention_at=at, modulate=modulate), both(64, attention_at=(), modulate=modulate)
    for with_it, without in zip(*pairs, strict=True):
        shared = {k: v for k, v in with_it.state_dict().items() if not k.startswith("attention.")}
        assert shared.keys() == without.state_dict().keys()
        for name, value in without.state_dict().items():
            assert torch.equal(shared[name], value), name


def test_another_seed_starts_otherwise():
    for one, other in zip(both(seed=1), both(seed=2), strict=True):
        assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_every_convolution_is_parametrized():
    for network, attended in zip(both(64, attention_at=(32,)), ((32,), (32,)), strict=True):
        layers = convolutions(network)
        assert len(layers) == 5 + 3 * len(attended)
        assert all(parametrize.is_parametrized(layer, "weight") for layer in layers)


def test_largest_singular_values_are_held_near_one():
    generator, discriminator = both(32, width=8, attention_at=(16,))
    with torch.no_grad():
        for _ in range(50):
            discriminator(generator(torch.randn(4, 8)))
    for network in (generator.eval(), discriminator.eval()):
        for layer in convolutions(network):
            weight = layer.weight.detach()
            if isinstance(layer, nn.ConvTranspose2d):
                weight = weight.transpose(0, 1)  # (out, in, 4, 4), as torch's spectral_norm sees it
            assert torch.linalg.matrix_norm(weight.flatten(1), ord=2).item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("kind", [Generator, Discriminator])
@pytest.mark.parametrize(("size", "at"), [(16, ()), (48, ()), (256, ()), (32, (32,)), (64, (12,)), (64, (16, 64))])
def test_sizes_and_resolutions_that_do_not_exist_are_refused(kind, size, at):
    with pytest.raises(ValueError, match=str(size if not at else at[-1])):
        kind(size, 4, attention_at=at)


def test_a_picture_does_not_depend_on_the_others_of_its_batch():
    generator, _ = both()
    with torch.no_grad():
        generator.attention["16"].gamma.fill_(1)
        generator.train()(torch.randn(8, 8))
        z = torch.randn(6, 8)
        together = generator.eval()(z)
        alone = torch.cat([generator(one) for one in z.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_a_joint_batch_gets_the_logits_of_separate_ones():
    _, discriminator = both()
    discriminator.eval()
    with torch.no_grad():
        discriminator.attention["16"].gamma.fill_(1)
        real, fake = torch.rand(5, 3, 32, 32) * 2 - 1, torch.rand(5, 3, 32, 32) * 2 - 1
        joint = discriminator(torch.cat([real, fake]))
        separate = torch.cat([discriminator(real), discriminator(fake)])
    torch.testing.assert_close(joint, separate, rtol=0, atol=1e-5)


def test_bytes_survive_the_way_to_floats_and_back():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    floats = to_float(every)
    assert (floats.min(), floats.max()) == (-1, 1)
    assert torch.equal(to_uint8(floats), every)
    assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


@pytest.mark.parametrize("training", [False, True])
def test_generate_leaves_the_generator_as_it_was(training):
    generator, _ = both()
    generator.train(training)
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    pictures = generate(generator, torch.randn(7, 8), batch=3)
    assert (pictures.shape, pictures.dtype, pictures.requires_grad) == ((7, 3, 32, 32), torch.uint8, False)
    assert generator.training is training
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_refreshed_statistics_are_those_of_the_batches_and_training_is_left_alone():
    generator = Generator(32, 4, 8, ())
    momentum = generator.blocks["8"][1].momentum
    before = {name: p.clone() for name, p in generator.named_parameters()}
    z = torch.randn(128, 8)
    seen = []
    hook = generator.blocks["8"][0].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    refresh_batch_norm(generator, z, batch=64)
    hook.remove()
    means = torch.stack([maps.mean(dim=(0, 2, 3)) for maps in seen]).mean(dim=0)
    variances = torch.stack([maps.var(dim=(0, 2, 3)) for maps in seen]).mean(dim=0)
    norm = generator.blocks["8"][1]
    torch.testing.assert_close(norm.running_mean, means, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(norm.running_var, variances, rtol=1e-4, atol=1e-6)
    assert norm.momentum == momentum and generator.training and norm.training
    assert all(torch.equal(p, before[name]) for name, p in generator.named_parameters())


def test_the_logit_gain_multiplies_the_logits_and_changes_nothing_else():
    x = torch.rand(3, 3, 64, 64)
    logits = []
    for gain in (1.0, 5.0):
        torch.manual_seed(0)
        logits.append(Discriminator(width=4, logit_gain=gain).eval()(x))
    torch.testing.assert_close(logits[1], 5 * logits[0])


def test_modulation_scales_and_shifts_each_map_between_batch_norm_and_relu():
    generator, _ = both(attention_at=(), modulate=True)
    maps, inputs = {}, {}
    for r, block in generator.blocks.items():
        block.register_forward_hook(lambda block, given, output, r=r: maps.update({r: output}))
    followers = [*list(generator.blocks.values())[1:], generator.to_rgb]
    for r, follower in zip(generator.blocks, followers, strict=True):
        follower.register_forward_hook(lambda layer, given, output, r=r: inputs.update({r: given[0]}))
    z = torch.randn(3, 8)
    generator.eval()(z)
    first, _ = generator.z_features
    features = torch.relu(z @ first.weight.T + first.bias)
    for r, layer in generator.modulation.items():
        scale, shift = (features @ layer.weight.T + layer.bias)[..., None, None].split(maps[r].shape[1], dim=1)
        torch.testing.assert_close(inputs[r], torch.relu(maps[r] + maps[r] * scale + shift))
    assert list(maps) == list(inputs) == list(generator.modulation) == ["4", "8", "16"]


def test_modulation_by_nothing_changes_nothing():
    (plain, _), (modulated, _) = both(), both(modulate=True)
    missing, unexpected = modulated.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and {name.split(".")[0] for name in missing} == {"z_features", "modulation"}
    for layer in modulated.modulation.values():
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    z = torch.randn(4, 8)
    assert torch.equal(plain.eval()(z), modulated.eval()(z))
