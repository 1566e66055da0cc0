# SPDX-License-Identifier: MIT
"""Builds programs for the simulated ESP32-S3 from C and assembly, with Debian's clang, llvm-mc and ld.

python -m host_sim.lx7.toolchain [SOURCE ... -o OUTPUT]     build these, or without any the module's kernels

clang compiles to assembly, because it does not align literals in objects; assembly.py rewrites it and llvm-mc
assembles it. Structures passed by value and varargs differ from GCC's ABI: the objects are for the simulator only.
"""

import argparse
import functools
import hashlib
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from host_sim import build as host_build
from host_sim.lx7 import isa
from host_sim.lx7.assembly import Assembly, AssemblyError, Place, rewrite
from host_sim.lx7.isa import gnu
from host_sim.lx7.isa.generate import pie_macros
from host_sim.setup.apt import XTENSA_LINKER, missing_xtensa_packages, xtensa_llvm
from host_sim.setup.artefact import new_file, write_whole
from host_sim.setup.shell import BUILD, LOGS, ROOT, Failure, ToolFailure, lock, one_line_errors, reason, run

HERE = Path(__file__).resolve().parent
RUNTIME = HERE / "runtime"
OUTPUT = BUILD / "lx7"
MACROS = OUTPUT / "pie.inc"
KERNELS = OUTPUT / "kernels.elf"
ARCHIVER = "xtensa-lx106-elf-ar"

# Features of the ESP32-S3's core, by LLVM's names.
FEATURES = [
    "windowed",
    "loop",
    "mul32",
    "mul32high",
    "mul16",
    "fp",
    "bool",
    "density",
    "sext",
    "nsa",
    "minmax",
    "div32",
    "clamps",
    "s32c1i",
    "threadptr",
]
# For the special registers and instructions that assembly uses.
ASSEMBLER_FEATURES = [
    "exception",
    "interrupt",
    "debug",
    "highpriinterrupts",
    "coprocessor",
    "rvector",
    "prid",
    "miscsr",
    "timers3",
]

WARNINGS = ("-Wall", "-Wextra")
# Without -integrated-as, clang leaves inline assembly to llvm-mc, which has the macros of PIE.
COMPILE: tuple[str, ...] = ("-S", "-std=c11", "-gline-tables-only", "-gdwarf-4", "-fno-integrated-as", "-fno-addrsig")
COMPILE += ("-fomit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", *WARNINGS)
PREPROCESS = ("-E", "-xassembler-with-cpp", *WARNINGS)
# Startup code, and the library that programs are linked with.
STARTUP = ("vectors.S", "start.S")
LIBRARY = ("lib.c", "soft.c")


class Tools(NamedTuple):
    """Names of the programs."""

    clang: str
    llvm_mc: str
    linker: str
    archiver: str


class Options(NamedTuple):
    """How sources are compiled.

    optimize: clang's other options, which count before ours; without: features to leave out; macros: PIE's, if that
    file exists.
    """

    includes: tuple[Path, ...] = ()
    defines: tuple[str, ...] = ()
    optimize: str = "-O2"
    without: tuple[str, ...] = ()
    macros: Path = MACROS

    def features(self) -> list[str]:
        """The core's features for the compiler."""
        if unknown := set(self.without) - set(FEATURES):
            raise Failure(f"without: {', '.join(sorted(unknown))} is not one of {' '.join(FEATURES)}")
        return [feature for feature in FEATURES if feature not in self.without]

    def clang_flags(self) -> list[str]:
        """Target, headers and definitions."""
        flags = ["--target=xtensa-esp-elf"]
        for feature in self.features():
            flags += ["-Xclang", "-target-feature", "-Xclang", f"+{feature}"]
        # Names in line tables are relative to the repository, wherever that is.
        flags += ["-nostdlibinc", f"-ffile-prefix-map={ROOT}=."]
        flags += [f"-I{path}" for path in self.includes] + [f"-D{define}" for define in self.defines]
        return [*flags, f"-I{RUNTIME / 'include'}"]


@functools.cache
def tools() -> Tools:
    """The programs; Failure names the Debian packages of missing ones."""
    if missing := missing_xtensa_packages():
        packages = " ".join(sorted(missing.values()))
        raise Failure(f"missing: {', '.join(missing)}; install the Debian packages {packages}")
    version = xtensa_llvm()
    return Tools(f"clang-{version}", f"llvm-mc-{version}", XTENSA_LINKER, ARCHIVER)


