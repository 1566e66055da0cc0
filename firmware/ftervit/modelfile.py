# SPDX-License-Identifier: MIT
"""Reader of the model file (SPEC 10). Checks all of it, builds no tree, hands out views of the file itself."""

import gc
from array import array
from binascii import crc32
from errno import EISDIR, ENODEV, ENOENT
from os import stat

import ternary

from ftervit.architecture import (
    MAX_PREFETCH,
    PREPROCESSING,
    SCALES,
    architecture_problem,
    packed_shape,
    padded,
    product,
)
from ftervit.strictjson import COMMA, LONGEST_LIST, Scanner, parse, shown

try:
    from uctypes import addressof
except ImportError:
    addressof = None

ROM = "/rom/"  # where MicroPython mounts the ROM file system of a board
FORMAT = "ftervit"
VERSION = "2"
HEAD_VERSION = "3"  # of files with a head or features that version 2 does not have, or a threshold
PACKING = "base3-5x16"
METADATA = (
    "format",
    "version",
    "crc32",
    "packing",
    "architecture",
    "labels",
    "preprocessing",
    "scales",
    "shapes",
)
OPTIONAL = ("threshold",)  # of version 3
ITEM_SIZE = {"U8": 1, "I8": 1, "I16": 2, "I32": 4}
LARGEST_FILE = (1 << 31) - 1
LARGEST_HEADER = 1 << 20  # bytes; a model of 48 blocks and 1,000 labels needs about 0.1 of it
LARGEST_RANK = 8  # dimensions of a shape


def open_file(path):
    """Open a file for reading; OSError for a folder, which MicroPython opens like a file."""
    file = open(path, "rb")
    if stat(path)[0] & 0xF000 == 0x4000:
        file.close()
        raise OSError(EISDIR)
    return file


def open_named(path):
    """Open a file for reading; one that the current directory lacks is looked for in /rom, where `just deploy` writes.

    The OSError of a file that cannot be opened names it on MicroPython too.
    """
    try:
        return open_file(path)
    except OSError as error:
        number = error.errno
    try:
        # ENODEV: a root directory without a file system.
        if number in (ENOENT, ENODEV) and not str(path).startswith("/"):
            return open_file(ROM + str(path))
    except OSError:
        pass
    raise OSError(number, "%s %s" % (path, "is a folder" if number == EISDIR else "cannot be opened"))


def check_room(needed, what):
    """Raise MemoryError with both numbers if MicroPython's heap cannot hold `needed` bytes."""
    if not hasattr(gc, "mem_free") or needed <= gc.mem_free():
        return
    gc.collect()
    if needed > gc.mem_free():
        raise MemoryError("%s: needs %d bytes, %d are free" % (what, needed, gc.mem_free()))


def aligned(view):
    """Whether a view lies on a multiple of 16; true where Python does not tell addresses."""
    return addressof is None or addressof(view) % 16 == 0


def map_file(path):
    """The bytes of a file: in place where the file system can (ROMFS) and they lie on a multiple of 16, else a copy."""
    with open_named(path) as file:
        try:
            data = memoryview(file)
            if aligned(data):
                return data
        except TypeError:
            pass
        size = file.seek(0, 2)
        file.seek(0)
        if not 0 < size <= LARGEST_FILE:
            raise ValueError("%s: size: %d bytes, a model file has 1 to %d" % (path, size, LARGEST_FILE))
        if addressof is None:
            # CPython. Not mapped: a file that is cut while it is mapped ends the process by SIGBUS.
            data = memoryview(file.read(size))
            if len(data) != size:
                raise OSError("%s: read less than its %d bytes" % (path, size))
            return data
        check_room(size, path)
        try:
            data = ternary.heap(size, "B")
        except MemoryError:
            # MicroPython tells how much is free, not how much of it lies together.
            free = gc.mem_free() if hasattr(gc, "mem_free") else 0
            raise MemoryError("%s: needs %d bytes in one piece, %d are free, but scattered" % (path, size, free))
        if file.readinto(data) != size:
            raise OSError("%s: read less than its %d bytes" % (path, size))
        return data


