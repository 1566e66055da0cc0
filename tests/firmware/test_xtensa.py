# SPDX-License-Identifier: MIT
"""Compiles the sources of mpy_module/ that an ESP32-S3's firmware uses, without Espressif's toolchain.

clang compiles all sources for Xtensa as the firmware compiles those that it links (esp32_port.py): with the options,
definitions and directories of that command line and nothing of ours. Headers are MicroPython's, those of its esp32 port
and our boards'; idf/ and ../mpy_module/freertos/ declare what is used of ESP-IDF, xtensa/ what is used of the C
library. GNU as reads all assembly; Debian's is for another core, so instructions that this one lacks are macros there.
"""

import re
import shlex
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from host_sim.build import SOURCE
from host_sim.lx7 import isa, toolchain
from host_sim.setup.shell import lock
from tests.firmware import esp32_port

HERE = Path(__file__).resolve().parent / "xtensa"
C_SOURCES = sorted(SOURCE.rglob("*.c"))
MODTERNARY = SOURCE / "modternary.c"
ASSEMBLY = sorted(SOURCE.rglob("*.S"))
ASSEMBLER = "xtensa-lx106-elf-as"
# Bytes: a step beyond them is worth a look. The worker's stack is 6144 of .bss (parallel_freertos.c).
LIMITS = {"text": 64_000, "rodata": 12_000, "data": 64, "bss": 8_192}


@pytest.fixture(scope="module")
def options(program):
    """How the firmware compiles a source."""
    linked = esp32_port.linked_options()
    return lambda source: toolchain.Options((HERE,), optimize=shlex.join(linked(source)))


def compiled(source, options):
    """The object of a source."""
    with lock("lx7"):
        toolchain.write_macros()
        return toolchain.compiled(source, options)


def sizes(path) -> Counter:
    """Bytes of an object by kind: text (with literals), rodata, data, bss."""
    kinds = {"text": "text", "literal": "text", "iram1": "text", "rodata": "rodata", "data": "data", "bss": "bss"}
    found = Counter()
    with open(path, "rb") as file:
        for section in ELFFile(file).iter_sections():
            kind = kinds.get(section.name.lstrip(".").partition(".")[0])
            if kind:
                found[kind] += section["sh_size"]
    return found


@pytest.mark.parametrize("source", C_SOURCES, ids=lambda path: path.name)
def test_c_compiles_without_warnings(source, options):
    others = ("parallel_none.c", "parallel_pthread.c")  # and backends of other processors
    assert (sizes(compiled(source, options(source))).total() == 0) == source.name.startswith(
        (*others, "neon", "x86_", "wasm")
    )


def test_warnings_are_errors(options, tmp_path):
    source = tmp_path / "unused.c"
    source.write_text("int f(int x) {\n    int unused = x;\n    return 0;\n}\n")
    with pytest.raises(toolchain.Failure, match="unused variable"):
        compiled(source, options(C_SOURCES[0]))


def test_arenas_of_the_firmware_are_internal_memory(options):
    """The configuration decides this: heap areas, and ESP-IDF's allocator."""
    with open(compiled(MODTERNARY, options(MODTERNARY)), "rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab").iter_symbols()
        undefined = {symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"}
    assert {"heap_caps_aligned_alloc", "heap_caps_get_largest_free_block", "heap_caps_walk", "gc_add"} <= undefined
    # MP_THREAD_GIL_EXIT and MP_THREAD_GIL_ENTER
    assert {"mp_thread_mutex_lock", "mp_thread_mutex_unlock"} <= undefined


def test_jpegs_are_decoded_by_the_rom(options):
    source = SOURCE / "jpeg.c"
    with open(compiled(source, options(source)), "rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab").iter_symbols()
        assert {"jd_prepare", "jd_decomp"} <= {each.name for each in symbols if each["st_shndx"] == "SHN_UNDEF"}


def test_sizes(options, capsys):
    total = sum((sizes(compiled(source, options(source))) for source in (*C_SOURCES, *ASSEMBLY)), Counter())
    with capsys.disabled():
        print("\nmpy_module for Xtensa:", ", ".join(f"{kind} {total[kind]:,}" for kind in LIMITS), "bytes")
    for kind, limit in LIMITS.items():
        assert limit // 4 <= total[kind] <= limit or (kind == "data" and total[kind] <= limit), kind


def errors(text, folder):
    """GNU as's errors for a source."""
    path = folder / "source.s"
    path.write_text(text)
    done = subprocess.run([ASSEMBLER, "-o", folder / "source.o", path], capture_output=True, text=True)
    assert (done.returncode == 0) == (not done.stderr), done.stderr
    return [line.partition(": Error: ")[2] for line in done.stderr.splitlines() if ": Error: " in line]


def assembled_by_gnu(source, folder):
    """GNU as's errors for an assembly file, with 3-byte macros for the instructions that it does not know."""
    command = [toolchain.tools().clang, "--target=xtensa-esp-elf", "-E", "-P", "-xassembler-with-cpp", source]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    unknown = r"unknown opcode or format name '([\w.]+)'"
    names = {match[1] for error in errors(text, folder) if (match := re.fullmatch(unknown, error))}
    assert names <= set(isa.instructions())
    macros = "".join(f".macro {name} operands:vararg\n.byte 0, 0, 0\n.endm\n" for name in sorted(names))
    return errors(macros + text, folder)


@pytest.mark.parametrize("source", ASSEMBLY, ids=lambda path: path.name)
def test_gnu_as_reads_the_assembly(source, tmp_path):
    assert assembled_by_gnu(source, tmp_path) == []
    assert (tmp_path / "source.o").stat().st_size > 1000


def test_gnu_as_refuses_what_it_does_not_know(tmp_path):
    source = tmp_path / "wrong.S"
    source.write_text("    .macro step x\n    ee.zero.q \\x\n    .endm\n    .unheard_of 3\n    step q0\n")
    assert any("unheard_of" in error for error in assembled_by_gnu(source, tmp_path))
