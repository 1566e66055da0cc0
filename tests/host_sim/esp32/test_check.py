# SPDX-License-Identifier: MIT
"""Checks of linked firmware, on ELF files of our own sources: clang compiles them, Debian's ld links them.

Stand-ins replace ESP-IDF's parts: headers (tests/firmware/idf), a linker script with its addresses, and its allocator,
a function in flash as in ESP-IDF.
"""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from host_sim.esp32 import check, partitions
from host_sim.esp32.firmware import main
from host_sim.lx7 import toolchain
from host_sim.setup.apt import XTENSA_LINKER
from host_sim.setup.shell import ROOT, Failure, lock
from tests.firmware import esp32_port

MODULE = ROOT / "mpy_module"
HEADERS = ROOT / "tests" / "firmware" / "xtensa"
BOARD = ROOT / "firmware" / "boards" / "FTERVIT_S3_N16R8"
ALLOCATOR = """
#include <stddef.h>
#include <stdint.h>
void *heap_caps_aligned_alloc(size_t alignment, size_t size, uint32_t caps) { return (void *)(size + caps); }
void *heap_caps_malloc(size_t size, uint32_t caps) { return (void *)(size + caps); }
void heap_caps_free(void *ptr) {}
void heap_caps_walk(uint32_t caps, void *walker_func, void *user_data) {}
size_t heap_caps_get_largest_free_block(uint32_t caps) { return caps; }
"""
SCRIPT = """
MEMORY {{
    iram (rx) : ORIGIN = 0x40374000, LENGTH = 0x50000
    dram (rw) : ORIGIN = 0x3fc88000, LENGTH = 0x50000
    flash (rx) : ORIGIN = 0x42000020, LENGTH = 0x400000
    rodata (r) : ORIGIN = 0x3c000020, LENGTH = 0x400000
}}
PHDRS {{ iram PT_LOAD FLAGS(5); flash PT_LOAD FLAGS(5); rodata PT_LOAD FLAGS(4); dram PT_LOAD FLAGS(6); }}
SECTIONS {{
    .flash.text : {{ *(.literal .literal.* *.literal) *(.text .text.*) }} > flash : flash
    .iram0.text : {{ *(.iram*) }} > {kernels} : {kernels}
    .flash.rodata : ALIGN(16) {{ *(.rodata .rodata.*) }} > rodata : rodata
    .dram0.data : ALIGN(16) {{ *(.data .data.* .dram*) }} > dram : dram
    .dram0.bss (NOLOAD) : ALIGN(16) {{ *(.bss .bss.* COMMON) }} > dram : dram
    /DISCARD/ : {{ *(.xt.* .xtensa.info .comment .note.* .eh_frame) }}
}}
"""
EXECUTABLE, COMPONENT = "CMakeFiles/micropython.elf.dir", "esp-idf/main/CMakeFiles/__idf_main.dir"


class Firmware:
    """A build folder as ESP-IDF leaves it; changes of `commands` take effect with `write`."""

    def __init__(self, folder: Path, linked):
        self.folder, self.elf = folder, folder / "micropython.elf"
        self.commands: dict[tuple[str, Path], list[str]] = {}
        for copy in (COMPONENT, EXECUTABLE):
            for source in check.module_sources():
                self.commands[copy, source] = list(linked(MODULE / source))
        (folder / "sdkconfig").write_text(f'CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="{BOARD}/partitions.csv"\n')
        (folder / "micropython.bin").write_bytes(bytes(1_000_000))

    def write(self) -> None:
        """Write compile_commands.json."""
        entries = []
        for (copy, source), options in self.commands.items():
            output = f"{copy}{MODULE}/{source}.obj"
            command = ["xtensa-esp32s3-elf-gcc", *options, "-o", output, "-c", str(MODULE / source)]
            entries.append(
                {"directory": str(self.folder), "command": shlex.join(command), "file": str(MODULE / source)}
            )
        (self.folder / "compile_commands.json").write_text(json.dumps(entries))

    def copy_of(self, copy: str, change) -> None:
        """Change the options of all sources of one copy."""
        for place, source in self.commands:
            if place == copy:
                self.commands[place, source] = change(self.commands[place, source])

    def check(self) -> list[str]:
        self.write()
        return check.check(self.elf)

    def problems(self) -> list[str]:
        with pytest.raises(Failure) as caught:
            self.check()
        first, *rest = str(caught.value).splitlines()
        assert first == f"{self.elf}: not built as the simulated kernels are:"
        return [line.strip() for line in rest]


@pytest.fixture(scope="module")
def linked(program):
    """The options with which the firmware compiles a linked source of the module."""
    return esp32_port.linked_options()