class Labels:
    """Names of classes, a list that cannot be changed: one text, as a string each would take five times as much."""

    def __init__(self, names):
        self._text = "".join(names).encode()
        self._ends = array("I", [0] * len(names))
        end = 0
        for i, name in enumerate(names):
            end += len(name.encode())
            self._ends[i] = end

    def __len__(self):
        return len(self._ends)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        if index < 0:
            index += len(self._ends)
        if not 0 <= index < len(self._ends):
            raise IndexError("label %d of %d" % (index, len(self._ends)))
        start = self._ends[index - 1] if index else 0
        return str(self._text[start : self._ends[index]], "utf-8")

    def __eq__(self, other):
        return isinstance(other, (list, Labels)) and list(self) == list(other)  # type: ignore[call-overload, arg-type]

    def index(self, label: str) -> int:
        """The number of a label; ValueError if there is none."""
        for i in range(len(self)):
            if self[i] == label:
                return i
        raise ValueError("%r is none of the labels" % (label,))

    def __repr__(self):
        return repr(list(self))  # type: ignore[call-overload]


class ModelFile:
    """A checked model file.

    architecture: dict of sizes; labels: the class names; preprocessing: multiplier and offset; threshold: of the
    largest logit, or None; all of SPEC 10.4.
    Raises ValueError that names file and field for any breach of SPEC 10, OSError if the file cannot be read.
    """

    def __init__(self, path):
        self.path = path
        self._data = map_file(path)
        self._taken = 0
        self._read_header()
        self._check_crc32()
        self._check_entries()
        self.architecture = self._json("architecture")
        self._check_architecture()
        self.labels = self._read_labels()
        self.preprocessing = self._json("preprocessing")
        self._check_preprocessing()
        self.threshold = self._read_threshold()
        self._scales = self._json("scales")
        if type(self._scales) is not dict:
            self.refuse("scales", "must be a JSON object")
        if hasattr(gc, "mem_free"):
            gc.collect()  # or else what stays lies behind what reading the header left

    def refuse(self, field, why):
        """Raise the ValueError for a breach of the format."""
        raise ValueError("%s: %s: %s" % (self.path, field, why))

    # The header is walked by position: what is expected must stand there, byte for byte (SPEC 10.2).

    def _read_header(self):
        size = len(self._data)
        if size < 16:
            self.refuse("size", "%d bytes, a model file has more than 16" % size)
        length = int.from_bytes(bytes(self._data[:8]), "little")
        if not 2 <= length <= min(size - 8, LARGEST_HEADER):
            self.refuse("header length", "%d does not fit a file of %d bytes" % (length, size))
        if (length + 8) % 16:
            self.refuse("header length", "%d: data would not start on a multiple of 16" % length)
        # As much again for what is read from it (a list of many labels, all scales).
        check_room(2 * length, self.path + ": header")
        text = bytes(self._data[8 : 8 + length])
        for byte in text:
            if not 32 <= byte <= 126:
                self.refuse("header", "byte %d is not printable ASCII" % byte)
        self._base = 8 + length
        self._metadata = {}  # type: dict[str, bytes]
        self._crc32_at = 0
        header = Scanner(text, "header", self.refuse)
        header.expect(b'{"__metadata__":{')
        while True:
            key = header.key()
            if key in self._metadata or key not in METADATA + OPTIONAL:
                self.refuse(key, "unknown or repeated metadata")
            header.expect(b":", key)
            if key == "crc32":
                self._crc32_at = header.at + 1
            self._metadata[key] = self._metadata_value(header, key)
            if header.next() != COMMA:
                break
            header.at += 1
        header.expect(b"}", "__metadata__")
        for key in METADATA:
            if key not in self._metadata:
                self.refuse(key, "missing from the metadata")
        known = (("format", (FORMAT,)), ("version", (VERSION, HEAD_VERSION)), ("packing", (PACKING,)))
        for key, expected in known:
            value = str(self._metadata.pop(key), "ascii")
            if value not in expected:
                self.refuse(key, "is '%s', this reader knows '%s'" % (shown(value), "' and '".join(expected)))
            if key == "version":
                self.version = value
        if self.version == VERSION and OPTIONAL[0] in self._metadata:
            self.refuse(OPTIONAL[0], "unknown or repeated metadata")
        # What has been read needs its memory no more: most of the header, where there are many labels.
        self._header = Scanner(text[header.at :], "header", self.refuse, header.at)

    def _metadata_value(self, header, key):
        """The string that stands next in the header; escaped are quotes and backslashes alone (SPEC 10.2)."""
        value = header.raw(LARGEST_HEADER).replace(b'\\"', b'"')
        if b"\\" in value:
            if b"\\" in value.replace(b"\\\\", b""):
                self.refuse(key, "escapes something other than quotes and backslashes")
            value = value.replace(b"\\\\", b"\\")
        return value

    def _entry(self, name):
        """dtype, shape, begin and end of the entry that stands next in the header, behind its name."""
        header = self._header
        field = "tensor '%s'" % name
        header.expect(b':{"dtype":', field)
        header.field(field)
        dtype = header.key()
        if dtype not in ITEM_SIZE:
            self.refuse(field, "dtype %s, must be one of U8, I8, I16, I32" % dtype)
        header.expect(b',"shape":')
        header.field(field, "shape")
        shape = header.numbers(LARGEST_RANK)
        header.field(field)
        header.expect(b',"data_offsets":')
        header.field(field, "data_offsets")
        offsets = header.numbers(2)
        if len(offsets) != 2:
            self.refuse(field + " data_offsets", "must be two numbers")
        header.field(field)
        header.expect(b"}")
        header.field("header")
        return dtype, shape, offsets[0], offsets[1]

    def _check_entries(self):
        """SPEC 10.3 for all tensors, and that `shapes` has one of each, in the same order."""
        header = self._header
        shapes = self._shapes = Scanner(self._metadata.pop("shapes"), "shapes", self.refuse)
        free, self._count = 0, 0
        while header.next() == COMMA:
            header.at += 1
            name = header.key()
            dtype, shape, begin, end = self._entry(name)
            field = "tensor '%s' " % name
            if begin != free:
                self.refuse(field + "data_offsets", "begins at %d, the one before ended at %d" % (begin, free))
            if end - begin != product(shape) * ITEM_SIZE[dtype]:
                self.refuse(field + "shape", "%s %s does not fill %d bytes" % (dtype, shape, end - begin))
            if (end - begin) % 16:
                self.refuse(field + "data_offsets", "%d bytes, not a multiple of 16" % (end - begin))
            shapes.expect(b',"' if self._count else b'{"')
            shapes.at -= 1
            found = shapes.key()
            if found != name:
                self.refuse("shapes", "has '%s' where the next tensor is '%s'" % (found, name))
            shapes.expect(b":")
            shapes.field("shapes", name)
            shapes.numbers(LARGEST_RANK)
            shapes.field("shapes")
            free = end
            self._count += 1
        header.expect(b"}")
        if header.text[header.at :].strip(b" "):
            self.refuse("header", "something other than spaces after its end")
        shapes.expect(b"}" if self._count else b"{}")
        shapes.end()
        if self._base + free != len(self._data):
            self.refuse("size", "%d bytes, the header describes %d" % (len(self._data), self._base + free))

    def _check_crc32(self):
        stored, at = str(self._metadata.pop("crc32"), "ascii"), 8 + self._crc32_at
        if len(stored) != 8:
            self.refuse("crc32", "'%s' is not 8 hex digits" % shown(stored))
        found = crc32(self._data[:at])
        found = crc32(b"00000000", found)
        digits = "%08x" % (crc32(self._data[at + 8 :], found) & 0xFFFFFFFF)
        if digits != stored:
            self.refuse("crc32", "file says %s, its bytes give %s: damaged or cut short" % (stored, digits))
        # What belongs to this model is known by it.
        self.digest = int(stored, 16).to_bytes(4, "little") + len(self._data).to_bytes(4, "little")

    def _json(self, key, longest=LONGEST_LIST):
        """The JSON of a metadata value; longest: items of a list that is not within another."""
        try:
            return parse(self._metadata.pop(key), key, self.refuse, longest)
        except MemoryError:
            raise MemoryError("%s: %s: does not fit the memory that is free" % (self.path, key))

    def _check_architecture(self):
        if self.version == VERSION and type(self.architecture) is dict:
            pool = self.architecture.get("pool")
            if pool != "token":
                self.refuse("architecture pool", "%s, only 'token' is known" % shown(pool))
            self.architecture["head"] = "ternary"
        elif type(self.architecture) is dict and "head" not in self.architecture:
            self.refuse("architecture head", "missing")
        problem = architecture_problem(self.architecture)
        if problem:
            self.refuse(*problem)

    def _read_labels(self):
        classes = self.architecture["num_classes"]
        labels = self._json("labels", classes)
        if type(labels) is not list or len(labels) != classes:
            self.refuse("labels", "must be a list of num_classes (%d) names" % classes)
        for label in labels:
            if type(label) is not str:
                self.refuse("labels", "%s is not a text" % shown(label))
        return Labels(labels)

    def _read_threshold(self):
        if OPTIONAL[0] not in self._metadata:
            return None
        value, most = self._json(OPTIONAL[0]), (1 << 31) - 1
        if type(value) is not int or not -most - 1 <= value <= most:
            self.refuse(OPTIONAL[0], "%s is not a whole number of 32 bits" % shown(value))
        return value

    def _check_preprocessing(self):
        channels = self.architecture["in_chans"]
        for key in ("multiplier", "offset"):
            low, high = PREPROCESSING[key]
            field = "preprocessing " + key
            values = self.preprocessing.get(key) if type(self.preprocessing) is dict else None
            if type(values) is not list or len(values) != channels:
                self.refuse(field, "must be a list of in_chans (%d) numbers" % channels)
            for value in values:  # type: ignore[union-attr]
                if type(value) is not int or not low <= value <= high:
                    self.refuse(field, "%s is not a whole number from %d to %d" % (shown(value), low, high))

    # What layers ask for.

    def _scale(self, layer, key):
        """Name and value of the entry `key` of `layer` in the metadata `scales`."""
        field = "scales %s %s" % (layer, key)
        try:
            return field, self._scales[layer][key]
        except (KeyError, TypeError):
            self.refuse(field, "missing")

    def scale(self, layer, key):
        """The integer `key` of `layer` from the metadata `scales`, refused outside SCALES[key]."""
        field, value = self._scale(layer, key)
        low, high = SCALES[key]
        if type(value) is not int or not low <= value <= high:
            self.refuse(field, "%s is not a whole number from %d to %d" % (shown(value), low, high))
        return value

    def frac(self, layer):
        """The frac of a layer's output; nothing is computed from it."""
        return self.scale(layer, "frac")

    def fracs(self, layer, count):
        """The list of `count` fracs of a layer whose outputs have several."""
        field, values = self._scale(layer, "frac")
        if type(values) is not list or len(values) != count or not all(type(value) is int for value in values):
            self.refuse(field, "must be a list of %d whole numbers" % count)
        return values

    def _logical_shape(self, name):
        shapes, key = self._shapes, b'"%s":' % name.encode()
        shapes.at = shapes.text.find(key) + len(key)
        return shapes.numbers(LARGEST_RANK)

    def tensor(self, name, dtype, shape, trits=False):
        """View of the tensor `name` as bytes, without its padding; trits come packed.

        Refused unless dtype and logical shape are these, the stored shape follows from them and the padding is zero.
        """
        field = "tensor '%s'" % name
        header = self._header
        at = header.text.find(b'"%s":' % name.encode())
        if at < 0:
            self.refuse(field, "missing")
        header.at = at + len(name) + 2
        found, stored, begin, end = self._entry(name)
        if found != dtype:
            self.refuse(field, "dtype %s, must be %s" % (found, dtype))
        logical = self._logical_shape(name)
        if logical != shape:
            self.refuse(field, "logical shape %s, the architecture needs %s" % (logical, shape))
        size = product(shape) * ITEM_SIZE[dtype]
        expected = packed_shape(shape) if trits else [padded(size) // ITEM_SIZE[dtype]]
        if stored != expected:
            self.refuse(field, "stored shape %s, must be %s" % (stored, expected))
        self._taken += 1
        self._last = begin + self._base, end - begin
        begin += self._base
        end += self._base
        if trits:
            return self._data[begin:end]
        if any(self._data[begin + size : end]):
            self.refuse(field, "padding is not zero")
        return self._data[begin : begin + size]

    def ahead(self):
        """View from the start of the last tensor on: what is read from the file next, up to MAX_PREFETCH bytes.

        A quarter of them where the tensor has more than three: its kernel prefetches the rest, tile by tile, while
        activations may need the cache.
        """
        first, size = self._last
        most = MAX_PREFETCH // 4 if size > MAX_PREFETCH // 4 * 3 else MAX_PREFETCH
        return self._data[first : first + most]

    def finish(self):
        """Refuse a file that holds tensors nobody asked for; call when all layers are made."""
        for layer in ("input", "residual"):
            self.frac(layer)
        if self._taken != self._count:
            self.refuse("header", "%d tensors, the architecture has %d" % (self._count, self._taken))
