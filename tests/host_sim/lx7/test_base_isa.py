# SPDX-License-Identifier: MIT
"""The base ISA against an independent oracle: the same ELF files on the core and on QEMU's de233_fpu."""

import os
import random
import shutil
import struct
import subprocess

import numpy as np
import pytest

from host_sim.lx7 import isa, toolchain
from host_sim.lx7.machine import CODE_SRAM, DATA_SRAM, Machine, MachineError
from host_sim.lx7.program import Program
from tests.host_sim.lx7 import base_programs
from tests.host_sim.lx7.base_programs import BLOCK_BYTES, CODE, DATA, DATA_SIZE, DUMP_ROW, GROUPS, RESET, random_program

QEMU = "qemu-system-xtensa"
SEEDS = range(int(os.environ.get("LX7_BASE_SEEDS", "1")))
# de233_fpu has no 64-bit products.
WITHOUT = ("mul32high",)

needs_qemu = pytest.mark.skipif(
    not shutil.which(QEMU) and not os.environ.get("CI"), reason=f"{QEMU} is not installed (Debian: qemu-system-misc)"
)


def build(source: str, folder) -> Program:
    """The ELF file of a program."""
    text, script = folder / "program.S", folder / "link.ld"
    text.write_text(source)
    script.write_text(base_programs.LINK)
    return Program.load(toolchain.build([text], folder / "program.elf", without=WITHOUT, script=script))


def on_qemu(program: Program) -> bytes:
    """The program's output on QEMU, which ends with the program's status: 0, or 128 + EXCCAUSE."""
    command = [QEMU, "-M", "sim", "-cpu", "de233_fpu", "-nographic", "-monitor", "none", "-semihosting"]
    done = subprocess.run(
        [*command, "-kernel", program.path], stdin=subprocess.DEVNULL, capture_output=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def on_core(program: Program) -> bytes:
    """The program's output on the core."""
    machine = Machine()
    machine.map(CODE, bytearray(0x80000), "sram", executable=True)
    machine.map(DATA, bytearray(DATA_SIZE), "sram")
    machine.map(RESET, bytearray(4096), "flash", executable=True)
    machine.load(program)
    assert machine.run(limit=10**7)
    return bytes(machine.output)


def differences(expected: bytes, actual: bytes, source: str) -> list[str]:
    """Registers that differ, with the block's instructions."""
    found = []
    if expected[:BLOCK_BYTES] != actual[:BLOCK_BYTES]:
        found.append("the data block")
    names = [f"a{n}" for n in range(2, 14)] + ["br", "sar"] + [f"f{n}" for n in range(16)]
    blocks = source.split("movi a13, row")[1:]
    for number, block in enumerate(blocks):
        start = BLOCK_BYTES + number * DUMP_ROW
        rows = [struct.unpack("<30I", data[start : start + DUMP_ROW]) for data in (expected, actual)]
        for name, want, have in zip(names, *rows, strict=True):
            if want != have:
                found.append(f"{name}: {have:#x}, QEMU {want:#x}; block {number}:\n{block.split('s32i a2, a15')[0]}")
                break
    return found


@needs_qemu
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("group", GROUPS)
def test_registers_and_memory_are_those_of_qemu(group, seed, tmp_path):
    source, _ = random_program(group, seed)
    program = build(source, tmp_path)
    expected = on_qemu(program)
    assert len(expected) == BLOCK_BYTES + GROUPS[group][1] * DUMP_ROW
    actual = on_core(program)
    assert len(actual) == len(expected)
    assert differences(expected, actual, source)[:3] == []


def test_only_named_instructions_have_no_oracle():
    covered = set().union(*(random_program(group, 0)[1] for group in GROUPS))
    table = {i.mnemonic for i in isa.instructions().values() if not i.pie}
    assert table - covered == set(WITHOUT_ORACLE)


# Not in de233_fpu: muluh, mulsh, recip0.s, rsqrt0.s. Of the other steps of divisions and square roots QEMU's model does
# all in one (mkdadj.s divides, mksadj.s takes the root, addexpm.s moves) and nothing in the others. The rest ends a
# program, or dumps what was found.
WITHOUT_ORACLE = set(
    [
        "muluh",
        "mulsh",
        "break",
        "break.n",
        "simcall",
        "ill.n",
        "div0.s",
        "recip0.s",
        "sqrt0.s",
        "rsqrt0.s",
        "nexp01.s",
        "mksadj.s",
        "mkdadj.s",
        "addexp.s",
        "addexpm.s",
        "maddn.s",
        "divn.s",
    ]
)


def run(*lines, **registers) -> Machine:
    """Run a few instructions; registers: a2=..., br=..."""
    machine = Machine()
    code = b""
    for mnemonic, *values in lines:
        code += isa.encode(mnemonic, *values, pc=CODE_SRAM[0] + len(code))
    machine.write(CODE_SRAM[0], code)
    state = machine.registers
    state.pc, state.ps = CODE_SRAM[0], 1 << 18
    for name, value in registers.items():
        if name[1:].isdigit():
            state.set_a(int(name[1:]), value)
        else:
            setattr(state, name, value)
    machine.registers = state
    machine.run(len(lines))
    return machine


@pytest.mark.parametrize("group", [0, 4, 8, 12])
@pytest.mark.parametrize("bits", [0, 1, 8, 15])
def test_groups_of_four_booleans(group, bits):
    before = (bits << group) ^ (0x0F0F if group % 8 else 0xF0F0) & ~(15 << group)
    for mnemonic, expected in (("any4", bits != 0), ("all4", bits == 15)):
        target = (group + 5) % 16
        after = run((mnemonic, target, group), br=before).registers.br
        assert after == before & ~(1 << target) | expected << target


@pytest.mark.parametrize("group", [0, 8])
@pytest.mark.parametrize("bits", [0, 16, 254, 255])
def test_groups_of_eight_booleans(group, bits):
    before = bits << group | (0x55AA & ~(255 << group))
    for mnemonic, expected in (("any8", bits != 0), ("all8", bits == 255)):
        target = (group + 11) % 16
        after = run((mnemonic, target, group), br=before).registers.br
        assert after == before & ~(1 << target) | expected << target


def test_booleans_are_as_the_manual_defines_them():
    rng = random.Random(1)
    results = {
        "andb": lambda s, t: s & t,
        "andbc": lambda s, t: s & (1 - t),
        "orb": lambda s, t: s | t,
        "orbc": lambda s, t: s | (1 - t),
        "xorb": lambda s, t: s ^ t,
    }
    for _ in range(200):
        mnemonic, before = rng.choice(list(results)), rng.getrandbits(16)
        target, s, t = (rng.randrange(16) for _ in range(3))
        expected = results[mnemonic](before >> s & 1, before >> t & 1)
        assert run((mnemonic, target, s, t), br=before).registers.br == before & ~(1 << target) | expected << target


@pytest.mark.parametrize("a", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x12345678])
@pytest.mark.parametrize("b", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x9ABCDEF0])
def test_high_halves_of_products(a, b):
    registers = run(("muluh", 4, 2, 3), ("mulsh", 5, 2, 3), a2=a, a3=b).registers
    signed = [value - (value >> 31 << 32) for value in (a, b)]
    assert registers.a[4] == a * b >> 32
    assert registers.a[5] == (signed[0] * signed[1] >> 32) & 0xFFFFFFFF


