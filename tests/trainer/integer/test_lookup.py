# SPDX-License-Identifier: MIT
"""Tables of trainer.integer.lookup and attention."""

import numpy as np
from torch import nn

from trainer.integer.attention import exponential_table
from trainer.integer.lookup import activation_table


def test_tables_are_the_functions_rounded():
    table = exponential_table(2, 16)
    assert table[0] == 127
    assert table.tolist() == [round(127 * np.exp(-i / 4 / 4)) for i in range(256)]
    for act, function in ((nn.ReLU(), lambda x: max(x, 0)), (nn.SiLU(), lambda x: x / (1 + np.exp(-x)))):
        found = activation_table(act, 4, 5)
        assert found.tolist() == [min(127, max(-128, round(function(x / 16) * 32))) for x in range(-128, 128)]
