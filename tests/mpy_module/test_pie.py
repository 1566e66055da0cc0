# SPDX-License-Identifier: MIT
"""The PIE backend on the simulated chip: sizes, addresses and values that select each path of its kernels, with buffers
in every memory. Expected values come from the oracle."""

from itertools import product

import numpy as np
import pytest
import ternary

from tests import oracle
from tests.mpy_module.kernel import GUARD, I8, I16, I32, U8, equal
from tests.mpy_module.test_attention import EXPONENTIAL, FLAT, ONE_HOT, random_qkv
from tests.mpy_module.test_linear import largest_bias, spread

pytestmark = [pytest.mark.lx7, pytest.mark.usefixtures("pie")]
# Offsets from a multiple of 16: kernels read rows in place or copy them first.
OFFSETS = (0, 1, 4, 8, 15)
INPUTS = (1, 15, 16, 17, 32, 33, 48, 64, 4032)


@pytest.fixture
def pie(chip, monkeypatch):
    """Operations run on the simulated chip."""
    monkeypatch.setattr(ternary, "runner", chip)
    return chip


class Placed:
    """An array in sram (memory of arena), psram or flash (read-only), `offset` bytes behind a multiple of 16, with
    noise around it; without values, full of noise."""

    def __init__(self, shape, dtype, where="sram", offset=0, values=None):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        total = size + 2 * GUARD + 32
        self.memory = np.asarray(ternary.arena(total, "B")) if where == "sram" else np.zeros(total, U8)
        self.memory[:] = np.random.default_rng(total).integers(0, 256, total)
        self.start = -self.memory.ctypes.data % 16 + GUARD + offset
        self.end = self.start + size
        self.array = self.memory[self.start : self.end].view(dtype).reshape(shape)
        if values is not None:
            self.array[...] = values
        self.before = self.memory.copy()
        if where == "flash":
            self.memory.flags.writeable = False
        # A slice of the whole, so that the chip also maps the noise next to it.
        view = memoryview(self.memory)[self.start : self.end]
        self.view = view.cast(np.dtype(dtype).char)

    def check(self):
        """Nothing around the array has changed."""
        assert np.array_equal(self.memory[: self.start], self.before[: self.start]), "written before its start"
        assert np.array_equal(self.memory[self.end :], self.before[self.end :]), "written beyond its end"


def put(values, where="sram", offset=0):
    """An array with these values in the given memory."""
    values = np.asarray(values)
    return Placed(values.shape, values.dtype, where, offset, values)


def scratch(size, offset=0):
    """Scratch of exactly this size."""
    return Placed((size,), I8, "sram", offset)


def run(name, *arguments, out):
    """Runs an operation and checks its inputs and the noise around all buffers; returns the content of `out`."""
    getattr(ternary, name)(*[a.view if isinstance(a, Placed) else a for a in arguments])
    for argument in arguments:
        if isinstance(argument, Placed):
            argument.check()
    return out.array.copy()


