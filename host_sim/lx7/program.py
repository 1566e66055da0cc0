# SPDX-License-Identifier: MIT
"""Programs for the simulated core: ELF files by address and by name."""

import bisect
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from elftools.elf.elffile import ELFFile

MOST_BYTES = 16 * 1024 * 1024
EXECUTABLE = 1  # PF_X
XTENSA = "EM_XTENSA"


class ProgramError(ValueError):
    """A file that is not a program for this core; the message names it and says why."""


@dataclass(frozen=True)
class Symbol:
    """A name's address and size in bytes (0 if the assembly says none)."""

    address: int
    size: int


@dataclass(frozen=True)
class Segment:
    """Initial contents of memory: `data` at `address`."""

    address: int
    data: bytes
    executable: bool


@dataclass
class Program:
    """A program; path: of its ELF file."""

    path: Path
    entry: int
    segments: list[Segment]
    symbols: dict[str, Symbol]
    # Addresses and names of functions and labels in executable memory, by address.
    starts: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> "Program":
        """Read a 32-bit little-endian Xtensa executable; ProgramError if it is not one or is damaged."""
        try:
            with open(path, "rb") as file:
                program = read_program(path, file)
        except ProgramError:
            raise
        except OSError as error:
            raise ProgramError(f"{path}: {error.strerror}") from None
        # pyelftools raises many kinds of errors on damaged files.
        except Exception as error:
            raise ProgramError(f"{path}: not a whole ELF file ({type(error).__name__}: {error})") from None
        return program

    def function_at(self, pc: int) -> tuple[str, int] | None:
        """Name of the function that contains a pc, and the offset from its start."""
        number = bisect.bisect_right(self.starts, (pc, "\U0010ffff")) - 1
        if number < 0:
            return None
        start, name = self.starts[number]
        inside = any(s.executable and s.address <= pc < s.address + len(s.data) for s in self.segments)
        return (name, pc - start) if inside else None

    def line_at(self, pc: int) -> tuple[str, int] | None:
        """Source file and line of a pc, or None without line information."""
        number = bisect.bisect_right(self.lines, pc, key=lambda row: row[0]) - 1
        return self.lines[number][1] if number >= 0 else None

    @functools.cached_property
    def lines(self) -> list[tuple[int, tuple[str, int] | None]]:
        """Where source lines begin: address, and file and line or None, by address."""
        try:
            with open(self.path, "rb") as file:
                # The end of one table may be where another begins.
                return sorted(read_lines(ELFFile(file)), key=lambda row: (row[0], row[1] is not None))
        except Exception:
            # Line tables only improve messages.
            return []


def read_program(path: Path, file: BinaryIO) -> Program:
    """A program from an open file; raises ProgramError or whatever pyelftools does."""
    elf = ELFFile(file)
    if elf.elfclass != 32 or not elf.little_endian or elf["e_machine"] != XTENSA:
        raise ProgramError(f"{path}: for another machine; a 32-bit little-endian Xtensa file is needed")
    if elf["e_type"] != "ET_EXEC":
        raise ProgramError(f"{path}: not linked; an executable is needed")
    segments = read_segments(path, elf)
    symbols, starts = read_symbols(elf, segments)
    return Program(path, elf["e_entry"], segments, symbols, starts)


def read_segments(path: Path, elf: ELFFile) -> list[Segment]:
    """Segments to load, without memory that the program zeroes itself."""
    size = elf.stream.seek(0, 2)
    segments, total = [], 0
    for segment in elf.iter_segments():
        if segment["p_type"] != "PT_LOAD" or not segment["p_filesz"]:
            continue
        start, count = segment["p_offset"], segment["p_filesz"]
        total += count
        if total > MOST_BYTES or start + count > size or segment["p_vaddr"] + count > 1 << 32:
            raise ProgramError(f"{path}: a segment of {count} bytes at {start} is not in the file, or too large")
        segments.append(Segment(segment["p_vaddr"], segment.data(), bool(segment["p_flags"] & EXECUTABLE)))
    if not segments:
        raise ProgramError(f"{path}: nothing to load")
    return segments


def read_symbols(elf: ELFFile, segments: list[Segment]) -> tuple[dict[str, Symbol], list[tuple[int, str]]]:
    """All symbols, and the functions and global labels in executable memory."""
    table = elf.get_section_by_name(".symtab")
    symbols: dict[str, Symbol] = {}
    starts: dict[int, str] = {}
    for symbol in table.iter_symbols() if table else ():
        kind, binding = symbol["st_info"]["type"], symbol["st_info"]["bind"]
        if not symbol.name or kind in ("STT_SECTION", "STT_FILE") or symbol["st_shndx"] == "SHN_UNDEF":
            continue
        address = symbol["st_value"]
        symbols[symbol.name] = Symbol(address, symbol["st_size"])
        code = any(s.executable and s.address <= address < s.address + len(s.data) for s in segments)
        # Of several names for one address, a function's is kept.
        if code and (kind == "STT_FUNC" or (binding == "STB_GLOBAL" and address not in starts)):
            starts[address] = symbol.name
    return symbols, sorted(starts.items())


def read_lines(elf: ELFFile) -> list[tuple[int, tuple[str, int] | None]]:
    """Rows of all line tables."""
    rows: list[tuple[int, tuple[str, int] | None]] = []
    if not elf.has_dwarf_info():
        return rows
    dwarf = elf.get_dwarf_info()
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        for entry in program.get_entries() if program else ():
            state = entry.state
            # Line 0: code without a line; it belongs to the previous one.
            if state is not None and (state.line or state.end_sequence):
                place = None if state.end_sequence else (file_name(program, state.file), state.line)
                rows.append((state.address, place))
    return rows


def file_name(program: Any, number: int) -> str:
    """A file of a line table as its path was given to the compiler (DWARF 4 counts from 1, DWARF 5 from 0)."""
    version_4 = program["version"] < 5
    entry = program["file_entry"][number - version_4]
    name = entry.name.decode()
    # Directory 0 is the compiler's own.
    if entry.dir_index:
        name = f"{program['include_directory'][entry.dir_index - version_4].decode()}/{name}"
    return name.removeprefix("./").removeprefix("./")
