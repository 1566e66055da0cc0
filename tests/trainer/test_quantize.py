# SPDX-License-Identifier: MIT
"""trainer.quantize: the ternarization rule and the packing against the oracle."""

import numpy as np
import pytest
import torch

from tests import oracle
from trainer.quantize import pack_matrix, pack_vector, ternarize, ternary_weight


def test_threshold_and_scale():
    trits, scale = ternarize(torch.tensor([[1.0, -1.0, 0.1, 0.0], [3.0, -5.0, 4.0, 4.0]]))
    assert trits.tolist() == [[1, -1, 0, 0], [1, -1, 1, 1]]
    assert scale[:, 0].tolist() == [1.0, 4.0]


def test_scale_is_the_least_squares_one():
    weight = torch.randn(5, 100, generator=torch.Generator().manual_seed(1))
    trits, scale = ternarize(weight)

    def error(factor):
        return (weight - factor * scale * trits).square().sum(1)

    assert (error(1.0) < error(1.01)).all()
    assert (error(1.0) < error(0.99)).all()


def test_all_zero_channel():
    trits, scale = ternarize(torch.zeros(2, 3))
    assert not trits.any()
    assert not scale.any()


def test_gradient_passes_straight_through():
    weight = torch.randn(3, 4, requires_grad=True)
    coefficient = torch.randn(3, 4)
    (ternary_weight(weight) * coefficient).sum().backward()
    assert torch.equal(weight.grad, coefficient)


@pytest.mark.parametrize("outputs", [1, 5, 15, 16, 17, 33])
@pytest.mark.parametrize("inputs", [1, 4, 5, 6, 16, 49])
def test_matrix_is_packed_as_the_oracle_packs(outputs, inputs):
    trits = np.random.default_rng(outputs * 100 + inputs).integers(-1, 2, (outputs, inputs))
    assert np.array_equal(pack_matrix(trits), oracle.pack_weight(trits))


@pytest.mark.parametrize("width", [1, 15, 16, 17, 80, 81, 96, 384])
def test_vector_is_packed_as_the_oracle_packs(width):
    trits = np.random.default_rng(width).integers(-1, 2, width)
    assert np.array_equal(pack_vector(trits), oracle.pack_channels(trits))
