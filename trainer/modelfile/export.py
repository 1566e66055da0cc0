# SPDX-License-Identifier: MIT
"""From a calibrated student to the model file of SPEC 10."""

import json
import struct
import tempfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from host_sim.setup.package import import_ftervit
from trainer.errors import TrainerError
from trainer.files import write_atomically
from trainer.integer.attention import exponential_table, score_shift, value_gain
from trainer.integer.head import fold_head
from trainer.integer.layernorm import fold_layernorm
from trainer.integer.linear import fold_linear
from trainer.integer.lookup import activation_table
from trainer.integer.network import IntegerNetwork
from trainer.integer.operations import LAST_NORM, RESIDUAL, Operation, Walker
from trainer.integer.residual import embedding
from trainer.model.student import Student
from trainer.modelfile.packing import pack_matrix, pack_vector

DTYPES = {"uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32"}


@dataclass(frozen=True)
class Int8Head:
    """A head of SPEC 4.8 that takes the place of a student's own.

    weight: int8 [classes, features]; multiplier, bias: int32 [classes]; frac: of the logits; pooling: of SPEC 9.5;
    threshold: of SPEC 9.8, None for none.
    """

    labels: tuple[str, ...]
    weight: np.ndarray
    multiplier: np.ndarray
    bias: np.ndarray
    frac: int
    pooling: str = "token"
    threshold: int | None = None

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """SPEC 4.8: integers [count, features] -> int32 logits [count, classes]."""
        sums = features.astype(np.int64) @ self.weight.T.astype(np.int64)
        logits = (sums * self.multiplier >> 24) + self.bias
        return logits.clip(-(2**31), 2**31 - 1).astype(np.int32)


@dataclass(frozen=True)
class Entry:
    """One tensor: its logical shape and the stored array."""

    shape: list[int]
    stored: np.ndarray


def padded(values: Tensor, dtype: str) -> Entry:
    """A tensor of integers, stored as one dimension padded with zeros to a multiple of 16 bytes."""
    array = values.detach().numpy()
    exact = array.astype(dtype)
    if not np.array_equal(exact, array):
        raise TrainerError(f"values from {array.min()} to {array.max()} do not fit {dtype}")
    flat = exact.ravel()
    per_block = 16 // flat.itemsize
    return Entry(list(array.shape), np.pad(flat, (0, -len(flat) % per_block)))


