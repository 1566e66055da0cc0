# SPDX-License-Identifier: MIT
"""Reads ESP-IDF's partition tables: a board's partitions.csv, and the table in a flash image."""

import struct
from pathlib import Path
from typing import NamedTuple

from host_sim.setup.shell import Failure
from host_sim.setup.sizes import parse_size

TABLE = 0x8000  # address in flash (ESP-IDF's default)
ENTRY, ENTRIES = struct.Struct("<2sBBII16sI"), 95
MAGIC = b"\xaa\x50"
TYPES = {"app": 0, "data": 1}


class Partition(NamedTuple):
    """A partition of flash; type: 0 for an application, 1 for data; offset, size: bytes."""

    name: str
    type: int
    offset: int
    size: int


def of_table(path: Path) -> list[Partition]:
    """The partitions of a partitions.csv (name, type, subtype, offset, size); a Failure quotes a malformed line."""
    found = []
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    for line in lines:
        fields = [field.strip() for field in line.partition("#")[0].split(",")]
        if fields == [""]:
            continue
        offset, size = (parse_size(field) for field in fields[3:5]) if len(fields) > 4 else (None, None)
        kind = TYPES.get(fields[1], parse_size(fields[1])) if len(fields) > 1 else None
        if offset is None or size is None or kind is None:
            raise Failure(f"{path}: a line must be 'NAME, TYPE, SUBTYPE, OFFSET, SIZE', not {line!r}")
        found.append(Partition(fields[0], kind, offset, size))
    return found


def of_image(image: bytes, what: str) -> list[Partition]:
    """The partitions in the table of a flash image that starts at address 0; `what` names the image in a Failure."""
    found = []
    for number in range(ENTRIES):
        entry = image[TABLE + number * ENTRY.size :][: ENTRY.size]
        if len(entry) < ENTRY.size or entry[:2] != MAGIC:
            break
        _, kind, _, offset, size, name, _ = ENTRY.unpack(entry)
        found.append(Partition(name.rstrip(b"\0").decode(errors="replace"), kind, offset, size))
    if not found:
        raise Failure(f"{what}: no partition table at {TABLE:#x}: is this an ESP32-S3's firmware.bin?")
    return found


def named(partitions: list[Partition], name: str, what: str) -> Partition:
    """The partition with a name; `what` names the table in a Failure."""
    for partition in partitions:
        if partition.name == name:
            return partition
    raise Failure(f"{what}: has no partition named {name}, only {', '.join(each.name for each in partitions)}")
