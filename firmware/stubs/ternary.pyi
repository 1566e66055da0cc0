# SPDX-License-Identifier: MIT
# Written by `python -m host_sim.stubs` from mpy_module/operations.h.
"""The C module `ternary`: integer kernels of fully ternary vision transformers. SPEC.md defines every operation.

Arguments are positional. Buffers hold elements of the annotated type; typecodes "b" and "B" are always accepted.
A buffer that an operation writes must not overlap another argument. All checks come before the first write:
TypeError for a wrong type or number of arguments, ValueError for a wrong size, address or content; both name operation
and argument.
"""

from array import array
from typing import Literal, TypeAlias

_Readable: TypeAlias = bytes | bytearray | memoryview | array[int]
_Writable: TypeAlias = bytearray | memoryview | array[int]
_Int8: TypeAlias = _Readable
_Int8Out: TypeAlias = _Writable
_Uint8: TypeAlias = _Readable
_Uint8Out: TypeAlias = _Writable
_Int16: TypeAlias = _Readable
_Int16Out: TypeAlias = _Writable
_Int32: TypeAlias = _Readable
_Int32Out: TypeAlias = _Writable

def decode(packed: _Uint8, out: _Int8Out, /) -> None:
    """Unpack trits to int8 [rows, 16] (SPEC 2.2-2.5).

    packed: uint8, read
    out: int8, written
    """

def linear(
    x: _Int8, weight: _Uint8, bias: _Int16, multiplier: _Int8, shift: _Uint8, out: _Int8Out, scratch: _Int8Out, /
) -> None:
    """TernaryBitLinear: x [rows, K] to out [rows, N] (SPEC 4.1-4.5).

    x: int8, read
    weight: uint8, read
    bias: int16, read
    multiplier: int8, read
    shift: uint8, read
    out: int8, written
    scratch: int8, working memory
    """

def linear_columns(
    x: _Int8,
    rows: int,
    weight: _Uint8,
    bias: _Int16,
    multiplier: _Int8,
    shift: _Uint8,
    out: _Int8Out,
    column: int,
    scratch: _Int8Out,
    /,
) -> None:
    """linear, to columns column..column + N - 1 of out [rows, any width].

    x: int8, read
    weight: uint8, read
    bias: int16, read
    multiplier: int8, read
    shift: uint8, read
    out: int8, changed
    scratch: int8, working memory
    """

def linear_add(
    x: _Int8,
    weight: _Uint8,
    bias: _Int16,
    multiplier: _Int8,
    shift: _Uint8,
    out: _Int8Out,
    residual: _Int16Out,
    residual_shift: int,
    scratch: _Int8Out,
    /,
) -> None:
    """linear to out, then residual += out * 2^residual_shift, saturating (SPEC 4, 5.1).

    x: int8, read
    weight: uint8, read
    bias: int16, read
    multiplier: int8, read
    shift: uint8, read
    out: int8, written
    residual: int16, changed
    scratch: int8, working memory
    """

def linear_logits(
    x: _Int8, weight: _Uint8, bias: _Int32, multiplier: _Int16, out: _Int32Out, scratch: _Int8Out, /
) -> None:
    """The head: x [rows, K] to logits [rows, N] (SPEC 4.7).

    x: int8, read
    weight: uint8, read
    bias: int32, read
    multiplier: int16, read
    out: int32, written
    scratch: int8, working memory
    """

def linear_scratch(in_features: int, /) -> int:
    """Bytes of scratch for the linear operations."""

def linear_scratch_least(in_features: int, /) -> int:
    """With fewer bytes, linear and linear_columns use fewer cores or refuse."""

def prefetch(data: _Uint8, /) -> None:
    """A hint that this buffer is read soon: the chip loads it into its cache.

    data: uint8, read
    """

def patches(
    picture: _Int8, width: int, channels: int, kernel: int, stride: int, padding: int, row: int, out: _Int8Out, /
) -> None:
    """Cut an int8 picture into patches: those of rows `row` and up, as many rows as out holds (SPEC 4.6).

    picture: int8, read
    out: int8, written
    """

def convolution(
    picture: _Int8,
    width: int,
    channels: int,
    kernel: int,
    stride: int,
    padding: int,
    weight: _Uint8,
    bias: _Int16,
    multiplier: _Int8,
    shift: _Uint8,
    out: _Int8Out,
    patches: _Int8Out,
    scratch: _Int8Out,
    /,
) -> None:
    """TernaryBitConv2d: picture to out [rows, columns, N]; patches: scratch for a row of them or more (SPEC 4.6).

    picture: int8, read
    weight: uint8, read
    bias: int16, read
    multiplier: int8, read
    shift: uint8, read
    out: int8, written
    patches: int8, working memory
    scratch: int8, working memory
    """

