# SPDX-License-Identifier: MIT
"""Valid model files of any sizes with random weights."""

import json
import random
import re
import zlib
from typing import Any

from host_sim.setup.package import import_ftervit

Header = dict[str, Any]


def with_crc(content: bytes) -> bytes:
    """The same file with a correct crc32 (SPEC 10.4)."""
    content = re.sub(rb'"crc32":"[0-9a-f]{8}"', b'"crc32":"00000000"', content, count=1)
    return content.replace(b'"crc32":"00000000"', b'"crc32":"%08x"' % zlib.crc32(content), 1)


def compact(value: object) -> str:
    """JSON without white space."""
    return json.dumps(value, separators=(",", ":"))


def assemble(header: Header | bytes, data: bytes) -> bytes:
    """A file made of a header and data, with a correct crc32."""
    text = header if isinstance(header, bytes) else compact(header).encode()
    text += b" " * (-(8 + len(text)) % 16)
    return with_crc(len(text).to_bytes(8, "little") + text + data)


class Writer:
    """Tensors and scales of a random model file (SPEC 10.5, 10.6)."""

    def __init__(self, chance: random.Random, sizes: dict[str, Any]) -> None:
        self.chance, self.architecture = chance, import_ftervit("architecture")
        self.entries: Header = {}
        self.data = b""
        self.shapes: dict[str, list[int]] = {}
        self.scales: dict[str, dict[str, Any]] = {"input": {"frac": 4}, "residual": {"frac": 9}}
        self.network(sizes)

    def tensor(self, name: str, dtype: str, shape: list[int], content: bytes, stored: list[int] | None = None) -> None:
        """Add a tensor; stored: its shape, else one dimension padded to 16 bytes."""
        content += bytes(-len(content) % 16)
        size = self.architecture.product(stored) if stored else len(content)
        stored = stored or [size // {"U8": 1, "I8": 1, "I16": 2, "I32": 4}[dtype]]
        offsets = [len(self.data), len(self.data) + len(content)]
        self.entries[name] = {"dtype": dtype, "shape": stored, "data_offsets": offsets}
        self.shapes[name] = shape
        self.data += content

    def trits(self, name: str, shape: list[int]) -> None:
        """Add random trits."""
        stored = self.architecture.packed_shape(shape)
        self.tensor(name, "U8", shape, self.chance.randbytes(self.architecture.product(stored)), stored)

    def numbers(self, name: str, dtype: str, count: int, low: int, high: int) -> None:
        """Add random integers."""
        width = {"U8": 1, "I8": 1, "I16": 2, "I32": 4}[dtype]
        values = (self.chance.randint(low, high).to_bytes(width, "little", signed=low < 0) for _ in range(count))
        self.tensor(name, dtype, [count], b"".join(values))

    def linear(self, name: str, outputs: int, inputs: int, frac: int | list[int] = 4) -> None:
        """A ternary linear layer."""
        self.trits(f"{name}.weight", [outputs, inputs])
        self.numbers(f"{name}.bias", "I16", outputs, -99, 99)
        self.numbers(f"{name}.multiplier", "I8", outputs, 0, 127)
        self.numbers(f"{name}.shift", "U8", -(-outputs // 16), 0, 9)
        self.scales[name] = {"frac": frac}

    def norm(self, name: str, width: int) -> None:
        """A LayerNorm."""
        self.trits(f"{name}.weight", [width])
        self.trits(f"{name}.bias", [width])
        self.scales[name] = {"frac": 4, "gain": 20000, "gain_shift": 3, "beta": 999}

    def table(self, name: str) -> None:
        """A table of an activation function."""
        self.numbers(f"{name}.table", "I8", 256, -128, 127)
        self.scales[name] = {"frac": 4}

    def network(self, sizes: dict[str, Any]) -> None:
        """Everything, in the exporter's order."""
        grids, width = self.architecture.grids(sizes), sizes["embed_dim"]
        for i, (channels, kernel, _, _) in enumerate(sizes["stem"]):
            self.linear(f"patch_embed.backbone.{i}.conv", channels, kernel * kernel * grids[i][1])
            self.table(f"patch_embed.backbone.{i}.act")
        self.linear("patch_embed.proj", width, sizes["patch_size"] ** 2 * grids[-2][1])
        self.numbers("cls_token", "I8", width, -128, 127)
        tokens = grids[-1][0] ** 2
        self.numbers("pos_embed", "I8", tokens * width, -128, 127)
        self.shapes["pos_embed"] = [tokens, width]
        self.scales |= {name: {"frac": 4, "residual_shift": 4} for name in ("cls_token", "pos_embed")}
        self.scales["patch_embed.proj"]["residual_shift"] = 4
        for i in range(sizes["depth"]):
            self.block(f"blocks.{i}", width, sizes["mlp_hidden"])
        self.norm("norm", width)
        classes = sizes["num_classes"]
        self.trits("head.weight", [classes, width])
        self.numbers("head.bias", "I32", classes, -999, 999)
        self.numbers("head.multiplier", "I16", classes, 0, 4095)
        self.scales["head"] = {"frac": 9}

    def block(self, name: str, width: int, hidden: int) -> None:
        """A transformer block."""
        self.norm(f"{name}.norm1", width)
        self.linear(f"{name}.attn.qkv", 3 * width, width, [4, 4, 4])
        exponentials = bytes(127 >> (i // 16) for i in range(256))
        self.tensor(f"{name}.attn.softmax.table", "I8", [256], exponentials)
        self.scales[f"{name}.attn"] = {"frac": 4, "score_shift": 6, "value_gain": 1}
        self.linear(f"{name}.attn.proj", width, width)
        self.norm(f"{name}.norm2", width)
        self.linear(f"{name}.mlp.fc1", hidden, width)
        self.table(f"{name}.mlp.act")
        self.linear(f"{name}.mlp.fc2", width, hidden)
        for layer in ("attn.proj", "mlp.fc2"):
            self.scales[f"{name}.{layer}"]["residual_shift"] = 4


def assembled(chance: random.Random, sizes: dict[str, Any]) -> bytes:
    """A valid model file of these sizes with random weights."""
    made = Writer(chance, sizes)
    channels = sizes["in_chans"]
    values = {
        "architecture": sizes,
        "labels": [chance.choice(("class", "\u00e9", "\U0001f600", '"', "")) for _ in range(sizes["num_classes"])],
        "preprocessing": {"multiplier": [65536] * channels, "offset": [-8388608] * channels},
        "scales": made.scales,
        "shapes": made.shapes,
    }
    reader = import_ftervit("modelfile")
    fields = {"format": reader.FORMAT, "version": reader.VERSION, "packing": reader.PACKING, "crc32": "0" * 8}
    fields |= {key: compact(value) for key, value in values.items()}
    return assemble({"__metadata__": fields, **made.entries}, made.data)