def shown(path: Path) -> Path:
    """A path for messages and line tables: relative to the repository's root if inside it."""
    path = path.resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def run_shown(command: Sequence[str | Path], what: str, log: str) -> None:
    """Run a tool on a user's sources and print its output; Failure has its first error, and names no log."""
    failed = False
    try:
        run(command, what, log)
    except ToolFailure:
        failed = True
    _, _, output = (LOGS / log).read_text(errors="replace").partition("\n")
    # The assembler's columns and carets are of the rewritten line, which begins with .loc.
    output = re.sub(
        r"^(.*?:\d+):\d+(: .*)\n\s*\.loc [\d ]+; (.*)\n *\^.*$", r"\1\2\n    \3", output, flags=re.MULTILINE
    )
    print(output, end="", file=sys.stderr, flush=True)
    if failed:
        raise ToolFailure(f"{what} failed: {reason(output) or f'{command[0]} stopped with an error'}")


def object_path(source: Path, options: Options) -> Path:
    """Path of a source's object, which depends on the options."""
    digest = hashlib.sha256(repr((tools(), options, COMPILE, PREPROCESS)).encode()).hexdigest()
    name = hashlib.sha256(str(source.resolve()).encode()).hexdigest()
    return OUTPUT / "objects" / digest[:12] / f"{source.stem}-{name[:12]}.o"


def dependencies(path: Path) -> list[Path]:
    """The files that a compiler's dependency file names (make's syntax)."""
    words = re.findall(r"(?:\\.|\$\$|\S)+", path.read_text().replace("\\\n", " "))
    return [ROOT / re.sub(r"\\(.)", r"\1", word.replace("$$", "$")) for word in words if not word.endswith(":")]


def up_to_date(path: Path, options: Options) -> bool:
    """Whether an object is newer than everything it depends on."""
    listing = path.with_suffix(".d")
    if not path.exists() or not listing.exists():
        return False
    macros = [options.macros] if options.macros.exists() else []
    return host_build.newer(path, [*dependencies(listing), *macros, *HERE.glob("*.py")])


def compiled(source: Path, options: Options) -> Path:
    """The object of one source, made unless it is up to date. Call it under lock("lx7")."""
    path = object_path(source, options)
    if up_to_date(path, options):
        return path
    if source.suffix not in (".c", ".S"):
        raise Failure(f"{shown(source)}: neither .c nor .S")
    if not source.is_file():
        raise Failure(f"{shown(source)}: no such file")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Removed before the dependency file is rewritten: an old object beside half of that file would count as up to date.
    path.unlink(missing_ok=True)
    start = time.time()
    raw, listing = path.with_suffix(".raw.s"), path.with_suffix(".d")
    flags = [
        *options.clang_flags(),
        *(COMPILE if source.suffix == ".c" else PREPROCESS),
        *shlex.split(options.optimize),
    ]
    # Files included by the assembler are not in the dependency file.
    command: list[str | Path] = [tools().clang, *flags, "-MD", "-MF", listing, "-o", raw, shown(source)]
    run_shown(command, f"compiling {shown(source)}", f"lx7-{path.stem}.log")
    unfinished = assemble(raw, source, path, options)
    if re.search(r"^\s*\.inc(?:lude|bin)\b", raw.read_text(), re.MULTILINE):
        listing.unlink()
    os.utime(unfinished, (start, start))  # a source changed meanwhile is newer
    os.replace(unfinished, path)
    return path


def assemble(raw: Path, source: Path, path: Path, options: Options) -> Path:
    """A temporary object from the output of clang."""
    macros = options.macros if options.macros.exists() else None
    try:
        assembly = rewrite(raw.read_text(), shown(source), macros, with_lines=source.suffix == ".S")
    except AssemblyError as error:
        raise Failure(f"assembling {shown(source)} failed: {error}") from None
    while assembly.probes:
        unfinished = assembled(assembly, True, source, path, options)
        if not assembly.pad(*contents(unfinished)):
            break
    return assembled(assembly, False, source, path, options)