class Exporter(Walker):
    """Collects tensors and scales of a calibrated student, operation by operation.

    other: a head that takes the place of the student's; threshold: for the student's own (SPEC 9.8).
    """

    def __init__(self, student: Student, other: Int8Head | None = None, threshold: int | None = None):
        if not isinstance(student.arithmetic, IntegerNetwork):
            raise TrainerError("the student has no activation scales; calibrate it first")
        self.student, self.network, self.fracs = student, student.arithmetic, student.fracs
        self.other, self.threshold = other, other.threshold if other else threshold
        self.tensors: dict[str, Entry] = {}
        self.scales: dict[str, dict[str, int | list[int]]] = {}

    def run(self) -> None:
        """Collect everything."""
        self.walk(self.network.operations)

    def frac(self, name: str) -> None:
        """The frac of an output."""
        self.scales[name] = {"frac": self.fracs[name]}

    def input(self, operation: Operation) -> None:
        """SPEC 3.5 is in `preprocessing`: fracs alone."""
        self.frac("input")
        self.frac(RESIDUAL)

    def linear(self, operation: Operation) -> None:
        """SPEC 4.1."""
        name = operation.name
        folded = fold_linear(self.network.effective(name), self.network.place(name))
        trits = folded.trits.numpy()
        self.tensors[f"{name}.weight"] = Entry(list(trits.shape), pack_matrix(trits))
        self.tensors[f"{name}.bias"] = padded(folded.bias, "int16")
        self.tensors[f"{name}.multiplier"] = padded(folded.multiplier, "int8")
        self.tensors[f"{name}.shift"] = padded(folded.shift, "uint8")
        if not name.endswith(".qkv"):  # whose fracs are those of q, k and v
            self.frac(name)

    convolution = linear

    def lookup(self, operation: Operation) -> None:
        """SPEC 8.1's table."""
        name, (source,) = operation.name, operation.sources
        table = activation_table(self.network.act(name), self.fracs[source], self.fracs[name])
        self.tensors[f"{name}.table"] = padded(table, "int8")
        self.frac(name)

    def layernorm(self, operation: Operation) -> None:
        """SPEC 6."""
        name = operation.name
        folded = fold_layernorm(self.network.layer(name), self.fracs[name])
        for part, trits in (("weight", folded.gamma), ("bias", folded.beta_trits)):
            self.tensors[f"{name}.{part}"] = Entry(list(trits.shape), pack_vector(trits.numpy()))
        self.frac(name)
        self.scales[name] |= {"gain": folded.gain, "gain_shift": folded.gain_shift, "beta": folded.beta}

    def attention(self, operation: Operation) -> None:
        """SPEC 7's table and integers."""
        name, sizes, fracs = operation.name, self.student.architecture, self.fracs
        table = exponential_table(fracs[f"{name}.scores"], sizes.embed_dim // sizes.num_heads)
        self.tensors[f"{name}.softmax.table"] = padded(table, "int8")
        self.scales[f"{name}.qkv"] = {"frac": [fracs[f"{name}.{part}"] for part in "qkv"]}
        self.frac(name)
        self.scales[name] |= {"score_shift": score_shift(fracs, name), "value_gain": value_gain(fracs, name)}

    def embedding(self, operation: Operation) -> None:
        """SPEC 5.2's constants."""
        name = operation.name
        values = self.network.embedding(name)[0]
        values = values[0] if name == "cls_token" else values
        self.tensors[name] = padded(embedding(values, self.fracs[name]), "int8")
        self.frac(name)

    def residual_start(self, operation: Operation) -> None:
        """SPEC 5.2's shift of each branch."""
        for name in operation.sources:
            self.scales[name]["residual_shift"] = self.network.residual_shift(name)

    residual_add = residual_start

    def head(self, operation: Operation) -> None:
        """SPEC 4.7, or 4.8."""
        if self.other is not None:
            for part in ("weight", "bias", "multiplier"):
                values = torch.from_numpy(getattr(self.other, part))
                self.tensors[f"head.{part}"] = padded(values, "int8" if part == "weight" else "int32")
            self.scales["head"] = {"frac": self.other.frac}
            return
        folded = fold_head(self.network.effective("head"), self.fracs[LAST_NORM], self.fracs["head"])
        trits = folded.trits.numpy()
        self.tensors["head.weight"] = Entry(list(trits.shape), pack_matrix(trits))
        self.tensors["head.bias"] = padded(folded.bias, "int32")
        self.tensors["head.multiplier"] = padded(folded.multiplier, "int16")
        self.frac("head")

    def metadata(self) -> dict[str, str]:
        """SPEC 10.4, with the CRC still zero."""
        reader, other = import_ftervit().modelfile, self.other
        architecture, labels = asdict(self.student.architecture), self.student.blueprint.labels
        if other is not None:
            labels = other.labels
            architecture |= {"num_classes": len(labels), "pool": other.pooling, "head": "int8"}
        elif self.threshold is not None:
            architecture |= {"head": "ternary"}
        values: dict[str, Any] = {
            "architecture": architecture,
            "labels": labels,
            "preprocessing": asdict(self.network.normalization),
            "scales": self.scales,
            "shapes": {name: entry.shape for name, entry in self.tensors.items()},
        }
        if self.threshold is not None:
            values["threshold"] = self.threshold
        texts = {name: compact_json(value) for name, value in values.items()}
        # Files that version 2 has a form for stay as they are, for readers that know no other.
        version = reader.HEAD_VERSION if "head" in architecture else reader.VERSION
        identity = {"format": reader.FORMAT, "version": version, "packing": reader.PACKING}
        return {**identity, "crc32": "0" * 8, **texts}


def compact_json(value: object) -> str:
    """JSON in ASCII without white space (SPEC 10.2)."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def model_file_bytes(tensors: dict[str, Entry], metadata: dict[str, str]) -> bytes:
    """The whole file of SPEC 10; `metadata` must carry a crc32 of eight zeros."""
    header: dict[str, object] = {"__metadata__": metadata}
    offset = 0
    for name, entry in tensors.items():
        end = offset + entry.stored.nbytes
        header[name] = {
            "dtype": DTYPES[entry.stored.dtype.name],
            "shape": list(entry.stored.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = compact_json(header).encode()
    text += b" " * (-(8 + len(text)) % 16)
    content = struct.pack("<Q", len(text)) + text
    content += b"".join(np.ascontiguousarray(entry.stored).tobytes() for entry in tensors.values())
    zeros = b'"crc32":"00000000"'
    return content.replace(zeros, b'"crc32":"%08x"' % zlib.crc32(content), 1)


def check_readable(content: bytes, path: Path) -> None:
    """Check with the shipped package that a new model file is readable, before it replaces another."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(content)
        file.flush()
        try:
            import_ftervit().VisionTransformer.load(file.name)
        except ValueError as error:
            raise TrainerError(f"{path} is not written, the reader refuses it: {error}") from None


def export(student: Student, path: Path, head: Int8Head | None = None, threshold: int | None = None) -> int:
    """Write the model file of a calibrated student, whole or not at all; returns its size in bytes.

    head: takes the place of the student's; threshold: for the student's own (SPEC 9.8).
    """
    exporter = Exporter(student.eval(), head, threshold)
    exporter.run()
    content = model_file_bytes(exporter.tensors, exporter.metadata())
    check_readable(content, path)
    write_atomically(content, path)
    return len(content)
