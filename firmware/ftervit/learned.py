# SPDX-License-Identifier: MIT
"""The file of what a Learner has been taught (SPEC 12.12): writes it whole or not at all, checks all of it."""

import os
import struct
from binascii import crc32
from errno import ENOENT

import ternary

from ftervit.ridge import MAX_CLASSES, MAX_PICTURES, SHARPNESS, Head, bytes_of, check_label, directions_of

MAGIC = b"ftlearnt"
VERSION = 2
# magic, version, pooling, whether it holds pictures, width, classes, pictures, directions, the model's digest, limit,
# spread, sharpness, bytes, crc32
HEADER = "<8sHBBHHHH8siiIII"
SIZE = struct.calcsize(HEADER)
CRC_AT = SIZE - 4
NEW = ".new"


def write(path, learner, head, counts, taught):
    """Write a Learner's head and, unless None, its pictures (features, classes) to `path`."""
    from ftervit.architecture import POOLINGS

    parts = [bytes(head.multiplier), bytes(head.bias), struct.pack("<%dH" % len(counts), *counts)]
    parts += [head.weights, head.directions]
    for label in learner.labels:
        text = label.encode()
        parts.append(bytes([len(text)]) + text)
    if taught is not None:
        parts += taught
    size, fields = SIZE + sum(len(part) for part in parts), [MAGIC, VERSION, POOLINGS.index(learner.pooling)]
    directions = len(head.directions) // bytes_of(head.width)
    fields += [int(taught is not None), head.width, head.classes, sum(counts), directions]
    fields += [learner.model.digest, head.limit, head.spread, head.sharpness, size]
    found = crc32(struct.pack(HEADER, *fields, 0))
    for part in parts:
        found = crc32(part, found)
    write_whole(path, [struct.pack(HEADER, *fields, found & 0xFFFFFFFF)] + parts)


def write_whole(path, parts):
    """Write a file beside the old one, then put it in its place.

    littlefs and POSIX replace in one step. FAT removes the old file first: for that moment there is only the new one
    under its other name, where `open_written` looks.
    """
    new = path + NEW
    try:
        with open(new, "wb") as file:
            for part in parts:
                if file.write(part) != len(part):
                    raise OSError("%s: no room for %d bytes" % (new, sum(len(part) for part in parts)))
            file.flush()
            if hasattr(os, "fsync"):
                os.fsync(file.fileno())
    except OSError:
        try:
            os.remove(new)
        except OSError:
            pass
        raise
    if hasattr(os, "sync"):
        os.sync()
    getattr(os, "replace", os.rename)(new, path)


def open_written(path):
    """Open what `write_whole` wrote: after a loss of power it may still have its other name."""
    try:
        return open(path, "rb")
    except OSError as error:
        if error.errno != ENOENT:
            raise
    try:
        return open(path + NEW, "rb")
    except OSError:
        raise OSError(ENOENT, "%s cannot be opened" % path)


