# SPDX-License-Identifier: MIT
"""The oracle against cases worked by hand from SPEC.md, and the bounds that SPEC claims at their worst."""

import json
from itertools import product

import numpy as np
import pytest

from tests import oracle

I8, U8, I16, I32 = np.int8, np.uint8, np.int16, np.int32
RELU_LIKE = np.maximum(np.arange(-128, 128), 0).astype(I8)
EXPONENTIAL = np.array([127 >> (i // 8) for i in range(256)], I8)


# 2. Trits


def test_all_243_values_come_back():
    values = [oracle.pack_byte(digits) for digits in product(range(3), repeat=5)]
    assert values == sorted(set(values)) and values[0] == 0 and values[-1] == 255
    assert [tuple(oracle.unpack_byte(byte)) for byte in values] == list(product(range(3), repeat=5))


def test_the_13_other_bytes_hold_digits_too():
    others = set(range(256)) - {oracle.pack_byte(digits) for digits in product(range(3), repeat=5)}
    assert len(others) == 13
    assert all(0 <= digit <= 2 for byte in others for digit in oracle.unpack_byte(byte))


def test_byte_by_hand():
    # v = 81*2 + 27*0 + 9*1 + 3*1 + 2 = 176; ceil(256*176 / 243) = ceil(185.42)
    assert oracle.pack_byte([2, 0, 1, 1, 2]) == 186
    # 186*3 = 558 -> 2; 186*3 mod 256 = 46 -> 0; 138 -> 414 >> 8 = 1; 158 -> 474 >> 8 = 1; 218 -> 654 >> 8 = 2
    assert oracle.unpack_byte(186) == [2, 0, 1, 1, 2]
    assert oracle.pack_byte([1] * 5) == 128  # five zeros


def test_weight_layout_by_hand():
    trits = np.zeros((17, 6), I8)
    trits[3, 1] = 1  # tile 0, lane 3, row 1: digit 1 of vector 0
    trits[16, 5] = -1  # tile 1, lane 0, row 5: digit 0 of vector 1
    packed = oracle.pack_weight(trits)
    expected = np.full((2, 2, 16), 128)
    expected[0, 0, 3] = (256 * (121 + 27) + 242) // 243
    expected[1, 1, 0] = (256 * (121 - 81) + 242) // 243
    assert packed.dtype == U8 and np.array_equal(packed, expected)
    assert np.array_equal(oracle.unpack_weight(packed, 17, 6), trits)


def test_channel_layout_by_hand():
    trits = np.zeros(100, I8)
    trits[99] = 1  # row 6, lane 3: digit 1 of vector 1
    packed = oracle.pack_channels(trits)
    expected = np.full((2, 16), 128)
    expected[1, 3] = (256 * (121 + 27) + 242) // 243
    assert np.array_equal(packed, expected)
    assert np.array_equal(oracle.unpack_channels(packed, 100), trits)


# 3. Pictures


def test_convert_by_hand():
    picture = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [1, 2, 3]]], U8)
    # (19595*255 + 32768) >> 16 = 76, 150, 29; 255; (19595 + 76940 + 22413 + 32768) >> 16 = 151716 >> 16 = 2
    assert oracle.convert(picture, 1).tolist() == [[[76], [150], [29], [255], [2]]]
    assert oracle.convert(np.array([[[7]]], U8), 3).tolist() == [[[7, 7, 7]]]


def test_middle():
    assert oracle.middle(7, 4) == (1, 0, 4)
    assert oracle.middle(4, 9) == (0, 2, 4)


def test_resize_by_hand():
    # 3 -> 2: S = 6; w(0, j) = 6 - |4 j + 2 - 3| = 5, 3, 0 (j = 2: |10 - 3| = 7); w(1, j) = 0, 3, 5
    assert oracle.resize_weights(3, 2).tolist() == [[5, 3, 0], [0, 3, 5]]
    line = np.array([[10], [20], [200]], U8)
    # (50 + 60 + 4) // 8 = 14; (60 + 1000 + 4) // 8 = 133
    assert oracle.resize_lines(line, 2).tolist() == [[14], [133]]
    # 1 -> 3 repeats: S = 6, w = 6 - |3 - (2 i + 1)| = 4, 6, 4
    assert oracle.resize_lines(np.array([[9]], U8), 3).tolist() == [[9], [9], [9]]
    # 2 -> 4: S = 8, w(1, j) = 8 - |4 (2 j + 1) - 6| = 6, 2: (6*0 + 2*100 + 4) // 8 = 25
    assert oracle.resize_lines(np.array([[0], [100]], U8), 4).tolist() == [[0], [25], [75], [100]]


