# SPDX-License-Identifier: MIT
"""Model files broken in one way each, with the field that the reader must name."""

import json
import re
import zlib
from collections.abc import Callable

Header = dict[str, object]


def with_crc(content: bytes) -> bytes:
    """The same file with its crc32 made right (SPEC 10.4)."""
    content = re.sub(rb'"crc32":"[0-9a-f]{8}"', b'"crc32":"00000000"', content, count=1)
    return content.replace(b'"crc32":"00000000"', b'"crc32":"%08x"' % zlib.crc32(content), 1)


def assemble(header: Header | bytes, data: bytes) -> bytes:
    """A file from a header and data, its crc32 right."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 16)
    return with_crc(len(text).to_bytes(8, "little") + text + data)


def split(content: bytes) -> tuple[Header, bytes]:
    """Header and data of a file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def edited(change: Callable[[Header], None]) -> Callable[[bytes], bytes]:
    """A damage that changes the header in place."""

    def damage(content: bytes) -> bytes:
        header, data = split(content)
        change(header)
        return assemble(header, data)

    return damage


def metadata(key: str, value: object) -> Callable[[bytes], bytes]:
    """A damage that sets a metadata string, or drops it (None)."""

    def change(header: Header) -> None:
        fields = header["__metadata__"]
        if value is None:
            del fields[key]
        else:
            fields[key] = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    return edited(change)


def inside(key: str, change: Callable[[dict], None]) -> Callable[[bytes], bytes]:
    """A damage that changes the JSON inside a metadata string."""

    def edit(header: Header) -> None:
        value = json.loads(header["__metadata__"][key])
        change(value)
        header["__metadata__"][key] = json.dumps(value, separators=(",", ":"))

    return edited(edit)


def tensor(name: str, key: str, value: object) -> Callable[[bytes], bytes]:
    """A damage that changes one field of a tensor's entry."""
    return edited(lambda header: header[name].__setitem__(key, value))


def shifted(header: Header) -> None:
    """Let the second tensor begin inside the first."""
    second = list(header)[2]
    header[second]["data_offsets"][0] -= 16


