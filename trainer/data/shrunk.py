# SPDX-License-Identifier: MIT
"""Large photos are decoded once: what the network needs of them is kept in one bounded file, by the photo's content."""

import math
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from trainer.data.decode import square
from trainer.data.settings import DataSettings
from trainer.paths import shown

OVERSAMPLED = 2  # pixels of a shrunk photo's smallest training crop for one that the network sees, along each side
NARROWEST = 3 / 4  # of a crop's sides, as in timm
FLUSH = 16 << 20  # bytes that wait to be written
ROW = 200  # bytes that an entry takes beside its pixels, about
PATIENCE = 60.0  # seconds that one process waits for another's writing
READ_PATIENCE = 10.0

DECODER = f"Pillow {PIL.__version__}"  # versions may differ by a level

TABLES = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, digest TEXT, form TEXT, height INTEGER, width INTEGER, channels INTEGER, crc INTEGER,
    bytes INTEGER, used REAL, UNIQUE (digest, form)
);
CREATE TABLE IF NOT EXISTS contents (id INTEGER PRIMARY KEY, content BLOB);
"""


def crop_side(settings: DataSettings) -> int:
    """Pixels that the shorter side of a shrunk photo has at least, so that its smallest training crop has OVERSAMPLED
    times what the network sees."""
    return math.ceil(OVERSAMPLED * settings.size / math.sqrt(NARROWEST * settings.scale_min))


def reduced(image: Image.Image, side: int) -> Image.Image:
    """A photo shrunk by a whole factor, each pixel the mean of a square; its shorter side stays at least `side`."""
    factor = min(image.size) // side
    return image.reduce(factor) if factor > 1 else image


@dataclass(frozen=True)
class Forms:
    """What is kept of a photo: its square as the board sees it, and if crops are made of it, a shrunk copy.

    Both have names, which hold what they depend on beside the photo.
    """

    settings: DataSettings
    with_crops: bool

    @property
    def square(self) -> str:
        """Name of the square."""
        return f"square {self.settings.size} {self.settings.channels} {DECODER}"

    @property
    def crops(self) -> str:
        """Name of the shrunk copy."""
        return f"crops {crop_side(self.settings)} {DECODER}"

    @property
    def names(self) -> tuple[str, ...]:
        """All that is wanted."""
        return (self.square, self.crops) if self.with_crops else (self.square,)

    def of(self, image: Image.Image) -> dict[str, np.ndarray | None]:
        """What is kept of an RGB picture, uint8 [height, width, channels] by name; None of a small one, which is
        quickly decoded again."""
        side = crop_side(self.settings)
        if min(image.size) < 2 * side:
            return dict.fromkeys(self.names)
        made: dict[str, np.ndarray | None] = {
            self.square: square(image, self.settings.size, self.settings.channels),
            self.crops: np.asarray(reduced(image, side)) if self.with_crops else None,
        }
        return {name: made[name] for name in self.names}


@dataclass
class Store:
    """Pixels by a digest of the photo's content and the name of a form, in an SQLite file of at most `limit` bytes of
    them; what was not used for longest makes room.

    A cache: what is missing, damaged or locked is None, and the photo is decoded again. Processes may share it.
    broken: this process no longer reads it.
    """

    path: Path
    limit: int
    connections: dict[tuple[int, int], sqlite3.Connection] = field(default_factory=dict, repr=False)
    broken: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "limit": self.limit, "connections": {}, "broken": False}

    def get(self, digest: str, form: str) -> np.ndarray | None:
        """uint8 [height, width, channels], or None."""
        if self.broken:
            return None
        columns = "height, width, channels, crc, content"
        query = f"SELECT {columns} FROM entries JOIN contents USING (id) WHERE digest=? AND form=?"
        try:
            row = self.reader().execute(query, (digest, form)).fetchone()
        except sqlite3.Error:
            self.broken = True  # and no picture of many waits for a lock
            return None
        if row is None or zlib.crc32(row[4]) != row[3] or len(row[4]) != row[0] * row[1] * row[2]:
            return None
        return np.frombuffer(row[4], np.uint8).reshape(row[:3])

    def reader(self) -> sqlite3.Connection:
        """A connection of this thread of this process: SQLite's may not be shared with a fork."""
        key = os.getpid(), threading.get_ident()
        if key not in self.connections:
            address = f"{self.path.resolve().as_uri()}?mode=ro"
            self.connections[key] = sqlite3.connect(address, uri=True, timeout=READ_PATIENCE)
        return self.connections[key]


