# SPDX-License-Identifier: MIT
"""Types of the package `ftervit`, for editors; firmware/ftervit documents each function.

tests/firmware/test_stubs.py compares names and parameters with the package.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeAlias

__all__ = (
    "Activation",
    "Attention",
    "Block",
    "ConvAct",
    "Image",
    "Mlp",
    "ModelFile",
    "PatchEmbed",
    "Softmax",
    "TernaryBitConv2d",
    "TernaryBitLinear",
    "TernaryHead",
    "TernaryLayerNorm",
    "VisionTransformer",
    "read_image",
)

_Readable: TypeAlias = bytes | bytearray | memoryview | array[int]
_Writable: TypeAlias = bytearray | memoryview | array[int]
# Any layer may be replaced by a function (x, out).
_Layer: TypeAlias = Callable[..., Any]

class Image:
    pixels: _Readable
    width: int
    height: int
    channels: int
    def __init__(self, pixels: _Readable, width: int, height: int, channels: int) -> None: ...
    @classmethod
    def from_rgb565(cls, pixels: _Readable, width: int, height: int, order: str = "big") -> Self: ...
    @classmethod
    def from_yuv422(cls, pixels: _Readable, width: int, height: int, order: str = "yuyv") -> Self: ...
    @classmethod
    def from_rgb888(cls, pixels: _Readable, width: int, height: int, order: str = "rgb") -> Self: ...
    @classmethod
    def from_jpeg(cls, data: _Readable) -> Self: ...
    def save(self, path: str) -> None: ...
    def square(self, size: int, channels: int) -> memoryview: ...
    def show(self, columns: int = 56) -> None: ...

def read_image(path: str) -> Image: ...

class Learner:
    model: VisionTransformer
    pooling: str
    width: int
    labels: list[str]
    counts: dict[str, int]
    capacity: int
    def __init__(self, model: VisionTransformer, pooling: str = "token", capacity: int | None = None) -> None: ...
    def features(self, picture: Image | _Readable) -> memoryview: ...
    def learn(self, label: str, picture: Image | _Readable) -> None: ...
    def add(self, label: str, x: _Readable) -> None: ...
    def undo(self) -> str | None: ...
    def forget(self, label: str) -> None: ...
    def head(self) -> Any: ...
    def predict(self, picture: Image | _Readable, top: int = 3) -> list[tuple[str, float]]: ...
    def decide(self, x: _Readable, top: int = 3) -> list[tuple[str, float]]: ...
    def save(self, path: str, pictures: bool = True) -> None: ...
    @classmethod
    def load(cls, path: str, model: VisionTransformer, teach: bool = True, capacity: int | None = None) -> Self: ...

class ModelFile:
    path: str
    digest: bytes
    version: str
    threshold: int | None
    architecture: dict[str, Any]
    labels: Sequence[str]
    preprocessing: dict[str, list[int]]
    def __init__(self, path: str) -> None: ...
    def refuse(self, field: str, why: str) -> None: ...
    def scale(self, layer: str, key: str) -> int: ...
    def frac(self, layer: str) -> int: ...
    def fracs(self, layer: str, count: int) -> list[int]: ...
    def tensor(self, name: str, dtype: str, shape: list[int], trits: bool = False) -> memoryview: ...
    def ahead(self) -> memoryview: ...
    def finish(self) -> None: ...

class TernaryBitLinear:
    weight: _Readable
    bias: _Readable
    multiplier: _Readable
    shift: _Readable
    in_features: int
    out_features: int
    frac: int | None
    ahead: _Readable
    scratch: Any
    def __init__(
        self,
        weight: _Readable,
        bias: _Readable,
        multiplier: _Readable,
        shift: _Readable,
        in_features: int,
        frac: int | None = None,
        scratch: Any = None,
    ) -> None: ...
    @classmethod
    def load(
        cls,
        file: ModelFile,
        name: str,
        in_features: int,
        out_features: int,
        frac: int | None = None,
        scratch: Any = None,
    ) -> Self: ...
    @classmethod
    def like(cls, layer: TernaryBitLinear) -> Self: ...
    def __call__(self, x: _Readable, out: _Writable | None = None) -> _Writable: ...
    def add(self, x: _Readable, out: _Writable, residual: _Writable, shift: int) -> None: ...
    def weight_of(self, first: int, count: int) -> memoryview: ...
    def columns(self, first: int, count: int, x: _Readable, out: _Writable, column: int) -> None: ...
    def trits(self, tile: int) -> memoryview: ...

class TernaryBitConv2d:
    linear: _Layer
    out_features: int
    side: int
    channels: int
    kernel: int
    stride: int
    padding: int
    new_side: int
    patch_rows: int
    scratch: Any
    def __init__(
        self,
        linear: TernaryBitLinear,
        side: int,
        channels: int,
        kernel: int,
        stride: int,
        padding: int,
        scratch: Any = None,
    ) -> None: ...
    @classmethod
    def load(
        cls,
        file: ModelFile,
        name: str,
        side: int,
        channels: int,
        kernel: int,
        stride: int,
        padding: int,
        out_features: int,
        scratch: Any = None,
    ) -> Self: ...
    def rows(self) -> int: ...
    def patch_bytes(self) -> int: ...
    def out_bytes(self) -> int: ...
    def __call__(self, picture: _Readable, out: _Writable | None = None) -> _Writable: ...

class ConvAct:
    conv: TernaryBitConv2d
    act: _Layer
    def __init__(self, conv: TernaryBitConv2d, act: _Layer) -> None: ...
    def __call__(self, picture: _Readable, out: _Writable | None = None) -> _Writable: ...

class PatchEmbed:
    backbone: list[ConvAct]
    proj: TernaryBitConv2d
    convolutions: list[TernaryBitConv2d]
    scratch: Any
    def __init__(self, backbone: list[ConvAct], proj: TernaryBitConv2d, scratch: Any = None) -> None: ...
    @classmethod
    def load(cls, file: ModelFile, sizes: dict[str, Any], scratch: Any = None) -> Self: ...
    def __call__(self, picture: _Readable, out: _Writable | None = None) -> _Writable: ...

class Int8Head:
    weight: _Readable
    bias: _Readable
    multiplier: _Readable
    in_features: int
    out_features: int
    frac: int
    def __init__(
        self,
        weight: _Readable,
        bias: _Readable,
        multiplier: _Readable,
        in_features: int,
        out_features: int,
        frac: int,
        scratch: Any = None,
    ) -> None: ...
    @classmethod
    def load(cls, file: ModelFile, name: str, in_features: int, out_features: int, scratch: Any = None) -> Self: ...
    def __call__(self, x: _Readable, out: _Writable | None = None) -> _Writable: ...

class TernaryHead:
    weight: _Readable
    bias: _Readable
    multiplier: _Readable
    in_features: int
    out_features: int
    frac: int
    scratch: Any
    def __init__(
        self,
        weight: _Readable,
        bias: _Readable,
        multiplier: _Readable,
        in_features: int,
        out_features: int,
        frac: int,
        scratch: Any = None,
    ) -> None: ...
    @classmethod
    def load(cls, file: ModelFile, name: str, in_features: int, out_features: int, scratch: Any = None) -> Self: ...
    def __call__(self, x: _Readable, out: _Writable | None = None) -> _Writable: ...

class TernaryLayerNorm:
    weight: _Readable
    bias: _Readable
    gain: int
    gain_shift: int
    beta: int
    width: int
    frac: int | None
    scratch: Any
    def __init__(
        self,
        weight: _Readable,
        bias: _Readable,
        gain: int,
        gain_shift: int,
        beta: int,
        width: int,
        frac: int | None = None,
        scratch: Any = None,
    ) -> None: ...
    @classmethod
    def load(cls, file: ModelFile, name: str, width: int, scratch: Any = None) -> Self: ...
    def __call__(self, x: _Readable, out: _Writable | None = None) -> _Writable: ...

class Activation:
    table: _Readable
    frac: int | None
    def __init__(self, table: _Readable, frac: int | None = None) -> None: ...
    @classmethod
    def load(cls, file: ModelFile, name: str) -> Self: ...
    def __call__(self, x: _Writable, out: _Writable | None = None) -> _Writable: ...

class Softmax:
    table: _Readable
    def __init__(self, table: _Readable) -> None: ...
    @classmethod
    def load(cls, file: ModelFile, name: str) -> Self: ...
    def __call__(self, scores: _Readable, out: _Writable | None = None) -> _Writable: ...

class Attention:
    qkv: _Layer
    softmax: _Layer
    proj: _Layer
    heads: int
    width: int
    score_shift: int
    value_gain: int
    scratch: Any
    def __init__(
        self,
        qkv: _Layer,
        softmax: _Layer,
        proj: _Layer,
        heads: int,
        width: int,
        score_shift: int,
        value_gain: int,
        scratch: Any = None,
    ) -> None: ...
    @classmethod
    def load(cls, file: ModelFile, name: str, width: int, heads: int, scratch: Any = None) -> Self: ...
    def __call__(self, x: _Readable, out: _Writable | None = None) -> _Writable: ...
    def mix(self, x: _Readable, out: _Writable | None = None, qkv: _Writable | None = None) -> _Writable: ...
    def attend(self, qkv: _Readable, tokens: int, out: _Writable) -> _Writable: ...
    def scores(self, qkv: _Readable, tokens: int, head: int) -> memoryview: ...
    def values(self, weights: _Readable, qkv: _Readable, tokens: int, head: int, out: _Writable) -> None: ...

class Mlp:
    fc1: Any
    act: _Layer
    fc2: Any
    width: int
    hidden: int
    scratch: Any
    def __init__(self, fc1: _Layer, act: _Layer, fc2: _Layer, width: int, hidden: int, scratch: Any = None) -> None: ...
    @classmethod
    def load(cls, file: ModelFile, name: str, width: int, hidden: int, scratch: Any = None) -> Self: ...
    def __call__(self, x: _Readable, out: _Writable | None = None) -> _Writable: ...
    def add(self, x: _Readable, out: _Writable, residual: _Writable, shift: int) -> None: ...

class Block:
    norm1: _Layer
    attn: Attention
    norm2: _Layer
    mlp: Mlp
    attn_shift: int
    mlp_shift: int
    scratch: Any
    def __init__(
        self,
        norm1: _Layer,
        attn: _Layer,
        norm2: _Layer,
        mlp: _Layer,
        attn_shift: int,
        mlp_shift: int,
        scratch: Any = None,
    ) -> None: ...
    @classmethod
    def load(cls, file: ModelFile, name: str, width: int, hidden: int, heads: int, scratch: Any = None) -> Self: ...
    def __call__(self, x: _Writable, out: _Writable | None = None) -> _Writable: ...

class VisionTransformer:
    labels: Sequence[str]
    digest: bytes
    img_size: int
    in_chans: int
    embed_dim: int
    tokens: int
    multiplier: array[int]
    offset: array[int]
    patch_embed: PatchEmbed
    cls_token: _Readable
    pos_embed: _Readable
    shifts: list[int]
    blocks: list[Block]
    norm: TernaryLayerNorm
    head: TernaryHead | Int8Head
    pooling: str
    threshold: int | None
    logit_frac: int
    activation_bytes: int
    plan: Any
    def __init__(
        self, file: ModelFile, sram: int | None = None, piece: int | None = None, reserve: int | None = None
    ) -> None: ...
    @classmethod
    def load(cls, path: str, sram: int | None = None, piece: int | None = None, reserve: int | None = None) -> Self: ...
    def preprocess(self, image: Image) -> memoryview: ...
    def embed(self, picture: _Readable) -> memoryview: ...
    def feature_count(self, pooling: str = "token") -> int: ...
    def features(self, picture: _Readable, pooling: str = "token", out: _Writable | None = None) -> memoryview: ...
    def __call__(self, picture: _Readable) -> memoryview: ...
    def predict(self, image: Image, top: int = 3) -> list[tuple[str, float]]: ...
