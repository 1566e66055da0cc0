# SPDX-License-Identifier: MIT
"""trainer.integer.head."""

import pytest
import torch

from tests.trainer.integer.samples import linear, random_int8
from trainer.integer.head import fold_head
from trainer.integer.linear import Effective


def test_dead_classes_give_their_bias():
    layer = linear(10, 33)
    with torch.no_grad():
        layer.weight[2:5] = 0
        layer.bias[2:5] = torch.tensor([-3.0, 0.0, 40.0])
        layer.weight[7] *= 1e-5
    folded = fold_head(Effective.of(layer), 5, 12)
    logits = folded(torch.tensor(random_int8(20, 33)).float())
    assert (logits[:, 2:5] == logits[:1, 2:5]).all()
    for found, bias in zip(logits[0, [2, 3, 4, 7]].tolist(), layer.bias[[2, 3, 4, 7]].tolist(), strict=True):
        assert found * 2.0**-12 == pytest.approx(bias, abs=1e-3)
