# SPDX-License-Identifier: MIT
"""Limits that C, the package and the trainer each have to know are the same everywhere."""

import pytest
import ternary
from ftervit import modelfile

from trainer.data.settings import LARGEST_SIDE
from trainer.integer import numbers

COPIES = {
    "LANES": {"trainer.integer.numbers": numbers.LANES},
    "MAX_ACCUMULATOR": {"trainer.integer.numbers": numbers.MAX_ACCUMULATOR},
    "MAX_IN_FEATURES": {"ftervit.modelfile": modelfile.MAX_IN_FEATURES},
    "MAX_TOKENS": {"ftervit.modelfile": modelfile.MAX_TOKENS},
    "MAX_HEAD_WIDTH": {"ftervit.modelfile": modelfile.MAX_HEAD_WIDTH},
    "MAX_PICTURE": {"ftervit.modelfile": modelfile.MAX_PICTURE, "trainer.data.settings": LARGEST_SIDE},
    "MAX_PREFETCH": {"ftervit.modelfile": modelfile.AHEAD},
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_ternary_h(name):
    assert COPIES[name] == dict.fromkeys(COPIES[name], getattr(ternary.library, f"TERNARY_{name}"))
