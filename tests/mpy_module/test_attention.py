# SPDX-License-Identifier: MIT
"""attention and its parts (SPEC 7)."""

import numpy as np
import pytest
import ternary

from tests import oracle
from tests.mpy_module.kernel import I8, Out, Scratch, Updated, equal, on_every_target, refused, run

pytestmark = on_every_target

EXPONENTIAL = np.array([round(127 * 2 ** (-i / 16)) for i in range(256)], I8)
FLAT = np.full(256, 127, I8)
ONE_HOT = np.array([127] + [0] * 255, I8)


def random_qkv(rng, tokens, heads, width, largest=None):
    """int8 [T, 3 D] with q within 7.7, k and v over the whole range."""
    qkv = rng.integers(-128, 128, (tokens, 3, heads * width))
    largest = min(127, 4095 // width) if largest is None else largest
    qkv[:, 0] = rng.integers(-largest, largest or 1, (tokens, heads * width))
    return qkv.reshape(tokens, -1).astype(I8)


def scratch_of(tokens, head_width):
    """Scratch of exact size."""
    return Scratch(ternary.attention_scratch(tokens, head_width))


def fused(qkv, heads, score_shift, table, value_gain):
    """ternary.attention -> int8 [T, D]."""
    tokens = len(qkv)
    scratch = scratch_of(tokens, qkv.shape[1] // 3 // heads)
    out = Out((tokens, qkv.shape[1] // 3), I8)
    return run("attention", qkv, tokens, heads, score_shift, table, value_gain, out, 0, scratch)


def parts(qkv, heads, score_shift, table, value_gain):
    """The same with scores, softmax and values, each checked; every head writes only its own columns."""
    tokens, width = len(qkv), qkv.shape[1] // 3 // heads
    q, k, v = oracle.split_heads(qkv, heads)
    out = np.full((tokens, heads * width), 77, I8)
    for head in range(heads):
        square = (tokens, tokens)
        scores = run(
            "attention_scores", qkv, tokens, heads, head, score_shift, Out(square, I8), scratch_of(tokens, width)
        )
        equal(scores, oracle.attention_scores(q[head], k[head], score_shift))
        weights = run("softmax", scores, tokens, table, Out(square, I8))
        equal(weights, oracle.softmax(scores, table))
        columns = slice(head * width, (head + 1) * width)
        expected = out.copy()
        expected[:, columns] = oracle.attention_values(weights, v[head], value_gain)
        out = run(
            "attention_values", weights, qkv, tokens, heads, head, value_gain, Updated(out), scratch_of(tokens, width)
        )
        equal(out, expected)
    return out


def check(qkv, heads, score_shift, table, value_gain):
    """Kernel, kernel parts and oracle agree."""
    expected = oracle.attention(qkv, heads, score_shift, table, value_gain)
    equal(fused(qkv, heads, score_shift, table, value_gain), expected)
    equal(parts(qkv, heads, score_shift, table, value_gain), expected)


@pytest.mark.parametrize("width", [1, 15, 16, 33, 64])
@pytest.mark.parametrize("tokens", [1, 2, 17, 50])
def test_random(tokens, width):
    rng = np.random.default_rng(tokens * 100 + width)
    for heads, score_shift, value_gain in ((1, 3, -1), (2, 5, 0), (3, 8, 2), (2, 11, 6)):
        check(random_qkv(rng, tokens, heads, width), heads, score_shift, EXPONENTIAL, value_gain)


@pytest.mark.parametrize(("tokens", "width"), [(197, 64), (577, 16)])
def test_many_tokens(tokens, width):
    check(random_qkv(np.random.default_rng(tokens), tokens, 1, width), 1, 9, EXPONENTIAL, 3)


@pytest.mark.parametrize("tokens", [1, 10, 11, 33, 97, 197, 530])
@pytest.mark.parametrize("heads", [1, 3])
def test_less_scratch_and_queries_in_the_output(tokens, heads):
    """Fewer rows at a time; q in columns of wider rows, which the heads replace."""
    width = 16 if heads == 1 else 5
    qkv = random_qkv(np.random.default_rng(tokens), tokens, heads, width)
    expected, features = oracle.attention(qkv, heads, 6, EXPONENTIAL, 1), heads * width
    least, most = ternary.attention_scratch_least(tokens, width), ternary.attention_scratch(tokens, width)
    assert least < most if tokens < 530 else least <= most
    kv, room = qkv[:, features:].copy(), np.full((tokens, features + 9), 77, I8)
    room[:, 4 : 4 + features] = qkv[:, :features]
    for size in sorted({least, least + 1, (least + most) // 2, most}):
        out = run("attention", qkv, tokens, heads, 6, EXPONENTIAL, 1, Out((tokens, features), I8), 0, Scratch(size))
        equal(out, expected)
        out = run("attention_columns", kv, tokens, heads, 6, EXPONENTIAL, 1, Updated(room), 4, Scratch(size))
        equal(out[:, 4 : 4 + features], expected)
        assert (out[:, :4] == 77).all() and (out[:, 4 + features :] == 77).all()


@pytest.mark.parametrize("tokens", [1, 32, 33, 64, 65, 129, 258, 577, 1024, 1033])
@pytest.mark.parametrize("v", [-128, 127])
def test_flat_rows(tokens, v):
    """Equal scores: the largest W0 for each T, so that h goes from 0 to 6; sums of 7.4 at their bound."""
    qkv = np.zeros((tokens, 6), I8)
    qkv[:, 4], qkv[:, 5] = v, 127 - np.arange(tokens) % 256
    check(qkv, 1, 0, FLAT, -1)
    equal(fused(qkv, 1, 0, FLAT, 6), oracle.attention(qkv, 1, 0, FLAT, 6))


@pytest.mark.parametrize("table", [FLAT, EXPONENTIAL, ONE_HOT])
@pytest.mark.parametrize("value_gain", range(-1, 7))
def test_every_value_gain(table, value_gain):
    rng = np.random.default_rng(value_gain + 1)
    check(random_qkv(rng, 40, 2, 5), 2, 4, table, value_gain)


@pytest.mark.parametrize("score_shift", range(16))
def test_every_score_shift(score_shift):
    check(random_qkv(np.random.default_rng(score_shift), 9, 1, 32), 1, score_shift, EXPONENTIAL, 1)


@pytest.mark.parametrize("width", [1, 16, 32, 64, 1024])
def test_largest_scores(width):
    """7.7 at its bound: sums of +-524160 or nearly so."""
    largest = min(127, 4095 // width)
    qkv = np.zeros((4, 3, width), I8)
    qkv[:, 0] = np.array([-largest, largest - 1, -largest, 0])[:, None]
    qkv[:, 1] = np.array([-128, 127, -128, 1])[:, None]
    qkv[:, 2] = np.array([-128, 127, 5, -5])[:, None]
    for score_shift in (0, 6, 12, 15):
        check(qkv.reshape(4, -1), 1, score_shift, EXPONENTIAL, 0)


def test_table_ends():
    """top - c_ij reaches 0 and 255."""
    table = EXPONENTIAL.copy()
    table[255] = 126
    check(np.array([[127, -128, 1], [127, 127, 2], [-1, 0, 3]], I8), 1, 0, table, 1)


def test_refuses_more_tokens():
    """T = 2049 with buffers of the right size."""
    qkv = np.zeros((2049, 3), I8)
    refused("attention", qkv, 2049, 1, 0, EXPONENTIAL, 0, Out((2049, 1), I8), 0, Scratch(1 << 18))
    refused("softmax", np.zeros((1, 2049), I8), 2049, EXPONENTIAL, Out((1, 2049), I8))


def test_most_tokens():
    """T = 2048, d = 1."""
    qkv = random_qkv(np.random.default_rng(1), 2048, 1, 1, largest=2)
    equal(fused(qkv, 1, 1, EXPONENTIAL, 2), oracle.attention(qkv, 1, 1, EXPONENTIAL, 2))


def test_softmax_of_some_rows_in_place():
    scores = np.random.default_rng(1).integers(-128, 128, (7, 33)).astype(I8)
    expected = oracle.softmax(scores, EXPONENTIAL)
    equal(run("softmax", scores, 33, EXPONENTIAL, Out((7, 33), I8)), expected)
    both = Updated(scores)
    ternary.softmax(both.array, 33, EXPONENTIAL, both.array)
    both.check()
    equal(both.array, expected)


def test_refuses_a_wrong_table():
    qkv = random_qkv(np.random.default_rng(1), 3, 1, 4)
    scratch = scratch_of(3, 4)
    for position, value in ((0, 126), (0, 0), (0, -1), (1, -1), (255, -128)):
        table = EXPONENTIAL.copy()
        table[position] = value
        refused("attention", qkv, 3, 1, 0, table, 0, Out((3, 4), I8), 0, scratch, match="table")
        refused("softmax", np.zeros((3, 3), I8), 3, table, Out((3, 3), I8), match="table")
    refused("attention", qkv, 3, 1, 0, EXPONENTIAL[:255], 0, Out((3, 4), I8), 0, scratch)


def test_refuses_numbers_out_of_range():
    qkv = random_qkv(np.random.default_rng(1), 3, 1, 4)
    scratch = scratch_of(3, 4)
    good = [3, 1, 0, EXPONENTIAL, 0]
    wrong = [(0, v) for v in (0, -3, 5, 2049, 2**31 - 1)] + [(1, v) for v in (0, -1, 3, 5)]
    wrong += [(2, v) for v in (-1, 16)] + [(4, v) for v in (-2, 7)]
    for position, value in wrong:
        arguments = [*good[:position], value, *good[position + 1 :]]
        refused("attention", qkv, *arguments, Out((3, 4), I8), 0, scratch)
    for head in (-1, 1, 2**31 - 1):
        refused("attention_scores", qkv, 3, 1, head, 0, Out((3, 3), I8), scratch)
        refused("attention_values", np.full((3, 3), 64, I8), qkv, 3, 1, head, 0, Out((3, 4), I8), scratch)


def test_refuses_wrong_sizes():
    qkv = random_qkv(np.random.default_rng(1), 3, 1, 4)
    size = ternary.attention_scratch(3, 4)
    refused("attention", qkv, 3, 1, 0, EXPONENTIAL, 0, Out((14,), I8), 0, Scratch(size))
    refused("attention", qkv[:, :11].copy(), 3, 1, 0, EXPONENTIAL, 0, Out((3, 4), I8), 0, Scratch(size))
    refused("attention", np.zeros((1, 3 * 1025), I8), 1, 1, 0, EXPONENTIAL, 0, Out((1, 1025), I8), 0, Scratch(1 << 18))
    least = ternary.attention_scratch_least(3, 4)
    refused("attention", qkv, 3, 1, 0, EXPONENTIAL, 0, Out((3, 4), I8), 0, Scratch(least - 1))
    kv = qkv[:, 4:].copy()
    refused("attention_columns", kv, 3, 1, 0, EXPONENTIAL, 0, Updated(qkv), 9, Scratch(size), match="column")
    refused("attention_columns", kv, 3, 1, 0, EXPONENTIAL, 0, Updated(qkv), 0, Scratch(least - 1), match="scratch")
    refused("attention_columns", kv[:, :7].copy(), 3, 1, 0, EXPONENTIAL, 0, Updated(qkv), 0, Scratch(size), match="kv")
    refused("attention_columns", kv, 3, 1, 0, EXPONENTIAL, 0, Updated(np.zeros(14, I8)), 0, Scratch(size), match="out")
    for tokens in (0, -1, 2049):
        for measure in (ternary.attention_scratch, ternary.attention_scratch_least):
            with pytest.raises(ValueError, match="tokens"):
                measure(tokens, 4)
    refused("attention_scores", qkv, 3, 1, 0, 0, Out((8,), I8), Scratch(size))
    refused("softmax", np.zeros(8, I8), 3, EXPONENTIAL, Out((8,), I8))
    refused("attention_values", np.full(8, 64, I8), qkv, 3, 1, 0, 0, Out((3, 4), I8), Scratch(size))


@pytest.mark.parametrize("total", [64, 65, 127, 128, 129, 1023, 2047, 2048, 4094, 4095])
@pytest.mark.parametrize("v", [-128, 127])
def test_values_under_weights_of_every_sum(total, v):
    """Only SPEC 7.4 and 7.5, at both ends of B; the second column is noise."""
    rng = np.random.default_rng(total)
    weights = np.zeros((70, 70), I8)
    for row in weights:
        for _ in range(total // 64):
            row[rng.choice(np.flatnonzero(row <= 63))] += 64
        row[rng.choice(np.flatnonzero(row <= 63))] += total % 64
    assert (weights.sum(axis=1, dtype=int) == total).all()
    qkv = rng.integers(-128, 128, (70, 6)).astype(I8)
    qkv[:, 4] = v
    for value_gain in range(-1, 7):
        out = run("attention_values", weights, qkv, 70, 1, 0, value_gain, Out((70, 2), I8), scratch_of(70, 2))
        equal(out, oracle.attention_values(weights, qkv[:, 4:], value_gain))


@pytest.mark.parametrize("value", [-128, -1, 0, 1, 127])
def test_values_survive_weights_that_no_softmax_makes(value):
    """Such weights violate 7.4; whatever the result, nothing around it changes."""
    qkv = random_qkv(np.random.default_rng(1), 40, 1, 4)
    try:
        run("attention_values", np.full((40, 40), value, I8), qkv, 40, 1, 0, 6, Out((40, 4), I8), scratch_of(40, 4))
    except ValueError:
        refused("attention_values", np.full((40, 40), value, I8), qkv, 40, 1, 0, 6, Out((40, 4), I8), scratch_of(40, 4))


@pytest.mark.host_only("memory of the host")
def test_refused_weights_leave_the_scratch_as_it_was():
    """A row that is refused comes behind rows that are not."""
    weights = np.full((5, 5), 7, I8)
    weights[3] = 0
    qkv, out, scratch = np.ones((5, 6), I8), np.full((5, 2), 9, I8), np.full(ternary.attention_scratch(5, 2), 77, I8)
    buffers = []
    for array in (weights, qkv, out, scratch):
        buffers.append(ternary.arena(array.size))
        buffers[-1].cast("B")[:] = array.tobytes()
    weights, qkv, out, scratch = buffers
    with pytest.raises(ValueError, match="weights sum to 0 in row 3"):
        ternary.attention_values(weights, qkv, 5, 1, 0, 0, out, scratch)
    assert set(scratch) == {77} and set(out) == {9}
