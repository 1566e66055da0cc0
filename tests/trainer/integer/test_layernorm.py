# SPDX-License-Identifier: MIT
"""trainer.integer.layernorm against the oracle and the float layer."""

import numpy as np
import pytest
import torch

from tests import oracle
from tests.trainer.integer.samples import RNG
from trainer.experiments.stress import spread_layernorm, ternary_twin
from trainer.integer.calibrate import best_frac
from trainer.integer.layernorm import FoldedLayerNorm, fold_layernorm, layernorm_frac


def random_folded_layernorm(width, gain_shift, beta):
    gamma, beta_trits = (torch.tensor(RNG.integers(-1, 2, width)).float() for _ in range(2))
    return FoldedLayerNorm(gamma, beta_trits, int(RNG.integers(1 << 14, 1 << 15)), gain_shift, beta)


@pytest.mark.parametrize("spread", [0, 1, 30, 3000, 32767])
@pytest.mark.parametrize("width", [1, 2, 33, 384])
def test_layernorm_is_the_oracles(width, spread):
    x = RNG.integers(-spread, spread + 1, (6, width)).astype(np.int16)
    x[0], x[1, ::2] = 32767, -32768
    for gain_shift, beta in ((0, 0), (3, 700), (15, 32639)):
        folded = random_folded_layernorm(width, gain_shift, beta)
        integers = folded.gain, folded.gain_shift, folded.beta
        expected = oracle.layernorm(x, folded.gamma.long().numpy(), folded.beta_trits.long().numpy(), *integers)
        assert np.array_equal(folded(torch.tensor(x).float()).numpy(), expected)


def layernorm_bound(folded, x, eps):
    """How far SPEC 6 may be from the exact value in units of its output, for rows of integers x.

    mean and e: half a unit of x each way; A: its 1 against the exact epsilon (in the same units), and V // D; R, M, P
    and the gain's mantissa: 2^-15 each, M twice that; u and y: one truncation, one rounding.
    """
    variance = x.double().var(1, unbiased=False, keepdim=True)
    gain = folded.gain * 2.0 ** -(folded.gain_shift + 8)
    normed = (x - x.mean(1, keepdim=True)).abs() / (variance + eps).sqrt()
    relative = 1.25 / (variance + eps) + 6 * 2.0**-15
    shift = 0.51 / (variance + eps).sqrt()
    return 0.5 + 1 / 256 + gain * (shift + normed * relative)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("rule", ["absmean", "twn", "least_squares"])
def test_integer_layernorm_is_the_float_ternary_one_within_its_rounding(sigma, rule):
    """Gammas that spread as a trained network's (log-normal), betas too, rows from faint to saturated."""
    layer = ternary_twin(spread_layernorm(sigma, 96), rule)
    frac = 5
    for out_frac in range(1, min(5, layernorm_frac(layer)) + 1):
        folded = fold_layernorm(layer, out_frac)
        for spread in (8, 100, 5000):
            x = torch.tensor(RNG.normal(0, spread, (40, 96)).round().clip(-32768, 32767)).float()
            with torch.no_grad():
                exact = layer.double()(x.double() * 2.0**-frac) * 2.0**out_frac
            layer.float()
            difference = (folded(x) - exact.clamp(-128, 127)).abs()
            # Beyond, SPEC 6.5 clips before it adds beta.
            inside = (exact - folded.beta_trits * folded.beta / 256).abs() < 127
            assert inside.float().mean() > 0.7
            assert (difference <= layernorm_bound(folded, x, layer.eps * 4.0**frac))[inside].all()


def test_a_layernorm_whose_large_channels_are_left_out_keeps_its_scale():
    """A frac as fine as the small channels' outputs alone would ask for has no gain in SPEC 6."""
    torch.manual_seed(0)
    layer = spread_layernorm(0.0, 96)
    with torch.no_grad():
        layer.weight[:3] = 0
        layer.bias.zero_()
    twin = ternary_twin(layer, "twn")
    x = torch.tensor(RNG.normal(0, 10, (40, 96)).round()).float()
    x[:, :3] *= 300
    frac = min(best_frac(twin(x)), layernorm_frac(twin))
    assert best_frac(twin(x)) > frac
    folded = fold_layernorm(twin, frac)
    with torch.no_grad():
        difference = (folded(x) - twin.double()(x.double()) * 2.0**frac).abs()
    assert (difference <= layernorm_bound(folded, x, twin.eps)).all()
