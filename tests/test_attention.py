"""Self-attention (section 2.2): the formula, the fast ways to its numbers, and the layer."""

import math

import pytest
import torch

import attention
from attention import SelfAttention, attend, attend_fast, attention_map


class Elsewhere(torch.Tensor):
    """Says that it isn't on a CPU, so that `attend_fast` hands it to torch's kernel."""

    device = torch.device("cuda")


def attend_elsewhere(*qkv):
    return attend_fast(*(x.as_subclass(Elsewhere) for x in qkv)).as_subclass(torch.Tensor)


def some_qkv(batch=5, n=12, d=2, c=4):
    draw = torch.Generator().manual_seed(0)
    shapes = (batch, n, d), (batch, n, d), (batch, n, c)
    return [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]


def derivatives(function, inputs):
    """What a function of query, key and value gives, and all its first and second derivatives, each mixed to one."""
    output = function(*inputs)
    mixture = (output * torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)).sum()
    first = torch.autograd.grad(mixture, inputs, create_graph=True)
    second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), inputs)
    return output, *first, *second


# The formula --------------------------------------------------------------------------------------------------


def test_two_positions_by_hand():
    query, key, value = (torch.tensor([[[a], [b]]]) for a, b in ((0, math.log(3)), (0, 1.0), (4.0, 8.0)))
    torch.testing.assert_close(attention_map(query, key), torch.tensor([[[1 / 2, 1 / 2], [1 / 4, 3 / 4]]]))
    torch.testing.assert_close(attend(query, key, value), torch.tensor([[[6.0], [7.0]]]))


def test_rows_of_a_map_are_probabilities_however_large_the_scores():
    query, key, _ = some_qkv()
    rows = attention_map(300 * query, 300 * key)
    assert (rows >= 0).all()
    torch.testing.assert_close(rows.sum(dim=2), torch.ones(5, 12, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("entries", "pictures"), [(1, [1] * 5), (2 * 12 * 12, [2, 2, 1])])
def test_a_few_pictures_at_a_time_give_the_formula_to_the_second_derivative(entries, pictures, monkeypatch):
    made = []
    monkeypatch.setattr(attention, "MAX_MAP_ENTRIES", entries)
    monkeypatch.setattr(attention, "attention_map", lambda *qk: made.append(attention_map(*qk)) or made[-1])
    for fast, exact in zip(derivatives(attend_fast, some_qkv()), derivatives(attend, some_qkv()), strict=True):
        torch.testing.assert_close(fast, exact, rtol=1e-12, atol=1e-12)
    assert [len(maps) for maps in made] == [*pictures, 5]


@pytest.mark.parametrize("c", [2, 4])
def test_torchs_kernel_is_the_formula(c):
    inputs = some_qkv(d=2, c=c)
    results = attend_elsewhere(*inputs), attend(*inputs)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    for fast, exact in zip(*(torch.autograd.grad(result.square().sum(), inputs) for result in results), strict=True):
        torch.testing.assert_close(fast, exact, rtol=1e-12, atol=1e-12)


def test_cudnns_kernel_is_not_tried():
    """On H100 and newer torch would try it first, and raise where it has no plan for values wider than queries."""
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled() and torch.backends.cuda.math_sdp_enabled()


# The layer ----------------------------------------------------------------------------------------------------


def test_layer_starts_as_the_identity():
    x = torch.randn(2, 16, 8, 4)
    assert torch.equal(SelfAttention(16)(x), x)


def test_at_the_start_only_gamma_has_a_gradient():
    layer = SelfAttention(8)
    layer(torch.randn(2, 8, 4, 4)).square().sum().backward()
    assert layer.gamma.grad and not any(conv.weight.grad.any() for conv in (layer.query, layer.key, layer.value))


def test_layer_adds_gamma_times_the_values_mixed_by_its_map():
    layer, x = SelfAttention(8).double(), torch.randn(2, 8, 4, 6, dtype=torch.float64)
    torch.nn.init.constant_(layer.gamma, 0.7)
    query, key, value = (conv.weight[:, :, 0, 0] @ x.flatten(2) for conv in (layer.query, layer.key, layer.value))
    rows = torch.einsum("bdn,bdm->bnm", query, key).softmax(dim=2)  # (B, N, N)
    torch.testing.assert_close(layer(x, return_map=True), (layer(x), rows), rtol=1e-12, atol=1e-12)
    mixed = torch.einsum("bnm,bcm->bcn", rows, value).reshape(x.shape)
    torch.testing.assert_close(layer(x), x + 0.7 * mixed, rtol=1e-12, atol=1e-12)