@pytest.fixture(scope="module")
def objects(linked, tmp_path_factory):
    """Compile the module as the firmware does, `change` applied to its options -> objects by source."""
    stand_in = tmp_path_factory.mktemp("idf") / "heap_caps.c"
    stand_in.write_text(ALLOCATOR)

    def compiled(path, options):
        return toolchain.compiled(path, toolchain.Options((HEADERS,), optimize=shlex.join(options)))

    def compile_all(change=list):
        with lock("lx7"):
            toolchain.write_macros()
            sources = [MODULE / source for source in check.module_sources()]
            return {path: compiled(path, change(linked(path))) for path in sources} | {stand_in: compiled(stand_in, ())}

    return compile_all


@pytest.fixture(scope="module")
def firmware(linked):
    """The firmware in a build folder."""
    return lambda folder: Firmware(folder, linked)


@pytest.fixture(scope="module")
def link(tmp_path_factory):
    """Link objects with the kernels in some memory; undefined symbols are at 0."""

    def link_all(objects, kernels="iram", options=()):
        folder = tmp_path_factory.mktemp("firmware")
        (folder / "script.ld").write_text(SCRIPT.format(kernels=kernels))
        command = [XTENSA_LINKER, "--no-relax", "--abi-windowed", "-T", folder / "script.ld", *options]
        command += ["--unresolved-symbols=ignore-all", "-e", "0", "-o", folder / "micropython.elf", *objects]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        return folder

    return link_all


@pytest.fixture(scope="module")
def good_folder(objects, link):
    return link(objects().values())


@pytest.fixture
def good(good_folder, firmware):
    """A correct firmware."""
    return firmware(good_folder)


def test_good_firmware(good):
    options, kernels, arena, size = good.check()
    assert options == f"options of the linked copy: -O2, {len(check.module_sources())} sources"
    assert kernels.startswith(f"PIE kernels: {len(check.kernel_names())} in IRAM, 0x40374000..0x4037")
    assert arena.startswith("arena: new_memory refers to heap_caps_aligned_alloc at 0x4200")
    assert size == "size: 1,000,000 of the 3,080,192 bytes of factory, 68 % free"


def test_kernels_are_all_there_are(good):
    """The check looks for all global functions of the assembly's objects."""
    image = check.Image(good.elf)
    assert {f.name for f in image.functions if f.address in check.IRAM} == set(check.kernel_names())


def test_unoptimized_copy_that_is_linked(good):
    """As built by MicroPython 1.26 and 1.27: the component has ESP-IDF's options, the executable none."""
    good.copy_of(EXECUTABLE, lambda options: [o for o in options if o[:2] in ("-D", "-W", "-m")])
    [problem] = good.problems()
    assert problem.startswith("options of the linked copy: no -O, so -O0 (attention.c, ")
    assert "no -ffunction-sections" in problem


def test_copy_that_is_not_linked_does_not_matter(good):
    good.copy_of(COMPONENT, lambda options: [])
    good.check()


def test_only_one_copy(good):
    """A port that compiles a module once compiles it in its component."""
    good.commands = {key: options for key, options in good.commands.items() if key[0] == COMPONENT}
    good.check()
    good.copy_of(COMPONENT, lambda options: [*options, "-Os"])
    assert good.problems()[0].startswith("options of the linked copy: -Os (attention.c, ")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda options: [*options, "-O0"], "-O0 (attention.c, "),
        (lambda options: [*options, "-Og"], "-Og (attention.c, "),
        (lambda options: [*options, "-UTERNARY_PIE"], "no -DTERNARY_PIE (attention.c, "),
        (
            lambda options: [o for o in options if not o.startswith(("-DTERNARY_ESP32", "-DESP_PLATFORM"))],
            "no -DTERNARY_ESP32 or -DESP_PLATFORM (attention.c, ",
        ),
    ],
)
def test_wrong_options(good, change, text):
    good.copy_of(EXECUTABLE, change)
    assert good.problems()[0].startswith(f"options of the linked copy: {text}")


def test_other_ways_to_write_options(good):
    """Separate words, values, option files, and a definition of the module."""
    (good.folder / "options").write_text("-O0 -ffunction-sections -fdata-sections -D TERNARY_ESP32=1\n")
    extra = ["@options", "-O3", "-D", "TERNARY_PIE=1", "-DTERNARY_PARALLEL_FREERTOS"]
    good.copy_of(EXECUTABLE, lambda options: extra)
    assert good.check()[0].startswith("options of the linked copy: -O3, ")


def test_source_that_is_not_compiled(good):
    for copy in (COMPONENT, EXECUTABLE):
        del good.commands[copy, Path("pie/norm.S")]
    assert good.problems() == ["options of the linked copy: 0 copies, one is needed (pie/norm.S)"]


