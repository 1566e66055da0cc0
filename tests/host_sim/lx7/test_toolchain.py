# SPDX-License-Identifier: MIT
"""Building programs from C and assembly, their symbols and lines, and reports of faults."""

import shutil

import pytest

from host_sim.lx7 import toolchain
from host_sim.lx7.assembly import rewrite
from host_sim.lx7.machine import Machine, MachineError
from host_sim.lx7.program import Program, ProgramError
from host_sim.setup.shell import Failure

MAIN = """
#include <stdint.h>
#include <string.h>
#include "lx7.h"

int64_t deep(int n, int64_t sum) { return n ? deep(n - 1, sum + n) * 3 - n : sum; }
volatile int32_t depth = 30;
volatile float seven = 7.0f, two = 2.0f;
volatile int64_t big = 123456789012345;
volatile int32_t zero;
static int32_t cleared[100];
int32_t crash(int32_t value) {
    return value / zero;
}
int main(void) {
    char text[16];
    memset(text, 0, sizeof(text));
    memcpy(text, "right\\n", 6);
    int64_t expected = 0;
    for (int n = 1; n <= 30; n++) expected += n;
    for (int n = 1; n <= 30; n++) expected = expected * 3 - n;
    int good = deep(depth, 0) == expected && seven / two == 3.5f;
    good = good && big / 1000 == 123456789012 && big % 7 == 123456789012345 % 7;
    lx7_write(good && cleared[99] == 0 && strlen(text) == 6 ? text : "wrong\\n");
    return good ? 42 : 1;
}
"""

KERNEL = """
    .text
    .global sum16
    .align 4
sum16:
    entry a1, 32
    ee.zero.accx
    ee.vldbc.8 q1, a3
    ee.vld.128.ip q0, a2, 16
    ee.vmulas.s8.accx q0, q1
    nop
    rur.accx_0 a2
    retw.n

    .global reads_nowhere
    .align 4
reads_nowhere:
    entry a1, 32
    l32i a2, a2, 0
    retw.n

    .global unknown
    .align 4
unknown:
    entry a1, 32
    .byte 0x44, 0x43, 0x77
    retw.n

    .global not_executed
    .align 4
not_executed:
    entry a1, 32
    ee.clr_bit_gpio_out 52
    retw.n

    .global aligned_loop
    .align 4
aligned_loop:
    entry a1, 32
    nop.n
    loop a2, .Lend
    ee.vmulas.s8.qacc.ld.ip q0, a3, 16, q0, q1
    ee.vmulas.s8.qacc.ld.ip q1, a3, 16, q0, q1
.Lend:
    retw.n
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Program:
    """A program of C and assembly."""
    folder = tmp_path_factory.mktemp("lx7")
    (folder / "main.c").write_text(MAIN)
    (folder / "kernel.S").write_text(KERNEL)
    return Program.load(toolchain.build([folder / "main.c", folder / "kernel.S"], folder / "program.elf"))


@pytest.fixture
def machine(program) -> Machine:
    """A core with that program."""
    machine = Machine()
    machine.load(program)
    return machine


def test_a_program_runs_from_its_start_to_its_exit(machine):
    """Windows spill 30 calls deep; 64-bit products, quotients and float division come from the runtime."""
    assert machine.run(limit=10**6)
    assert machine.output == b"right\n"
    assert machine.exit_status == 42


def test_a_kernel_can_be_called_from_python(machine):
    data = bytearray(range(16))
    machine.map(0x3D000000, data, "psram")
    machine.write(0x3FC90000, b"\x03")
    assert machine.call("sum16", 0x3D000000, 0x3FC90000) == 3 * 120
    assert machine.totals.bytes_loaded["psram"] == 16


def test_calls_check_names_and_counts(machine):
    with pytest.raises(ValueError, match="nothing_here: the loaded program has no such function"):
        machine.call("nothing_here")
    with pytest.raises(ValueError, match="7 arguments, at most 6 can be passed"):
        machine.call("sum16", *range(7))
    with pytest.raises(MachineError, match="main did not return within 3 instructions"):
        machine.call("main", limit=3)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            "reads_nowhere",
            (0x100,),
            r"no memory for 4 bytes at 0x00000100; pc .* in reads_nowhere\+0x3 \(.*kernel\.S:19\): 22 22 00",
        ),
        (
            "not_executed",
            (),
            r"ee.clr_bit_gpio_out is not simulated; pc .* in not_executed\+0x3 \(.*kernel\.S:33\): "
            r"44 43 76  ee.clr_bit_gpio_out 52",
        ),
        ("reads_nowhere", (0x3FC88001,), r"a misaligned access to 4 bytes at 0x3fc88001; .*l32i a2, a2, 0"),
        ("unknown", (), r"not an instruction of this core; pc .* in unknown\+0x3 \(.*kernel\.S:26\): 44 43 77"),
        ("crash", (5,), r"division by zero; pc .* in crash\+.* \(.*main\.c:13\): .*quos"),
    ],
)
def test_faults_name_instruction_function_and_line(machine, function, arguments, message):
    with pytest.raises(MachineError, match=message):
        machine.call(function, *arguments)


def test_loops_are_aligned_as_the_chip_asks(machine, program):
    """A body's first instruction lies within one aligned word of 4 bytes (reference: zero-overhead loops)."""
    start = program.symbols["aligned_loop"].address
    text = [machine.disassemble(start + offset) for offset in range(24)]
    loop = next(start + n for n, line in enumerate(text) if "  loop " in line and n >= 3)
    assert (loop + 3) % 4 == 0
    machine.call("aligned_loop", 3, 0x3FC90000)