class LearnedFile:
    """A checked file: pooling, labels, counts, head; taught: features int8 [n, width] and classes uint8 [n], or None.

    Raises ValueError that names file and field for any breach of SPEC 12.13, OSError if it cannot be read.
    """

    def __init__(self, path, model):
        from ftervit.architecture import POOLINGS
        from ftervit.modelfile import check_room

        self.path = path
        with open_written(path) as file:
            start = file.read(SIZE)
            if len(start) != SIZE or start[:8] != MAGIC:
                self.refuse("format", "not a file of what a Learner was taught")
            fields = struct.unpack(HEADER, start)
            version, pooling, pictures, width, classes, count, directions, digest = fields[1:9]
            limit, spread, sharpness, size, crc = fields[9:]
            if version != VERSION:
                self.refuse("version", "is %d, this reader knows %d" % (version, VERSION))
            if pooling >= len(POOLINGS):
                self.refuse("pooling", "is %d, needs 0..%d" % (pooling, len(POOLINGS) - 1))
            self.pooling = POOLINGS[pooling]
            self._within("pictures flag", pictures, 0, 1)
            self._within("classes", classes, 1, MAX_CLASSES)
            self._within("pictures", count, classes, MAX_PICTURES)
            if digest != model.digest:
                names = text(digest), text(model.digest)
                self.refuse("model", "taught with the model file %s, not with %s" % names)
            if width != model.feature_count(self.pooling):
                self.refuse("width", "is %d, the model has %d" % (width, model.feature_count(self.pooling)))
            if directions != directions_of(count, width, classes):
                self.refuse("directions", "is %d, must be %d" % (directions, directions_of(count, width, classes)))
            self._within("limit", limit, 0, (1 << 31) - 1)
            self._within("spread", spread, 0, (1 << 31) - 1)
            self._within("sharpness", sharpness, *SHARPNESS)
            found = file.seek(0, 2)
            file.seek(SIZE)
            if found != size:
                self.refuse("size", "%d bytes, the header says %d" % (found, size))
            spanned = directions * bytes_of(width)
            fixed = SIZE + 10 * classes + classes * width + spanned + pictures * count * (width + 1)
            if not fixed + 2 * classes <= size <= fixed + 256 * classes:
                self.refuse("size", "%d bytes do not fit its numbers" % size)
            check_room(size - SIZE, path)
            self._crc = crc32(start[:CRC_AT] + bytes(4))
            self.head = head = Head(width, classes, directions)
            head.limit, head.spread, head.sharpness = limit, spread, sharpness
            counts = bytearray(2 * classes)
            self._read(file, head.multiplier, 4 * classes)
            self._read(file, head.bias, 4 * classes)
            self._read(file, counts, 2 * classes)
            self._read(file, head.weights, classes * width)
            self._read(file, head.directions, spanned)
            self.counts = list(struct.unpack("<%dH" % classes, counts))
            self.labels = [self._label(file) for _ in range(classes)]
            self.taught = None
            if pictures:
                self.taught = ternary.heap(count * width), ternary.heap(count, "B")
                self._read(file, self.taught[0], count * width)
                self._read(file, self.taught[1], count)
            if file.read(1):
                self.refuse("size", "bytes behind the end")
        if self._crc & 0xFFFFFFFF != crc:
            found = self._crc & 0xFFFFFFFF, crc
            self.refuse("crc32", "its bytes give %08x, the file says %08x: damaged or cut short" % found)
        self._check(count)

    def refuse(self, field, why):
        """Raise the ValueError for a breach of the format."""
        raise ValueError("%s: %s: %s" % (self.path, field, why))

    def _within(self, field, value, low, high):
        if not low <= value <= high:
            self.refuse(field, "is %d, needs %d..%d" % (value, low, high))

    def _read(self, file, part, size):
        if file.readinto(part) != size:
            self.refuse("size", "cut short")
        self._crc = crc32(part, self._crc)

    def _label(self, file):
        size = file.read(1)
        label = file.read(size[0] if size else 0)
        if not size or len(label) != size[0]:
            self.refuse("labels", "cut short")
        self._crc = crc32(size + label, self._crc)
        return label

    def _check(self, count):
        """What the CRC-32 does not tell: contents that nobody writes."""
        for i, label in enumerate(self.labels):
            try:
                self.labels[i] = str(label, "utf-8")
                check_label(self.labels[i])
            except ValueError as error:  # UnicodeError is one
                self.refuse("labels", "class %d: %s" % (i, error))
            if self.labels[i] in self.labels[:i]:
                self.refuse("labels", "'%s' twice" % self.labels[i])
        if min(self.counts) < 1 or sum(self.counts) != count:
            self.refuse("counts", "%s are not %d pictures" % (self.counts, count))
        if min(self.head.multiplier) < 0:
            self.refuse("multiplier", "%d is below 0" % min(self.head.multiplier))
        if self.taught is not None:
            classes = bytes(self.taught[1])
            if [classes.count(bytes([i])) for i in range(len(self.labels))] != self.counts:
                self.refuse("pictures", "their classes are not as many as the counts say")


def text(digest):
    """A model's digest for people."""
    return "%08x of %d bytes" % struct.unpack("<II", digest)
