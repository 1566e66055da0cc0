# SPDX-License-Identifier: MIT
"""The worked example of SPEC 11: oracle, kernels and the text of SPEC.md give the same bytes."""

import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import ternary

from tests import oracle

SPEC = (Path(__file__).resolve().parent.parent / "SPEC.md").read_text()
I8, U8, I16, I32 = np.int8, np.uint8, np.int16, np.int32

DIGITS = [2, 0, 1, 1, 2]
WEIGHT = np.array([[1, -1, 0, 0, 1, -1], [0, 1, 1, -1, 0, 1]])
PACKED = "ba a3" + " 80" * 14 + " 2b d5" + " 80" * 14

X = np.array([[100, -120, 30, 40, 127, -128]], I8)
BIAS, MULTIPLIER, SHIFT = np.array([2, -3], I16), np.array([100, 127], I8), np.array([2], U8)
Y = "5c be"

ROW = np.array([[-1, 1, 3, 5]], I16)
GAMMA, BETA, GAIN = np.array([1, -1, 0, 1]), np.array([0, 1, -1, 1]), (20000, 0, 1000)
PACKED_GAMMA, PACKED_BETA = "d5 2b 80 d5" + " 80" * 12, "80 d5 2b d5" + " 80" * 12
NORMED = "a0 24 fc 64"

QKV = np.array([[4, 2, 5, -1, 100, -100], [-3, 1, 0, 2, 20, 50], [0, 0, -2, -3, -30, 7]], I8)
TABLE = np.array([127 >> (i // 2) for i in range(256)], I8)
ATTENDED = "45 cf 06 0e 1d f1"

LINE = np.array([10, 20, 200], U8)
RESIZED = "0e 85"

PICTURE = np.array([[1, 2, 3], [4, 5, 6]], I8)
CUT = "00 00 00 00 01 02 00 04 05", "00 00 00 02 03 00 05 06 00"

HEADER = (
    '{"__metadata__":{"format":"ftervit","version":"2","crc32":"75655b20","packing":"base3-5x16",'
    '"shapes":"{\\"fc.weight\\":[2,6],\\"fc.bias\\":[2]}"},'
    '"fc.weight":{"dtype":"U8","shape":[1,2,16],"data_offsets":[0,32]},'
    '"fc.bias":{"dtype":"I16","shape":[8],"data_offsets":[32,48]}}'
)


def data(text):
    """Hex digits -> uint8 array."""
    return np.frombuffer(bytes.fromhex(text), U8)


def hexed(values):
    """The bytes of an array as they lie in memory."""
    return np.ascontiguousarray(values).tobytes().hex(" ")


def test_text():
    """SPEC.md shows the inputs and outputs of every step below."""
    arrays = X, BIAS, MULTIPLIER, SHIFT, ROW, *QKV, LINE, *PICTURE
    texts = ["ba", Y, NORMED, ATTENDED, RESIZED, *CUT, *map(hexed, arrays)]
    texts += ["ba a3 80 80", "2b d5 80 80", "d5 2b 80 d5 80", "80 d5 2b d5 80"]
    missing = [text for text in texts if not re.search(f"(`|  ){text}", SPEC)]
    assert not missing
    assert HEADER in re.sub("\n *", "", SPEC)
    assert f"`{container()[:16].hex(' ')}" in SPEC


def test_byte():
    assert oracle.pack_byte(DIGITS) == 0xBA and oracle.unpack_byte(0xBA) == DIGITS
    out = np.zeros((5, 16), I8)
    ternary.decode(np.full(16, 0xBA, U8), out)
    assert np.array_equal(out, np.tile(np.array(DIGITS) - 1, (16, 1)).T)


def test_weight():
    assert hexed(oracle.pack_weight(WEIGHT)) == PACKED
    out = np.zeros((10, 16), I8)
    ternary.decode(data(PACKED), out)
    assert np.array_equal(out[:6, :2].T, WEIGHT) and not out[6:].any() and not out[:, 2:].any()


def test_linear():
    assert hexed(oracle.linear(X, WEIGHT, BIAS, MULTIPLIER, SHIFT)) == Y
    assert oracle.accumulate(X, WEIGHT, BIAS).tolist() == [[477, -261]]
    out, scratch = np.zeros((1, 2), I8), ternary.arena(ternary.linear_scratch(6))
    ternary.linear(X, data(PACKED), BIAS, MULTIPLIER, SHIFT, out, scratch)
    assert hexed(out) == Y


def test_layernorm():
    assert hexed(oracle.pack_channels(GAMMA)) == PACKED_GAMMA and hexed(oracle.pack_channels(BETA)) == PACKED_BETA
    assert hexed(oracle.layernorm(ROW, GAMMA, BETA, *GAIN)) == NORMED
    out, scratch = np.zeros((1, 4), I8), ternary.arena(ternary.layernorm_scratch(4))
    ternary.layernorm(ROW, data(PACKED_GAMMA), data(PACKED_BETA), *GAIN, 4, out, scratch)
    assert hexed(out) == NORMED


def test_attention():
    q, k, v = (part[0] for part in oracle.split_heads(QKV, 1))
    scores = oracle.attention_scores(q, k, 2)
    assert scores.tolist() == [[4, 1, -4], [-4, 0, 0], [0, 0, 0]]
    weights = oracle.softmax(scores, TABLE)
    assert weights[0].tolist() == [127, 63, 7]
    assert (weights[0].astype(int) @ v).tolist() == [13750, -9501]
    assert hexed(oracle.attention(QKV, 1, 2, TABLE, 0)) == ATTENDED
    out, scratch = np.zeros((3, 2), I8), ternary.arena(ternary.attention_scratch(3, 2))
    ternary.attention(QKV, 3, 1, 2, TABLE, 0, out, 0, scratch)
    assert hexed(out) == ATTENDED


def test_resize():
    """A square of three equal rows: the first step keeps the columns, the second shows the example."""
    square = np.tile(LINE, (3, 1))
    assert hexed(oracle.resize(square[:, :, None], 2)) == f"{RESIZED} {RESIZED}"
    out, scratch = np.zeros((2, 2), U8), ternary.arena(ternary.resize_scratch(3, 1))
    ternary.resize(square, 3, 1, 0, 0, 3, out, 2, scratch)
    assert hexed(out) == f"{RESIZED} {RESIZED}"


def container():
    """The bytes of SPEC 11.7."""
    header = HEADER.encode("ascii")
    header += b" " * (-(8 + len(header)) % 16)
    bias = BIAS.tobytes().ljust(16, b"\0")
    return len(header).to_bytes(8, "little") + header + data(PACKED).tobytes() + bias


def test_container():
    file = container()
    crc = json.loads(HEADER)["__metadata__"]["crc32"]
    assert f"{zlib.crc32(file.replace(crc.encode(), b'0' * 8)):08x}" == crc
    assert (len(file) - 48) % 16 == 0


def test_safetensors_reads_the_container(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "toy.safetensors"
    path.write_bytes(container())
    tensors, metadata = oracle.load(path)
    assert json.loads(metadata["shapes"])["fc.weight"] == [2, 6]
    assert hexed(tensors["fc.weight"]) == PACKED and tensors["fc.bias"].tolist() == [2, -3] + [0] * 6


def test_patches():
    assert [hexed(row) for row in oracle.patches(PICTURE[:, :, None], 3, 2, 1)[0]] == list(CUT)
    out = np.zeros((2, 9), I8)
    ternary.patches(PICTURE, 3, 1, 3, 2, 1, 0, out)
    assert [hexed(row) for row in out] == list(CUT)
