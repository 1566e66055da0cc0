# SPDX-License-Identifier: MIT
"""trainer.model.quantize: the rules against their papers' definitions, the packing against the oracle."""

import numpy as np
import pytest
import torch

from tests import oracle
from trainer.errors import TrainerError
from trainer.model.quantize import RULES, LearnedScale, Rule, learned_trits, ternary_weight
from trainer.modelfile.packing import pack_matrix, pack_vector

ALL_RULES = [Rule(name, per) for name in RULES for per in ("channel", "tensor")]


def rows_of(kind, channels=40, width=96):
    """Weights [channels, width] of one distribution, every channel with a scale of its own."""
    generator = np.random.default_rng(7)
    draw = {
        "gaussian": generator.normal,
        "laplace": generator.laplace,
        "uniform": lambda size: generator.uniform(-1, 1, size),
        "heavy": lambda size: generator.standard_t(2, size),
    }[kind]
    scales = np.exp2(generator.normal(size=(channels, 1)))
    return torch.tensor(draw(size=(channels, width)) * scales, dtype=torch.float64)


def squared_errors(weight, trits, scale):
    return (weight - trits * scale).square().sum(1)


def best_error(row):
    """Least squared error of any trits and scale: the survivors are the largest magnitudes, k of them."""
    magnitude = sorted(abs(row.numpy()), reverse=True)
    kept = [sum(magnitude[:k]) ** 2 / k for k in range(1, len(magnitude) + 1)]
    return float((row**2).sum()) - max(kept)


def test_twn_threshold_and_scale():
    trits, scale = Rule("twn")(torch.tensor([[1.0, -1.0, 0.1, 0.0], [3.0, -5.0, 4.0, 4.0]]))
    assert trits.tolist() == [[1, -1, 0, 0], [1, -1, 1, 1]]
    assert scale[:, 0].tolist() == [1.0, 4.0]


def test_absmean_is_bitnets():
    """RoundClip(W / mean |W|, -1, 1) with that mean as the scale (arXiv 2402.17764, equations 1 to 3)."""
    weight = rows_of("gaussian")
    trits, scale = Rule("absmean")(weight)
    for row, found, factor in zip(weight.numpy(), trits.numpy(), scale.numpy(), strict=True):
        gamma = np.abs(row).mean()
        assert factor[0] == pytest.approx(gamma, rel=1e-12)
        assert np.array_equal(found, np.clip(np.rint(row / gamma), -1, 1))


@pytest.mark.parametrize("name", ["twn", "least_squares"])
def test_scale_is_the_least_squares_one_for_the_trits(name):
    weight = torch.randn(5, 100, generator=torch.Generator().manual_seed(1))
    trits, scale = Rule(name)(weight)
    error = squared_errors(weight, trits, scale)
    assert (error < squared_errors(weight, trits, 1.01 * scale)).all()
    assert (error < squared_errors(weight, trits, 0.99 * scale)).all()


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "uniform", "heavy"])
def test_least_squares_is_never_worse_than_twn(kind):
    weight = rows_of(kind)
    twn, least = (squared_errors(weight, *Rule(name)(weight)) for name in ("twn", "least_squares"))
    assert (least <= twn * (1 + 1e-12)).all()


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "uniform", "heavy"])
def test_least_squares_is_a_fixed_point_and_mostly_the_optimum(kind):
    """Trits fit the scale, the scale fits the trits; no such pair is better in most of small rows."""
    weight = rows_of(kind, width=12)
    trits, scale = Rule("least_squares")(weight)
    survives = trits != 0
    settled = (survives == (weight.abs() > scale / 2)).all(1)
    assert settled.float().mean() > 0.9
    found = squared_errors(weight, trits, scale)
    best = torch.tensor([best_error(row) for row in weight], dtype=torch.float64)
    assert (found >= best - 1e-9).all()
    optimal = found <= best * (1 + 1e-9)
    assert optimal.float().mean() > 0.6
    assert (found / best).mean() < 1.1


def test_least_squares_finds_what_brute_force_finds_where_the_rows_are_plain():
    """Magnitudes in two clear groups: Lloyd's iteration has one fixed point."""
    weight = torch.tensor([[5.0, -5.5, 0.3, 0.2, -6.0, 0.1], [1.0, 1.1, -0.9, 1.05, -1.0, 0.95]], dtype=torch.float64)
    trits, scale = Rule("least_squares")(weight)
    assert trits.tolist() == [[1, -1, 0, 0, -1, 0], [1, 1, -1, 1, -1, 1]]
    for row, error in zip(weight, squared_errors(weight, trits, scale), strict=True):
        assert error == pytest.approx(best_error(row), rel=1e-9)


