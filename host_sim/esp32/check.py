# SPDX-License-Identifier: MIT
"""Checks that firmware linked for an ESP32-S3 is built as the simulated kernels are.

    python -m host_sim.esp32.firmware build --check ELF

ELF is micropython.elf in its build folder, next to compile_commands.json, sdkconfig and micropython.bin. MicroPython's
port compiles a user C module twice, for the component `main` and for the executable itself; the linker takes the
latter, which ESP-IDF's own options do not reach. So the options of the executable's copy are checked, and everything
visible in the ELF file is checked there.
"""

import itertools
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from host_sim.esp32 import partitions
from host_sim.lx7 import isa
from host_sim.setup.shell import ROOT, Failure

MODULE = ROOT / "mpy_module"
# SRAM for code in the ESP32-S3's memory map; flash is mapped for code from 0x42000000 on.
IRAM = range(0x40370000, 0x403E0000)
OPTIMIZED = ("-O2", "-O3")
OPTIONS = ("-ffunction-sections", "-fdata-sections")
# At least one definition of each group is required.
DEFINITIONS = (("TERNARY_PIE",), ("TERNARY_PARALLEL_FREERTOS",), ("TERNARY_ESP32", "ESP_PLATFORM"))
ALLOCATOR = "heap_caps_aligned_alloc"


class Copy(NamedTuple):
    """One compilation of a source of the module: its object file and the compiler's arguments."""

    output: str
    arguments: list[str]

    @property
    def linked(self) -> bool:
        """Whether this is the executable's copy, which the linker takes before any library's."""
        return re.search(r"CMakeFiles/[^/]+\.elf\.dir/", self.output) is not None


class Finding(NamedTuple):
    """The result of a check: whether it passed, and one line of text."""

    good: bool
    text: str


def module_sources() -> list[Path]:
    """The module's sources for an ESP32-S3, relative to its folder."""
    paths = (path for path in sorted(MODULE.rglob("*")) if path.suffix in (".c", ".S"))
    return [path.relative_to(MODULE) for path in paths]


def expanded(arguments: Iterable[str], folder: Path) -> Iterator[str]:
    """Arguments of a compiler, with those of @files inserted."""
    for argument in arguments:
        path = folder / argument[1:]
        if argument.startswith("@") and path.is_file():
            yield from expanded(shlex.split(path.read_text()), folder)
        else:
            yield argument


def copies(database: Path) -> dict[Path, list[Copy]]:
    """The compilations of the module's sources in a compile_commands.json, by source."""
    try:
        entries = json.loads(database.read_text())
    except OSError as error:
        raise Failure(f"{database}: {error.strerror}: check the ELF file in the folder where it was built") from None
    except ValueError as error:
        raise Failure(f"{database}: no JSON: {error}") from None
    found: dict[Path, list[Copy]] = {}
    for entry in entries:
        file = Path(entry["directory"]) / entry["file"]
        if MODULE.name not in file.parts:
            continue
        place = len(file.parts) - file.parts[::-1].index(MODULE.name)
        given = entry.get("arguments") or shlex.split(entry["command"])
        arguments = list(expanded(given, Path(entry["directory"])))
        written = (path for option, path in itertools.pairwise(arguments) if option == "-o")
        output = entry.get("output") or next(written, "")
        found.setdefault(Path(*file.parts[place:]), []).append(Copy(output, arguments))
    return found


def definitions(arguments: list[str]) -> set[str]:
    """The names that a compiler's arguments define."""
    names: set[str] = set()
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if match := re.fullmatch(r"-([DU])(\w*)(?:=.*)?", argument):
            name = match[2] or following.partition("=")[0]
            (names.add if match[1] == "D" else names.discard)(name)
    return names


def optimization(arguments: list[str]) -> str:
    """The effective optimization option: the last one."""
    return next((option for option in reversed(arguments) if re.fullmatch(r"-O\w*", option)), "no -O, so -O0")


def lacks(arguments: list[str]) -> list[str]:
    """What is wrong with the compiler arguments of a C source."""
    level = optimization(arguments)
    wrong = [] if level in OPTIMIZED else [level]
    wrong += [f"no {option}" for option in OPTIONS if option not in arguments]
    defined = definitions(arguments)
    return wrong + [f"no -D{' or -D'.join(names)}" for names in DEFINITIONS if not defined & set(names)]


def check_options(database: Path) -> Finding:
    """Checks options and definitions of the linked copy."""
    found = copies(database)
    wrong: dict[str, list[str]] = {}
    levels: set[str] = set()
    for source in module_sources():
        compiled = found.get(source, [])
        compiled = [copy for copy in compiled if copy.linked] or compiled
        if len(compiled) != 1:
            wrong.setdefault(f"{len(compiled)} copies, one is needed", []).append(source.as_posix())
        elif source.suffix == ".c":
            levels.add(optimization(compiled[0].arguments))
            for reason in lacks(compiled[0].arguments):
                wrong.setdefault(reason, []).append(source.as_posix())
    if not wrong:
        return Finding(True, f"options of the linked copy: {', '.join(sorted(levels))}, {len(found)} sources")
    names = {reason: ", ".join(files[:3]) + ", ..." * (len(files) > 3) for reason, files in wrong.items()}
    listed = "; ".join(f"{reason} ({files})" for reason, files in names.items())
    return Finding(False, f"options of the linked copy: {listed}")


class Function(NamedTuple):
    """A function of an ELF file; file: the name of its source if the symbol is local, else empty."""

    name: str
    file: str
    address: int
    size: int


