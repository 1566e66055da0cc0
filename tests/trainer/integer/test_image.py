# SPDX-License-Identifier: MIT
"""trainer.integer.image against the oracle."""

import numpy as np
import torch

from tests import oracle
from trainer.integer.image import Normalization
from trainer.model.pixels import Pixels


def test_normalization_is_the_oracles_and_near_the_float_one():
    pixels = Pixels((0.2, 0.5, 0.9), (0.1, 0.25, 0.4))
    for frac in (2, 4, 6):
        folded = Normalization.fold(pixels, frac)
        levels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
        found = folded(torch.tensor(levels)).numpy()
        assert np.array_equal(found, oracle.normalize(levels, folded.multiplier, folded.offset))
        exact = pixels.normalize(torch.tensor(levels)[None])[0].permute(1, 2, 0).numpy() * 2**frac
        assert np.abs(found - exact.clip(-128, 127)).max() <= 0.51
