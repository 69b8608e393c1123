"""The two networks (section 2.1): shapes, what attention adds to them, and what spectral normalisation promises."""

import pytest
import torch
from torch import nn

from attention import SelfAttention
from model import Z_DIM, Discriminator, Generator, build, to_float, to_uint8
from snapshots import generate

CHOICES = [(32, ()), (32, (4, 8)), (64, (16, 64)), (128, (32,))]
OPTIONS = {"width": 4, "attn_at": [16], "no_gen_attn": False, "no_disc_attn": False, "spectral_norm": False}


def both(size=32, width=5, attention_at=(16,)):
    """Generator and discriminator, their attention not the identity any more."""
    networks = []
    for kind in (Generator, Discriminator):
        torch.manual_seed(0)
        networks.append(kind(size, width, attention_at))
        for layer in networks[-1].attention.values():
            nn.init.constant_(layer.gamma, 0.5)
    return networks


@pytest.mark.parametrize(("size", "at"), CHOICES)
def test_shapes_and_ranges_are_as_promised_and_every_weight_counts(size, at):
    generator, discriminator = both(size, attention_at=at)
    pictures = generator(torch.randn(2, Z_DIM))
    logits = discriminator(pictures)
    assert pictures.shape == (2, 3, size, size) and pictures.abs().max() <= 1
    assert logits.shape == (2,)
    logits.sum().backward()
    assert all(p.grad.any() for network in (generator, discriminator) for p in network.parameters())


def test_all_variants_start_alike():
    for kind in (Generator, Discriminator):
        starts = []
        for where in ((16, 32), ()):
            torch.manual_seed(3)
            starts.append(kind(64, 4, where).state_dict())
        with_it, without = starts
        added = {name for name in with_it if name.startswith("attention.")}
        assert added and with_it.keys() - added == without.keys()
        assert all(torch.equal(with_it[name], without[name]) for name in without)


def test_attention_sees_the_feature_maps_of_its_resolution():
    seen = set()
    for network, x in zip(both(64, 4, (8, 64)), (torch.randn(2, Z_DIM), torch.rand(2, 3, 64, 64)), strict=True):
        for r, layer in network.attention.items():
            layer.register_forward_hook(lambda layer, given, output, r=int(r): seen.add((r, given[0].shape)))
        network(x)
    assert seen == {(8, (2, 16, 8, 8)), (64, (2, 2, 64, 64))}


def test_the_generator_gives_its_maps_with_the_same_pictures():
    generator, _ = both(64, 4, (8, 16))
    z = torch.randn(3, Z_DIM)
    pictures, maps = generator.eval()(z, return_maps=True)
    assert torch.equal(pictures, generator(z))
    assert {r: rows.shape for r, rows in maps.items()} == {"8": (3, 64, 64), "16": (3, 256, 256)}
    assert both(attention_at=())[0](z, return_maps=True)[1] == {}


def test_each_network_has_attention_unless_the_options_say_no():
    for kind, other in ((Generator, "no_disc_attn"), (Discriminator, "no_gen_attn")):
        for name, wanted in (("no_gen_attn", other == "no_gen_attn"), ("no_disc_attn", other == "no_disc_attn")):
            network = build(kind, 32, OPTIONS | {name: True})
            assert any(isinstance(module, SelfAttention) for module in network.modules()) is wanted


def test_the_discriminator_judges_each_picture_by_itself():
    _, discriminator = both()
    x = torch.rand(6, 3, 32, 32) * 2 - 1
    alone = torch.cat([discriminator(picture) for picture in x.split(1)])
    torch.testing.assert_close(discriminator(x), alone, rtol=0, atol=1e-6)


# Pictures -----------------------------------------------------------------------------------------------------


def test_bytes_survive_the_way_to_floats_and_back():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    floats = to_float(every)
    assert (floats.min(), floats.max()) == (-1, 1)
    assert torch.equal(to_uint8(floats), every)
    assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


def test_a_generated_picture_depends_on_its_z_alone():
    generator, _ = both()
    generator(torch.randn(8, Z_DIM))  # some statistics for batch norm
    z = torch.randn(6, Z_DIM)
    together, alone = generate(generator, z), torch.cat([generate(generator, one) for one in z.split(1)])
    assert together.float().std() > 1
    assert torch.equal(together, alone)


@pytest.mark.parametrize("training", [False, True])
def test_generate_leaves_the_generator_as_it_was(training):
    generator, _ = both()
    generator.train(training)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    pictures = generate(generator, torch.randn(7, Z_DIM), batch=3)
    assert (pictures.shape, pictures.dtype, pictures.requires_grad) == ((7, 3, 32, 32), torch.uint8, False)
    assert generator.training is training
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


# Spectral normalisation ---------------------------------------------------------------------------------------


def test_spectral_norm_holds_the_largest_singular_values_near_one():
    for kind in (Generator, Discriminator):
        torch.manual_seed(0)
        network = build(kind, 32, OPTIONS | {"spectral_norm": True})
        z_or_x = torch.randn(2, Z_DIM) if kind is Generator else torch.rand(2, 3, 32, 32)
        for _ in range(50):  # each pass in training mode is a power iteration
            network(z_or_x)
        layers = [m for m in network.eval().modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
        for layer in layers:
            weight = layer.weight.detach()
            if isinstance(layer, nn.ConvTranspose2d):
                weight = weight.transpose(0, 1)  # (out, in, 4, 4), as torch's spectral_norm sees it
            assert torch.linalg.matrix_norm(weight.flatten(1), ord=2).item() == pytest.approx(1, rel=0.05)
