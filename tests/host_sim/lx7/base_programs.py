# SPDX-License-Identifier: MIT
"""Random programs of the base ISA that dump all registers, for QEMU and the core alike.

A program is one ELF file for both: code at CODE, data at DATA, a stub where QEMU's sim machine resets. It is a chain of
blocks; each loads a2..a13 (and f0..f15, booleans, SAR) with values from a table, runs some random instructions and
appends all of them to a dump, which the program writes to standard output at its end. a14 points to a data block, a15
to the dump.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from host_sim.lx7 import isa

CODE, DATA, DATA_SIZE = 0x10000, 0x100000, 0x200000
RESET = 0xFE000000
BLOCK_BYTES = 256

LINK = f"""
ENTRY(_start)
PHDRS {{ reset PT_LOAD FLAGS(5); code PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); }}
SECTIONS {{
    .reset {RESET:#x} : {{ KEEP(*(.reset)) }} : reset
    .text {CODE:#x} : {{
        KEEP(*(.first)) . = ALIGN(1024); KEEP(*(.vectors)) . = ALIGN(4);
        *(.literal .literal.* *.literal) . = ALIGN(16); *(.text .text.*)
    }} : code
    .data {DATA:#x} : {{ *(.rodata .rodata.*) . = ALIGN(16); *(.data .data.*) }} : data
    .bss (NOLOAD) : ALIGN(16) {{ _lx7_bss_start = .; *(.bss .bss.*) . = ALIGN(16); _lx7_bss_end = .; }} : data
    _lx7_stack_top = {DATA + DATA_SIZE:#x};
    /DISCARD/ : {{ *(.xt.* .xtensa.info .comment .note.*) }}
}}
"""

EDGES = (0, 1, 2, 31, 32, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFF80)
FLOATS = (
    0x00000000, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC12345, 0x7F812345,
    0xFF800001, 0x00000001, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0x4F000000, 0xCF000000, 0x4F800000, 0x3F000000,
    0x33800000, 0xB3800001, 0x4B800001, 0x3FC00000, 0x40200000, 0xC0200000, 0x34000000, 0x0DA24260,
)  # fmt: skip

A_PLAIN = range(2, 14)  # what blocks change


@dataclass
class Writer:
    """Collects a program's lines, and the mnemonics that it holds."""

    rng: random.Random
    lines: list[str] = field(default_factory=list)
    mnemonics: set[str] = field(default_factory=set)
    labels: int = 0

    def emit(self, text: str) -> None:
        """Add an instruction as text."""
        mnemonic = text.split()[0]
        for name in ("rsr", "wsr", "xsr"):
            mnemonic = name if mnemonic.startswith(f"{name}.") else mnemonic
        self.mnemonics.add(mnemonic)
        self.lines.append(f"    {text}")

    def label(self) -> str:
        """A name that is free."""
        self.labels += 1
        return f".Lp{self.labels}"

    def a(self) -> int:
        """A register that blocks may change."""
        return self.rng.choice(A_PLAIN)

    def any(self, mnemonic: str, **fixed: int) -> None:
        """Add an instruction of the table with random operands; it writes registers of A_PLAIN only."""
        instruction, values = isa.instructions()[mnemonic], []
        written = {name for name, _ in instruction.defs}
        for operand in instruction.operands:
            if operand.name in fixed:
                value = fixed[operand.name]
            elif operand.file == "a":
                value = self.a() if operand.name in written else self.rng.randrange(2, 16)
            elif operand.file:
                value = self.rng.randrange(isa.FILES[operand.file])
            else:
                value = operand.immediate.value(self.rng.randrange(1 << operand.immediate.bits))
            values.append(value)
        self.emit(instruction.text(tuple(values)))


Block = Callable[[Writer], None]

ALU = [
    "add",
    "add.n",
    "addx2",
    "addx4",
    "addx8",
    "sub",
    "subx2",
    "subx4",
    "subx8",
    "addi",
    "addi.n",
    "addmi",
    "movi",
    "movi.n",
    "mov.n",
    "neg",
    "abs",
    "and",
    "or",
    "xor",
    "min",
    "max",
    "minu",
    "maxu",
    "sext",
    "clamps",
    "nsa",
    "nsau",
    "extui",
    "moveqz",
    "movnez",
    "movltz",
    "movgez",
    "movf",
    "movt",
    "srli",
    "srai",
    "mull",
    "mul16u",
    "mul16s",
]
FLOAT = [
    "add.s",
    "sub.s",
    "mul.s",
    "madd.s",
    "msub.s",
    "mov.s",
    "abs.s",
    "neg.s",
    "un.s",
    "oeq.s",
    "ueq.s",
    "olt.s",
    "ult.s",
    "ole.s",
    "ule.s",
    "float.s",
    "ufloat.s",
    "moveqz.s",
    "movnez.s",
    "movltz.s",
    "movgez.s",
    "movf.s",
    "movt.s",
    "wfr",
    "rfr",
]
TO_INTEGER = ["round.s", "trunc.s", "floor.s", "ceil.s", "utrunc.s"]


def alu(w: Writer) -> None:
    """Arithmetic and logic, a shift by SAR between."""
    for _ in range(12):
        w.any(w.rng.choice(ALU))
    w.any("slli", imm=w.rng.randrange(1, 32))
    # Not srl or sra behind ssl of 0 (SAR = 32): the manual's formula gives 0 or the sign, QEMU 7.2 shifts by 0.
    setter, shifts = w.rng.choice(
        (("ssl", ("sll", "src")), *((s, ("srl", "sra", "src")) for s in ("ssr", "ssa8l", "ssai")))
    )
    w.any(setter)
    w.any(w.rng.choice(shifts))
    w.any(w.rng.choice(shifts))


def divide(w: Writer) -> None:
    """Division, by everything but 0."""
    for mnemonic in ("quou", "quos", "remu", "rems"):
        w.emit("movi.n a12, 1")
        w.any(w.rng.choice(("moveqz", "movnez")), ar=13, at=w.rng.randrange(2, 12))
        w.emit("moveqz a13, a12, a13")
        w.any(mnemonic, at=w.rng.choice((13, 12, 14)))


def memory(w: Writer) -> None:
    """Loads and stores in the data block."""
    for _ in range(8):
        mnemonic = w.rng.choice(["l8ui", "l16ui", "l16si", "l32i", "l32i.n", "s8i", "s16i", "s32i", "s32i.n"])
        size = {"8": 1, "1": 2, "3": 4}[mnemonic[1]]
        limit = 60 if mnemonic.endswith(".n") else BLOCK_BYTES - 4
        w.any(mnemonic, **{"as": 14, "imm": w.rng.randrange(0, limit, size)})
    w.emit(f"movi a{w.a()}, {w.rng.getrandbits(32) - (1 << 31)}")  # becomes l32r
    w.mnemonics.add("l32r")
    base, at, value = w.rng.sample(range(2, 13), 3)
    w.emit(f"mov.n a{base}, a14")
    w.emit(f"movi a{at}, {w.rng.randrange(0, BLOCK_BYTES - 64, 4)}")
    for mnemonic in w.rng.sample(["lsi", "ssi", "lsip", "ssip", "lsx", "ssx", "lsxp", "ssxp"], 4):
        if mnemonic.endswith(("si", "sip")):
            w.any(mnemonic, **{"as": base, "imm": w.rng.randrange(0, 16, 4)})
        elif mnemonic.endswith("xp"):
            w.emit(f"mov.n a{base}, a14")
            w.any(mnemonic, **{"as": base, "at": at})
        else:
            w.any(mnemonic, **{"as": 14, "at": at})
    w.emit(f"sub a{value}, a{base}, a14")
    w.emit(f"mov.n a{base}, a{value}")


BRANCHES = [
    "beqz",
    "bnez",
    "bltz",
    "bgez",
    "beqz.n",
    "bnez.n",
    "beqi",
    "bnei",
    "blti",
    "bgei",
    "bltui",
    "bgeui",
    "bnone",
    "beq",
    "blt",
    "bltu",
    "ball",
    "bbc",
    "bbci",
    "bany",
    "bne",
    "bge",
    "bgeu",
    "bnall",
    "bbs",
    "bbsi",
    "bf",
    "bt",
]


def branches(w: Writer) -> None:
    """Every kind of branch over an instruction, some jumps and call0."""
    for mnemonic in w.rng.sample(BRANCHES, 10):
        instruction, target, parts = isa.instructions()[mnemonic], w.label(), []
        for operand in instruction.operands:
            if operand.name == "imm":
                parts.append(target)
            elif operand.file:
                number = w.rng.randrange(2, 16) if operand.file == "a" else w.rng.randrange(16)
                parts.append(f"{operand.file}{number}")
            else:
                parts.append(str(operand.immediate.value(w.rng.randrange(1 << operand.immediate.bits))))
        w.emit(f"{mnemonic} {', '.join(parts)}")
        w.any(w.rng.choice(("addi", "addi.n", "xor")))
        w.lines.append(f"{target}:")
    target = w.label()
    if w.rng.random() < 0.5:
        w.emit(f"j {target}")
    else:
        w.emit(f"movi a13, {target}")
        w.emit("jx a13")
    w.emit("ill")
    w.lines.append(f"{target}:")
    w.emit("movi.n a13, 0")
    if w.rng.random() < 0.5:
        w.emit("call0 leaf0")
    else:
        w.emit("movi a13, leaf0")
        w.emit("callx0 a13")
    w.emit("movi.n a13, 0")


def loops(w: Writer) -> None:
    """Zero-overhead loops: few rounds, none, left early; bodies that end in instructions of each size."""
    for _ in range(3):
        mnemonic, end, count = w.rng.choice(("loop", "loopnez", "loopgtz")), w.label(), w.rng.randrange(-2, 6)
        if mnemonic == "loop" or (mnemonic == "loopnez" and count < 0):
            count = w.rng.randrange(1, 6)
        w.emit(f"movi a13, {count}")
        w.emit(f"{mnemonic} a13, {end}")
        for _ in range(w.rng.randrange(1, 4)):
            w.any(w.rng.choice(("add", "addi", "xor", "addx2", "add.n", "addi.n")))
        if w.rng.random() < 0.3:
            w.emit(f"beqi a{w.rng.randrange(2, 13)}, {w.rng.choice((1, 2, 7))}, {end}")
        w.any(w.rng.choice(("add.n", "addi.n", "add", "sub")))
        w.lines.append(f"{end}:")
    w.emit(f"rsr.lcount a{w.a()}")
    w.emit("movi.n a13, 0")
    w.emit("wsr.lcount a13")


def floats(w: Writer) -> None:
    """The FPU in each rounding mode, NaNs, infinities and denormals included."""
    w.emit(f"movi.n a13, {w.rng.choice((0, 0, 1, 2, 3))}")
    w.emit("wur.fcr a13")
    w.emit("movi.n a13, 0")
    w.emit("wur.fsr a13")
    for _ in range(10):
        w.any(w.rng.choice(FLOAT))
    w.emit(f"const.s f{w.rng.randrange(16)}, {w.rng.randrange(4)}")
    w.emit("rur.fsr a12")
    w.emit("rur.fcr a11")
    w.emit("movi.n a13, 0")
    w.emit("wur.fcr a13")


def conversions(w: Writer) -> None:
    """Floats to integers. FSR is not compared: QEMU scales in float first, and keeps other flags of that."""
    for _ in range(5):
        w.any(w.rng.choice(("float.s", "ufloat.s", "wfr", "neg.s")))
        w.any(w.rng.choice(TO_INTEGER))
        w.any(w.rng.choice(TO_INTEGER))


def calls(w: Writer) -> None:
    """Windowed calls of each size, deep enough that windows are spilled and filled again."""
    w.emit(f"movi a13, {w.rng.randrange(1, 24)}")
    w.emit("addi a13, a13, 0")
    size = w.rng.choice((4, 8, 12))
    keep = {4: "mov.n a6, a13", 8: "mov.n a10, a13", 12: "mov.n a14, a13"}[size]
    w.emit("s32i a14, a1, 16")
    w.emit("s32i a15, a1, 20")
    w.emit(keep)
    w.emit(f"call{size} recurse{size}" if w.rng.random() < 0.5 else f"movi a{size}, recurse{size}")
    if w.lines[-1].strip().startswith("movi"):
        w.emit(f"callx{size} a{size}")
    # The callee's window lies over ours: what it used is gone.
    w.emit({4: "mov.n a2, a6", 8: "mov.n a2, a10", 12: "mov.n a2, a14"}[size])
    w.emit("l32i a14, a1, 16")
    w.emit("l32i a15, a1, 20")
    for number in range(size, 14):
        w.emit(f"movi.n a{number}, 0")


RECURSIONS = """
leaf0:
    addi a13, a0, 0
    movi a13, 77
    add a12, a12, a13
    ret.n

    .align 4
recurse4:   // recurse(n): n + recurse8(n - 1), with something in every register that a call must keep
    entry a1, 48
    beqz a2, .Lrecurse4_end
    addi a6, a2, -1
    slli a3, a2, 3
    movi a4, recurse8
    callx4 a4
    add a2, a2, a6
    add a2, a2, a3
.Lrecurse4_end:
    retw
    .align 4
recurse8:
    entry a1, 48
    beqz a2, .Lrecurse8_end
    addi a10, a2, -1
    addx4 a3, a2, a2
    xor a7, a2, a3
    call8 recurse12
    add a2, a2, a10
    xor a2, a2, a7
.Lrecurse8_end:
    retw.n
    .align 4
recurse12:
    entry a1, 64
    beqz a2, .Lrecurse12_end
    addi a14, a2, -1
    mov.n a3, a2
    addx8 a11, a2, a2
    mov.n a7, a3
    call12 recurse4
    add a2, a14, a3
    add a2, a2, a7
    xor a2, a2, a11
.Lrecurse12_end:
    retw
"""

# What a block is made of, and how many a program has.
GROUPS: dict[str, tuple[Block, int]] = {
    "arithmetic": (alu, 400),
    "division": (divide, 150),
    "memory": (memory, 250),
    "branches": (branches, 200),
    "loops": (loops, 60),
    "floats": (floats, 500),
    "conversions": (conversions, 200),
    "windowed calls": (calls, 60),
}


def load_registers(w: Writer, block: int) -> None:
    """Fill registers from the table."""
    w.lines.append(f"    movi a13, row{block}")
    w.lines += [f"    lsi f{n}, a13, {4 * n}" for n in range(16)]
    w.lines += ["    l32i a12, a13, 64", "    wsr.br a12", "    l32i a12, a13, 68", "    wsr.sar a12"]
    w.lines += [f"    l32i a{n}, a13, {72 + 4 * (n - 2)}" for n in range(2, 14)]


def store_registers(w: Writer) -> None:
    """Append registers to the dump."""
    w.lines += [f"    s32i a{n}, a15, {4 * (n - 2)}" for n in range(2, 14)]
    w.lines += ["    rsr.br a2", "    s32i a2, a15, 48", "    rsr.sar a2", "    s32i a2, a15, 52"]
    w.lines += [f"    ssi f{n}, a15, {56 + 4 * n}" for n in range(16)]
    w.lines += [f"    addi a15, a15, {DUMP_ROW}"]


DUMP_ROW = 4 * (12 + 2 + 16)


def random_table(rng: random.Random, blocks: int) -> str:
    """Start values of all blocks: floats, booleans, SAR, a2..a13."""
    rows = []
    for number in range(blocks):
        values = [rng.choice(FLOATS) if rng.random() < 0.5 else rng.getrandbits(32) for _ in range(16)]
        values += [rng.getrandbits(16), rng.randrange(33)]
        values += [rng.choice(EDGES) if rng.random() < 0.4 else rng.getrandbits(32) for _ in range(12)]
        rows.append(f"row{number}: .int {', '.join(map(hex, values))}")
    return "\n".join(rows)


def random_program(group: str, seed: int) -> tuple[str, set[str]]:
    """Source of a program, and the mnemonics that it exercises."""
    block, count = GROUPS[group]
    rng = random.Random(f"{group} {seed}")
    w = Writer(rng)
    for number in range(count):
        load_registers(w, number)
        block(w)
        store_registers(w)
    w.mnemonics |= {"entry", "retw", "retw.n", "ret.n"}
    if group == "windowed calls":
        w.mnemonics |= {"rfwo", "rfwu", "l32e", "s32e"}
    table = random_table(rng, count)
    block_data = ", ".join(f"{byte:#x}" for byte in rng.randbytes(BLOCK_BYTES))
    body = "\n".join(w.lines)
    source = f"""
    .section .reset, "ax"
    movi.n a0, 1
    slli a0, a0, {CODE.bit_length() - 1}
    jx a0

    .section .first, "ax"
    j _start

    .text
{RECURSIONS}
    .align 4
    .global main
main:
    entry a1, 128 // 48 bytes at its top are for spilled windows
    s32i a0, a1, 24
    movi a14, block
    movi a15, dump
{body}
    l32i a0, a1, 24
    movi a10, 4
    movi a11, 1
    movi a12, block
    movi a13, {BLOCK_BYTES + count * DUMP_ROW}
    call8 lx7_simcall
    movi.n a2, 0
    retw

    .data
    .align 16
{table}
    .align 16
block: .byte {block_data}
dump: .space {count * DUMP_ROW}
"""
    return source, w.mnemonics
