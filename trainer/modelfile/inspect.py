# SPDX-License-Identifier: MIT
"""The content of a model file, counted from its bytes: parameters, trits, zeros and bytes of each group of tensors."""

import re
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open

from host_sim.setup.package import import_ftervit
from host_sim.tables import aligned
from trainer.errors import TrainerError, one_line, require

EMBEDDINGS, NORMS, INTEGERS, TABLES = "cls_token + pos_embed", "layer norms", "bias, multiplier, shift", "tables"
HEADER, PADDING, OTHER = "header and labels", "padding", "other"
# Group of a tensor by its name; the first match counts. Norms come before the other biases: theirs are trits.
NORM = r"(blocks\.\d+\.norm\d+|norm)"
GROUPS = (
    ("stem", r"patch_embed\.backbone\.\d+\.conv\.weight"),
    ("patch_embed", r"patch_embed\.proj\.weight"),
    (EMBEDDINGS, r"cls_token|pos_embed"),
    ("attn.qkv", r"blocks\.\d+\.attn\.qkv\.weight"),
    ("attn.proj", r"blocks\.\d+\.attn\.proj\.weight"),
    ("mlp.fc1", r"blocks\.\d+\.mlp\.fc1\.weight"),
    ("mlp.fc2", r"blocks\.\d+\.mlp\.fc2\.weight"),
    (NORMS, NORM + r"\.(weight|bias)"),
    ("head", r"head\.weight"),
    (INTEGERS, r".*\.(bias|multiplier|shift)"),
    (TABLES, r".*\.table"),
    (OTHER, r"(?s:.*)"),
)
UNTERNARY = (EMBEDDINGS, INTEGERS, TABLES)  # groups that SPEC stores as integers

MOST = 1 << 31  # elements along a dimension of a shape


def group_of(name: str) -> str:
    """The group of a tensor."""
    return next((group for group, pattern in GROUPS if re.fullmatch(pattern, name)), OTHER)


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: name, logical shape, the array that is stored."""

    name: str
    shape: list[int]
    stored: np.ndarray

    @property
    def count(self) -> int:
        """Logical elements."""
        return int(np.prod(self.shape))

    @property
    def packed(self) -> bool:
        """Whether the bytes are trits in the form of SPEC 2.6 or 2.7."""
        packed_shape = import_ftervit().architecture.packed_shape
        return (
            self.stored.dtype == np.uint8
            and len(self.shape) in (1, 2)
            and list(self.stored.shape) == packed_shape(self.shape)
        )

    @property
    def padding(self) -> int:
        """Bytes behind the last element; those of trits lie between them and count as theirs."""
        return 0 if self.packed else self.stored.nbytes - self.count * self.stored.itemsize


def decoded(tensor: Tensor) -> np.ndarray:
    """Trits int8 [N, K] or [D] of a packed tensor, without the padding's."""
    import_ftervit()
    import ternary

    lanes = np.empty(5 * tensor.stored.size, np.int8)
    ternary.decode(np.ascontiguousarray(tensor.stored).ravel(), lanes)
    if len(tensor.shape) == 1:
        return lanes[: tensor.count]
    outputs, inputs = tensor.shape
    tiles = lanes.reshape(len(tensor.stored), -1, 16)[:, :inputs]
    return tiles.transpose(0, 2, 1).reshape(-1, inputs)[:outputs]


@dataclass
class Group:
    """A row of the table. parameters: logical elements of weights, norms, embeddings and biases (multipliers, shifts
    and tables are none); ternary: those that are stored as trits; zeros: of these; bytes: without padding."""

    name: str
    parameters: int = 0
    ternary: int = 0
    zeros: int = 0
    bytes: int = 0

    def add(self, tensor: Tensor) -> None:
        """Count a tensor."""
        self.bytes += tensor.stored.nbytes - tensor.padding
        if not re.search(r"\.(multiplier|shift|table)$", tensor.name):
            self.parameters += tensor.count
        if tensor.packed and self.name not in UNTERNARY:
            self.ternary += tensor.count
            self.zeros += int((decoded(tensor) == 0).sum())

    @property
    def zero_share(self) -> float | None:
        """Zeros among the trits."""
        return self.zeros / self.ternary if self.ternary else None


@dataclass(frozen=True)
class Forward:
    """Tokens (the class token included) and multiply-accumulates of one picture."""

    tokens: int
    macs: int

    @classmethod
    def of(cls, sizes: dict[str, Any]) -> "Forward":
        """From the metadata `architecture`.

        A convolution with `side` x `side` outputs costs side^2 * channels * kernel^2 * channels of its input. A block
        over T tokens of width D costs T * (3 D^2 + D^2 + 2 D * mlp_hidden) for its linear layers and 2 T^2 D for
        attention (q k and weights v). The head costs features * num_classes. Additions, norms, tables are not counted.
        """
        architecture, sizes, macs = import_ftervit().architecture, completed(sizes), 0
        grids = architecture.grids(sizes)
        for index, (_, kernel, *_) in enumerate(architecture.convolutions(sizes)):
            (_, inputs), (side, channels) = grids[index : index + 2]
            macs += side**2 * channels * kernel**2 * inputs
        side, width = grids[-1]
        tokens = 1 + side**2
        block = tokens * width * (4 * width + 2 * sizes["mlp_hidden"]) + 2 * tokens**2 * width
        features = architecture.feature_count(width, sizes["pool"])
        return cls(tokens, macs + sizes["depth"] * block + features * sizes["num_classes"])


