# SPDX-License-Identifier: MIT
"""SPEC 2: trits packed into bytes."""

import numpy as np


def pack_tile_rows(trits: np.ndarray) -> np.ndarray:
    """Pack rows of 16 trits (int8 [..., rows, 16]) into uint8 [..., ceil(rows / 5), 16] (SPEC 2.2-2.5)."""
    *outer, rows, lanes = trits.shape
    vectors = -(-rows // 5)
    digits = np.ones((*outer, vectors * 5, lanes), np.int64)
    digits[..., :rows, :] = trits.astype(np.int64) + 1
    digits = digits.reshape(*outer, vectors, 5, lanes)
    value = np.tensordot(digits, np.array([81, 27, 9, 3, 1]), axes=([-2], [0]))
    return ((256 * value + 242) // 243).astype(np.uint8)


def pack_matrix(trits: np.ndarray) -> np.ndarray:
    """Pack a weight [N, K] of trits into uint8 [ceil(N / 16), ceil(K / 5), 16] (SPEC 2.6)."""
    outputs, inputs = trits.shape
    tiles = -(-outputs // 16)
    padded = np.zeros((tiles * 16, inputs), np.int8)
    padded[:outputs] = trits
    return pack_tile_rows(padded.reshape(tiles, 16, inputs).transpose(0, 2, 1))


def pack_vector(trits: np.ndarray) -> np.ndarray:
    """Pack a gamma or beta [D] of trits into uint8 [ceil(ceil(D / 16) / 5), 16] (SPEC 2.7)."""
    rows = -(-len(trits) // 16)
    padded = np.zeros(rows * 16, np.int8)
    padded[: len(trits)] = trits
    return pack_tile_rows(padded.reshape(rows, 16))
