# SPDX-License-Identifier: MIT
"""Model files: small valid ones of random sizes, and mutations of their structure with a right CRC-32."""

import json
import random
import re
import zlib
from collections.abc import Iterator
from typing import Any

from host_sim.fuzz.firmware import import_ftervit

Header = dict[str, Any]

DEEP = "[" * 3000 + "]" * 3000
VALUES: tuple[str, ...] = (
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    "NaN",
    "Infinity",
    "1e999",
    "65535",
    "9" * 19,
    "9" * 5000,
    "[]",
    "{}",
    '""',
)
VALUES += ('"token"', '"a\\nb"', '"\\ud800"', "[[1]]", "[1,2,3,4]", "[1,2,3,4,5,6,7,8,9]", '{"frac":3}', "[null]", DEEP)
VALUES += (
    "+2",
    "1_6",
    " 2",
    "2 ",
    "007",
    "-0",
    "4096",
    "4033",
    "2147483648",
    '["a" "b"]',
    '"\\ud83d\\ude00"',
    "1,1",
    "",
)
DTYPES = ("U8", "I8", "I16", "I32", "BOOL", "F16", "BF16", "F8_E4M3", "F64", "U64", "X")
NAMES = ("x\ny", "\u20ac", "head.weight", "", "x" * 3000, 'evil"head.weight', "a\\b")
BYTES = b'0123456789,[]{}":x-+_ \\\xb2\xe9'


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


def split(content: bytes) -> tuple[Header, bytes]:
    """Header and data of a file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def random_architecture(chance: random.Random) -> dict[str, Any]:
    """Small sizes that the format allows."""
    architecture = import_ftervit("architecture")
    while True:
        heads = chance.randint(1, 3)
        stem = []
        for _ in range(chance.choice((0, 0, 1, 2))):
            kernel = chance.randint(1, 3)
            stem.append([chance.randint(1, 6), kernel, chance.randint(1, kernel), chance.randrange(kernel)])
        kernel = chance.randint(1, 5)
        sizes = {
            "name": chance.choice(("small", "x y", "")),
            "img_size": chance.randint(1, 9),
            "in_chans": chance.choice((1, 3)),
            "stem": stem,
            "patch_size": kernel,
            "patch_stride": chance.randint(1, kernel),
            "patch_padding": chance.randrange(kernel),
            "num_classes": chance.randint(1, 20),
            "embed_dim": heads * chance.randint(1, 9),
            "depth": chance.choice((1, 1, 2)),
            "num_heads": heads,
            "mlp_hidden": chance.randint(1, 20),
            "pool": "token",
        }
        if not architecture.architecture_problem(sizes):
            return sizes


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


def valid(chance: random.Random) -> bytes:
    """A valid model file of random sizes."""
    sizes = random_architecture(chance)
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


def spots(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """The places of all values within one from JSON."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from spots(inner, (*place, key))


def replaced(value: Any, place: tuple, text: str) -> str:
    """JSON of `value` with `text` at a place, which need not be JSON."""
    if not place:
        return text
    inside = {
        key: replaced(inner, place[1:], text) if key == place[0] else compact(inner)
        for key, inner in (value.items() if isinstance(value, dict) else enumerate(value))
    }
    if isinstance(value, list):
        return "[" + ",".join(inside.values()) + "]"
    return "{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in inside.items()) + "}"


def mutated_text(chance: random.Random, text: str) -> str:
    """JSON text with one value replaced, a key repeated, or some characters changed."""
    try:
        value = json.loads(text) if chance.random() < 0.8 else None
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value and chance.random() < 0.1:
        key = chance.choice(list(value))
        return f"{{{json.dumps(key)}:{compact(value[key])},{text[1:]}"
    if value is not None:
        return replaced(value, chance.choice(list(spots(value))), chance.choice(VALUES))
    at, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
    return text[:at] + chance.choice(VALUES) + text[min(end, at + 8) :]


def mutate_entry(chance: random.Random, header: Header, data: bytearray) -> None:
    """Change one tensor: its name, type, shape, offsets or content."""
    name, kind = chance.choice(list(header)), chance.randrange(5)
    if kind == 0:
        header[chance.choice(NAMES)] = header.pop(name)
    elif kind == 1:
        header[name]["dtype"] = chance.choice(DTYPES)
        if chance.random() < 0.7:
            begin, end = header[name]["data_offsets"][:2]
            width = {"U8": 1, "I8": 1, "BOOL": 1, "F8_E4M3": 1, "I32": 4, "F64": 8, "U64": 8}
            header[name]["shape"] = [(end - begin) // width.get(header[name]["dtype"], 2)]
    elif kind == 2:
        key = chance.choice(("shape", "data_offsets"))
        numbers = header[name][key]
        if numbers:
            numbers[chance.randrange(len(numbers))] = chance.choice((0, 1, 15, 16, 17, 2**31, 2**64, -16, None, "16"))
        if chance.random() < 0.2:
            header[name][key] = numbers * 3
    elif kind == 3:
        header.pop(name)
    elif data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def mutated(chance: random.Random, content: bytes) -> bytes:
    """A model file with one to three things changed in its header or data, and a right CRC-32."""
    if chance.random() < 0.15:
        changed = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(8, 8 + int.from_bytes(content[:8], "little"))] = chance.choice(BYTES)
        return with_crc(bytes(changed))
    if chance.random() < 0.03:
        size = chance.randrange(len(content))
        return with_crc(content[:size] + chance.randbytes(chance.choice((0, 0, 1, 16, len(content) - size))))
    header, rest = split(content)
    data, fields = bytearray(rest), header.pop("__metadata__")
    for _ in range(chance.randint(1, 3)):
        kind = chance.randrange(8)
        if kind < 4:
            key = chance.choice(("architecture", "shapes", "scales", "labels", "preprocessing"))
            if key in fields:
                fields[key] = mutated_text(chance, fields[key])
        elif kind == 4 and fields:
            key = chance.choice(list(fields))
            if chance.random() < 0.5:
                fields.pop(key)
            else:
                fields[key] = chance.choice(VALUES)
        elif header:
            mutate_entry(chance, header, data)
    return assemble({"__metadata__": fields, **header}, bytes(data))