def test_code_cannot_be_overwritten_by_the_program(machine):
    code = machine.address_of("main")
    machine.write(0x3FC90000, b"")
    with pytest.raises(MachineError, match=r"a store of .* which is code"):
        machine.call("memset", code, 0, 4)


def test_segments_outside_the_chip_are_refused(program):
    machine = Machine()
    with pytest.raises(MachineError, match=r"the program needs 8 bytes at 0x10, where the chip has no memory"):
        machine.make_room(0x10, 8)


def test_macros_and_blocks_keep_their_ends():
    """.begin and .end are removed, as llvm-mc lacks them; directives that only start alike stay."""
    source = """
    .begin literal_prefix
    .end literal_prefix
    .macro twice from
    addi a2, \\from, 1
    .rept 2
    nop
    .endr
    .endm
    .macro once
    nop.n
    .endmacro
    twice a3
    once
    """
    words = [
        line.split()[0]
        for line in rewrite(source, "text", with_lines=False).text(False).splitlines()[1:]
        if line.strip()
    ]
    assert words == [
        ".macro", "addi", ".rept", "nop", ".endr", ".endm", ".macro", "nop.n", ".endmacro", "twice", "once",
    ]  # fmt: skip


COUNTED = """
    .text
    .macro count by
    loop a2, .Lend\\@
    addi a3, a3, \\by
    nop
.Lend\\@:
    .endm

    .global counted
    .balign 4
counted:
    entry a1, 32
    movi a3, 0
    count 3
    nop.n
    count 5
    mov a2, a3
    retw
"""


def test_loops_in_macros(tmp_path):
    """Each invocation is aligned separately; line numbers continue after the macro."""
    (tmp_path / "macros.S").write_text(COUNTED)
    machine = Machine()
    machine.load(Program.load(toolchain.build([tmp_path / "macros.S"], tmp_path / "macros.elf")))
    assert machine.call("counted", 7) == 7 * (3 + 5)
    assert machine.program.line_at(machine.address_of("counted"))[1] == 13


