# SPDX-License-Identifier: MIT
"""Model files: small valid ones of random sizes, and mutations of their structure with a correct CRC-32."""

import json
import random
from collections.abc import Iterator
from typing import Any

from host_sim.random_models import Header, assemble, assembled, compact, with_crc
from host_sim.setup.package import import_ftervit

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


def valid(chance: random.Random) -> bytes:
    """A valid model file of random sizes."""
    return assembled(chance, random_architecture(chance))


def spots(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """The paths of all values within a JSON value."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from spots(inner, (*place, key))


def replaced(value: Any, place: tuple, text: str) -> str:
    """JSON of `value` with `text`, which need not be JSON, at a path."""
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
        begin, end = (*header[name]["data_offsets"], None, None)[:2]  # which an earlier change may have made no numbers
        if chance.random() < 0.7 and type(begin) is type(end) is int:
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
    """A model file with one to three changes in its header or data, and a correct CRC-32."""
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