class Image:
    """A linked Xtensa program: its functions and memory contents."""

    def __init__(self, path: Path):
        from elftools.elf.elffile import ELFFile

        from host_sim.lx7.program import Program, ProgramError

        try:
            program = Program.load(path)
        except ProgramError as error:
            raise Failure(str(error)) from None
        self.path, self.segments, self.symbols = path, program.segments, program.symbols
        self.functions: list[Function] = []
        with open(path, "rb") as file:
            table, source = ELFFile(file).get_section_by_name(".symtab"), ""
            for symbol in table.iter_symbols() if table else ():
                if symbol["st_info"]["type"] == "STT_FILE":
                    source = Path(symbol.name).name
                elif symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF":
                    local = source if symbol["st_info"]["bind"] == "STB_LOCAL" else ""
                    self.functions.append(Function(symbol.name, local, symbol["st_value"], symbol["st_size"]))

    def read(self, address: int, size: int) -> bytes:
        """Bytes at an address; shorter if the file holds fewer."""
        for segment in self.segments:
            if segment.address <= address < segment.address + len(segment.data):
                return segment.data[address - segment.address :][:size]
        return b""

    def targets(self, function: Function) -> Iterator[int]:
        """The addresses that a function calls, and all values that it loads from its literals."""
        code, at = self.read(function.address, function.size), 0
        while at < len(code):
            decoded = isa.decode(code[at : at + 4], function.address + at)
            if decoded and decoded.instruction.mnemonic == "l32r":
                yield int.from_bytes(self.read(decoded.values[1], 4), "little")
            elif decoded and re.fullmatch(r"call(0|4|8|12)", decoded.instruction.mnemonic):
                yield decoded.values[0]
            at += decoded.instruction.length if decoded else 1


def kernel_names() -> list[str]:
    """The functions of mpy_module/pie/*.S."""
    return re.findall(r"^\w+ (pie_\w+)\(", (MODULE / "pie" / "kernels.h").read_text(), re.MULTILINE)


def check_kernels(image: Image) -> Finding:
    """Checks that every PIE kernel is present and in IRAM."""
    names = kernel_names()
    absent = [name for name in names if name not in image.symbols]
    places = {name: image.symbols[name] for name in names if name in image.symbols}
    ends = {name: (at.address, at.address + max(at.size, 1) - 1) for name, at in places.items()}
    outside = {name: places[name] for name, (first, last) in ends.items() if first not in IRAM or last not in IRAM}
    wrong = [f"{name} at {at.address:#x}, not in {IRAM.start:#x}..{IRAM.stop - 1:#x}" for name, at in outside.items()]
    wrong += [f"{name} is missing" for name in absent]
    if wrong:
        return Finding(False, f"PIE kernels: {'; '.join(wrong[:3])}{'; ...' if len(wrong) > 3 else ''}")
    first, last = min(first for first, _ in ends.values()), max(last for _, last in ends.values())
    return Finding(True, f"PIE kernels: {len(names)} in IRAM, {first:#x}..{last:#x}")


def check_arena(image: Image) -> Finding:
    """Checks that the arena uses ESP-IDF's allocator, which can choose internal memory."""
    files = {path.name for path in MODULE.glob("*.c") if ALLOCATOR in path.read_text()}
    functions = [function for function in image.functions if function.file in files]
    if not functions:
        return Finding(False, f"arena: no functions of {', '.join(sorted(files))}: was the ELF file stripped?")
    place = image.symbols.get(ALLOCATOR)
    for function in functions:
        if place and place.address in image.targets(function):
            return Finding(True, f"arena: {function.name} refers to {ALLOCATOR} at {place.address:#x}")
    among = f"of {', '.join(sorted(files))} refers to {ALLOCATOR}"
    return Finding(False, f"arena: nothing {among}: arenas would lie in PSRAM")


def setting(sdkconfig: Path, name: str) -> str:
    """The value of a string setting."""
    try:
        match = re.search(rf'^CONFIG_{name}="(.*)"$', sdkconfig.read_text(), re.MULTILINE)
    except OSError as error:
        raise Failure(f"{sdkconfig}: {error.strerror}: check the ELF file in the folder where it was built") from None
    if not match:
        raise Failure(f"{sdkconfig}: has no CONFIG_{name}")
    return match[1]


def check_size(elf: Path) -> Finding:
    """Checks that the application fits its partition."""
    table = Path(setting(elf.with_name("sdkconfig"), "PARTITION_TABLE_CUSTOM_FILENAME"))
    room = next((each for each in partitions.of_table(table) if each.type == partitions.TYPES["app"]), None)
    if room is None:
        raise Failure(f"{table}: has no partition of type app")
    try:
        size = elf.with_suffix(".bin").stat().st_size
    except OSError as error:
        raise Failure(f"{elf.with_suffix('.bin')}: {error.strerror}") from None
    percent = 100 * (room.size - size) / room.size
    return Finding(
        0 < size <= room.size, f"size: {size:,} of the {room.size:,} bytes of {room.name}, {percent:.0f} % free"
    )


def check(elf: Path) -> list[str]:
    """One line for each check; a Failure with a line for each check that did not pass."""
    if not elf.is_file():
        raise Failure(f"{elf}: no such file: `just firmware BOARD` builds one, micropython.elf in build/firmware/BOARD")
    image = Image(elf)
    findings = [
        check_options(elf.with_name("compile_commands.json")),
        check_kernels(image),
        check_arena(image),
        check_size(elf),
    ]
    if wrong := [finding.text for finding in findings if not finding.good]:
        raise Failure("\n  ".join([f"{elf}: not built as the simulated kernels are:", *wrong]))
    return [finding.text for finding in findings]