def test_other_shift_amounts_and_special_registers():
    registers = run(("ssa8b", 2), ("rsr", 3, 3), ("rotw", 1), a2=3).registers
    assert (registers.sar, registers.windowbase, registers.ar[3]) == (8, 1, 8)
    registers = run(
        ("xsr", 2, isa.SPECIAL_REGISTERS["scompare1"]), ("wur.threadptr", 3), ("rur.threadptr", 4), a2=7, a3=9
    )
    assert (registers.registers.scompare1, registers.registers.a[4], registers.registers.a[2]) == (7, 9, 0)


@pytest.mark.parametrize("mnemonic", ["madd.s", "msub.s"])
@pytest.mark.parametrize("factors", [(0x7F800000, 0), (0x80000000, 0xFF800000)])
def test_infinity_times_zero_is_invalid_even_if_the_addend_is_nan(mnemonic, factors):
    """As on QEMU; IEEE 754 (7.2) leaves it open."""
    f = np.zeros(16, np.uint32)
    f[1], f[2], f[3] = *factors, 0x7FC00333
    registers = run((mnemonic, 3, 1, 2), f=f).registers
    assert (registers.f[3], registers.fsr) == (0x7FC00333, 0x800)


def test_a_plain_return():
    assert run(("ret",), a0=CODE_SRAM[0] + 40).registers.pc == CODE_SRAM[0] + 40


def test_compare_and_swap():
    address = DATA_SRAM[0]
    for compare, stored in ((5, 9), (4, 5)):
        machine = Machine()
        machine.write(address, (5).to_bytes(4, "little"))
        lines = (("s32ri", 5, 2, 0), ("l32ai", 6, 2, 0), ("s32c1i", 3, 2, 0))
        machine = run(*lines, a2=address, a3=9, a5=5, scompare1=compare)
        assert int.from_bytes(machine.read(address, 4), "little") == stored
        assert (machine.registers.a[3], machine.registers.a[6]) == (5, 5)


@pytest.mark.parametrize("mnemonic", ["div0.s", "nexp01.s", "mkdadj.s"])
def test_approximations_of_the_chip_are_not_invented(mnemonic):
    with pytest.raises(MachineError, match=r"not settled by a manual or a chip: .*tables are unpublished"):
        run((mnemonic, 1, 2))