def test_resize_rounds_columns_first():
    square = np.array([[0, 1], [1, 0]], U8)[:, :, None]
    assert oracle.resize(square, 1).tolist() == [[[1]]]  # columns give (0 + 1 + 1) // 2 = 1 and 1
    square = np.array([[0, 1], [0, 0]], U8)[:, :, None]
    assert oracle.resize(square, 1).tolist() == [[[1]]]  # columns 0 and 1, then 1; a mean of four would be 0


@pytest.mark.parametrize(("side", "size"), [(4096, 4), (2048, 1), (4096, 4096), (1, 4096), (4095, 4), (3, 2)])
def test_resize_sums_stay_in_32_bits(side, size):
    assert oracle.resize_lines(np.full((side, 1), 255, U8), size).tolist() == [[255]] * size


def test_resize_refuses():
    with pytest.raises(AssertionError):
        oracle.resize_weights(4096, 3)
    with pytest.raises(AssertionError):
        oracle.resize_weights(2049, 1)


def test_normalize_by_hand():
    pixels = np.array([[[0], [100], [255]]], U8)
    # (-70 << 16) + 32768 + 0.5 * 65536 p
    assert oracle.normalize(pixels, [32768], [-70 * 65536 + 32768]).tolist() == [[[-70], [-20], [58]]]
    assert oracle.normalize(pixels, [2**22 - 1], [-(2**30)]).tolist() == [[[-128], [-128], [-65]]]
    assert oracle.normalize(pixels, [2**22 - 1], [2**30 - 1]).tolist() == [[[127], [127], [127]]]


# 4. Linear layers


def test_linear_by_hand():
    x = np.array([[10, -20, 30]], I8)
    trits = np.array([[1, 1, 0], [0, -1, 1], [0, 0, 0]])
    # acc = bias * 2^(7 - 6) + sums: 5*2 - 10 = 0, -1*2 + 50 = 48, -100*2 = -200; >> 7: 0, 0, -2
    y = oracle.linear(x, trits, np.array([5, -1, -100], I16), np.array([127, 127, 127], I8), np.array([7], U8))
    assert y.tolist() == [[0, 0, -2]]
    # shift 0: v = -5, 49, -100 with bias 5, -1, -100; y = v m >> 7: -5*100 >> 7 = -4, 49*127 >> 7 = 48, 0
    y = oracle.linear(x, trits, np.array([5, -1, -100], I16), np.array([100, 127, 0], I8), np.array([0], U8))
    assert y.tolist() == [[-4, 48, 0]]


