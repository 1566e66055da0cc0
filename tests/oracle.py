# SPDX-License-Identifier: MIT
"""SPEC.md sections 2 to 9 and 12, slowly and obviously: int64 and Python integers, no float, no code of the project.

Written from SPEC.md alone, so that the kernels and it can only agree by both following the rules. Every bound
that SPEC claims is asserted where it is claimed.
"""

import json
from math import isqrt

import numpy as np

LANES = 16
ACCUMULATOR_MAX = 2**19 - 1  # 4.3: 20-bit accumulators


def integers(values):
    """An int64 copy of an integer array; floats are refused."""
    values = np.asarray(values)
    assert values.dtype.kind in "iu", values.dtype
    return values.astype(np.int64)


def narrow(values, dtype):
    """`values` as dtype, which must hold every one of them."""
    limits = np.iinfo(dtype)
    assert np.all((values >= limits.min) & (values <= limits.max)), (dtype, values)
    return np.asarray(values).astype(dtype)


def fits(values, bits):
    """Asserts that signed integers of that many bits hold all values; returns the values."""
    assert np.all((values >= -(2 ** (bits - 1))) & (values < 2 ** (bits - 1))), f"a value needs over {bits} bits"
    return values


def sat8(values):
    """SPEC 1.2."""
    return np.clip(values, -128, 127)


def sat16(values):
    """SPEC 1.2."""
    return np.clip(values, -32768, 32767)