@pytest.mark.parametrize("rule", ALL_RULES, ids=str)
def test_every_rule_gives_trits_and_scales(rule):
    weight = rows_of("gaussian", 7, 33).float()
    trits, scale = rule(weight)
    assert trits.shape == weight.shape
    assert scale.shape == (7, 1)
    assert set(trits.unique().tolist()) == {-1, 0, 1}
    assert (trits * weight >= 0).all()
    assert (scale > 0).all()


@pytest.mark.parametrize("name", RULES)
def test_per_tensor_is_the_rule_on_one_long_row(name):
    weight = rows_of("gaussian", 7, 33)
    trits, scale = Rule(name, "tensor")(weight)
    expected, one = Rule(name)(weight.reshape(1, -1))
    assert torch.equal(trits.reshape(1, -1), expected)
    assert scale[:, 0].tolist() == 7 * one[:, 0].tolist()


@pytest.mark.parametrize("rule", ALL_RULES, ids=str)
def test_all_zero_channels(rule):
    """Zero trits and, of their own scale, zero; nothing becomes NaN."""
    weight = torch.zeros(2, 3)
    trits, scale = rule(weight)
    assert not trits.any()
    assert not scale.any()
    weight[1] = 1
    trits, scale = rule(weight)
    assert not trits[0].any()
    assert trits[1].all()
    assert scale.isfinite().all()


def test_unknown_rules_are_refused():
    with pytest.raises(TrainerError, match="rule is 'round', must be one of absmean, twn, least_squares, learned"):
        Rule("round")
    with pytest.raises(TrainerError, match="per is 'row', must be one of channel, tensor"):
        Rule("twn", "row")


@pytest.mark.parametrize("rule", [r for r in ALL_RULES if not r.learned], ids=str)
def test_gradient_passes_straight_through(rule):
    weight = torch.randn(3, 4, requires_grad=True)
    coefficient = torch.randn(3, 4)
    (ternary_weight(weight, rule) * coefficient).sum().backward()
    assert torch.equal(weight.grad, coefficient)


def rounded(x):
    """x rounded, with the gradient of x."""
    return x + (torch.round(x) - x).detach()


def lsq(weight, scale):
    """Learned step size quantization, written out (arXiv 1902.08153, equation 1 and the gradient scale)."""
    factor = (scale.numel() / weight.numel()) ** 0.5
    step = scale * factor + (scale - scale * factor).detach()
    return rounded((weight / step).clamp(-1, 1)) * step


@pytest.mark.parametrize("shape", [(5, 1), (1, 1)])
def test_learned_scales_have_lsqs_value_and_gradients(shape):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(5, 40, generator=generator, dtype=torch.float64)
    scale = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.3
    coefficient = torch.randn(5, 40, generator=generator, dtype=torch.float64)
    gradients = []
    for function in (LearnedScale.apply, lsq):
        w, s = weight.clone().requires_grad_(), scale.clone().requires_grad_()
        value = function(w, s)
        (value * coefficient).sum().backward()
        gradients.append((value.detach(), w.grad, s.grad))
    for ours, theirs in zip(*gradients, strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_learned_scale_that_went_negative_counts_as_its_magnitude():
    weight = torch.randn(3, 20)
    scale = torch.tensor([[0.5], [-0.5], [0.0]])
    assert torch.equal(learned_trits(weight, scale)[1], learned_trits(weight, -scale)[1])
    value = LearnedScale.apply(weight, scale)
    assert torch.equal(value[1], LearnedScale.apply(weight, scale.abs())[1])
    assert not value[2].any()


@pytest.mark.parametrize("outputs", [1, 5, 15, 16, 17, 33])
@pytest.mark.parametrize("inputs", [1, 4, 5, 6, 16, 49])
def test_matrix_is_packed_as_the_oracle_packs(outputs, inputs):
    trits = np.random.default_rng(outputs * 100 + inputs).integers(-1, 2, (outputs, inputs))
    assert np.array_equal(pack_matrix(trits), oracle.pack_weight(trits))


@pytest.mark.parametrize("width", [1, 15, 16, 17, 80, 81, 96, 384])
def test_vector_is_packed_as_the_oracle_packs(width):
    trits = np.random.default_rng(width).integers(-1, 2, width)
    assert np.array_equal(pack_vector(trits), oracle.pack_channels(trits))