def layernorm(
    x: _Int16,
    weight: _Uint8,
    bias: _Uint8,
    gain: int,
    gain_shift: int,
    beta: int,
    width: int,
    out: _Int8Out,
    scratch: _Int8Out,
    /,
) -> None:
    """TernaryLayerNorm: x [rows, width] to out [rows, width] (SPEC 6).

    x: int16, read
    weight: uint8, read
    bias: uint8, read
    out: int8, written
    scratch: int8, working memory
    """

def layernorm_scratch(width: int, /) -> int:
    """Bytes of scratch for layernorm."""

def attention(
    qkv: _Int8,
    tokens: int,
    heads: int,
    score_shift: int,
    table: _Int8,
    value_gain: int,
    out: _Int8Out,
    column: int,
    scratch: _Int8Out,
    /,
) -> None:
    """All heads: qkv [T, 3 D] to columns column..column + D - 1 of out [T, D or more] (SPEC 7).

    qkv: int8, read
    table: int8, read
    out: int8, changed
    scratch: int8, working memory
    """

def attention_columns(
    kv: _Int8,
    tokens: int,
    heads: int,
    score_shift: int,
    table: _Int8,
    value_gain: int,
    out: _Int8Out,
    column: int,
    scratch: _Int8Out,
    /,
) -> None:
    """The same for q in these columns of out, which its heads replace, and kv [T, 2 D].

    kv: int8, read
    table: int8, read
    out: int8, changed
    scratch: int8, working memory
    """

def attention_scratch(tokens: int, head_width: int, /) -> int:
    """Bytes of scratch for attention and its parts."""

def attention_scratch_least(tokens: int, head_width: int, /) -> int:
    """With fewer bytes, attention uses fewer cores or refuses."""

def attention_scores(
    qkv: _Int8, tokens: int, heads: int, head: int, score_shift: int, out: _Int8Out, scratch: _Int8Out, /
) -> None:
    """Scores of one head: qkv [T, 3 D] to out [T, T or more] (SPEC 7.1).

    qkv: int8, read
    out: int8, written
    scratch: int8, working memory
    """

def softmax(scores: _Int8, tokens: int, table: _Int8, out: _Int8Out, /) -> None:
    """Scores [rows, tokens] to weights [rows, tokens], may be in place (SPEC 7.2, 7.3).

    scores: int8, read
    table: int8, read
    out: int8, written, may be the first argument
    """

def attention_values(
    weights: _Int8, qkv: _Int8, tokens: int, heads: int, head: int, value_gain: int, out: _Int8Out, scratch: _Int8Out, /
) -> None:
    """Mean of one head's v under weights [T, T or more], to its columns of out [T, D] (SPEC 7.4-7.6).

    weights: int8, read
    qkv: int8, read
    out: int8, changed
    scratch: int8, working memory
    """

def lookup(x: _Int8, table: _Int8, out: _Int8Out, /) -> None:
    """out = table[x + 128], may be in place (SPEC 8.1).

    x: int8, read
    table: int8, read
    out: int8, written, may be the first argument
    """

def residual_start(residual: _Int16Out, y: _Int8, shift: int, /) -> None:
    """residual = y * 2^shift (SPEC 5.2).

    residual: int16, written
    y: int8, read
    """

def residual_add(residual: _Int16Out, y: _Int8, shift: int, /) -> None:
    """residual += y * 2^shift, saturating (SPEC 5.1).

    residual: int16, changed
    y: int8, read
    """

def convert(pixels: _Uint8, channels: int, out: _Uint8Out, out_channels: int, /) -> None:
    """Grey to colour or colour to grey (SPEC 3.2).

    pixels: uint8, read
    out: uint8, written
    """

def rgb565(pixels: _Uint8, order: int, out: _Uint8Out, /) -> None:
    """A camera's RGB565 to colour; order: 1 low byte first, 2 red and blue exchanged (SPEC 3.2).

    pixels: uint8, read
    out: uint8, written
    """

def yuv422(pixels: _Uint8, order: int, out: _Uint8Out, /) -> None:
    """A camera's YUV422 to colour; order: 1 luma last, 2 U and V exchanged (SPEC 3.2).

    pixels: uint8, read
    out: uint8, written
    """

def bgr888(pixels: _Uint8, out: _Uint8Out, /) -> None:
    """Red and blue exchanged, may be in place (SPEC 3.2).

    pixels: uint8, read
    out: uint8, written, may be the first argument
    """

def resize(
    pixels: _Uint8,
    width: int,
    channels: int,
    left: int,
    top: int,
    side: int,
    out: _Uint8Out,
    size: int,
    scratch: _Int32Out,
    /,
) -> None:
    """Resize the square (left, top, side) to out [size, size] (SPEC 3.4).

    pixels: uint8, read
    out: uint8, written
    scratch: int32, working memory
    """