def assembled(assembly: Assembly, labels: bool, source: Path, path: Path, options: Options) -> Path:
    """A temporary object, with or without labels at what assembly.pad() looks at."""
    text, unfinished = path.with_suffix(".s"), path.with_suffix(".tmp")
    text.write_text(assembly.text(labels))
    features = ",".join(f"+{feature}" for feature in [*options.features(), *ASSEMBLER_FEATURES])
    form = ("-triple=xtensa", f"-mattr={features}", "-filetype=obj")
    command: list[str | Path] = [tools().llvm_mc, *form, shown(text), "-o", unfinished]
    run_shown(command, f"assembling {shown(source)}", f"lx7-{path.stem}.log")
    return unfinished


def contents(path: Path) -> tuple[Mapping[str, Place], Mapping[str, bytes]]:
    """An object's labels and code."""
    with open(path, "rb") as file:
        elf = ELFFile(file)
        sections = list(elf.iter_sections())
        symbols = {
            symbol.name: Place(sections[symbol["st_shndx"]].name, symbol["st_value"])
            for symbol in elf.get_section_by_name(".symtab").iter_symbols()
            if isinstance(symbol["st_shndx"], int)
        }
        return symbols, {section.name: section.data() for section in sections if section["sh_flags"] & 4}


def library(options: Options) -> Path:
    """The archive of the runtime library."""
    # The library does not depend on macros or on a program's definitions.
    options = Options(optimize="-O2 -fno-builtin", without=options.without)
    objects = [compiled(RUNTIME / name, options) for name in LIBRARY]
    path = objects[0].with_name("library.a")
    if not host_build.newer(path, objects):
        with new_file(path) as unfinished:
            run([tools().archiver, "rcsD", unfinished, *objects], "archiving lx7's library", "lx7-library.log")
    return path


def link(objects: Mapping[Path, Path], output: Path, options: Options, script: Path) -> None:
    """An ELF file of sources' objects (by source), startup code and library; Failure names the source at fault."""
    startup = [compiled(RUNTIME / name, Options(without=options.without)) for name in STARTUP]
    with new_file(output) as unfinished:
        command: list[str | Path] = [tools().linker, "--no-relax", "--abi-windowed", "-T", script, "-o", unfinished]
        command += [*startup, *objects.values(), library(options)]
        what, log = f"linking {shown(output)}", f"lx7-{output.stem}-link.log"
        try:
            run(command, what, log)
        except ToolFailure:
            problems = undefined_names((LOGS / log).read_text(errors="replace"), objects)
            if not problems:
                raise
            print(*problems, sep="\n", file=sys.stderr, flush=True)
            raise ToolFailure(f"{what} failed: {problems[0]}") from None


def undefined_names(output: str, objects: Mapping[Path, Path]) -> list[str]:
    """The linker's messages about names without or with two definitions, as "SOURCE: message"."""
    sources = {str(path): shown(source) for source, path in objects.items()}
    # "LD: OBJECT:(SECTION+OFFSET): MESSAGE", once for each use; OBJECT has no line numbers of literals.
    pattern = r"^.*?: (\S+?):.*\b(undefined reference to .*|multiple definition of [^;]*)"
    found = re.findall(pattern, output, flags=re.MULTILINE)
    return list(dict.fromkeys(f"{sources.get(path, path)}: error: {message}" for path, message in found))


def write_macros() -> None:
    """Write PIE's instructions as macros if they changed."""
    text = pie_macros()
    if not MACROS.exists() or MACROS.read_text() != text:
        write_whole(MACROS, text)


def build(
    sources: Sequence[Path],
    output: Path,
    *,
    includes: Sequence[Path] = (),
    defines: Sequence[str] = (),
    optimize: str = "-O2",
    without: Sequence[str] = (),
    macros: Path = MACROS,
    script: Path = RUNTIME / "link.ld",
) -> Path:
    """Build an ELF file of .c and .S sources with the runtime; returns `output`.

    Objects that are up to date are kept. Several processes may call this. A program begins at _start, which calls main
    if there is one. defines: NAME or NAME=VALUE; without: features of FEATURES that the target lacks; macros: the file
    that defines PIE's instructions (by default made from the table); script: for ld. Raises Failure with the first
    error; all of them, and warnings, go to stderr.
    """
    options = Options(tuple(map(Path.resolve, includes)), tuple(defines), optimize, tuple(without), macros.resolve())
    with lock("lx7"):
        output.parent.mkdir(parents=True, exist_ok=True)
        if macros == MACROS:
            write_macros()
        objects = {source: compiled(source, options) for source in sources}
        link(objects, output, options, script)
    return output


