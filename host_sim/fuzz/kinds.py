# SPDX-License-Identifier: MIT
"""The kinds of cases that need no trainer; `python -m host_sim.fuzz.kinds` runs some (worker.py)."""

import random
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from host_sim.fuzz import modelfiles
from host_sim.fuzz.firmware import import_ftervit
from host_sim.fuzz.worker import Board, Fault, main, one_short_line
from host_sim.setup.romfs import DIRECTORY, MAGIC, build_image, image_files, number
from host_sim.setup.shell import Failure

BASES = 200  # valid model files that mutations begin with


def answers() -> ModuleType:
    """on_board/answers.py under CPython."""
    import_ftervit()
    folder = str(Path(__file__).parent / "on_board")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import answers

    return answers


def refusal(path: Path, answer: str) -> None:
    """Fault unless a refusal is one line that names the file first."""
    if answer.startswith("refused "):
        one_short_line(answer)
        if not answer.startswith(f"refused {path}: "):
            raise Fault(f"the error does not name the file: {answer}")


class Compared:
    """Compares what host and board answer; every: of so many cases, one goes to the board."""

    every = 1

    def __init__(self, board: Board | None) -> None:
        self.board, self.count, self.answers = board, 0, answers()

    def compare(self, kind: str, argument: str, answer: str) -> None:
        """Fault if the board answers something else; it may be short of memory."""
        self.count += 1
        if self.board and self.count % self.every == 0:
            theirs = self.board.answer(kind, argument)
            if theirs not in (answer, "MemoryError"):
                raise Fault(f"the board answers {theirs!a}, the host {answer!a}")


@lru_cache(BASES)
def base(number: int) -> bytes:
    """A valid model file."""
    return modelfiles.valid(random.Random(number))


class ModelFiles(Compared):
    """Model files with a right CRC-32: refused in one line, or safe to compute with."""

    every = 4

    def make(self, chance: random.Random) -> bytes:
        """A mutated file; some are not mutated."""
        content = base(chance.randrange(BASES))
        return modelfiles.mutated(chance, content) if chance.random() < 0.98 else content

    def check(self, path: Path) -> None:
        """Load it."""
        answer = self.answers.model_file(str(path))
        refusal(path, answer)
        self.compare("model_file", str(path), answer)


class Calls(Compared):
    """Calls of operations with wrong types, sizes, numbers and overlapping buffers."""

    def make(self, chance: random.Random) -> bytes:
        """The number of a call."""
        return b"%d" % chance.randrange(2**40)

    def check(self, path: Path) -> None:
        """Call."""
        number = path.read_text()
        answer = self.answers.call(number)
        if answer.startswith("FAULT"):
            raise Fault(answer)
        one_short_line(answer)
        self.compare("call", number, answer)


class Images(Compared):
    """PGM and PPM files."""

    every = 2

    def make(self, chance: random.Random) -> bytes:
        """A picture whose header or size is wrong."""
        magic = chance.choice((b"P5", b"P6", b"P5", b"P6", b"P4", b"P2", b"", b"P"))
        numbers = (0, 1, 2, 3, 7, 40, 255, 4096, 4097, 65535, 99999, 2**31, 2**64)
        sides = [chance.choice(numbers) if chance.random() < 0.2 else chance.randint(1, 50) for _ in range(2)]
        words = [b"%d" % side for side in sides] + [chance.choice((b"255",) * 9 + (b"256", b"0", b"65535"))]
        if chance.random() < 0.2:
            words[chance.randrange(3)] = chance.choice(
                (b"", b"+3", b"-3", b"1_6", b"0x3", b"3.0", b"\xb2", b"9" * 3000)
            )
        space = [chance.choice((b" ", b"\n", b"\t", b"\r\n", b" # 5\n", b"#", b"  ")) for _ in range(4)]
        header = magic + b"".join(part for pair in zip(space, words, strict=False) for part in pair) + space[3][-1:]
        size = min(sides[0] * sides[1] * (3 if magic == b"P6" else 1), 20_000)
        if chance.random() < 0.3:
            size = max(0, size + chance.randint(-20, 20))
        content = bytearray(header + chance.randbytes(size))
        if chance.random() < 0.2 and content:
            content[chance.randrange(min(len(content), 20))] = chance.randrange(256)
        return bytes(content)

    def check(self, path: Path) -> None:
        """Read it."""
        answer = self.answers.image(str(path))
        refusal(path, answer)
        self.compare("image", str(path), answer)


def nested(count: int) -> bytes:
    """An image with so many folders within each other."""
    content = b""
    for _ in range(count):
        payload = b"\x01a" + content
        content = number(DIRECTORY) + number(len(payload), 4) + payload
    return MAGIC + number(len(content), 4) + content


class Romfs:
    """ROMFS images: a Failure, or files within the image."""

    def __init__(self, board: Board | None) -> None:
        pass

    def make(self, chance: random.Random) -> bytes:
        """An image with some bytes changed, cut, repeated or nested."""
        names = ["a", "b/c", "b/d", "e/f/g", "\u20ac", "x" * 200]
        files = {name: chance.randbytes(chance.choice((0, 1, 15, 16, 200))) for name in chance.sample(names, 3)}
        content = bytearray(build_image(files))
        for _ in range(chance.randrange(4)):
            kind, at = chance.randrange(5), chance.randrange(len(content))
            if kind == 0:
                content[at] = chance.choice((0, 1, 2, 3, 4, 5, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            elif kind == 1:
                content[at:at] = b"\xff" * chance.choice((1, 9, 10, 11, 5000))
            elif kind == 2:
                del content[at + 1 :]
            elif kind == 3:
                content[at:at] = content[at : at + chance.randrange(60)]
            else:
                content[:] = nested(chance.choice((1, 30, 31, 32, 33, 2000))) + content[at:]
        return bytes(content)

    def check(self, path: Path) -> None:
        """Read it."""
        image = path.read_bytes()
        try:
            files = image_files(image)
        except Failure as error:
            one_short_line(str(error))
            return
        for name, (offset, size) in files.items():
            if not 0 <= offset <= offset + size <= len(image):
                raise Fault(f"{name!a}: {size} bytes at {offset} of {len(image)}")
            if name.startswith("/") or ".." in name.split("/"):
                raise Fault(f"a file's name is {name!a}")


KINDS = {"model_files": ModelFiles, "calls": Calls, "images": Images, "romfs": Romfs}

if __name__ == "__main__":
    main(KINDS)  # type: ignore[arg-type]