@pytest.mark.parametrize(("inputs", "shift"), [(1, 0), (4032, 0), (4032, 6), (4032, 15), (1, 15), (3, 9)])
def test_bias_bound(inputs, shift):
    room = oracle.ACCUMULATOR_MAX - 128 * inputs
    largest = min(room // 2 ** max(shift - 6, 0), 32767)
    x, trits = np.full((1, inputs), -128, I8), np.ones((1, inputs), I8)
    shifts, multiplier = np.array([shift], U8), np.array([127], I8)
    for bias in (largest, -largest):
        oracle.linear(x, trits, np.array([bias], I16), multiplier, shifts)
        oracle.linear(x, -trits, np.array([bias], I16), multiplier, shifts)
    if largest < 32767:
        with pytest.raises(AssertionError):
            oracle.linear(x, trits, np.array([largest + 1], I16), multiplier, shifts)


def test_multiplied_value_bound():
    for m, v in product(range(128), range(-128, 128)):
        assert (v * m) >> 7 in range(-m, max(m, 1))


def test_linear_logits_by_hand():
    x = np.array([[10, -20, 30]], I8)
    logits = oracle.linear_logits(
        x, np.array([[1, 1, 0], [0, -1, 1]]), np.array([3, -100], I32), np.array([4095, 2], I16)
    )
    assert logits.tolist() == [[-7 * 4095, -100]]
    room = oracle.ACCUMULATOR_MAX - 128
    extreme = oracle.linear_logits(
        np.array([[-128]], I8),
        np.array([[-1], [1]]),
        np.array([room, -room], I32),
        np.array([4095, 4095], I16),
    )
    assert extreme.tolist() == [[524287 * 4095, -524287 * 4095]]


def test_patches_by_hand():
    picture = np.arange(32).astype(I8).reshape(4, 4, 2)
    cut = oracle.patches(picture, 2, 2, 0)
    assert cut.shape == (2, 2, 8)
    assert cut[0, 0].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert cut[0, 1].tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    assert cut[1, 0, 0] == 16 and cut[1, 1, 7] == 31


def test_padded_patches_by_hand():
    picture = np.arange(1, 7).astype(I8).reshape(2, 3, 1)
    # rows = (2 + 2 - 2) // 1 + 1 = 3, columns = (3 + 2 - 2) // 1 + 1 = 4
    cut = oracle.patches(picture, 2, 1, 1)
    assert cut.shape == (3, 4, 4)
    assert cut[0].tolist() == [[0, 0, 0, 1], [0, 0, 1, 2], [0, 0, 2, 3], [0, 0, 3, 0]]
    assert cut[2].tolist() == [[0, 4, 0, 0], [4, 5, 0, 0], [5, 6, 0, 0], [6, 0, 0, 0]]
    # rows = (2 + 0 - 2) // 2 + 1 = 1, columns = (3 + 0 - 2) // 2 + 1 = 1: pixels 3 and 6 are in no patch
    assert oracle.patches(picture, 2, 2, 0).tolist() == [[[1, 2, 4, 5]]]


@pytest.mark.parametrize("window", [(3, 4, 0), (3, 1, 3), (3, 0, 0), (3, 1, -1), (5, 1, 1), (64, 1, 63)])
def test_patches_refuse(window):
    with pytest.raises(AssertionError):
        oracle.patches(np.zeros((2, 3, 1), I8), *window)


def test_patches_are_those_of_torch():
    torch = pytest.importorskip("torch")
    picture = np.random.default_rng(4).integers(-128, 128, (9, 7, 3)).astype(I8)
    for kernel, stride, padding in ((3, 2, 1), (4, 3, 0), (5, 1, 4)):
        cut = oracle.patches(picture, kernel, stride, padding)
        channels_first = torch.tensor(picture.transpose(2, 0, 1)[None]).float()
        unfolded = torch.nn.functional.unfold(channels_first, kernel, padding=padding, stride=stride)
        expected = unfolded[0].T.reshape(-1, 3, kernel * kernel).transpose(1, 2).reshape(*cut.shape)
        assert np.array_equal(cut, expected.numpy())


# 5. Residual stream


def test_residual_add_by_hand():
    residual = np.array([0, 32767, -32768, 100], I16)
    assert oracle.residual_add(residual, np.array([-128, 1, -1, 3], I8), 8).tolist() == [
        -32768,
        32767,
        -32768,
        868,
    ]
    assert oracle.residual_add(residual, np.array([1, 1, -1, -3], I8), 0).tolist() == [1, 32767, -32768, 97]


def test_residual_start():
    assert oracle.residual_start(np.array([-128, 127, 0], I8), 8).tolist() == [-32768, 32512, 0]


# 6. LayerNorm


def test_layernorm_by_hand():
    # mean = (2*8 + 4) // 8 = 2; e = -3, -1, 1, 3; V = 20; A = 6; 6*4^14 = 1610612736 < 2^32 -> z = 14;
    # R = isqrt(1610612736) = 40132; M = 2^30 // 40132 = 26755; P = (26755*20000) >> 15 = 16329; n = 15 - 14;
    # u = sat16((e g P) >> 1) = -24494, 8164, 0, 24493 (g = 1, -1, 0, 1);
    # b*beta = 0, 1000, -1000, 1000; y = (u + b*beta + 128) >> 8
    x = np.array([-1, 1, 3, 5], I16)
    y = oracle.layernorm_row(x, np.array([1, -1, 0, 1]), np.array([0, 1, -1, 1]), 20000, 0, 1000)
    expected = [(-24494 + 128) >> 8, (8164 + 1128) >> 8, (-1000 + 128) >> 8, (24493 + 1128) >> 8]
    assert y.tolist() == expected == [-96, 36, -4, 100]


def test_layernorm_of_a_constant_row_is_beta():
    ones = np.ones(5, np.int64)
    for value in (-32768, -1, 0, 32767):
        y = oracle.layernorm_row(np.full(5, value, I16), ones, ones, 16384, 15, 32639)
        assert y.tolist() == [127] * 5


@pytest.mark.parametrize("width", [1, 2, 3, 4095, 4096])
def test_layernorm_bounds_at_the_rails(width):
    rails = np.where(np.arange(width) % 2, 32767, -32768)
    rows = [rails, rails // 2, np.where(np.arange(width) == 0, 32767, -32768), np.full(width, -32768)]
    trits = np.where(np.arange(width) % 3, 1, -1)
    for row, gain, shift in product(rows, (2**14, 2**15 - 1), (0, 15)):
        oracle.layernorm_row(row.astype(I16), trits, trits, gain, shift, 32639)


def test_layernorm_bounds_for_every_root():
    """6.3, 6.4 at both ends of every z and at random A (1 <= A <= 2^30)."""
    a = {1, 2, 3, 2**30 - 1, 2**30} | {4**k + e for k in range(1, 15) for e in (-1, 0, 1)}
    a |= set(np.random.default_rng(1).integers(1, 2**30, 2000).tolist())
    for value in a:
        z = next(z for z in range(16) if value * 4 ** (z + 1) >= 2**32)
        root = oracle.isqrt(value * 4**z)
        m = 2**30 // root
        assert 2**15 <= root < 2**16 and 2**14 <= m <= 2**15
        assert (m * 2**14) >> 15 >= 2**13 and (m * (2**15 - 1)) >> 15 < 2**15


# 7. Attention


def test_attention_by_hand():
    # T = 3, d = 1: q = 4, -4, 0; k = 2, 0, -2; c = q k >> 2 (exact): [2, 0, -2], [-2, 0, 2], [0, 0, 0]
    # E = 127, 100, 50, 30, 20, 0, ...; w_0 = 127, 50, 20: W = 197, B = 8, m = min(127, 2^14 // 197) = 83
    # v = 10, 20, -30: o_0 = 1270 + 1000 - 600 = 1670; n = 8 - 1 - 0 = 7: 1670 >> 7 = 13; (13*83) >> 7 = 8
    # o_1 = 200 + 1000 - 3810 = -2610 >> 7 = -21; (-21*83) >> 7 = -14
    # w_2 = 127 three times: W = 381, B = 9, m = 2^15 // 381 = 86; o_2 = 0
    table = np.zeros(256, I8)
    table[:5] = 127, 100, 50, 30, 20
    qkv = np.array([[4, 2, 10], [-4, 0, 20], [0, -2, -30]], I8)
    q, k, _ = oracle.split_heads(qkv, 1)
    assert oracle.attention_scores(q[0], k[0], 2).tolist() == [[2, 0, -2], [-2, 0, 2], [0, 0, 0]]
    assert oracle.attention(qkv, 1, 2, table, 0).tolist() == [[8], [-14], [0]]


def test_heads_lie_side_by_side():
    rng = np.random.default_rng(2)
    qkv = rng.integers(-20, 20, (3, 3, 2, 4)).astype(I8)  # [T, qkv, H, d]
    both = oracle.attention(qkv.reshape(3, 24), 2, 3, EXPONENTIAL, 1)
    first = oracle.attention(qkv[:, :, :1].reshape(3, 12), 1, 3, EXPONENTIAL, 1)
    second = oracle.attention(qkv[:, :, 1:].reshape(3, 12), 1, 3, EXPONENTIAL, 1)
    assert np.array_equal(both, np.concatenate([first, second], axis=1))


def worst_row_sum(tokens):
    """Smallest W = sum a_ij over rows of `tokens` weights in 0..127 of which one is 127 (7.3)."""
    worst = 4096
    for h in range(7):
        # Weights lose most with w mod 2^h = 2^h - 1; the rest of W0 must reach the range of h.
        low = 0 if h == 0 else 2 ** (h + 11)
        lost = (2**h - 1) * tokens
        worst = min(worst, max(127 >> h, oracle.ceil_div(low - lost, 2**h)))
    return worst


def test_bits_of_the_row_sum():
    """Up to 2016 tokens W >= 64, so B >= 7 and the clamp of 7.5 is never met."""
    assert worst_row_sum(1024) >= 64
    assert worst_row_sum(2016) >= 64 > worst_row_sum(2017) == 63


def test_the_flattest_row_of_2048_tokens_meets_the_clamp_of_7_5():
    table = np.array([127] + [63] * 255, I8)
    row = np.array([0] * 32 + [-1] * 2016)
    weights = oracle.softmax(row[None], table)
    assert weights.sum() == 32
    assert oracle.attention_values(weights, np.ones((2048, 1), I8), 6)[0] == 31


# 8 and 9


def test_lookup_and_topk():
    assert oracle.lookup(np.array([-128, -1, 0, 127], I8), RELU_LIKE).tolist() == [0, 0, 0, 127]
    assert oracle.topk([5, 7, -1, 7, 5], 5) == [1, 3, 0, 4, 2]


def padded(values, dtype):
    """10.3: one dimension, padded to a multiple of 16 bytes."""
    values = np.asarray(values, dtype).reshape(-1)
    return np.pad(values, (0, -len(values) % (16 // values.itemsize)))


def toy_model(image=28, stem=(), patch=(7, 7, 0), width=96, depth=6, heads=3, hidden=384, classes=10, seed=0):
    """(tensors, metadata) of a random network that follows section 10."""
    rng = np.random.default_rng(seed)
    tensors, shapes, scales = {}, {}, {"input": {"frac": 5}, "residual": {"frac": 8}}

    def put(name, values, dtype, packed=None):
        shapes[name] = list(np.shape(values))
        tensors[name] = padded(values, dtype) if packed is None else packed

    def put_linear(name, outputs, inputs, largest=127):
        trits = rng.integers(-1, 2, (outputs, inputs))
        put(f"{name}.weight", trits, U8, oracle.pack_weight(trits))
        put(f"{name}.bias", rng.integers(-300, 300, outputs), I16)
        put(f"{name}.multiplier", rng.integers(largest // 2, largest + 1, outputs), I8)
        put(f"{name}.shift", np.full(-(-outputs // 16), 3), U8)
        scales[name] = {"frac": 4, "residual_shift": 3}

    def put_norm(name):
        for part in ("weight", "bias"):
            trits = rng.integers(-1, 2, width)
            put(f"{name}.{part}", trits, U8, oracle.pack_channels(trits))
        scales[name] = {"frac": 4, "gain": 20000, "gain_shift": 1, "beta": 900}

    side, inputs = image, 1
    for i, (channels, kernel, stride, padding) in enumerate(stem):
        put_linear(f"patch_embed.backbone.{i}.conv", channels, kernel * kernel * inputs)
        put(f"patch_embed.backbone.{i}.act.table", RELU_LIKE, I8)
        side, inputs = (side + 2 * padding - kernel) // stride + 1, channels
    kernel, stride, padding = patch
    put_linear("patch_embed.proj", width, kernel * kernel * inputs)
    tokens = ((side + 2 * padding - kernel) // stride + 1) ** 2 + 1
    put("cls_token", rng.integers(-90, 90, width), I8)
    put("pos_embed", rng.integers(-90, 90, (tokens - 1, width)), I8)
    scales["cls_token"] = scales["pos_embed"] = {"frac": 5, "residual_shift": 3}
    for i in range(depth):
        block = f"blocks.{i}"
        put_norm(f"{block}.norm1")
        put_linear(f"{block}.attn.qkv", 3 * width, width, min(127, 4095 // (width // heads)))
        put(f"{block}.attn.softmax.table", EXPONENTIAL, I8)
        scales[f"{block}.attn"] = {"frac": 4, "score_shift": 5, "value_gain": 1}
        put_linear(f"{block}.attn.proj", width, width)
        put_norm(f"{block}.norm2")
        put_linear(f"{block}.mlp.fc1", hidden, width)
        put(f"{block}.mlp.act.table", RELU_LIKE, I8)
        put_linear(f"{block}.mlp.fc2", width, hidden)
    put_norm("norm")
    trits = rng.integers(-1, 2, (classes, width))
    put("head.weight", trits, U8, oracle.pack_weight(trits))
    put("head.bias", rng.integers(-300, 300, classes), I32)
    put("head.multiplier", rng.integers(1, 4096, classes), I16)
    architecture = {"img_size": image, "in_chans": 1, "stem": stem, "num_classes": classes}
    architecture |= {
        "patch_size": kernel,
        "patch_stride": stride,
        "patch_padding": padding,
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "mlp_hidden": hidden,
        "pool": "token",
    }
    preprocessing = {"multiplier": [50000], "offset": [-100 * 65536]}
    metadata = {
        "architecture": architecture,
        "preprocessing": preprocessing,
        "scales": scales,
        "shapes": shapes,
    }
    return tensors, {key: json.dumps(value) for key, value in metadata.items()}


@pytest.mark.parametrize(
    "sizes", [{}, {"stem": ((8, 3, 2, 1), (17, 2, 1, 1)), "patch": (3, 3, 0)}], ids=["patches", "stem"]
)
def test_forward_runs_within_all_bounds(sizes):
    tensors, metadata = toy_model(**sizes)
    pictures = np.random.default_rng(3).integers(0, 256, (2, 30, 41, 3)).astype(U8)
    logits = [oracle.forward(tensors, metadata, picture) for picture in pictures]
    assert logits[0].shape == (10,) and logits[0].dtype == I32
    assert not np.array_equal(*logits)


def test_forward_of_an_empty_network():
    """Without blocks the class token alone decides: its position is part of it; norm, head."""
    tensors, metadata = toy_model(width=20, depth=0, heads=1)
    picture = np.zeros((28, 28, 1), U8)
    stream = tensors["cls_token"][:20].astype(I16) * 8
    network = oracle.Network(tensors, metadata)
    y = oracle.layernorm_row(stream, network.trits("norm.weight"), network.trits("norm.bias"), 20000, 1, 900)
    sums = y.astype(I32) @ network.trits("head.weight").T + tensors["head.bias"][:10]
    expected = sums * tensors["head.multiplier"][:10]
    assert np.array_equal(oracle.forward(tensors, metadata, picture), expected)


def test_embedding_of_a_stem_by_hand():
    """One pixel wide convolutions: the table stands between them, positions reach all rows but the first."""
    tensors, metadata = toy_model(image=2, stem=((1, 1, 1, 0),), patch=(1, 1, 0), width=1, depth=0, heads=1)
    for name in ("patch_embed.backbone.0.conv", "patch_embed.proj"):
        tensors[f"{name}.weight"] = oracle.pack_weight(np.array([[-1]]))
        for part, value in (("bias", 0), ("multiplier", 64), ("shift", 0)):
            tensors[f"{name}.{part}"][0] = value
    tensors["cls_token"][0] = 5
    tensors["pos_embed"][:4] = 1, 2, 3, 4
    x = np.array([[10, -10], [-20, 0]], I8)[:, :, None]
    # -x * 64 >> 7 = -5, 5, 10, 0; relu: 0, 5, 10, 0; again: 0, -5 >> 1 = -3, -5, 0; all times 2^3
    expected = [5 * 8, 1 * 8, (-3 + 2) * 8, (-5 + 3) * 8, 4 * 8]
    assert oracle.Network(tensors, metadata).embed(x)[:, 0].tolist() == expected