def layer(rng, outputs, inputs, rows):
    """x, trits, bias, multiplier, shift over their whole ranges, with rows and trits at the rails among them."""
    x = rng.integers(-128, 128, (rows, inputs))
    x[::3] = rng.choice([-128, 127], (len(x[::3]), inputs))
    trits = rng.integers(-1, 2, (outputs, inputs))
    trits[::4] = 1
    shift = rng.integers(0, 16, -(-outputs // 16)).astype(U8)
    room = largest_bias(inputs, spread(shift, outputs))
    bias = np.where(np.arange(outputs) % 3, rng.integers(-room, room + 1), rng.choice([-1, 1], outputs) * room)
    return x.astype(I8), trits, bias.astype(I16), rng.choice([0, 1, 64, 127], outputs).astype(I8), shift


def linear(numbers, wheres=("sram", "flash", "sram"), offsets=(0, 0, 0, 0, 0)):
    """Checks linear; wheres: of x, all tensors, out; offsets: of x, weight, multiplier, out, scratch."""
    x, trits, bias, multiplier, shift = numbers
    out = Placed((len(x), len(trits)), I8, wheres[2], offsets[3])
    tensors = put(oracle.pack_weight(trits), wheres[1], offsets[1]), put(bias, wheres[1], offsets[1] & 14)
    tensors += put(multiplier, wheres[1], offsets[2]), put(shift, wheres[1], offsets[1])
    for measure in (ternary.linear_scratch, ternary.linear_scratch_least):
        work = scratch(measure(x.shape[1]), offsets[4])
        equal(run("linear", put(x, wheres[0], offsets[0]), *tensors, out, work, out=out), oracle.linear(*numbers))


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("rows", [1, 2, 33])
def test_linear(inputs, rows):
    """Odd and even numbers of groups of 16 inputs, a remainder, one group; outputs with and without a remainder."""
    rng = np.random.default_rng(inputs * 100 + rows)
    for outputs in (16, 32, 15, 17) if inputs < 4032 or rows < 33 else (17,):
        linear(layer(rng, outputs, inputs, rows))


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("offset", OFFSETS)
def test_linear_at_odd_addresses(offset, position):
    """x, weight, multiplier, out or scratch."""
    offsets = [0] * 5
    offsets[position] = offset
    for inputs, outputs in ((32, 32), (48, 16), (20, 32)):
        linear(layer(np.random.default_rng(offset), outputs, inputs, 5), offsets=offsets)


@pytest.mark.parametrize("where", list(product(("sram", "psram", "flash"), ("sram", "flash"), ("sram", "psram"))))
def test_linear_in_every_memory(where):
    linear(layer(np.random.default_rng(1), 40, 48, 3), where)
    linear(layer(np.random.default_rng(2), 16, 17, 3), where, (3, 5, 7, 9, 0))


def test_linear_of_more_rows_than_are_copied_at_a_time():
    """Copies of 4 KB: 128 rows of 17 inputs, one of 4031."""
    rng = np.random.default_rng(1)
    for rows, inputs in ((127, 17), (128, 17), (129, 17), (3, 4031)):
        linear(layer(rng, 17, inputs, rows))


@pytest.mark.parametrize("column", [0, 1, 16, 24])
@pytest.mark.parametrize(("inputs", "outputs", "width"), [(32, 16, 48), (32, 16, 47), (33, 16, 64), (16, 20, 64)])
def test_linear_columns_leave_their_neighbours(inputs, outputs, width, column):
    numbers = x, trits, bias, multiplier, shift = layer(np.random.default_rng(column), outputs, inputs, 5)
    for offset in (0, 3):
        out = Placed((5, width), I8, "sram", offset)
        expected = out.array.copy()
        expected[:, column : column + outputs] = oracle.linear(*numbers)
        tensors = put(oracle.pack_weight(trits), "flash"), *map(put, (bias, multiplier, shift))
        work = scratch(ternary.linear_scratch(inputs))
        equal(run("linear_columns", put(x), 5, *tensors, out, column, work, out=out), expected)


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("offset", [0, 7])
def test_logits(inputs, offset):
    rng = np.random.default_rng(inputs)
    room = oracle.ACCUMULATOR_MAX - 128 * inputs
    for outputs, rows in ((16, 1), (17, 3)):
        x, trits, *_ = layer(rng, outputs, inputs, rows)
        bias = rng.choice([-room, 0, room], outputs).astype(I32)
        multiplier = rng.choice([0, 1, 4095], outputs).astype(I16)
        out = Placed((rows, outputs), I32)
        tensors = put(oracle.pack_weight(trits), "flash", offset), put(bias), put(multiplier)
        work = scratch(ternary.linear_scratch(inputs), offset)
        actual = run("linear_logits", put(x, "psram", offset), *tensors, out, work, out=out)
        equal(actual, oracle.linear_logits(x, trits, bias, multiplier))


@pytest.mark.parametrize("vectors", [1, 2, 5, 33])
@pytest.mark.parametrize("offsets", [(0, 0), (1, 0), (0, 1), (8, 8)])
def test_decode(vectors, offsets):
    """Every byte value, at every offset."""
    packed = np.resize(np.arange(256, dtype=U8)[::-1], (vectors, 16))
    for where in ("sram", "psram", "flash"):
        out = Placed((5 * vectors, 16), I8, "sram", offsets[1])
        actual = run("decode", put(packed, where, offsets[0]), out, out=out)
        equal(actual, oracle.unpack_tile(packed).astype(I8))


def attention(qkv, heads, score_shift, table, gain, where="sram", offsets=(0, 0, 0), column=0, width=None):
    """Checks attention to columns of wider rows; offsets: of qkv, table, out."""
    tokens, features = len(qkv), qkv.shape[1] // 3
    out = Placed((tokens, width or features), I8, "sram" if where == "flash" else where, offsets[2])
    expected = out.array.copy()
    expected[:, column : column + features] = oracle.attention(qkv, heads, score_shift, table, gain)
    buffers = put(qkv, where, offsets[0]), tokens, heads, score_shift, put(table, "flash", offsets[1]), gain
    for measure in (ternary.attention_scratch, ternary.attention_scratch_least):
        work = scratch(measure(tokens, features // heads))
        equal(run("attention", *buffers, out, column, work, out=out), expected)
    out.array[:, column : column + features] = qkv[:, :features]
    kv = put(qkv[:, features:].copy(), where, offsets[0])
    equal(run("attention_columns", kv, *buffers[1:], out, column, work, out=out), expected)


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 31, 32, 33, 65])
@pytest.mark.parametrize("head_width", [16, 32, 48, 1, 17, 33])
def test_attention(tokens, head_width):
    rng = np.random.default_rng(tokens * 100 + head_width)
    for heads, score_shift, gain, table in ((1, 4, 2, EXPONENTIAL), (2, 9, -1, FLAT), (3, 7, 6, ONE_HOT)):
        attention(random_qkv(rng, tokens, heads, head_width), heads, score_shift, table, gain)


@pytest.mark.parametrize(("heads", "head_width"), [(2, 8), (2, 24), (16, 1), (4, 20)])
def test_heads_that_end_within_a_vector_of_an_aligned_row(heads, head_width):
    attention(random_qkv(np.random.default_rng(heads), 33, heads, head_width), heads, 5, EXPONENTIAL, 2)


def test_attention_of_a_real_size():
    attention(random_qkv(np.random.default_rng(1), 197, 1, 64), 1, 8, EXPONENTIAL, 3)


@pytest.mark.parametrize("where", ["sram", "psram", "flash"])
@pytest.mark.parametrize("offset", OFFSETS)
def test_attention_at_odd_addresses_and_in_every_memory(where, offset):
    qkv = random_qkv(np.random.default_rng(offset), 35, 2, 16)
    for offsets in ((offset, 0, 0), (0, offset, 0), (0, 0, offset)):
        attention(qkv, 2, 5, EXPONENTIAL, 1, where, offsets)


@pytest.mark.parametrize("column", [0, 1, 16, 31])
@pytest.mark.parametrize("width", [64, 63])
def test_attention_leaves_the_columns_beside_it(column, width):
    for heads, head_width in ((2, 16), (1, 16), (2, 9)):
        qkv = random_qkv(np.random.default_rng(column), 18, heads, head_width)
        attention(qkv, heads, 5, EXPONENTIAL, 1, "sram", (0, 0, 0), column, width)


def exact_scores(qkv, score_shift):
    """SPEC 7.1 of one head for sums of any size."""
    q, k, _ = (part[0] for part in oracle.split_heads(qkv, 1))
    return oracle.sat8(q @ k.T >> score_shift).astype(I8)


@pytest.mark.parametrize("tokens", [1, 16, 33])
@pytest.mark.parametrize("head_width", [32, 48, 64, 1024])
@pytest.mark.parametrize("score_shift", [0, 6, 12, 15])
def test_scores_around_the_bound_of_20_bits(tokens, head_width, score_shift):
    """Rows of q whose sum of |x| is 4095 - 2 d to 4096 + d, and as large as it gets; k at the rails."""
    rng = np.random.default_rng(head_width)
    for total in (4095 - 2 * head_width, 4095 - head_width, 4095, 4096, 4096 + head_width, 128 * head_width):
        qkv = rng.choice([-128, 127], (tokens, 3, head_width))
        size = np.zeros(head_width, int)
        for k in range(head_width):
            size[k] = min(127 + (total == 128 * head_width), -(-(total - size.sum()) // (head_width - k)))
        for i, row in enumerate(qkv[:, 0]):
            row[:] = size * rng.choice([-1, 1], head_width if i % 3 == 2 else 1)
        qkv[:, 1][::2] = np.where(qkv[:, 0] < 0, -128, 127)[::2]
        qkv[:, 1][1::2] = np.where(qkv[:, 0] < 0, 127, -128)[1::2]
        qkv = np.clip(qkv, -128, 127).reshape(tokens, -1).astype(I8)
        out = Placed((tokens, tokens), I8)
        work = scratch(ternary.attention_scratch(tokens, head_width))
        actual = run("attention_scores", put(qkv), tokens, 1, 0, score_shift, out, work, out=out)
        equal(actual, exact_scores(qkv, score_shift))


@pytest.mark.parametrize("tokens", [15, 16, 17, 32, 33, 47])
@pytest.mark.parametrize("offset", [0, 1, 8])
def test_scores_and_values_of_a_head(tokens, offset):
    """Row by row: out and weights of T columns, aligned only where T is a multiple of 16."""
    rng = np.random.default_rng(tokens)
    qkv = random_qkv(rng, tokens, 2, 32)
    q, k, v = oracle.split_heads(qkv, 2)
    work = scratch(ternary.attention_scratch(tokens, 32), offset)
    scores = Placed((tokens, tokens), I8, "sram", offset)
    actual = run("attention_scores", put(qkv), tokens, 2, 1, 7, scores, work, out=scores)
    equal(actual, oracle.attention_scores(q[1], k[1], 7))
    weights = oracle.softmax(actual, EXPONENTIAL)
    out = Placed((tokens, 64), I8, "sram", offset)
    expected = out.array.copy()
    expected[:, 32:] = oracle.attention_values(weights, v[1], 2)
    actual = run(
        "attention_values", put(weights, "sram", offset), put(qkv, "psram"), tokens, 2, 1, 2, out, work, out=out
    )
    equal(actual, expected)


# Tables with ends that differ from all other entries.
FIRST = np.array([127] + [0] * 254 + [127], I8)
LAST = np.array([127] + [126] * 254 + [0], I8)
TABLES = {"exponential": EXPONENTIAL, "flat": FLAT, "one hot": ONE_HOT, "first and last": FIRST, "all but last": LAST}


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 32, 48, 197, 528, 1040])
@pytest.mark.parametrize("table", TABLES)
def test_softmax(tokens, table):
    """Rows with both ends of the table, and sums that are halved up to 6 times."""
    rng = np.random.default_rng(tokens)
    scores = rng.integers(-128, 128, (4, tokens)).astype(I8)
    scores[1], scores[2, 0], scores[2, -1] = -128, 127, -128
    scores[3] = rng.choice([-128, 127], tokens)
    expected = oracle.softmax(scores, TABLES[table])
    for where, offset in (("sram", 0), ("psram", 0), ("sram", 5)):
        out = Placed(scores.shape, I8, where, offset)
        tensor = put(TABLES[table], "flash", offset)
        equal(run("softmax", put(scores, where, offset), tokens, tensor, out, out=out), expected)
    both = put(scores)
    equal(run("softmax", both, tokens, put(TABLES[table]), both, out=both), expected)


@pytest.mark.parametrize("width", [1, 7, 8, 15, 16, 17, 48, 80, 100, 496, 504, 512, 520, 1008, 4096])
def test_layernorm(width):
    """Rows of rails, whose squares fill 40 bits at 504 values, and of noise; x and out at various offsets."""
    rng = np.random.default_rng(width)
    x = rng.integers(-32768, 32768, (7, width)).astype(I16)
    x[1], x[2] = -32768, 32767
    x[3] = rng.choice([-32768, 32767], width)
    x[4] = np.where(np.arange(width) == 0, 32767, -32768)
    x[5] = rng.integers(-3, 4, width)
    trits = rng.integers(-1, 2, (2, width))
    for gain, gain_shift, beta in ((2**15 - 1, 0, 32639), (2**14, 5, 0), (20000, 15, 1000)):
        expected = oracle.layernorm(x, *trits, gain, gain_shift, beta)
        for where, offset in (("sram", 0), ("psram", 2), ("flash", 8)):
            out = Placed(x.shape, I8, "sram", offset)
            tensors = [put(oracle.pack_channels(half), "flash", offset) for half in trits]
            work = scratch(ternary.layernorm_scratch(width), offset)
            numbers = gain, gain_shift, beta, width
            equal(run("layernorm", put(x, where, offset), *tensors, *numbers, out, work, out=out), expected)


@pytest.mark.parametrize("count", [1, 16, 255, 256, 257, 272, 1000])
def test_lookup(count):
    rng = np.random.default_rng(count)
    x = np.resize(rng.permutation(256).astype(U8).view(I8), count)
    table = rng.integers(-128, 128, 256).astype(I8)
    expected = oracle.lookup(x, table)
    for where, offsets in product(("sram", "psram"), ((0, 0, 0), (1, 0, 0), (0, 3, 0), (0, 0, 15), (5, 5, 5))):
        out = Placed((count,), I8, where, offsets[2])
        tensor = put(table, "flash", offsets[1])
        equal(run("lookup", put(x, where, offsets[0]), tensor, out, out=out), expected)
    both = put(x)
    equal(run("lookup", both, put(table), both, out=both), expected)


@pytest.mark.parametrize("shift", range(9))
def test_residual(shift):
    """Every y with residuals at the rails; y and residual at various offsets."""
    y = np.tile(np.arange(-128, 128), 7).astype(I8)
    rails = np.repeat(np.array([-32768, -32767, -1, 0, 1, 32766, 32767], I16), 256)
    for count, offsets in product((1, 15, 16, 17, 33, 1792), ((0, 0), (2, 0), (0, 1), (8, 8))):
        for where in ("sram", "psram"):
            part, residual = put(y[-count:], where, offsets[1]), put(rails[-count:], where, offsets[0])
            actual = run("residual_add", residual, part, shift, out=residual)
            equal(actual, oracle.residual_add(rails[-count:], y[-count:], shift))
            start = Placed((count,), I16, where, offsets[0])
            equal(run("residual_start", start, part, shift, out=start), oracle.residual_start(y[-count:], shift))


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("offset", [0, 5])
def test_patches(channels, offset):
    """Lines of a patch that are copied as vectors, and others."""
    picture = np.random.default_rng(channels).integers(-128, 128, (12, 16, channels)).astype(I8)
    for window in ((4, 4, 0), (3, 2, 1), (2, 1, 0)):
        expected = oracle.patches(picture, *window)
        out = Placed(expected.shape, I8, "sram", offset)
        equal(run("patches", put(picture, "psram", offset), 16, channels, *window, 0, out, out=out), expected)


def test_the_backend_in_use_is_pie(chip):
    """Needed because all tests above would also pass on the reference backend."""
    assert chip.backends() == ["pie", "reference"]
    x, table, counts = bytes(4096), bytes(range(256)), []
    for backend in (1, 0):
        chip.use_backend(backend)
        before = chip.machine.totals.instructions
        ternary.lookup(x, table, bytearray(4096))
        counts.append(chip.machine.totals.instructions - before)
    assert counts[1] * 3 < counts[0]