class Writer:
    """Fills a Store with the forms of a set of photos. What prevents it is said in `problem`, and costs only time."""

    def __init__(self, store: Store, forms: Forms):
        self.store, self.forms, self.problem = store, forms, ""
        self.kept: set[str] = set()
        self.bytes = self.left_out = 0
        self.started = time.time()
        self.waiting: list[tuple[str, str, np.ndarray | None]] = []
        self.there: set[tuple[str, str]] = set()
        self.begin()

    def connect(self) -> sqlite3.Connection:
        """The file, made if it is not there."""
        connection = sqlite3.connect(self.store.path, timeout=PATIENCE)
        try:
            connection.executescript(TABLES)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def begin(self) -> None:
        """Read what is there; a damaged file is replaced."""
        try:
            self.store.path.parent.mkdir(parents=True, exist_ok=True)
            for attempt in (1, 2):
                try:
                    with closing(self.connect()) as connection:
                        self.there = set(connection.execute("SELECT digest, form FROM entries"))
                    return
                except sqlite3.OperationalError:
                    raise  # locked, or no room: not damaged
                except sqlite3.DatabaseError:
                    if attempt == 2:
                        raise
                    for path in (self.store.path, self.store.path.with_name(f"{self.store.path.name}-journal")):
                        path.unlink(missing_ok=True)
        except (OSError, sqlite3.Error) as error:
            self.problem = str(error)

    def wants(self, digest: str) -> bool:
        """Whether a photo must be decoded for what is not there."""
        return not self.problem and any((digest, name) not in self.there for name in self.forms.names)

    def add(self, digest: str, made: dict[str, np.ndarray | None]) -> None:
        """Keep the forms of a photo."""
        self.waiting += [(digest, name, pixels) for name, pixels in made.items() if (digest, name) not in self.there]
        self.there |= {(digest, name) for name in made}
        if sum(pixels.nbytes for _, _, pixels in self.waiting if pixels is not None) > FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what waits, in one transaction."""
        waiting, self.waiting = self.waiting, []
        if not waiting or self.problem:
            return
        kept, left_out = [], 0
        try:
            with closing(self.connect()) as connection, connection:
                connection.execute("BEGIN IMMEDIATE")
                sizes = [ROW + (0 if pixels is None else pixels.nbytes) for _, _, pixels in waiting]
                room = self.make_room(connection, sum(sizes))
                for (digest, name, pixels), size in zip(waiting, sizes, strict=True):
                    if size > room:
                        # One line for both forms of a photo; small ones are always decoded.
                        left_out += pixels is not None and name == self.forms.names[-1]
                        continue
                    room -= size
                    self.insert(connection, digest, name, pixels)
                    if pixels is not None:
                        kept.append((digest, pixels.nbytes))
        except (OSError, sqlite3.Error) as error:
            self.problem = str(error)
            return
        # Only now is anything kept: a full disk is found when the transaction ends.
        self.left_out += left_out
        self.bytes += sum(size for _, size in kept)
        self.kept |= {digest for digest, _ in kept}

    def insert(self, connection: sqlite3.Connection, digest: str, name: str, pixels: np.ndarray | None) -> None:
        """One entry; a small photo's is empty."""
        content = b"" if pixels is None else pixels.tobytes()
        shape = (0, 0, 0) if pixels is None else pixels.shape
        columns = "digest, form, height, width, channels, crc, bytes, used"
        found = connection.execute("SELECT id FROM entries WHERE digest=? AND form=?", (digest, name)).fetchone()
        if found:  # of another process
            return
        values = (digest, name, *shape, zlib.crc32(content), ROW + len(content), self.started)
        row = connection.execute(f"INSERT INTO entries ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        if content:
            connection.execute("INSERT INTO contents (id, content) VALUES (?, ?)", (row.lastrowid, content))

    def make_room(self, connection: sqlite3.Connection, wanted: int) -> int:
        """Bytes that may be added, once what other sets used is removed as far as needed, longest unused first."""
        room = self.store.limit - int(connection.execute("SELECT TOTAL(bytes) FROM entries").fetchone()[0])
        old = "SELECT id, bytes FROM entries WHERE used < ? ORDER BY used"
        gone = []
        for number, size in connection.execute(old, (self.started,)):
            if room >= wanted:
                break
            gone.append((number,))
            room += size
        for table in ("contents", "entries"):
            connection.executemany(f"DELETE FROM {table} WHERE id=?", gone)
        return room

    def touch(self, digests: Iterable[str]) -> None:
        """Note that these photos are used, so that others make room first."""
        if self.problem:
            return
        with suppress(sqlite3.Error), closing(self.connect()) as connection, connection:
            connection.executemany("UPDATE entries SET used=? WHERE digest=?", ((self.started, d) for d in digests))

    def report(self, where: str) -> Sequence[str]:
        """Lines about what was done, none if nothing was."""
        lines = []
        if self.kept:
            lines.append(
                f"{where}: {len(self.kept)} large photos decoded and shrunk once, {self.bytes / 1e6:.1f} MB kept in "
                f"{shown(self.store.path)} (data.cache_gb)"
            )
        if self.left_out:
            lines.append(
                f"{where}: no room for {self.left_out} more in data.cache_gb = {self.store.limit / 1e9:g}; they are "
                "decoded anew each time"
            )
        if self.problem:
            lines.append(f"{where}: photos are decoded anew each time: {shown(self.store.path)}: {self.problem}")
        return lines
