# SPDX-License-Identifier: MIT
"""trainer.integer.attention against the oracle."""

import numpy as np
import pytest
import torch

from tests import oracle
from tests.trainer.integer.samples import random_int8
from trainer.integer.attention import FoldedAttention, exponential_table


@pytest.mark.parametrize("tokens", [1, 2, 17, 260])
def test_attention_is_the_oracles(tokens):
    heads, width = 2, 5
    table = exponential_table(3, width)
    qkv = random_int8(tokens, 3 * heads * width)
    q, k, v = torch.tensor(qkv).float().view(tokens, 3, heads, width).permute(1, 2, 0, 3)
    for score_shift, value_gain in ((0, -1), (6, 0), (9, 6)):
        found = FoldedAttention(table, score_shift, value_gain)(q, k, v)[0].transpose(0, 1).reshape(tokens, -1)
        expected = oracle.attention(qkv, heads, score_shift, table.numpy().astype(np.int8), value_gain)
        assert np.array_equal(found.numpy(), expected)