def test_kernels_in_flash(objects, link, firmware):
    built = firmware(link(objects().values(), kernels="flash"))
    [problem] = built.problems()
    assert problem.startswith("PIE kernels: pie_")
    assert "at 0x4200" in problem and "not in 0x40370000..0x403dffff" in problem


def test_kernels_that_are_not_linked(objects, link, firmware):
    built = firmware(link(path for source, path in objects().items() if source.name != "panels.S"))
    [problem] = built.problems()
    assert "pie_decode is missing" in problem


@pytest.mark.parametrize("optimize", ["-O1", "-O2", "-Os"])
def test_arena_is_found_however_it_is_compiled(objects, link, optimize, firmware):
    built = firmware(link(objects(lambda options: [*options, optimize]).values()))
    assert built.check()[2].endswith(f"at {check.Image(built.elf).symbols['heap_caps_aligned_alloc'].address:#x}")


def test_arena_elsewhere(objects, link, firmware):
    """An arena that uses another allocator."""
    built = firmware(link(objects(lambda options: [*options, "-Dheap_caps_aligned_alloc=elsewhere"]).values()))
    [problem] = built.problems()
    assert problem == ("arena: nothing of modternary.c refers to heap_caps_aligned_alloc: arenas would lie in PSRAM")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda options: [*options, "-O0"], "none of the options of micropython.cmake"),
        (lambda options: [o for o in options if o != "-DTERNARY_ESP32"], "which defines TERNARY_ESP32"),
    ],
)
def test_copies_that_do_not_compile(objects, change, why):
    """Two faults at once: the linked copy has neither the options nor the definitions."""
    with pytest.raises(Failure, match=why):
        objects(change)


def test_stripped_firmware(objects, link, firmware):
    built = firmware(link(objects().values(), options=["--strip-all"]))
    kernels, arena = built.problems()
    assert "is missing" in kernels
    assert arena == "arena: no functions of modternary.c: was the ELF file stripped?"


def test_image_that_does_not_fit(good):
    (good.folder / "micropython.bin").write_bytes(bytes(0x2F0001))
    assert good.problems() == ["size: 3,080,193 of the 3,080,192 bytes of factory, -0 % free"]


@pytest.mark.parametrize("name", ["compile_commands.json", "sdkconfig", "micropython.bin", "micropython.elf"])
def test_absent_file(good_folder, tmp_path, name, firmware):
    folder = tmp_path / "build"
    folder.mkdir()
    built = firmware(folder)
    (folder / "micropython.elf").write_bytes((good_folder / "micropython.elf").read_bytes())
    built.check()
    (folder / name).unlink()
    with pytest.raises(Failure, match=rf"^{folder / name}: (No|no) such file"):
        check.check(built.elf)


@pytest.mark.parametrize("damage", [lambda data: data[:1000], lambda data: b"no ELF", lambda data: b""])
def test_damaged_elf(good, tmp_path, damage):
    elf = tmp_path / "micropython.elf"
    elf.write_bytes(damage(good.elf.read_bytes()))
    with pytest.raises(Failure, match=rf"^{elf}: "):
        check.check(elf)


def test_damaged_database(good):
    good.check()
    (good.folder / "compile_commands.json").write_text("[{")
    with pytest.raises(Failure, match=r"compile_commands\.json: no JSON"):
        check.check(good.elf)


def test_recipe(good, monkeypatch, capsys):
    """`just firmware --check ELF`"""
    good.check()
    monkeypatch.setattr("sys.argv", ["esp32", "build", "--check", str(good.elf)])
    assert main() == 0
    assert capsys.readouterr().out.splitlines() == good.check()
    monkeypatch.setattr("sys.argv", ["esp32", "build"])
    assert main() == 1
    assert "give a board (FTERVIT_S3_N16R8, FTERVIT_S3_N8R8), or --check ELF" in capsys.readouterr().err


def test_release_checks_every_firmware():
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    built, checked = (
        workflow.index("host_sim.esp32.firmware build '"),
        workflow.index("host_sim.esp32.firmware build --check "),
    )
    assert built < checked < workflow.index("actions/upload-artifact")


@pytest.mark.parametrize("line", ["factory, app, factory", "factory, app, factory, here, 1M", "a, unheard, x, 0, 1"])
def test_partition_line_that_is_none(tmp_path, line):
    (tmp_path / "partitions.csv").write_text(f"# Name\n\n{line}\n")
    with pytest.raises(Failure, match=r"partitions\.csv: a line must be 'NAME, TYPE, SUBTYPE, OFFSET, SIZE', not '"):
        partitions.of_table(tmp_path / "partitions.csv")
