# SPDX-License-Identifier: MIT
"""SPEC 9 as a list: every operation of a network, in order.

Whatever goes through a network walks this list: the integer forward, calibration, the exporter and the report.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from trainer.model.vit import Architecture

STAGE = "patch_embed.backbone"  # timm's name of the stem
RESIDUAL = "residual"  # name of the residual stream
LAST_NORM = "norm"  # the LayerNorm of row 0 alone (SPEC 9.3)


class Kind(StrEnum):
    """What an operation does; each is a method of Walker."""

    INPUT = "input"  # 3.5
    LINEAR = "linear"  # 4
    CONVOLUTION = "convolution"  # 4.6
    HEAD = "head"  # 4.7
    EMBEDDING = "embedding"  # a constant of 5.2
    RESIDUAL_START = "residual_start"  # 5.2
    RESIDUAL_ADD = "residual_add"  # 5.1
    LAYERNORM = "layernorm"  # 6
    ATTENTION = "attention"  # 7
    LOOKUP = "lookup"  # 8


@dataclass(frozen=True)
class Operation:
    """One operation.

    name: of its output, which is also the layer's name in the model file; sources: names of its inputs;
    recorded: where timm's float model has the same values, its name followed by ".in" or ".out" of a module
    (see calibrate.Recording); geometry: kernel, stride and padding of a convolution, else zeros.
    """

    kind: Kind
    name: str
    sources: tuple[str, ...] = ()
    recorded: str = ""
    geometry: tuple[int, int, int] = (0, 0, 0)


def stem(sizes: Architecture) -> Iterable[Operation]:
    """SPEC 9.1 up to the patch embeddings."""
    source = "input"
    for index, (_, kernel, stride, padding) in enumerate(sizes.stem):
        stage = f"{STAGE}.{index}"
        geometry = (kernel, stride, padding)
        yield Operation(Kind.CONVOLUTION, f"{stage}.conv", (source,), f"{stage}.bn.act.in", geometry)
        yield Operation(Kind.LOOKUP, f"{stage}.act", (f"{stage}.conv",), f"{stage}.bn.act.out")
        source = f"{stage}.act"
    geometry = (sizes.patch_size, sizes.patch_stride, sizes.patch_padding)
    yield Operation(Kind.CONVOLUTION, "patch_embed.proj", (source,), "patch_embed.proj.out", geometry)


def residual_start() -> Iterable[Operation]:
    """SPEC 5.2."""
    yield Operation(Kind.EMBEDDING, "cls_token")
    yield Operation(Kind.EMBEDDING, "pos_embed")
    yield Operation(Kind.RESIDUAL_START, RESIDUAL, ("cls_token", "patch_embed.proj", "pos_embed"))


def block(name: str) -> Iterable[Operation]:
    """SPEC 9.2. What is recorded of attn.proj and mlp.fc2 has been through LayerScale, which folds into them."""
    norm1, qkv, attn, proj = f"{name}.norm1", f"{name}.attn.qkv", f"{name}.attn", f"{name}.attn.proj"
    norm2, fc1, act, fc2 = f"{name}.norm2", f"{name}.mlp.fc1", f"{name}.mlp.act", f"{name}.mlp.fc2"
    yield Operation(Kind.LAYERNORM, norm1, (RESIDUAL,), f"{norm1}.out")
    yield Operation(Kind.LINEAR, qkv, (norm1,), f"{qkv}.out")
    yield Operation(Kind.ATTENTION, attn, (qkv,), f"{proj}.in")
    yield Operation(Kind.LINEAR, proj, (attn,), f"{name}.ls1.out")
    yield Operation(Kind.RESIDUAL_ADD, RESIDUAL, (proj,))
    yield Operation(Kind.LAYERNORM, norm2, (RESIDUAL,), f"{norm2}.out")
    yield Operation(Kind.LINEAR, fc1, (norm2,), f"{fc1}.out")
    yield Operation(Kind.LOOKUP, act, (fc1,), f"{act}.out")
    yield Operation(Kind.LINEAR, fc2, (act,), f"{name}.ls2.out")
    yield Operation(Kind.RESIDUAL_ADD, RESIDUAL, (fc2,))


def operations(sizes: Architecture) -> list[Operation]:
    """All operations of a network, the head last.

    Every output but the residual stream is the input of exactly one operation, and a linear layer, a convolution or
    the attention has one input.
    """
    listed = [Operation(Kind.INPUT, "input"), *stem(sizes), *residual_start()]
    for index in range(sizes.depth):
        listed += block(f"blocks.{index}")
    listed.append(Operation(Kind.LAYERNORM, LAST_NORM, (RESIDUAL,), f"{LAST_NORM}.out"))
    listed.append(Operation(Kind.HEAD, "head", (LAST_NORM,)))
    return listed


class Walker(ABC):
    """Goes through a network's operations; a method for every kind."""

    def walk(self, listed: Iterable[Operation]) -> None:
        """Call the method of each operation, in order."""
        for operation in listed:
            getattr(self, operation.kind)(operation)

    @abstractmethod
    def input(self, operation: Operation) -> None:
        """SPEC 3.5."""

    @abstractmethod
    def linear(self, operation: Operation) -> None:
        """SPEC 4."""

    @abstractmethod
    def convolution(self, operation: Operation) -> None:
        """SPEC 4.6."""

    @abstractmethod
    def head(self, operation: Operation) -> None:
        """SPEC 4.7."""

    @abstractmethod
    def embedding(self, operation: Operation) -> None:
        """cls_token or pos_embed of SPEC 5.2."""

    @abstractmethod
    def residual_start(self, operation: Operation) -> None:
        """SPEC 5.2."""

    @abstractmethod
    def residual_add(self, operation: Operation) -> None:
        """SPEC 5.1."""

    @abstractmethod
    def layernorm(self, operation: Operation) -> None:
        """SPEC 6."""

    @abstractmethod
    def attention(self, operation: Operation) -> None:
        """SPEC 7."""

    @abstractmethod
    def lookup(self, operation: Operation) -> None:
        """SPEC 8."""
