# SPDX-License-Identifier: MIT
"""decode (SPEC 2)."""

import numpy as np
import pytest

from tests import oracle
from tests.mpy_module.kernel import I8, U8, Out, equal, on_every_target, refused, run

pytestmark = on_every_target


def test_every_byte():
    packed = np.arange(256).astype(U8).reshape(16, 16)
    equal(run("decode", packed, Out((80, 16), I8)), oracle.unpack_tile(packed).astype(I8))


@pytest.mark.parametrize("rows", [1, 4, 5, 6, 33, 384])
def test_packed_tiles_come_back(rows):
    trits = np.random.default_rng(rows).integers(-1, 2, (rows, 16)).astype(I8)
    packed = oracle.pack_tile(trits)
    out = run("decode", packed, Out((5 * len(packed), 16), I8))
    equal(out[:rows], trits)
    assert not out[rows:].any()


def test_refuses_wrong_sizes():
    packed = np.zeros((2, 16), U8)
    refused("decode", packed, Out((159,), I8))
    refused("decode", packed, Out((161,), I8))
    refused("decode", packed, Out((80,), I8))
    refused("decode", np.zeros(15, U8), Out((75,), I8))