def ceil_div(a, b):
    """a / b rounded up."""
    return -(-a // b)


# 2. Trits and their packing


def pack_byte(digits):
    """SPEC 2.2: five digits (0..2) -> byte."""
    v = 0
    for digit in digits:
        assert 0 <= digit <= 2
        v = 3 * v + int(digit)
    assert 0 <= v <= 242
    return (256 * v + 242) // 243


def unpack_byte(byte):
    """SPEC 2.3: byte -> five digits (0..2)."""
    return [(((byte * 3**i) % 256) * 3) >> 8 for i in range(5)]


TRITS_OF_BYTE = np.array([unpack_byte(byte) for byte in range(256)], np.int64) - 1  # [256, 5]


def pack_tile(trits):
    """SPEC 2.4, 2.5: trits [R, 16] -> uint8 [ceil(R / 5), 16]."""
    rows = len(trits)
    padded = np.zeros((ceil_div(rows, 5) * 5, LANES), np.int64)
    padded[:rows] = trits
    vectors = np.zeros((len(padded) // 5, LANES), np.uint8)
    for number in range(len(vectors)):
        for lane in range(LANES):
            vectors[number, lane] = pack_byte(padded[5 * number : 5 * number + 5, lane] + 1)
    return vectors


def unpack_tile(vectors, rows=None):
    """SPEC 2.3 to 2.5: uint8 [V, 16] -> trits [5 V, 16], or its first `rows` rows."""
    trits = TRITS_OF_BYTE[np.asarray(vectors)]  # [V, 16, 5]
    return trits.transpose(0, 2, 1).reshape(-1, LANES)[:rows]


def pack_weight(trits):
    """SPEC 2.6: trits [N, K] -> uint8 [ceil(N / 16), ceil(K / 5), 16]."""
    outputs, inputs = trits.shape
    padded = np.zeros((ceil_div(outputs, LANES) * LANES, inputs), np.int64)
    padded[:outputs] = trits
    return np.stack([pack_tile(padded[n : n + LANES].T) for n in range(0, len(padded), LANES)])


def unpack_weight(packed, outputs, inputs):
    """SPEC 2.6: uint8 [ceil(N / 16), ceil(K / 5), 16] -> trits [N, K]."""
    assert packed.shape == (ceil_div(outputs, LANES), ceil_div(inputs, 5), LANES)
    return np.concatenate([unpack_tile(tile, inputs).T for tile in packed])[:outputs]


def pack_channels(trits):
    """SPEC 2.7: trits [D] -> uint8 [ceil(ceil(D / 16) / 5), 16]."""
    rows = np.zeros(ceil_div(len(trits), LANES) * LANES, np.int64)
    rows[: len(trits)] = trits
    return pack_tile(rows.reshape(-1, LANES))


def unpack_channels(packed, width):
    """SPEC 2.7: uint8 [ceil(ceil(D / 16) / 5), 16] -> trits [D]."""
    assert packed.shape == (ceil_div(ceil_div(width, LANES), 5), LANES)
    return unpack_tile(packed).reshape(-1)[:width]


# 3. From a picture to int8


def convert(picture, channels):
    """SPEC 3.2: uint8 [h, w, 1 or 3] -> uint8 [h, w, channels]."""
    pixels = integers(picture)
    if pixels.shape[2] == channels:
        return picture.copy()
    if channels == 3:
        return np.repeat(picture, 3, axis=2)
    red, green, blue = pixels[:, :, 0:1], pixels[:, :, 1:2], pixels[:, :, 2:3]
    return narrow((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16, np.uint8)


def rgb565(pixels, order=0):
    """SPEC 3.2: uint8 [h, w, 2] of RGB565 -> uint8 [h, w, 3]."""
    high, low = integers(pixels[..., order % 2]), integers(pixels[..., 1 - order % 2])
    word = 256 * high + low
    red, green, blue = word // 2048, word // 32 % 64, word % 32
    colours = [8 * red + red // 4, 4 * green + green // 16, 8 * blue + blue // 4]
    return narrow(np.stack(colours[::-1] if order >= 2 else colours, axis=-1), np.uint8)


def yuv422(pixels, order=0):
    """SPEC 3.2: uint8 [h, w / 2, 4] of YUV422 -> uint8 [h, w, 3]."""
    names = ("Y0 U Y1 V", "U Y0 V Y1", "Y0 V Y1 U", "V Y0 U Y1")[order].split()
    part = {name: integers(pixels[..., place]) for place, name in enumerate(names)}
    u, v = part["U"] - 128, part["V"] - 128
    colours = []
    for y in (part["Y0"], part["Y1"]):
        red, blue = y + (91881 * v + 32768 >> 16), y + (116130 * u + 32768 >> 16)
        colours.append(np.stack([red, y - (22554 * u + 46802 * v + 32768 >> 16), blue], axis=-1))
    height, half, _ = pixels.shape
    return narrow(np.clip(np.stack(colours, axis=2), 0, 255).reshape(height, 2 * half, 3), np.uint8)


def middle(width, height):
    """SPEC 3.3: (left, top, side) of the largest square in the middle."""
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side


def crop(picture, left, top, side):
    """SPEC 3.3: uint8 [h, w, C] -> uint8 [side, side, C]."""
    return picture[top : top + side, left : left + side].copy()


def resize_weights(side, size):
    """SPEC 3.4: w(i, j), int64 [size, side]."""
    assert 1 <= side <= 4096 and 1 <= size <= 4096 and side * side // size <= 2**22, "refused by SPEC 3.4"
    i = np.arange(size)[:, None]
    j = np.arange(side)[None, :]
    return np.maximum(0, 2 * max(side, size) - abs((2 * j + 1) * size - (2 * i + 1) * side))


def resize_lines(lines, size):
    """SPEC 3.4 along the first axis: uint8 [side, anything] -> uint8 [size, anything]."""
    resized = np.zeros((size, lines.shape[1]), np.uint8)
    for i, weights in enumerate(resize_weights(len(lines), size)):
        j = np.flatnonzero(weights)
        total = int(weights.sum())
        sums = weights[j] @ integers(lines[j]) + total // 2
        assert total > 0 and sums.max() < 2**32
        resized[i] = narrow(sums // total, np.uint8)
    return resized


def resize(square, size):
    """SPEC 3.4: uint8 [side, side, C] -> uint8 [size, size, C], down the columns, then along the rows."""
    side, _, channels = square.shape
    columns = resize_lines(square.reshape(side, side * channels), size).reshape(size, side, channels)
    rows = resize_lines(columns.transpose(1, 0, 2).reshape(side, size * channels), size)
    resized = rows.reshape(size, size, channels).transpose(1, 0, 2)
    assert side != size or np.array_equal(resized, square)
    return resized.copy()


def normalize(pixels, multiplier, offset):
    """SPEC 3.5: uint8 [..., C], multiplier and offset [C] -> int8 [..., C]."""
    multiplier, offset = integers(multiplier), integers(offset)
    assert np.all((multiplier >= 0) & (multiplier < 2**22))
    assert np.all((offset >= -(2**30)) & (offset < 2**30))
    return narrow(sat8(fits(integers(pixels) * multiplier + offset, 32) >> 16), np.int8)


# 4. TernaryBitLinear


def accumulate(x, trits, bias):
    """SPEC 4.2, 4.3: x int8 [rows, K], trits [N, K], bias [N] in full -> 20-bit sums [rows, N]."""
    inputs = trits.shape[1]
    assert 1 <= inputs <= 4032 and x.shape[1] == inputs
    assert np.all(abs(bias) + 128 * inputs <= ACCUMULATOR_MAX), "refused by SPEC 4.3"
    return fits(bias + integers(x) @ integers(trits).T, 20)


def linear(x, trits, bias, multiplier, shift):
    """SPEC 4.1 to 4.5: x int8 [rows, K], trits [N, K], bias, multiplier [N], shift [tiles] -> [rows, N]."""
    m = integers(multiplier)
    assert np.all((m >= 0) & (m <= 127)) and np.all((shift >= 0) & (shift <= 15))
    assert len(shift) == ceil_div(len(trits), LANES)
    s = integers(shift)[np.arange(len(trits)) // LANES]
    acc = accumulate(x, trits, integers(bias) * 2 ** np.maximum(s - 6, 0))
    v = sat8(acc >> s)
    y = (v * m) >> 7
    assert np.all((y >= -m) & (y <= np.maximum(m - 1, 0)))
    return narrow(y, np.int8)


def patches(picture, kernel, stride, padding):
    """SPEC 4.6: int8 [height, width, channels] -> int8 [rows, columns, P P channels]."""
    height, width, channels = picture.shape
    assert 1 <= height <= 4096 and 1 <= width <= 4096
    assert 1 <= stride <= kernel and 0 <= padding < kernel and 1 <= kernel * kernel * channels <= 4032
    rows = (height + 2 * padding - kernel) // stride + 1
    columns = (width + 2 * padding - kernel) // stride + 1
    assert rows >= 1 and columns >= 1
    cut = np.zeros((rows, columns, kernel * kernel * channels), np.int8)
    for r, c, ky, kx in np.ndindex(rows, columns, kernel, kernel):
        y, x = r * stride + ky - padding, c * stride + kx - padding
        if 0 <= y < height and 0 <= x < width:
            index = (ky * kernel + kx) * channels
            cut[r, c, index : index + channels] = picture[y, x]
    return cut


def linear_logits(x, trits, bias, multiplier):
    """SPEC 4.7: x int8 [rows, K], trits [N, K], bias int32 [N], multiplier int16 [N] -> int32 [rows, N]."""
    multiplier = integers(multiplier)
    assert np.all((multiplier >= 0) & (multiplier <= 4095))
    return narrow(accumulate(x, trits, integers(bias)) * multiplier, np.int32)


# 5. Residual stream


def residual_add(residual, y, shift):
    """SPEC 5.1: int16 [...] and int8 [...] -> int16 [...]."""
    assert 0 <= shift <= 8
    return narrow(sat16(integers(residual) + integers(y) * 2**shift), np.int16)


def residual_start(y, shift):
    """SPEC 5.2: int8 [...] -> int16 [...]."""
    assert 0 <= shift <= 8
    return narrow(integers(y) * 2**shift, np.int16)


# 6. TernaryLayerNorm


def layernorm_row(x, g, b, gain, gain_shift, beta):
    """SPEC 6.1 to 6.6: x int16 [D], trits g and b [D] -> int8 [D]."""
    width = len(x)
    x = integers(x)
    assert 1 <= width <= 4096
    assert 2**14 <= gain < 2**15 and 0 <= gain_shift <= 15 and 0 <= beta <= 32639
    mean = int(2 * x.sum() + width) // (2 * width)
    e = sat16(x - mean)
    variance_sum = int((e * e).sum())
    assert variance_sum < 2**42
    a = variance_sum // width + 1
    z = 0
    while a * 4 ** (z + 1) < 2**32:
        z += 1
    root = isqrt(a * 4**z)
    assert a * 4**z < 2**32 and 0 <= z <= 15 and 2**15 <= root < 2**16
    m = 2**30 // root
    assert 2**14 <= m <= 2**15
    p = (m * gain) >> 15
    n = 15 + gain_shift - z
    assert 2**13 <= p < 2**15 and 0 <= n <= 30
    u = sat16(fits(e * g * p, 32) >> n)
    return narrow(sat16(u + b * beta + 128) >> 8, np.int8)


def layernorm(x, g, b, gain, gain_shift, beta):
    """SPEC 6: int16 [rows, D] -> int8 [rows, D]."""
    g, b = integers(g), integers(b)
    return np.stack([layernorm_row(row, g, b, gain, gain_shift, beta) for row in x])


# 7. Attention


def split_heads(qkv, heads):
    """SPEC 7: int8 [T, 3 D] -> q, k and v, each [H, T, d]."""
    tokens, columns = qkv.shape
    assert 1 <= tokens <= 2048 and columns % (3 * heads) == 0
    return integers(qkv).reshape(tokens, 3, heads, -1).transpose(1, 2, 0, 3)


def attention_scores(q, k, score_shift):
    """SPEC 7.1, 7.7: q and k [T, d] of a head -> c int8 [T, T]."""
    assert q.shape[1] <= 1024 and 0 <= score_shift <= 15
    return narrow(sat8(fits(integers(q) @ integers(k).T, 20) >> score_shift), np.int8)


def softmax(scores, table):
    """SPEC 7.2, 7.3: c int8 [T, T], table E [256] -> a int8 [T, T]."""
    scores, table = integers(scores), integers(table)
    assert table[0] == 127 and np.all((table >= 0) & (table <= 127))
    weights = np.zeros_like(scores)
    for i, row in enumerate(scores):
        w = table[row.max() - row]
        h = max(int(w.sum()).bit_length() - 12, 0)
        assert h <= 6
        weights[i] = w >> h
    assert weights.sum(axis=1).max() <= 4095
    return narrow(weights, np.int8)


def attention_values(weights, v, value_gain):
    """SPEC 7.4, 7.5: a int8 [T, T], v [T, d] of a head -> int8 [T, d]."""
    assert -1 <= value_gain <= 6
    y = np.zeros(v.shape, np.int64)
    for i, a in enumerate(integers(weights)):
        total = int(a.sum())
        o = fits(a @ integers(v), 20)
        b = total.bit_length()
        assert 1 <= b <= 12, f"SPEC 7.4: bits(W) is {b}"
        n = max(b - 1 - value_gain, 0)
        m = min(127, 2 ** (b + 6) // total)
        assert 0 <= n <= 12 and 64 <= m <= 127
        y[i] = (sat8(o >> n) * m) >> 7
    return narrow(y, np.int8)


def attention(qkv, heads, score_shift, table, value_gain):
    """SPEC 7: int8 [T, 3 D] -> int8 [T, D], heads side by side (7.6)."""
    q, k, v = split_heads(qkv, heads)
    outputs = []
    for head in range(heads):
        weights = softmax(attention_scores(q[head], k[head], score_shift), table)
        outputs.append(attention_values(weights, v[head], value_gain))
    return np.concatenate(outputs, axis=1)


# 8. Table


def lookup(x, table):
    """SPEC 8.1: int8 [...], table int8 [256] -> int8 [...]."""
    return table[integers(x) + 128]


# 12. Learning


def rms_norm(x):
    """SPEC 12.1: int8 [F] -> int8 [F]."""
    values = [int(v) for v in x]
    a = max(1, 256 * sum(v * v for v in values) // len(values))
    z = max(z for z in range(32) if a * 4**z < 2**32)
    m, s = 2**30 // isqrt(a * 4**z), 21 - z
    assert 4 <= z <= 15 and m <= 2**15
    return narrow(sat8(np.array([(v * m + 2 ** (s - 1)) >> s for v in values])), np.int8)


def kernel(f, h):
    """SPEC 12.2: the product of two pictures, Q14."""
    return 16 * sum(int(a) * int(b) for a, b in zip(f, h, strict=True)) // len(f)


def gram(features):
    """SPEC 12.2: int16, packed."""
    rows = [[kernel(f, h) for h in features[: i + 1]] for i, f in enumerate(features)]
    return narrow(sat16(np.array([g for row in rows for g in row])), np.int16)


class FixedPoint:
    """SPEC 12.4, in Python's integers; `exact` asserts that no sum leaves int32."""

    def __init__(self, matrix, add, ridges, exact=True):
        self.exact, self.n = exact, len(matrix)
        self.factor = [[0] * (i + 1) for i in range(self.n)]
        self.p = []
        for i, row in enumerate(self.factor):
            for j in range(i + 1):
                s = (int(matrix[i][j]) + add + (ridges[i] if i == j else 0)) << 12
                s = self.word(s - sum(self.high(row[k], self.factor[j][k]) for k in range(j)))
                if j < i:
                    row[j] = self.divide(s, self.p[j])
                else:
                    row[i] = isqrt(max(2**18, min(2**30 - 1, s)) << 32)
                    self.p.append(min(2**30, 2**55 // row[i]))

    @staticmethod
    def high(a, b):
        """a (*) b."""
        return (a * b) >> 32

    @staticmethod
    def sat32(x):
        """Clamped to int32."""
        return max(-(2**31), min(2**31 - 1, x))

    def word(self, x):
        """Modulo 2^32."""
        assert not self.exact or -(2**31) <= x < 2**31
        return (x + 2**31) % 2**32 - 2**31

    def divide(self, a, p):
        """a (/) p."""
        return self.sat32((a * p) >> 23)

    def forward(self, y):
        """Q23 -> Q26."""
        z = []
        for i, row in enumerate(self.factor):
            z.append(self.divide(self.word(y[i] - sum(self.high(row[k], z[k]) for k in range(i))), self.p[i]))
        return z

    def backward(self, z):
        """Q26 -> Q24."""
        b, a = [value >> 5 for value in z], [0] * self.n
        for k in reversed(range(self.n)):
            a[k] = self.divide(b[k], self.p[k])
            for i in range(k):
                b[i] = self.word(b[i] - self.high(self.factor[k][i], a[k]))
        return a

    def diagonal(self, i):
        """d_i of the inverse, Q20."""
        v = {i: self.divide(2**23, self.p[i])}
        for k in range(i + 1, self.n):
            v[k] = self.divide(self.word(-sum(self.high(self.factor[k][j], v[j]) for j in range(i, k))), self.p[k])
        return min(2**31 - 1, max(1, sum(self.high(value, value) for value in v.values())))


def square_of(packed, n):
    """A packed gram as [n][n]."""
    lower = [[int(packed[i * (i + 1) // 2 + j]) for j in range(i + 1)] for i in range(n)]
    return [[lower[max(i, j)][min(i, j)] for j in range(n)] for i in range(n)]


class Ridge:
    """SPEC 12.5 for one ridge: solutions and errors [C][n]."""

    def __init__(self, labels, packed, classes, ridge, exact=True):
        n = len(labels)
        self.labels = labels = [int(label) for label in labels]
        self.counts = [labels.count(label) for label in range(classes)]
        ridges = [max(2**8, min(2**17, ridge * classes * self.counts[label] // n)) for label in labels]
        algebra = FixedPoint(square_of(packed, n), 2**14, ridges, exact)
        inverses = [min(2**31 - 1, 2**40 // algebra.diagonal(i)) for i in range(n)]
        self.solutions, self.errors = [], []
        for label in range(classes):
            y = [2**23 if other == label else -(2**23) for other in labels]
            a = algebra.backward(algebra.forward(y))
            self.solutions.append(a)
            self.errors.append([max(-(2**23), min(2**23, a[i] * inverses[i] >> 28)) for i in range(n)])

    def total(self):
        """What the choice of a ridge minimises."""
        found = 0
        for label, count in enumerate(self.counts):
            members = [i for i, other in enumerate(self.labels) if other == label]
            found += sum((errors[i] >> 8) ** 2 for errors in self.errors for i in members) // count if count else 0
        return found

    def margins(self):
        """By how much each picture's own class wins, Q16."""
        found = []
        for i, label in enumerate(self.labels):
            others = [-(2**16) - errors[i] for other, errors in enumerate(self.errors) if other != label]
            found.append(2**16 - self.errors[label][i] - max(others, default=-(2**16)))
        return found

    def head(self, features):
        """weights, multiplier and bias."""
        width, heads = len(features[0]), []
        for a in self.solutions:
            q = max(0, min(max(abs(value) for value in a), 2**31 - 1).bit_length() - 14)
            u = [max(-16383, value >> q) for value in a]
            sums = [sum(u[i] * int(features[i][k]) for i in range(len(a))) for k in range(width)]
            m = max(abs(value) for value in sums)
            t = max(0, m.bit_length() - 22)
            h = max(1, m >> t)
            w = [max(-127, min(127, (254 * (value >> t) + h) // (2 * h))) for value in sums]
            heads.append((w, min(2**31 - 1, (m << (q + 6)) // (127 * width)), FixedPoint.sat32(sum(a) >> 8)))
        weights, multiplier, bias = zip(*heads, strict=True)
        return np.array(weights, np.int8), np.array(multiplier, np.int32), np.array(bias, np.int32)


def ridge_fit(features, labels, packed, ridges, classes, exact=True):
    """SPEC 12.5: number of the ridge, weights, multiplier, bias, margins."""
    fits = [Ridge(labels, packed, classes, int(ridge), exact) for ridge in ridges]
    totals = [fit.total() for fit in fits]
    best = totals.index(min(totals)) if len(fits) > 1 else 0
    return best, *fits[best].head(features), np.array(fits[best].margins(), np.int32)


def ridge_scores(f, weights, multiplier, bias):
    """SPEC 12.6: int32 [C]."""
    rows = zip(weights, multiplier, bias, strict=True)
    sums = [(sum(int(a) * int(b) for a, b in zip(w, f, strict=True)), int(m), int(b)) for w, m, b in rows]
    return np.array([FixedPoint.sat32((m * s >> 24) + b) for s, m, b in sums], np.int32)


def span_fit(features, packed, ridge, count, exact=True):
    """SPEC 12.7: directions uint8 [count, (F + 1) // 2] and distances [n]."""
    n, matrix = len(features), square_of(packed, len(features))
    chosen = [j * n // count for j in range(count)]
    algebra = FixedPoint([[matrix[a][b] for b in chosen] for a in chosen], 0, [ridge] * count, exact)
    columns = [algebra.forward([2**16 * int(features[j][k]) for j in chosen]) for k in range(len(features[0]))]
    rounded = [[max(-7, min(7, (z + 2**22) >> 23)) for z in column] for column in columns]
    rows = np.pad(np.array(rounded).T, ((0, 0), (0, len(columns) % 2))) % 16
    distances = []
    for i in range(n):
        if i in chosen:
            distances.append(max(0, min(2**31 - 1, 2**36 // algebra.diagonal(chosen.index(i)) - 4 * ridge)))
        else:
            z = algebra.forward([2**9 * matrix[i][j] for j in chosen])
            distances.append(max(0, 4 * matrix[i][i] - ((2**8 * sum(algebra.high(v, v) for v in z)) >> 12)))
    return narrow(rows[:, ::2] + 16 * rows[:, 1::2], np.uint8), np.array(distances, np.int32)


def span_distance(f, directions):
    """SPEC 12.8."""
    halves = np.stack([directions % 16, directions // 16], -1).reshape(len(directions), -1)[:, : len(f)].astype(int)
    halves -= 16 * (halves > 7)
    products = [256 * sum(int(a) * int(b) for a, b in zip(f, u, strict=True)) // len(f) for u in halves]
    return max(0, 4 * kernel(f, f) - (sum(p * p for p in products) >> 12))


def limit(distances):
    """SPEC 12.9."""
    n, (mean, deviation) = len(distances), moments(distances)
    found = sorted((int(x) for x in distances), reverse=True)[max(1, (n + 1) // 20) - 1]
    return found if n >= 19 else max(found, mean + 9 * deviation // 4)


def moments(x):
    """SPEC 12.9: mean and deviation."""
    x = [int(value) for value in x]
    mean = (2 * sum(x) + len(x)) // (2 * len(x))
    return mean, isqrt(sum(min(abs(value - mean), 2**26) ** 2 for value in x) // len(x))


# 9. The network


def mean(x):
    """SPEC 9.6: int8 [rows, width] -> int8 [width]."""
    rows = [[int(v) for v in row] for row in x]
    n = len(rows)
    return narrow(np.array([(2 * sum(column) + n) // (2 * n) for column in zip(*rows, strict=True)]), np.int8)


def topk(logits, count):
    """SPEC 9.4: the indices of the `count` largest logits."""
    return sorted(range(len(logits)), key=lambda n: (-int(logits[n]), n))[:count]


class Network:
    """SPEC 9 on the tensors and the metadata of a model file, as safetensors.safe_open gives them."""

    def __init__(self, tensors, metadata):
        self.tensors = tensors
        self.architecture = json.loads(metadata["architecture"])
        self.preprocessing = json.loads(metadata["preprocessing"])
        self.scales = json.loads(metadata["scales"])
        self.shapes = json.loads(metadata["shapes"])

    def plain(self, name):
        """A tensor that is not packed, without its padding (10.3), in its logical shape."""
        shape = self.shapes[name]
        count = int(np.prod(shape))
        assert not self.tensors[name][count:].any(), f"SPEC 10.3: padding of {name}"
        return self.tensors[name][:count].reshape(shape)

    def trits(self, name):
        """A packed tensor's trits, [N, K] or [D]."""
        unpack = unpack_weight if len(self.shapes[name]) == 2 else unpack_channels
        return unpack(self.tensors[name], *self.shapes[name])

    def linear(self, name, x):
        """TernaryBitLinear `name` (4)."""
        parts = [self.plain(f"{name}.{part}") for part in ("bias", "multiplier", "shift")]
        return linear(x, self.trits(f"{name}.weight"), *parts)

    def convolution(self, name, picture, *sizes):
        """TernaryBitConv2d `name` (4.6): int8 [height, width, channels] -> int8 [rows, columns, N]."""
        cut = patches(picture, *sizes)
        return self.linear(name, cut.reshape(-1, cut.shape[2])).reshape(*cut.shape[:2], -1)

    def layernorm(self, name, x):
        """TernaryLayerNorm `name` (6)."""
        scales = [self.scales[name][key] for key in ("gain", "gain_shift", "beta")]
        return layernorm(x, self.trits(f"{name}.weight"), self.trits(f"{name}.bias"), *scales)

    def add(self, name, residual, y):
        """Adds the branch that ends in `name` (5.1)."""
        return residual_add(residual, y, self.scales[name]["residual_shift"])

    def preprocess(self, picture):
        """SPEC 3.6: uint8 [h, w, 1 or 3] -> int8 [img_size, img_size, in_chans]."""
        height, width, _ = picture.shape
        assert 1 <= height <= 4096 and 1 <= width <= 4096
        square = crop(convert(picture, self.architecture["in_chans"]), *middle(width, height))
        resized = resize(square, self.architecture["img_size"])
        return normalize(resized, self.preprocessing["multiplier"], self.preprocessing["offset"])

    def embed(self, x):
        """SPEC 9.1, 5.2: int8 [img_size, img_size, in_chans] -> residual stream int16 [T, D]."""
        sizes = self.architecture
        for i, (channels, *window) in enumerate(sizes["stem"]):
            x = self.convolution(f"patch_embed.backbone.{i}.conv", x, *window)
            assert x.shape[2] == channels
            x = lookup(x, self.plain(f"patch_embed.backbone.{i}.act.table"))
        window = [sizes[f"patch_{key}"] for key in ("size", "stride", "padding")]
        y = self.convolution("patch_embed.proj", x, *window).reshape(-1, sizes["embed_dim"])
        shifts = [self.scales[name]["residual_shift"] for name in ("cls_token", "patch_embed.proj")]
        first = residual_start(self.plain("cls_token")[None], shifts[0])
        others = self.add("pos_embed", residual_start(y, shifts[1]), self.plain("pos_embed"))
        return np.concatenate([first, others])

    def block(self, name, residual):
        """SPEC 9.2: int16 [T, D] -> int16 [T, D]."""
        heads, scales = self.architecture["num_heads"], self.scales[f"{name}.attn"]
        width = self.architecture["embed_dim"] // heads
        multiplier = integers(self.plain(f"{name}.attn.qkv.multiplier"))[: heads * width]
        assert 128 * width * int(multiplier.max()) <= ACCUMULATOR_MAX, "SPEC 7.7"
        qkv = self.linear(f"{name}.attn.qkv", self.layernorm(f"{name}.norm1", residual))
        table = self.plain(f"{name}.attn.softmax.table")
        y = attention(qkv, heads, scales["score_shift"], table, scales["value_gain"])
        residual = self.add(f"{name}.attn.proj", residual, self.linear(f"{name}.attn.proj", y))
        hidden = self.linear(f"{name}.mlp.fc1", self.layernorm(f"{name}.norm2", residual))
        y = self.linear(f"{name}.mlp.fc2", lookup(hidden, self.plain(f"{name}.mlp.act.table")))
        return self.add(f"{name}.mlp.fc2", residual, y)

    def head(self, residual):
        """SPEC 9.3: int16 [T, D] -> int32 [num_classes]."""
        x = self.pooled(residual)[self.architecture["pool"]]
        parts = [self.plain(f"head.{part}") for part in ("bias", "multiplier")]
        if self.architecture.get("head", "ternary") == "ternary":
            return linear_logits(x[None], self.trits("head.weight"), *parts)[0]
        bias, multiplier = (part.astype(object) for part in parts)
        sums = self.plain("head.weight").astype(object) @ x.astype(object)
        logits = [(int(m) * int(s) >> 24) + int(b) for m, s, b in zip(multiplier, sums, bias, strict=True)]
        return np.array(logits, dtype=object).clip(-(2**31), 2**31 - 1).astype(np.int32)

    def through_blocks(self, picture):
        """SPEC 9.1, 9.2: uint8 [h, w, 1 or 3] -> int16 [T, D]."""
        residual = self.embed(self.preprocess(picture))
        for i in range(self.architecture["depth"]):
            residual = self.block(f"blocks.{i}", residual)
        return residual

    def features(self, picture):
        """SPEC 9.5: uint8 [h, w, 1 or 3] -> int8 features by pooling."""
        return self.pooled(self.through_blocks(picture))

    def pooled(self, residual):
        """SPEC 9.5: int16 [T, D] -> int8 features by pooling."""
        rows = self.layernorm("norm", residual)
        token, patches = rows[0], mean(rows[1:])
        return {"token": token, "mean": patches, "token+mean": np.concatenate([token, patches])}

    def forward(self, picture):
        """uint8 [h, w, 1 or 3] -> int32 [num_classes]."""
        return self.head(self.through_blocks(picture))


def forward(tensors, metadata, picture):
    """SPEC 9: tensors by name and metadata of a model file, uint8 [h, w, 1 or 3] -> int32 [num_classes]."""
    return Network(tensors, metadata).forward(picture)


def load(path):
    """(tensors, metadata) of a model file, read by the safetensors library."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
