# SPDX-License-Identifier: MIT
"""From a calibrated student to the model file of SPEC 10."""

import json
import struct
import tempfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from trainer.errors import TrainerError
from trainer.integer.network import (
    STAGE,
    IntegerNetwork,
    activation_table,
    class_token,
    embedding,
    exponential_table,
    fold_head,
    fold_layernorm,
    fold_linear,
    positions,
    score_shift,
    value_gain,
)
from trainer.model.quantize import pack_matrix, pack_vector
from trainer.model.student import Student
from trainer.package import import_ftervit
from trainer.training.checkpoint import write_atomically

DTYPES = {"uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32"}


@dataclass(frozen=True)
class Entry:
    """One tensor: its logical shape and the array that is stored."""

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


class Exporter:
    """Collects tensors and scales of a student, layer by layer."""

    def __init__(self, student: Student):
        if not student.fracs:
            raise TrainerError("the student has no activation scales; calibrate it first")
        self.student, self.vit, self.fracs = student, student.vit, student.fracs
        self.network = IntegerNetwork(student)
        self.tensors: dict[str, Entry] = {}
        self.scales: dict[str, dict[str, int | list[int]]] = {}

    def linear(self, name: str) -> None:
        """SPEC 4.1."""
        folded = fold_linear(self.network.effective(name), self.network.place(name))
        trits = folded.trits.numpy()
        self.tensors[f"{name}.weight"] = Entry(list(trits.shape), pack_matrix(trits))
        self.tensors[f"{name}.bias"] = padded(folded.bias, "int16")
        self.tensors[f"{name}.multiplier"] = padded(folded.multiplier, "int8")
        self.tensors[f"{name}.shift"] = padded(folded.shift, "uint8")
        if not name.endswith("qkv"):
            self.scales[name] = {"frac": self.fracs[name]}

    def activation(self, name: str, in_name: str) -> None:
        """SPEC 8.1's table."""
        table = activation_table(self.network.act(name), self.fracs[in_name], self.fracs[name])
        self.tensors[f"{name}.table"] = padded(table, "int8")
        self.scales[name] = {"frac": self.fracs[name]}

    def branch(self, name: str) -> None:
        """SPEC 5.1's shift of a branch."""
        self.scales[name] = {"frac": self.fracs[name], "residual_shift": self.network.residual_shift(name)}

    def layernorm(self, name: str) -> None:
        """SPEC 6."""
        folded = fold_layernorm(self.network.layer(name), self.fracs[name])
        for part, trits in (("weight", folded.gamma), ("bias", folded.beta_trits)):
            self.tensors[f"{name}.{part}"] = Entry(list(trits.shape), pack_vector(trits.numpy()))
        self.scales[name] = {
            "frac": self.fracs[name],
            "gain": folded.gain,
            "gain_shift": folded.gain_shift,
            "beta": folded.beta,
        }

    def attention(self, name: str) -> None:
        """SPEC 7's table and integers."""
        sizes, fracs = self.student.architecture, self.fracs
        table = exponential_table(fracs[f"{name}.scores"], sizes.embed_dim // sizes.num_heads)
        self.tensors[f"{name}.softmax.table"] = padded(table, "int8")
        self.scales[f"{name}.qkv"] = {"frac": [fracs[f"{name}.{part}"] for part in "qkv"]}
        self.scales[name] = {
            "frac": fracs[name],
            "score_shift": score_shift(fracs, name),
            "value_gain": value_gain(fracs, name),
        }

    def embed(self) -> None:
        """SPEC 9.1's tensors."""
        for index in range(len(self.student.architecture.stem)):
            self.linear(f"{STAGE}.{index}.conv")
            self.activation(f"{STAGE}.{index}.act", f"{STAGE}.{index}.conv")
        self.linear("patch_embed.proj")
        self.branch("patch_embed.proj")
        for name, values in (("cls_token", class_token(self.vit)[0, 0]), ("pos_embed", positions(self.vit)[0])):
            self.tensors[name] = padded(embedding(values, self.fracs[name]), "int8")
            self.branch(name)

    def block(self, name: str) -> None:
        """SPEC 9.2's tensors."""
        self.layernorm(f"{name}.norm1")
        self.linear(f"{name}.attn.qkv")
        self.attention(f"{name}.attn")
        self.linear(f"{name}.attn.proj")
        self.branch(f"{name}.attn.proj")
        self.layernorm(f"{name}.norm2")
        self.linear(f"{name}.mlp.fc1")
        self.activation(f"{name}.mlp.act", f"{name}.mlp.fc1")
        self.linear(f"{name}.mlp.fc2")
        self.branch(f"{name}.mlp.fc2")

    def head(self) -> None:
        """SPEC 4.7."""
        folded = fold_head(self.network.effective("head"), self.fracs["norm"], self.fracs["head"])
        trits = folded.trits.numpy()
        self.tensors["head.weight"] = Entry(list(trits.shape), pack_matrix(trits))
        self.tensors["head.bias"] = padded(folded.bias, "int32")
        self.tensors["head.multiplier"] = padded(folded.multiplier, "int16")
        self.scales["head"] = {"frac": self.fracs["head"]}

    def run(self) -> None:
        """All layers, in the order of the forward pass."""
        self.scales["input"] = {"frac": self.fracs["input"]}
        self.scales["residual"] = {"frac": self.fracs["residual"]}
        self.embed()
        for index in range(self.student.architecture.depth):
            self.block(f"blocks.{index}")
        self.layernorm("norm")
        self.head()

    def metadata(self) -> dict[str, str]:
        """SPEC 10.4, with the CRC still zero."""
        values = {
            "architecture": asdict(self.student.architecture),
            "labels": self.student.blueprint.labels,
            "preprocessing": asdict(self.network.normalization),
            "scales": self.scales,
            "shapes": {name: entry.shape for name, entry in self.tensors.items()},
        }
        texts = {name: compact_json(value) for name, value in values.items()}
        reader = import_ftervit().modelfile
        identity = {"format": reader.FORMAT, "version": reader.VERSION, "packing": reader.PACKING}
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
    """Let the package that ships read a model file before it takes the place of another."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(content)
        file.flush()
        try:
            import_ftervit().VisionTransformer.load(file.name)
        except ValueError as error:
            raise TrainerError(f"{path} is not written, the reader refuses it: {error}") from None


def export(student: Student, path: Path) -> int:
    """Write the model file of a calibrated student, whole or not at all; returns its size in bytes."""
    exporter = Exporter(student.eval())
    exporter.run()
    content = model_file_bytes(exporter.tensors, exporter.metadata())
    check_readable(content, path)
    write_atomically(content, path)
    return len(content)