def completed(sizes: dict[str, Any]) -> dict[str, Any]:
    """The metadata `architecture` with the sizes that older versions of the format did not have."""
    return {"stem": [], "patch_stride": sizes.get("patch_size"), "patch_padding": 0, "pool": "token"} | sizes


@dataclass(frozen=True)
class Inspection:
    """The result of `trainer inspect`. refused: error of the shipped reader, "" if it accepts the file;
    unternary: matrices and norms that are not stored as trits."""

    path: str
    size: int
    version: str
    architecture: dict[str, Any]
    forward: Forward
    groups: list[Group]
    refused: str = ""
    threshold: str | None = None
    unternary: list[str] = field(default_factory=list)

    @property
    def total(self) -> Group:
        """The sum of all rows."""
        sums = ("parameters", "ternary", "zeros", "bytes")
        return Group("total", *(sum(getattr(group, key) for group in self.groups) for key in sums))

    @property
    def weights(self) -> int:
        """Elements of all matrices and norms."""
        return sum(group.parameters for group in self.groups if group.name not in UNTERNARY)

    @property
    def ternary_share(self) -> float:
        """Fraction of the elements of matrices and norms that is stored as trits."""
        return self.total.ternary / self.weights if self.weights else 0.0

    @property
    def bits_per_weight(self) -> float:
        """Bits in the file per element of matrices and norms, including padding trits."""
        spent = sum(group.bytes for group in self.groups if group.name not in (*UNTERNARY, HEADER, PADDING))
        return 8 * spent / self.weights if self.weights else 0.0

    @property
    def bits_per_parameter(self) -> float:
        """Bits of the whole file for each parameter."""
        return 8 * self.size / self.total.parameters if self.total.parameters else 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = [asdict(g) | {"zero_share": g.zero_share, "share": g.bytes / self.size} for g in self.groups]
        return {
            "file": self.path,
            "bytes": self.size,
            "version": self.version,
            "architecture": self.architecture,
            **asdict(self.forward),
            "groups": rows,
            "parameters": self.total.parameters,
            "weights": self.weights,
            "ternary": self.total.ternary,
            "ternary_share": self.ternary_share,
            "zero_share": self.total.zero_share,
            "bits_per_weight": self.bits_per_weight,
            "bits_per_parameter": self.bits_per_parameter,
            "not_ternary": self.unternary,
            "threshold": self.threshold,
            "refused": self.refused,
        }

    def rows(self) -> list[list[str]]:
        """The table as texts, headings first, the sum last."""
        table = [["group", "parameters", "ternary", "zeros", "bytes", "of file"]]
        for group in [*self.groups, self.total]:
            zeros = "" if group.zero_share is None else f"{100 * group.zero_share:.1f} %"
            counts = [f"{count:,}" if count else "" for count in (group.parameters, group.ternary)]
            table.append([group.name, *counts, zeros, f"{group.bytes:,}", f"{100 * group.bytes / self.size:.1f} %"])
        return table

    def facts(self) -> list[str]:
        """Lines below the table."""
        sizes, ternary = self.architecture, self.total.ternary
        lines = [
            f"counted from the file: {ternary:,} of {self.weights:,} elements of all matrices and norms are ternary, "
            f"{shown_percent(self.ternary_share)}",
            f"{self.total.parameters:,} parameters in {self.size:,} bytes: {self.bits_per_weight:.2f} bits per "
            f"weight of matrices and norms, {self.bits_per_parameter:.2f} per parameter with all else in the file",
            f"{sizes['name']}: {architecture_text(sizes)}, {self.forward.tokens} tokens; "
            f"{self.forward.macs:,} multiply-accumulates for a picture",
        ]
        if self.unternary:
            lines.append(f"not ternary: {', '.join(self.unternary)}")
        if self.threshold is not None:
            lines.append(f'"unknown" below a logit of {self.threshold}')
        verdict = f"refuses it: {self.refused}" if self.refused else f"accepts it (format version {self.version})"
        # Names in the file may hold line ends, or what no terminal shows.
        return [one_line(line) for line in (*lines, f"the shipped reader {verdict}")]

    def text(self) -> str:
        """Table and facts as readable lines."""
        return "\n".join([ruled(self.rows()), "", *self.facts()])


def shown_percent(share: float) -> str:
    """A share in percent; 100 % only where nothing is missing."""
    return "100 %" if share == 1 else f"{min(100 * share, 99.99):.2f} %"


