# SPDX-License-Identifier: MIT
"""Model files with one defect each, and the field that the reader must name."""

import json
import re
from collections.abc import Callable

from host_sim.fuzz.modelfiles import Header, assemble, split, with_crc


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
    """A damage that flips one bit, counted from the end if negative, without correcting the crc32."""

    def damage(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[position] ^= 1
        return bytes(changed)

    return damage


def architecture(**values: object) -> Callable[[bytes], bytes]:
    """A damage that sets sizes of the architecture."""
    return inside("architecture", lambda sizes: sizes.update(values))


def stage(*values: object) -> Callable[[bytes], bytes]:
    """A damage that sets the sizes of the stem's second stage."""
    return inside("architecture", lambda sizes: sizes["stem"].__setitem__(1, list(values)))


def renamed(name: str) -> Callable[[bytes], bytes]:
    """A damage that renames a tensor, in `shapes` too."""

    def keys(values: dict) -> dict:
        return {"x" if key == name else key: value for key, value in values.items()}

    def damage(content: bytes) -> bytes:
        header, data = split(content)
        fields = header["__metadata__"]
        fields["shapes"] = json.dumps(keys(json.loads(fields["shapes"])), separators=(",", ":"))
        return assemble(keys(header), data)

    return damage


def dirty_padding(content: bytes) -> bytes:
    """A non-zero padding byte after head.multiplier, the file's last tensor."""
    return with_crc(content[:-1] + b"\1")


def extra_tensor(content: bytes) -> bytes:
    """A tensor that the architecture does not have."""
    header, data = split(content)
    header["extra"] = {"dtype": "U8", "shape": [16], "data_offsets": [len(data), len(data) + 16]}
    fields = header["__metadata__"]
    fields["shapes"] = fields["shapes"][:-1] + ',"extra":[16]}'
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
    "older version": (metadata("version", "1"), "version.*'1'.*'2' and '3'"),
    "newer version": (metadata("version", "4"), "version"),
    "version 3 without its head": (metadata("version", "3"), "architecture head: missing$"),
    "a threshold in version 2": (metadata("threshold", "7"), "threshold: unknown or repeated metadata$"),
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
    "no stem": (inside("architecture", lambda value: value.pop("stem")), "architecture stem"),
    "no patch_size": (inside("architecture", lambda value: value.pop("patch_size")), "architecture patch_size"),
    "no patch_stride": (inside("architecture", lambda value: value.pop("patch_stride")), "architecture patch_stride"),
    "no patch_padding": (
        inside("architecture", lambda value: value.pop("patch_padding")),
        "architecture patch_padding",
    ),
    "patch_size 0": (architecture(patch_size=0), "architecture patch_size: 0 is not a whole number from 1 to 65535"),
    "patch_stride 0": (architecture(patch_stride=0), "architecture patch_stride"),
    "patch_stride a text": (architecture(patch_stride="2"), "architecture patch_stride"),
    "patch_stride huge": (architecture(patch_stride=1 << 31), "architecture patch_stride"),
    "patch_padding negative": (architecture(patch_padding=-1), "patch_padding: -1 is not a whole number from 0"),
    "patch_padding half": (architecture(patch_padding=0.5), "architecture patch_padding"),
    "stride beyond the patch": (architecture(patch_size=5), "patch_size: stride 14, must be 1 to the kernel's 5"),
    "padding of the patch's size": (architecture(patch_padding=14), "patch_size: padding 14, must be below .* 14"),
    "patch beyond the picture": (
        architecture(patch_size=29),
        "patch_size: kernel 29 does not fit a picture of 28",
    ),
    "patch of 64 x 64": (
        architecture(img_size=64, patch_size=64),
        "patch_size, values of a patch: 4096, at most 4032",
    ),
    "2117 tokens": (architecture(img_size=59, patch_stride=1), "patch_size, tokens: 2117, at most 2048"),
    "tokens of a smaller stride": (architecture(patch_stride=7), "tensor 'pos_embed'"),
    "picture of 4097": (architecture(img_size=4097), "architecture img_size: 4097, at most 4096"),
    "position of the class token": (
        inside("shapes", lambda value: value.update(pos_embed=[5, 33])),
        r"pos_embed': logical shape \[5, 33\], the architecture needs \[4, 33\]",
    ),
    "a stage too many": (architecture(stem=[[1, 1, 1, 0]]), r"scales patch_embed\.backbone\.0\.conv frac: missing"),
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

CONV = "patch_embed.backbone.1.conv"
STAGE = r"architecture stem: .* is not \[channels, kernel, stride, padding\]"
# For a model with a stem, STEM of tests/tiny.py.
STEM_DAMAGES = {
    "stem not a list": (architecture(stem={"0": [5, 5, 2, 1]}), "stem: must be a list of at most 8 convolutions"),
    "stem a number": (architecture(stem=3), "stem: must be a list"),
    "stem of null": (architecture(stem=None), "stem: must be a list"),
    "nine stages": (architecture(stem=[[1, 1, 1, 0]] * 9), "stem: must be a list of at most 8 convolutions"),
    "stage not a list": (architecture(stem=[7]), STAGE),
    "stage of three numbers": (stage(7, 3, 1), STAGE),
    "stage of five numbers": (stage(7, 3, 1, 2, 1), STAGE),
    "empty stage": (stage(), STAGE),
    "stage with a text": (stage(7, "3", 1, 2), STAGE),
    "stage with a half": (stage(7, 3, 1, 0.5), "architecture stem: 0.5 is not a whole number"),
    "stage with a boolean": (stage(7, 3, True, 2), STAGE),
    "stage with null": (stage(None, 3, 1, 2), STAGE),
    "stage with lists": (stage(7, [3], 1, 2), STAGE),
    "no channels": (stage(0, 3, 1, 2), STAGE),
    "kernel 0": (stage(7, 0, 1, 0), STAGE),
    "kernel and stride 0": (stage(7, 0, 0, 0), STAGE),
    "stride 0": (stage(7, 3, 0, 2), STAGE),
    "negative padding": (stage(7, 3, 1, -1), STAGE),
    "huge channels": (stage(1 << 40, 3, 1, 2), "architecture stem: 1099511627776.* of at most 10 digits"),
    "huge kernel": (stage(7, 1 << 31, 1, 2), STAGE),
    "largest kernel": (stage(7, 65535, 1, 2), f"stem 1, values of a patch: {65535**2 * 5}, at most 4032"),
    "stride beyond the kernel": (stage(7, 3, 4, 2), "stem 1: stride 4, must be 1 to the kernel's 3"),
    "padding of the kernel's size": (stage(7, 3, 1, 3), "stem 1: padding 3, must be below the kernel's 3"),
    "long patches": (stage(7, 29, 1, 2), "stem 1, values of a patch: 4205, at most 4032"),
    "long patches of many channels": (stage(4032, 3, 1, 2), "stem 2, values of a patch: 16128, at most 4032"),
    "kernel that fits nowhere": (stage(7, 19, 19, 2), "stem 1: kernel 19 does not fit a picture of 14"),
    "nothing left for the next stage": (stage(7, 14, 1, 0), "stem 2: kernel 2 does not fit a picture of 1"),
    "picture that grows beyond 4096": (
        architecture(img_size=4096, stem=[[1, 3, 1, 2]]),
        "stem 0: makes a picture of 4098, at most 4096",
    ),
    "tokens of small strides": (
        architecture(img_size=45, stem=[[17, 3, 1, 1], [17, 2, 1, 1]], patch_stride=1),
        "patch_size, tokens: 2117, at most 2048",
    ),
    "another kernel": (stage(7, 5, 1, 2), CONV + r"\.weight': logical shape \[7, 45\], .* \[7, 125\]"),
    "other channels": (stage(8, 3, 1, 2), CONV + r"\.weight': logical shape \[7, 45\], .* \[8, 45\]"),
    "one stage less": (
        inside("architecture", lambda sizes: sizes["stem"].pop()),
        r"patch_embed\.proj\.weight': logical shape",
    ),
    "one stage more": (
        inside("architecture", lambda sizes: sizes["stem"].append([17, 1, 1, 0])),
        r"scales patch_embed\.backbone\.3\.conv frac: missing",
    ),
    "position of the class token": (
        inside("shapes", lambda value: value.update(pos_embed=[17, 20])),
        r"pos_embed': logical shape \[17, 20\], the architecture needs \[16, 20\]",
    ),
    "other pos_embed": (architecture(patch_padding=2), "tensor 'pos_embed'"),
    "no weight": (renamed(CONV + ".weight"), CONV + r"\.weight': missing"),
    "no shift": (renamed(CONV + ".shift"), CONV + r"\.shift': missing"),
    "no table": (renamed("patch_embed.backbone.2.act.table"), r"backbone\.2\.act\.table': missing"),
    "table of bytes": (tensor("patch_embed.backbone.0.act.table", "dtype", "U8"), "table': dtype U8, must be I8"),
    "no frac of a convolution": (inside("scales", lambda value: value.pop(CONV)), f"scales {CONV} frac: missing"),
    "no frac of a table": (
        inside("scales", lambda value: value["patch_embed.backbone.0.act"].pop("frac")),
        r"scales patch_embed\.backbone\.0\.act frac: missing",
    ),
    "shift of 16": (content(CONV + ".shift", 0, 16), f"layer '{CONV}': linear: shift holds 16"),
    "negative multiplier": (content(CONV + ".multiplier", 6, 0xFF), f"layer '{CONV}': linear: multiplier holds -1"),
}


def text(old: str, new: str) -> Callable[[bytes], bytes]:
    """A damage that replaces a text of the header once."""

    def damage(file: bytes) -> bytes:
        length = int.from_bytes(file[:8], "little")
        header, found = file[8 : 8 + length].rstrip(b" "), old.encode()
        assert found in header, old
        return assemble(header.replace(found, new.encode(), 1), file[8 + length :])

    return damage


def inner(key: str, old: str, new: str) -> Callable[[bytes], bytes]:
    """A damage that replaces a text within a metadata string once."""

    def change(header: Header) -> None:
        fields = header["__metadata__"]
        assert old in fields[key], old
        fields[key] = fields[key].replace(old, new, 1)

    return edited(change)


NINES = "9" * 900_000
DEEP = "[" * 3000 + "]" * 3000
TOO_DEEP = "more than 4 nested lists and objects$"
LONG = "9" * 58 + r"\.\. is not a whole number of at most 10 digits$"
ENTRY = r"tensor 'blocks\.0\.attn\.qkv\.weight' "
# Answered at once, and by one short line: what a lax reader accepts, and what keeps a reader busy.
HOSTILE = {
    "img_size of 900,000 digits": (inner("architecture", ":28,", f":{NINES},"), "architecture img_size: " + LONG),
    "offset of 900,000 digits": (metadata("preprocessing", f'{{"offset":[{NINES}]}}'), "preprocessing offset: " + LONG),
    "negative, 900,000 digits": (
        inner("scales", ":", f':{{"frac":-{NINES}}},"a":'),
        r"scales input frac: -9*\.\. is no",
    ),
    "label of 900,000 digits": (metadata("labels", f"[{NINES}]"), "labels: " + LONG),
    "labels of 900,000 digits": (metadata("labels", NINES), "labels: " + LONG),
    "shapes of 900,000 digits": (metadata("shapes", NINES), 'shapes: expected {" at byte 0, not .9999'),
    "size in shapes, 900,000 digits": (
        inner("shapes", '"cls_token":[33]', f'"cls_token":[{NINES}]'),
        r"shapes cls_token: " + LONG,
    ),
    "shape of 900,000 digits": (text('"shape":[', f'"shape":[{NINES},'), "' shape: " + LONG),
    "data_offsets of 900,000 digits": (
        text('"data_offsets":[', f'"data_offsets":[{NINES},'),
        "' data_offsets: " + LONG,
    ),
    "header of 900,000 nines": (
        lambda file: assemble(NINES.encode(), b""),
        'header: expected {"__metadata__":{ at byte 0',
    ),
    "90,000 dimensions": (text('"shape":[', '"shape":[' + "1," * 90_000), "' shape: more than 8 numbers$"),
    "90,000 dimensions in shapes": (
        inner("shapes", '"cls_token":[33', '"cls_token":[' + "1," * 90_000 + "33"),
        "shapes cls_token: more than 8 numbers$",
    ),
    "90,000 offsets": (
        text('"data_offsets":[', '"data_offsets":[' + "0," * 90_000),
        "data_offsets: more than 2 numbers$",
    ),
    "90,000 offsets in preprocessing": (
        metadata("preprocessing", '{"offset":[' + "0," * 90_000 + "0]}"),
        "preprocessing offset: a list of more than 16$",
    ),
    "90,000 stages": (architecture(stem=[[1, 1, 1, 0]] * 50_000), "architecture stem: a list of more than 16$"),
    "90,000 labels": (metadata("labels", [""] * 90_000), "labels: a list of more than 7$"),
    **{
        f"{key} nested 3,000 deep": (inner("architecture", f'"{key}":', f'"{key}":{DEEP},"x":'), f"{key}: {TOO_DEEP}")
        for key in ("name", "img_size", "stem", "patch_size", "num_classes", "pool")
    },
    "labels nested 3,000 deep": (metadata("labels", DEEP), "labels: " + TOO_DEEP),
    "a label nested 3,000 deep": (metadata("labels", f"[{DEEP}]"), "labels: " + TOO_DEEP),
    "multiplier nested 3,000 deep": (
        metadata("preprocessing", f'{{"multiplier":{DEEP}}}'),
        "preprocessing multiplier: " + TOO_DEEP,
    ),
    "objects nested 3,000 deep": (metadata("scales", '{"a":' * 3000), "scales a a a a: " + TOO_DEEP),
    "frac nested 3,000 deep": (inner("scales", '"frac":', f'"frac":{DEEP},"x":'), "scales input frac: " + TOO_DEEP),
    "shapes nested 3,000 deep": (metadata("shapes", DEEP), "shapes: expected"),
    "shape nested 3,000 deep": (text('"shape":[', f'"shape":[{DEEP},'), "shape: .* is not a whole number from 0$"),
    "deep, within the bounds": (
        inner("architecture", '"name":', '"name":[[["x"]]],"x":'),
        "architecture name: must be a text$",
    ),
    "label of 500,000 letters": (metadata("labels", ["x" * 500_000]), "labels: 'x.*' does not end within 2000"),
    "label of 400,000 escapes": (metadata("labels", ["\u00e9" * 60_000]), "labels: .* does not end within 2000"),
    "a name of 500,000 letters": (
        text('"cls_token":{', f'"{"x" * 500_000}":{{'),
        r"header: 'x.*' is not a name of at most 64",
    ),
    "a key of 500,000 letters": (
        inner("scales", '"', f'"{"x" * 500_000}":1,"'),
        "scales: 'x.*' is not a name of at most 64",
    ),
    "a dtype of 500,000 letters": (
        text('"dtype":"', f'"dtype":"{"x" * 500_000}'),
        "': 'x.*' is not a name of at most 64",
    ),
    "metadata with a long key": (
        text('"labels":', f'"{"x" * 500_000}":"","labels":'),
        "header: 'x.*' is not a name of at most",
    ),
    "a long version": (metadata("version", "2" * 500_000), r"version: is '2*\.\.', this reader knows '2' and '3'$"),
    "a long crc32": (text('"crc32":"', '"crc32":"' + "0" * 500_000), r"crc32: '0*\.\.' is not 8 hex digits$"),
    "a long pool": (architecture(pool="x" * 1999), r"architecture pool: x{58}\.\., only 'token' is known$"),
    "a pool of two lines": (architecture(pool="a\nb"), r"architecture pool: a\?b, only 'token' is known$"),
    "pool an object": (architecture(pool={"b": 1, "a": 2}), "architecture pool: an object, only"),
    "pool a list of texts": (architecture(pool=["x" * 99, "y"]), r"architecture pool: \[x{57}\.\., only"),
    "quotes in a tensor's name": (text('"head.weight":{', '"evil\\"head.weight":{'), "header: 'evil.* is not a name"),
    "quotes in a name of shapes": (
        inner("shapes", '"head.weight', '"evil\\"head.weight'),
        "shapes: 'evil.* is not a name",
    ),
    "backslash in a tensor's name": (text('"head.weight":{', '"\\\\head.weight":{'), "header: .* is not a name"),
    "backslash in a key": (inner("scales", '"head"', '"\\u0068ead"'), "scales: .* is not a name"),
    "a metadata key with escapes": (text('"labels":', '"label\\u0073":'), "header: 'label.* is not a name"),
    "metadata with escapes": (text('"version":"2"', '"version":"\\u0032"'), "version: escapes something other than"),
    "metadata with a line end": (text('"version":"2"', '"version":"\\n2"'), "version: escapes something other than"),
    "shapes no JSON": (
        lambda file: metadata("shapes", json.loads(json.dumps(split(file)[0]["__metadata__"]["shapes"])) + "x")(file),
        "shapes: 'x' after its end$",
    ),
    "shapes begin with no JSON": (inner("shapes", "{", "x{"), 'shapes: expected {" at byte 0, not .x{'),
    "shapes without a comma": (inner("shapes", '],"', ']"'), 'shapes: expected ," at byte'),
    "shapes in another order": (
        inside("shapes", lambda value: value.update({"cls_token": value.pop("cls_token")})),
        "shapes: has '.*' where the next tensor is 'cls_token'$",
    ),
    "shapes not closed": (inner("shapes", "]}", "]"), "shapes: expected } at byte"),
    "shapes empty": (metadata("shapes", "{}"), 'shapes: expected {" at byte 0'),
    "a shape without a tensor": (
        inside("shapes", lambda value: value.update(more=[1])),
        "shapes: expected } at byte",
    ),
    "a shape twice": (
        inner("shapes", '"cls_token":[33]', '"cls_token":[33],"cls_token":[33]'),
        "shapes: has 'cls_token' where",
    ),
    **{
        f"{number} in shapes": (
            inner("shapes", '"cls_token":[33]', f'"cls_token":[{number}]'),
            "shapes cls_token: |logical shape",
        )
        for number in (
            "+33",
            "3_3",
            " 33",
            "33 ",
            "033",
            "33.0",
            "3.3e1",
            "-33",
            "",
            "33,",
            ",33",
            '"33"',
            "0x21",
            "true",
        )
    },
    **{
        f"{number} in a shape": (text('"shape":[', f'"shape":[{number},'), "tensor 'patch_embed.proj.weight' shape: ")
        for number in ("+33", "3_3", " 33", "33 ", "033", "33.0", "-33", "", "33,,", '"33"', "1e400")
    },
    **{
        f"{number} in scales": (
            inner("scales", '{"frac":', f'{{"frac":{number},"x":'),
            "scales input frac: |scales input: |scales:",
        )
        for number in (
            "+3",
            "3_3",
            " 3",
            "3 ",
            "03",
            "-0",
            "3.0",
            "1e0",
            "-",
            "NaN",
            "Infinity",
            "-Infinity",
            "nul",
            "True",
            "",
            "'3'",
            "0x3",
        )
    },
    "white space in labels": (inner("labels", ",", ", "), "labels: '. .*' is not JSON$|labels: ' .* is not JSON$"),
    "labels without a comma": (inner("labels", '","', '""'), "labels: expected , or ], not"),
    "labels with a space for a comma": (inner("labels", '","', '" "'), "labels: expected , or ], not ' "),
    "labels with a comma at the end": (inner("labels", ',"class 6"]', ",]"), "labels: '' is not JSON$"),
    "labels not closed": (inner("labels", '"]', '"'), "labels: expected , or ], not ''$"),
    "something behind labels": (inner("labels", '"]', '"]]'), "labels: ']' after its end$"),
    "a comma at the end of an object": (inner("preprocessing", "]}", "],}"), "preprocessing: expected . at byte"),
    **{
        f"a label {index}": (inner("labels", '["', '["' + escape), words)
        for index, (escape, words) in enumerate(
            (
                ("\\ud800", "labels: half of a surrogate pair$"),
                ("\\udc00", "labels: half of a surrogate pair$"),
                ("\\udc00\\ud800", "labels: half of a surrogate pair$"),
                ("\\ud800\\ud800", "labels: half of a surrogate pair$"),
                ("\\ud83dx", "labels: half of a surrogate pair$"),
                ("\\ud83d\\n", "labels: half of a surrogate pair$"),
                ("\\x41", r"labels: '\\x' is not a JSON escape$"),
                ("\\u+123", r"labels: '\\u\+123' is not a JSON escape$"),
                ("\\u 123", r"labels: '\\u 123' is not a JSON escape$"),
                ("\\u1_23", r"labels: '\\u1_23' is not a JSON escape$"),
                ("\\u12", r"labels: '\\u12cl' is not a JSON escape$"),
            )
        )
    },
    **{
        f"{key} twice": (inner("architecture", "{", f'{{"{key}":1,'), f"architecture: '{key}' occurs twice$")
        for key in ("depth", "pool", "stem")
    },
    "offset twice": (inner("preprocessing", "{", '{"offset":[1],'), "preprocessing: 'offset' occurs twice$"),
    "a layer twice": (inner("scales", "{", '{"norm":{},'), "scales: 'norm' occurs twice$"),
    "frac twice": (inner("scales", '{"frac"', '{"frac":1,"frac"'), "scales input: 'frac' occurs twice$"),
    "version twice": (text('"version":"2"', '"version":"2","version":"2"'), "version: unknown or repeated metadata$"),
    "a shape twice in an entry": (text('"shape":[', '"shape":[33],"shape":['), 'tensor .*: expected ,"data_offsets":'),
    "a huge stem": (
        architecture(img_size=4096, stem=[[65535, 1, 1, 0]]),
        "architecture stem 0: makes a picture of 1099494850560 values, at most 67108864$",
    ),
    "a huge stem that fits": (
        architecture(img_size=4096, stem=[[4, 3, 1, 1]], patch_size=31, patch_stride=31),
        "architecture patch_size, tokens: ",
    ),
}