def resize_scratch(side: int, channels: int, /) -> int:
    """Bytes of scratch for resize."""

def normalize(pixels: _Uint8, multiplier: _Int32, offset: _Int32, out: _Int8Out, /) -> None:
    """Pixels to int8, may be in place (SPEC 3.5).

    pixels: uint8, read
    multiplier: int32, read
    offset: int32, read
    out: int8, written, may be the first argument
    """

def mean_rows(x: _Int8, out: _Int8Out, /) -> None:
    """Mean of the rows: x [rows, width] to out [width] (SPEC 9.6).

    x: int8, read
    out: int8, written
    """

def topk(logits: _Int32, out: _Int32Out, /) -> None:
    """Indices of the largest logits, best first (SPEC 9.4).

    logits: int32, read
    out: int32, written
    """

def rms_norm(x: _Int8, out: _Int8Out, /) -> None:
    """Features [F] scaled to a root mean square of 32, to out [F] (SPEC 12.1).

    x: int8, read
    out: int8, written
    """

def gram(features: _Int8, width: int, count: int, out: _Int16Out, /) -> None:
    """Products of the last `count` of features [n, width] with all up to their own, packed (SPEC 12.2).

    features: int8, read
    out: int16, written
    """

def drop_class(features: _Int8Out, labels: _Uint8Out, label: int, /) -> int:
    """Remove a class's pictures from features [n, F] and labels [n]; returns how many stay (SPEC 12.3).

    features: int8, changed
    labels: uint8, changed
    """

def ridge_fit(
    features: _Int8,
    labels: _Uint8,
    gram: _Int16,
    ridges: _Int32,
    weights: _Int8Out,
    multiplier: _Int32Out,
    bias: _Int32Out,
    margins: _Int32Out,
    scratch: _Int8Out,
    /,
) -> int:
    """Fit a head of int8 [classes, F] to features [n, F]; returns which ridge was best (SPEC 12.5).

    features: int8, read
    labels: uint8, read
    gram: int16, read
    ridges: int32, read
    weights: int8, written
    multiplier: int32, written
    bias: int32, written
    margins: int32, written
    scratch: int8, working memory
    """

def ridge_scratch(pictures: int, width: int, classes: int, /) -> int:
    """Bytes of scratch for ridge_fit."""

def ridge_scores(x: _Int8, weights: _Int8, multiplier: _Int32, bias: _Int32, out: _Int32Out, /) -> None:
    """Scores of the classes for features [F] (SPEC 12.6).

    x: int8, read
    weights: int8, read
    multiplier: int32, read
    bias: int32, read
    out: int32, written
    """

def span_fit(
    features: _Int8, gram: _Int16, ridge: int, directions: _Uint8Out, distances: _Int32Out, scratch: _Int8Out, /
) -> None:
    """Directions, each (F + 1) // 2 bytes, of features [n, F], and how far each is from the others (SPEC 12.7).

    features: int8, read
    gram: int16, read
    directions: uint8, written
    distances: int32, written
    scratch: int8, working memory
    """

def span_scratch(directions: int, /) -> int:
    """Bytes of scratch for span_fit."""

def span_distance(x: _Int8, directions: _Uint8, /) -> int:
    """Distance of features [F] from the directions of span_fit (SPEC 12.8).

    x: int8, read
    directions: uint8, read
    """

def moments(x: _Int32, out: _Int32Out, /) -> None:
    """Mean and standard deviation of numbers (SPEC 12.9).

    x: int32, read
    out: int32, written
    """

def arena(bytes: int, typecode: Literal["b", "B", "h", "i"] = "b", leave: int = 0, /) -> memoryview:
    """Zeroed memory aligned to 16 bytes, as a memoryview of typecode b, B, h or i (default b).

    On an ESP32-S3 it is internal memory, of which a block of `leave` bytes stays free; elsewhere it is the same as
    `heap`. MemoryError names the bytes that there is no room for, and the largest free block.
    """

def heap(bytes: int, typecode: Literal["b", "B", "h", "i"] = "b", /) -> memoryview:
    """The same, from MicroPython's heap, which on an ESP32-S3 grows into PSRAM."""

def internal() -> list[int] | None:
    """Largest free block of each region of internal memory, in bytes; None where arenas are in MicroPython's heap."""

def cores(count: int = ..., /) -> int:
    """Number of cores that operations use; with a count, sets it first, to the nearest possible number.

    Results do not depend on it. A call that has begun keeps the cores that it began with. TypeError if count is no int,
    ValueError if it does not fit 32 bits.
    """

def use(name: str, /) -> None:
    """Select the backend: "reference", or "pie" on an ESP32-S3; both give the same bits.

    A call that has begun keeps its backend. TypeError if name is no str; ValueError lists the backends of this build.
    """
