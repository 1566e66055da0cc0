# SPDX-License-Identifier: MIT
"""trainer.integer.patches against the oracle."""

import numpy as np
import pytest
import torch

from tests import oracle
from tests.trainer.integer.samples import random_int8
from trainer.integer.patches import patches


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 2, 1), (2, 2, 0), (5, 3, 4), (4, 1, 2)])
def test_patches_are_the_oracles(kernel, stride, padding):
    picture = random_int8(9, 9, 3)
    found = patches(torch.tensor(picture).float()[None], kernel, stride, padding)[0].numpy()
    assert np.array_equal(found, oracle.patches(picture, kernel, stride, padding))