def test_functions_and_lines_by_address(program):
    start = program.symbols["sum16"].address
    assert program.function_at(start) == ("sum16", 0)
    assert program.function_at(start + 5) == ("sum16", 5)
    assert program.line_at(start)[1] == 6
    assert program.line_at(start)[0].endswith("kernel.S")
    assert program.function_at(0x10) is None and program.line_at(0x10) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole ELF file"),
        (b"\x7fELF\x02\x01\x01" + bytes(64), "not a whole ELF file|for another machine"),
        (b"no ELF at all, just some text of a few lines", "not a whole ELF file"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "file.elf"
    path.write_bytes(content)
    with pytest.raises(ProgramError, match=f"file.elf: ({message})"):
        Program.load(path)


def test_this_machines_programs_are_refused(tmp_path):
    with pytest.raises(ProgramError, match="for another machine; a 32-bit little-endian Xtensa file is needed"):
        Program.load(shutil.which("env"))
    with pytest.raises(ProgramError, match=r"nowhere\.elf: No such file"):
        Program.load(tmp_path / "nowhere.elf")


def test_mistakes_in_sources_are_told(tmp_path, capfd):
    source = tmp_path / "bad.S"
    source.write_text("    .text\n    ee.vld.128.ip q9, a2, 16\n")
    with pytest.raises(Failure, match="q9 is not one of the q registers"):
        toolchain.build([source], tmp_path / "bad.elf")
    with pytest.raises(Failure, match=r"nowhere\.c: no such file"):
        toolchain.build([tmp_path / "nowhere.c"], tmp_path / "bad.elf")


def test_the_kernels_build_and_export_their_operations():
    symbols = Program.load(toolchain.build_kernels()).symbols
    assert {"ternary_call", "ternary_operations", "ternary_linear", "_lx7_vectors"} <= set(symbols)


def test_no_code_is_of_line_0():
    """Compilers give line 0 to code without a line; it is reported with the previous line."""
    program = Program.load(toolchain.build_kernels())
    assert program.lines and all(place is None or place[1] > 0 for _, place in program.lines)


@pytest.mark.parametrize("version", ["4", "5"])
def test_lines_name_the_right_file(version, tmp_path, monkeypatch):
    """DWARF 4 counts files from 1, DWARF 5 from 0."""
    (tmp_path / "part.h").write_text("static inline int part(volatile int *p) {\n    return *p * 3;\n}\n")
    (tmp_path / "whole.c").write_text(
        '#include "part.h"\n\nint whole(volatile int *p) {\n    *p = 5;\n    return part(p);\n}\n'
    )
    flags = tuple(f"-gdwarf-{version}" if flag.startswith("-gdwarf-") else flag for flag in toolchain.COMPILE)
    monkeypatch.setattr(toolchain, "COMPILE", flags)
    program = Program.load(toolchain.build([tmp_path / "whole.c"], tmp_path / "whole.elf"))
    symbol = program.symbols["whole"]
    places = {program.line_at(pc) for pc in range(symbol.address, symbol.address + symbol.size)}
    assert {(name.rpartition("/")[2], line) for name, line in places} >= {("whole.c", 4), ("part.h", 2)}
    assert not {line for name, line in places if name.endswith("part.h")} - {1, 2, 3}


@pytest.mark.parametrize("moment", ["half of the list of dependencies", "an object and not yet its age"])
def test_a_killed_compilation_is_done_again(tmp_path, monkeypatch, moment):
    """By a kill while clang writes, or just before the object is done: it is no older than what it was made from."""
    source, header = tmp_path / "main.c", tmp_path / "value.h"
    source.write_text('#include "value.h"\nint main(void) { return VALUE; }\n')
    header.write_text("#define VALUE 1\n")

    def returned() -> int | None:
        machine = Machine()
        machine.load(Program.load(toolchain.build([source], tmp_path / "main.elf")))
        assert machine.run(limit=10**6)
        return machine.exit_status

    assert returned() == 1
    header.write_text("#define VALUE 2\n")
    run_shown = toolchain.run_shown

    def killed(command, what, log):
        if what.startswith("compiling") and moment.startswith("half"):
            listing = command[command.index("-MF") + 1]
            listing.write_text(listing.read_text().partition(str(header))[0])
            raise KeyboardInterrupt
        run_shown(command, what, log)
        if what.startswith("compiling"):
            header.write_text("#define VALUE 3\n")  # by an editor, meanwhile

    def killed_before_its_age(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(toolchain, "run_shown", killed)
    if moment.startswith("an object"):
        monkeypatch.setattr(toolchain.os, "utime", killed_before_its_age)
    with pytest.raises(KeyboardInterrupt):
        returned()
    monkeypatch.undo()
    assert returned() == (2 if moment.startswith("half") else 3)
