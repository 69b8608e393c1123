"""The attention of section 2.2: the layer, the formula, and the block-wise way to the same numbers."""

import pytest
import torch
from torch.nn import functional as F

import attention
from attention import BlockAttention, SelfAttention, attend, attention_by_hand, attention_map, positions

SHAPES = [  # B, N, M, d, C
    (1, 16, 16, 2, 8),
    (3, 16, 4, 1, 5),
    (2, 5, 37, 3, 4),
    (15, 300, 300, 2, 3),  # 13 images and 256 rows a block: neither divides
    (1, 513, 128, 2, 3),
]


def some_qkv(batch, n, m, d, c):
    torch.manual_seed(batch + n)
    shapes = (batch, n, d), (batch, m, d), (batch, m, c)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def some_layer(channels=8, pool=False):
    """A layer in float64 with attention that counts; evaluation mode, so that spectral norm stands still."""
    torch.manual_seed(0)
    layer = SelfAttention(channels, pool).double().eval()
    with torch.no_grad():
        layer.gamma.fill_(0.7)
    return layer


def test_layer_starts_as_the_identity():
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(SelfAttention(16)(x), x)
    assert torch.equal(SelfAttention(16, pool=True)(x), x)


def test_rows_of_a_map_are_probabilities():
    query, key, _ = some_qkv(3, 20, 11, 4, 1)
    rows = attention_map(30 * query, key)
    assert rows.shape == (3, 20, 11)
    assert (rows >= 0).all()
    torch.testing.assert_close(rows.sum(dim=2), torch.ones(3, 20, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_formula_is_torchs_attention_without_the_scale(shape):
    query, key, value = some_qkv(*shape)
    expected = F.scaled_dot_product_attention(query, key, value, scale=1)
    torch.testing.assert_close(attention_by_hand(query, key, value), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", [1, BlockAttention.BLOCK])
def test_attend_equals_the_formula_in_values_and_gradients(shape, block, monkeypatch):
    monkeypatch.setattr(BlockAttention, "BLOCK", block)  # 1: two images at a time
    inputs = some_qkv(*shape)
    results = []
    for function in (attend, attention_by_hand):
        output = function(*inputs)
        weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
        results.append((output, *torch.autograd.grad((output * weights).sum(), inputs)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_a_gradient_that_is_not_contiguous_is_no_matter():
    inputs = some_qkv(2, 6, 6, 2, 4)
    got = torch.autograd.grad(attend(*inputs).transpose(1, 2).sum(dim=0)[0, 0], inputs)
    expected = torch.autograd.grad(attention_by_hand(*inputs).transpose(1, 2).sum(dim=0)[0, 0], inputs)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


def test_no_whole_map_is_ever_built(monkeypatch):
    blocks = []

    def spy(query, key):
        result = attention_map(query, key)
        blocks.append(tuple(result.shape))
        return result

    monkeypatch.setattr(attention, "attention_map", spy)
    inputs = [torch.randn(8, 1024, width, requires_grad=True) for width in (2, 2, 4)]
    output = attend(*inputs)
    forward = list(blocks)
    output.sum().backward()
    assert blocks == 2 * forward
    assert sum(images * rows for images, rows, _ in forward) == 8 * 1024  # each row once
    for images, rows, columns in blocks:
        assert rows < 1024
        assert images * rows * columns <= BlockAttention.BLOCK


@pytest.mark.parametrize("pool", [False, True])
def test_gradients_are_those_of_finite_differences(pool):
    assert torch.autograd.gradcheck(attend, some_qkv(2, 6, 4, 2, 3))
    layer, x = some_layer(8, pool), torch.randn(2, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    # gradcheck changes the parameters in place, so the layer sees it.
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))


def test_a_second_derivative_is_refused():
    inputs = some_qkv(1, 4, 4, 2, 3)
    (gradient,) = torch.autograd.grad(attend(*inputs).square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_moving_the_pixels_moves_the_output():
    layer, x = some_layer(), torch.randn(2, 8, 6, 6, dtype=torch.float64)
    order = torch.randperm(36)

    def moved(maps):
        return maps.flatten(2)[:, :, order].reshape(maps.shape)

    assert not torch.allclose(layer(x), x)
    torch.testing.assert_close(layer(moved(x)), moved(layer(x)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", [False, True])
def test_map_of_is_the_map_of_the_layers_own_convolutions(pool):
    layer, x = some_layer(16, pool), torch.randn(3, 16, 8, 4, dtype=torch.float64)
    query = torch.einsum("oc,bcn->bno", layer.query.weight[:, :, 0, 0], x.flatten(2))
    key = torch.einsum("oc,bchw->bohw", layer.key.weight[:, :, 0, 0], x)
    key = (key.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)) if pool else key).flatten(2)
    expected = torch.einsum("bnd,bdm->bnm", query, key).softmax(dim=2)
    assert layer.map_of(x).shape == (3, 32, 8 if pool else 32)
    torch.testing.assert_close(layer.map_of(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", [False, True])
def test_layer_adds_gamma_times_the_values_mixed_by_its_map(pool):
    layer, x = some_layer(8, pool), torch.randn(2, 8, 4, 6, dtype=torch.float64)
    value = layer.value(x)
    mixed = layer.map_of(x) @ positions(F.max_pool2d(value, 2) if pool else value)
    expected = x + 0.7 * mixed.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    assert [conv.bias for conv in (layer.query, layer.key, layer.value)] == [None] * 3