def compare_with_assembler(assembler: str) -> tuple[list[str], int]:
    """Assemble instructions of the table with Espressif's GNU as, where a user has it.

    Each instruction is tried with operands that GNU as accepts (isa/gnu.py), each bit of each operand set and clear;
    instructions with address operands are omitted. Returns a line for each that is refused nevertheless or assembles to
    other bytes, and the number tried.
    """
    if not shutil.which(assembler):
        raise Failure(f"{assembler}: not found; it comes with Espressif's tool chain (--assembler names another)")
    lines, codes = [], []
    for instruction in isa.instructions().values():
        for values in gnu.samples(instruction):
            lines.append(instruction.text(values))
            codes.append(instruction.encode(values))
    code, refusals = assembled_by(assembler, lines)
    differences = []
    for number, (line, expected) in enumerate(zip(lines, codes, strict=True)):
        if number in refusals:
            differences.append(f"{line}: {expected.hex(' ')} here, refused by {assembler}: {refusals[number]}")
            continue
        found, code = code[: len(expected)], code[len(expected) :]
        if found != expected:
            differences.append(f"{line}: {expected.hex(' ')} here, {found.hex(' ')} by {assembler}")
    if code:
        differences.append(f"{len(code)} bytes more by {assembler}")
    return differences, len(lines)


def assembled_by(assembler: str, lines: Sequence[str]) -> tuple[bytes, dict[int, str]]:
    """Code that an assembler makes of the lines that it accepts; numbers of refused lines, with its reasons."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    source, output, log = OUTPUT / "check.s", OUTPUT / "check.o", "lx7-check-toolchain.log"
    refusals: dict[int, str] = {}
    # "FILE:LINE: Error: ..." by GNU as, "FILE:LINE:COLUMN: error: ..." by others; the first line is a directive.
    complaint = re.compile(rf"{re.escape(str(source))}:(\d+):(?:\d+:)? [Ee]rror: (.*)")
    while True:
        text = "".join("\n" if number in refusals else f"{line}\n" for number, line in enumerate(lines))
        source.write_text(f".begin no-transform\n{text}.end no-transform\n")
        try:
            run([assembler, "-o", output, source], f"assembling with {assembler}", log)
            return contents(output)[1][".text"], refusals
        except Failure:
            found = complaint.findall((LOGS / log).read_text(errors="replace"))
            new = {int(number) - 2: reason for number, reason in found if 0 <= int(number) - 2 < len(lines)}
            if not new.keys() - refusals.keys():
                raise
            refusals |= new


def build_kernels() -> Path:
    """Build the module's operations (all of mpy_module/ but MicroPython's binding) as a program; returns its path."""
    pie = host_build.SOURCE / "pie"
    sources = (*host_build.kernels().sources, *sorted(pie.glob("*.c")), *sorted(pie.glob("*.S")))
    return build(sources, KERNELS, includes=[host_build.SOURCE], defines=["TERNARY_PIE", "TERNARY_PARALLEL_SEQUENTIAL"])


def sizes(path: Path) -> dict[str, int]:
    """Bytes of a program by kind: text (with literals and vectors), rodata, data, bss."""
    try:
        with open(path, "rb") as file:
            sections = {section.name: section["sh_size"] for section in ELFFile(file).iter_sections()}
    except ELFError as error:
        raise Failure(f"{shown(path)}: {error}") from None
    return {name: sections.get(f".{name}", 0) for name in ("text", "rodata", "data", "bss")}


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m host_sim.lx7.toolchain", description="Build a program for lx7.")
    parser.add_argument("sources", nargs="*", type=Path, help=".c and .S files (none: the module's kernels)")
    parser.add_argument("-o", dest="output", type=Path, default=OUTPUT / "program.elf")
    parser.add_argument("-I", dest="includes", action="append", type=Path, default=[])
    parser.add_argument("-D", dest="defines", action="append", default=[])
    arguments = parser.parse_args()
    if arguments.sources:
        path = build(arguments.sources, arguments.output, includes=arguments.includes, defines=arguments.defines)
    else:
        path = build_kernels()
    print(shown(path), ", ".join(f"{name} {size}" for name, size in sizes(path).items()))


if __name__ == "__main__":
    sys.exit(main())