def architecture_text(sizes: dict[str, Any]) -> str:
    """The metadata `architecture` in words."""
    sizes = completed(sizes)
    stem = "".join(f"conv {c} of {k} x {k} / {s}, " for c, k, s, _ in sizes["stem"])
    kernel = sizes["patch_size"]
    return (
        f"{sizes['img_size']} x {sizes['img_size']} x {sizes['in_chans']}, {stem}"
        f"patches of {kernel} x {kernel} / {sizes['patch_stride']}, width {sizes['embed_dim']}, "
        f"{sizes['depth']} blocks, {sizes['num_heads']} heads, MLP {sizes['mlp_hidden']}, "
        f"{sizes['num_classes']} classes"
    )


def ruled(rows: list[list[str]]) -> str:
    """Rows of texts as lines, with rules under the headings and above the sum."""
    head, *body, total = aligned(rows).splitlines()
    rule = "-" * max(map(len, (head, *body, total)))
    return "\n".join([head, rule, *body, rule, total])


def read_tensors(path: Path) -> tuple[dict[str, str], list[Tensor]]:
    """Metadata and tensors of a model file."""
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - file is no mapping
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:  # numpy lacks some dtypes
        raise TrainerError(f"{path}: not a model file ({error})") from None
    require(metadata.get("format") == "ftervit", f"{path}: not a model file (metadata format is not ftervit)")
    shapes = parsed(path, metadata, "shapes") if "shapes" in metadata else {}
    require(isinstance(shapes, dict), f"{path}: shapes: must be a JSON object")
    return metadata, [tensor_of(path, name, array, shapes) for name, array in stored.items()]


def parsed(path: Path, metadata: dict[str, str], key: str) -> Any:
    """A value of the metadata that is JSON, within the bounds of the shipped reader (SPEC 10.9)."""
    import_ftervit()
    from ftervit import strictjson

    def refuse(field: str, why: str) -> NoReturn:
        raise TrainerError(f"{path}: {field}: {why}")

    text = metadata.get(key)
    if text is None:
        refuse(key, "missing")
    if not (text.isascii() and text.isprintable()):
        refuse(key, "is not printable ASCII")
    return strictjson.parse(text.encode(), key, refuse)


def tensor_of(path: Path, name: str, stored: np.ndarray, shapes: dict[str, Any]) -> Tensor:
    """A stored array with the logical shape that the metadata gives it; TrainerError for one that it cannot have."""
    architecture, most = import_ftervit().architecture, import_ftervit().modelfile.LARGEST_RANK
    from ftervit import strictjson

    shape = shapes.get(name, list(stored.shape))
    field = f"{path}: shapes: '{strictjson.shown(name)}'"
    require(
        isinstance(shape, list) and len(shape) <= most and all(architecture.whole(size, 0, MOST) for size in shape),
        f"{field} must be a list of at most {most} whole numbers",
    )
    tensor = Tensor(name, shape, stored)
    require(
        tensor.packed or architecture.product(shape) <= stored.size,
        f"{field} is {shape}, more than the {stored.size} elements stored",
    )
    return tensor


def header_rows(path: Path) -> Iterator[Group]:
    """The header's bytes, and those of the spaces that pad it."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        text = file.read(length).rstrip(b" ")
    yield Group(HEADER, bytes=8 + len(text))
    yield Group(PADDING, bytes=length - len(text))


def reader_problem(path: Path) -> str:
    """The error of the shipped reader for a file, "" if it accepts it."""
    try:
        import_ftervit().VisionTransformer.load(str(path))
    except (OSError, ValueError, MemoryError, RecursionError) as error:
        return str(error).removeprefix(f"{path}: ") or type(error).__name__
    return ""


def checked_architecture(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """The metadata `architecture`; the reader's check accepts it with the sizes that version 1 did not have."""
    architecture = parsed(path, metadata, "architecture")
    sizes = completed(architecture) if isinstance(architecture, dict) else architecture
    problem = import_ftervit().architecture.architecture_problem(sizes)
    if problem:
        raise TrainerError(f"{path}: {': '.join(problem)}")
    return architecture


def inspect(path: Path) -> Inspection:
    """Count what a model file holds; groups that it lacks are left out.

    Tensors are identified by name, and trits by how they are stored, so files that the reader refuses (an older
    version, a matrix of int8) can be inspected, too. Raises TrainerError for anything that is no model file.
    """
    require(path.is_file(), f"{path}: not found; `trainer train` or `trainer export` makes a model file")
    metadata, tensors = read_tensors(path)
    header, padding = header_rows(path)
    groups = {name: Group(name) for name, _ in GROUPS}
    for tensor in tensors:
        groups[group_of(tensor.name)].add(tensor)
        padding.bytes += tensor.padding
    missing = [t.name for t in tensors if group_of(t.name) not in UNTERNARY and not t.packed]
    architecture = checked_architecture(path, metadata)
    forward = Forward.of(architecture)
    return Inspection(
        path=str(path),
        size=path.stat().st_size,
        version=metadata.get("version", ""),
        architecture=architecture,
        forward=forward,
        groups=[group for group in groups.values() if group.bytes] + [header, padding],
        refused=reader_problem(path),
        threshold=metadata.get("threshold"),
        unternary=sorted(missing),
    )