def flip(position: int) -> Callable[[bytes], bytes]:
    """A damage that flips one bit, counted from the end if negative, without mending the crc32."""

    def damage(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[position] ^= 1
        return bytes(changed)

    return damage


def dirty_padding(content: bytes) -> bytes:
    """A non-zero byte behind head.multiplier, the file's last tensor."""
    return with_crc(content[:-1] + b"\1")


def extra_tensor(content: bytes) -> bytes:
    """One tensor more than the architecture has."""
    header, data = split(content)
    header["extra"] = {"dtype": "U8", "shape": [16], "data_offsets": [len(data), len(data) + 16]}
    return assemble(header, data + bytes(16))


def white_space(content: bytes) -> bytes:
    """Valid JSON, but not the form of SPEC 10.2."""
    header, data = split(content)
    return assemble(json.dumps(header).encode(), data)


def content(name: str, offset: int, value: int) -> Callable[[bytes], bytes]:
    """A damage that sets one byte of a tensor's data."""

    def damage(file: bytes) -> bytes:
        header, data = split(file)
        changed = bytearray(data)
        changed[header[name]["data_offsets"][0] + offset] = value
        return assemble(header, bytes(changed))

    return damage


BLOCK = "blocks.0.attn.qkv"
DAMAGES = {
    "empty": (lambda content: b"", "size"),
    "a few bytes": (lambda content: content[:15], "size"),
    "cut in the header": (lambda content: content[:500], "header length"),
    "cut in the data": (lambda content: content[:-16], "crc32"),
    "cut, crc32 right": (lambda content: with_crc(content[:-16]), "size"),
    "bytes behind the end": (lambda content: with_crc(content + bytes(16)), "size"),
    "not a model": (lambda content: b"P5\n28 28\n255\n" + bytes(784), "header length"),
    "huge header length": (lambda content: b"\xff" * 8 + content[8:], "header length"),
    "odd header length": (lambda content: (2000).to_bytes(8, "little") + content[8:], "header length|header"),
    "flipped bit in the data": (flip(-100), "crc32"),
    "flipped bit in the crc32": (
        lambda content: content.replace(b'crc32":"', b'crc32":"g', 1),
        "crc32|header",
    ),
    "text behind the header": (
        lambda content: with_crc(re.sub(rb"\}\} ", b"}}x", content, count=1)),
        "header",
    ),
    "white space": (white_space, "header"),
    "wrong format": (metadata("format", "gguf"), "format"),
    "newer version": (metadata("version", "2"), "version"),
    "other packing": (metadata("packing", "2bit"), "packing"),
    "no labels": (metadata("labels", None), "labels"),
    "too few labels": (metadata("labels", ["one"]), "labels"),
    "labels not JSON": (metadata("labels", "[one"), "labels"),
    "unknown metadata": (metadata("comment", "hello"), "comment"),
    "architecture not an object": (metadata("architecture", [1]), "architecture"),
    "depth missing": (inside("architecture", lambda value: value.pop("depth")), "architecture depth"),
    "embed_dim a string": (
        inside("architecture", lambda value: value.update(embed_dim="x")),
        "architecture embed_dim",
    ),
    "one block more": (
        inside("architecture", lambda value: value.update(depth=value["depth"] + 1)),
        r"norm1\.weight",
    ),
    "one block less": (
        inside("architecture", lambda value: value.update(depth=value["depth"] - 1)),
        "header",
    ),
    "another width": (inside("architecture", lambda value: value.update(embed_dim=48)), "patch_embed"),
    "heads that do not divide": (
        inside("architecture", lambda value: value.update(num_heads=7)),
        "num_heads",
    ),
    "patches that do not divide": (
        inside("architecture", lambda value: value.update(patch_size=5)),
        "patch_size",
    ),
    "five channels": (inside("architecture", lambda value: value.update(in_chans=5)), "in_chans"),
    "average pooling": (inside("architecture", lambda value: value.update(pool="avg")), "pool"),
    "two offsets": (
        inside("preprocessing", lambda value: value.update(offset=[1, 2])),
        "preprocessing offset",
    ),
    "huge multiplier": (
        inside("preprocessing", lambda value: value.update(multiplier=[1 << 40])),
        "preprocessing multiplier",
    ),
    "gain missing": (inside("scales", lambda value: value["norm"].pop("gain")), "scales norm gain"),
    "gain too large": (
        inside("scales", lambda value: value["norm"].update(gain=1 << 15)),
        "scales norm gain",
    ),
    "shift a string": (
        inside("scales", lambda value: value["cls_token"].update(residual_shift="1")),
        "cls_token",
    ),
    "shape missing": (inside("shapes", lambda value: value.pop("head.bias")), r"shapes.*head\.bias"),
    "other logical shape": (
        inside("shapes", lambda value: value.update({BLOCK + ".bias": [1]})),
        BLOCK + r"\.bias",
    ),
    "unknown dtype": (tensor(BLOCK + ".weight", "dtype", "F16"), BLOCK + r"\.weight.*dtype"),
    "other dtype": (tensor(BLOCK + ".weight", "dtype", "I8"), BLOCK + r"\.weight.*dtype"),
    "other shape": (tensor(BLOCK + ".weight", "shape", [16]), BLOCK + r"\.weight.*shape"),
    "shape of other order": (
        edited(lambda header: header[BLOCK + ".weight"]["shape"].reverse()),
        BLOCK + r"\.weight.*stored shape",
    ),
    "negative shape": (tensor(BLOCK + ".weight", "shape", [-1, 16]), BLOCK + r"\.weight.*shape"),
    "enormous shape": (tensor(BLOCK + ".weight", "shape", [10**9] * 9), BLOCK + r"\.weight.*shape"),
    "three offsets": (
        tensor(BLOCK + ".weight", "data_offsets", [0, 16, 32]),
        BLOCK + r"\.weight.*data_offsets",
    ),
    "overlapping offsets": (edited(shifted), "data_offsets"),
    "reversed offsets": (
        edited(lambda header: header["head.bias"]["data_offsets"].reverse()),
        r"head\.bias.*data_offsets",
    ),
    "renamed tensor": (
        edited(lambda header: header.__setitem__("head.bios", header.pop("head.bias"))),
        "data_offsets|header|head",
    ),
    "extra tensor": (extra_tensor, "header"),
    "shift of 200": (content(BLOCK + ".shift", 0, 200), r"layer 'blocks\.0\.attn\.qkv': linear: shift"),
    "negative multiplier": (content(BLOCK + ".multiplier", 3, 0x80), BLOCK + "': linear: multiplier"),
    "head multiplier above 4095": (content("head.multiplier", 1, 0x7F), "layer 'head': linear_logits: multiplier"),
    "huge head bias": (content("head.bias", 3, 0x7F), "layer 'head': linear_logits: bias"),
    "softmax that does not begin with 127": (content("blocks.1.attn.softmax.table", 0, 3), "softmax.*table"),
    "label not a text": (inside("labels", lambda value: value.__setitem__(0, 7)), "labels"),
    "sizes as booleans": (inside("architecture", lambda value: value.update(in_chans=True)), "in_chans"),
    "no name": (inside("architecture", lambda value: value.pop("name")), "architecture name"),
    "too wide": (inside("architecture", lambda value: value.update(mlp_hidden=4033)), "mlp_hidden.*at most 4032"),
    "fracs of qkv": (inside("scales", lambda value: value[BLOCK].update(frac=3)), "scales " + BLOCK + " frac"),
    "not ASCII": (lambda file: with_crc(file.replace(b"class 1", b"class \xe9", 1)), "header.*byte 233"),
    "labels nested deep": (metadata("labels", "[" * 5000), "labels"),
    "dirty padding": (dirty_padding, r"head\.multiplier.*padding"),
}
