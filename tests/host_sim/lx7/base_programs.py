# SPDX-License-Identifier: MIT
"""Random programs of the base ISA that dump all registers, for QEMU and the core alike.

A program is one ELF file for both: code at CODE, data at DATA, a stub where QEMU's sim machine resets. It is a chain of
blocks; each loads a2..a13 (and f0..f15, booleans, SAR) with values from a table, runs some random instructions and
appends all of them to a dump, which the program writes to standard output at its end. a14 points to a data block, a15
to the dump.

QEMU 7.2 translates code up to the next jump as a block and has two errors within such a block: it keeps the booleans
in several copies (BR, single ones, groups) that miss each other's changes, and after ssl it shifts by the low five
bits of SAR. So there is a jump before instructions that use booleans, and after those that set SAR; with these jumps
QEMU agrees with the manual.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from host_sim.lx7 import isa

CODE, DATA, DATA_SIZE = 0x10000, 0x100000, 0x200000
RESET = 0xFE000000
ATOMIC_MEMORY = 0x15  # ATOMCTL for s32c1i, which QEMU refuses on memory outside caches otherwise
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

A_PLAIN = range(2, 14)  # registers that blocks change


@dataclass
class Writer:
    """Collects a program's lines and mnemonics."""

    rng: random.Random
    lines: list[str] = field(default_factory=list)
    mnemonics: set[str] = field(default_factory=set)
    labels: int = 0

    def emit(self, text: str) -> None:
        """Add an instruction as text."""
        mnemonic, _, register = text.split()[0].partition(".")
        if mnemonic not in ("rsr", "wsr", "xsr"):
            mnemonic = text.split()[0]
        instruction = isa.instructions()[mnemonic]
        if register == "br" or "BR" in dict(instruction.uses + instruction.defs):
            self.jump_on()
        self.mnemonics.add(mnemonic)
        self.lines.append(f"    {text}")

    def emit_bytes(self, mnemonic: str, *values: int) -> None:
        """Add an instruction that llvm-mc lacks."""
        self.mnemonics.add(mnemonic)
        self.lines.append(f"    .byte {', '.join(map(hex, isa.encode(mnemonic, *values)))}")

    def jump_on(self) -> None:
        """A jump to the next instruction, so that QEMU starts a new block."""
        target = self.label()
        self.lines += [f"    j {target}", f"{target}:"]

    def integer(self) -> int:
        """32 bits, often extreme ones."""
        return self.rng.choice(EDGES) if self.rng.random() < 0.5 else self.rng.getrandbits(32)

    def set(self, number: int, value: int) -> None:
        """Load a constant into a register."""
        self.emit(f"movi a{number}, {value - (value >> 31 << 32)}")

    def label(self) -> str:
        """An unused label."""
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
            else:
                value = operand.value(self.rng.randrange(operand.count))
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
    setter = w.rng.choice(("ssl", "ssr", "ssai", "ssa8l", "ssa8b", "wsr.sar"))
    if setter == "ssa8b":
        w.emit_bytes(setter, w.rng.randrange(2, 16))
    elif setter == "wsr.sar":
        w.set(12, w.rng.randrange(33))
        w.emit("wsr.sar a12")
    else:
        if setter == "ssl" and w.rng.random() < 0.3:
            w.emit("movi.n a2, 0")
            w.any(setter, **{"as": 2})
        else:
            w.any(setter)
    w.jump_on()
    for _ in range(3):
        w.any(w.rng.choice(("sll", "srl", "sra", "src")))


def divide(w: Writer) -> None:
    """Division by everything but 0; a quotient that overflows 32 bits."""
    for mnemonic in w.rng.sample(("quou", "quos", "remu", "rems"), 4):
        w.set(11, w.rng.choice((0x80000000, w.integer())))
        w.set(13, w.rng.choice((0xFFFFFFFF, 0x80000000, 1, w.integer() or 1)))
        w.any(mnemonic, **{"as": 11, "at": 13})
    for mnemonic in ("quou", "quos", "remu", "rems"):
        w.emit("movi.n a12, 1")
        w.any(w.rng.choice(("moveqz", "movnez")), ar=13, at=w.rng.randrange(2, 12))
        w.emit("moveqz a13, a12, a13")
        w.any(mnemonic, at=w.rng.choice((13, 12, 14)))


def booleans(w: Writer) -> None:
    """Logic on booleans and groups of them, and instructions that depend on one."""
    for _ in range(6):
        mnemonic = w.rng.choice(("andb", "andbc", "orb", "orbc", "xorb", "any4", "all4", "any8", "all8"))
        if mnemonic[-1].isdigit():
            size = int(mnemonic[-1])
            w.any(mnemonic, bs=size * w.rng.randrange(16 // size))
        else:
            w.any(mnemonic)
        w.any(w.rng.choice(("movt", "movf", "movt.s", "movf.s")))


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


def near_equal(w: Writer, parts: list[str]) -> None:
    """Make the operands of a branch differ by at most 1, if they may be changed."""
    first, second = parts[0], parts[1]
    if first in {f"a{n}" for n in A_PLAIN}:
        difference = w.rng.choice((-1, 0, 0, 1))
        if second.startswith("a"):
            w.emit(f"addi {first}, {second}, {difference}")
        else:
            w.emit(f"movi {first}, {difference if second.startswith('.') else int(second) + difference}")


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
        if w.rng.random() < 0.5:
            near_equal(w, parts)
        w.emit(f"{mnemonic} {', '.join(parts)}")
        w.any(w.rng.choice(("addi", "addi.n", "xor")))
        w.lines.append(f"{target}:")
    if w.rng.random() < 0.4:  # l32r's reach limits the program
        far(w)
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


# Branches and their reach; the space in between holds illegal instructions.
REACH = {"beq": (127, 124), "bnei": (127, 124), "bltz": (2047, 2044), "beqz": (2047, 2044), "bnez.n": (63, 0)}


def far(w: Writer) -> None:
    """A branch over about its whole reach, forward or backward."""
    mnemonic, (forward, backward) = w.rng.choice(list(REACH.items()))
    here, back, end = w.label(), w.label(), w.label()
    operands = {"beq": "a2, a3", "bnei": "a4, 7"}.get(mnemonic, f"a{w.a()}")
    if backward and w.rng.random() < 0.5:
        # The branch goes over the space, over back's three bytes and j's.
        space = backward - 6 - w.rng.randrange(4)
        w.emit(f"j {here}")
        w.lines.append(f"{back}:")
        w.emit("addi a5, a5, 77")
        w.emit(f"j {end}")
        w.lines += [f"    .space {space}", f"{here}:"]
        w.emit(f"{mnemonic} {operands}, {back}")
        w.lines.append(f"{end}:")
    else:
        space = forward + 4 - 6 - w.rng.randrange(4)
        w.emit(f"{mnemonic} {operands}, {back}")
        w.emit(f"j {end}")
        w.lines += [f"    .space {space}", f"{back}:"]
        w.emit("addi a5, a5, 77")
        w.lines.append(f"{end}:")


def loops(w: Writer) -> None:
    """Zero-overhead loops: few iterations, none, left early; bodies that end in instructions of each size."""
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
    w.rng.choice((endless, nested, ends_in_branch, by_hand))(w)
    for name in ("lbeg", "lend", "lcount"):
        w.emit(f"rsr.{name} a{w.a()}")
    w.emit("movi.n a13, 0")
    w.emit("wsr.lcount a13")


def endless(w: Writer) -> None:
    """A loop count of 0 means 2**32 iterations, and a negative count is unsigned: leave the loop early."""
    end = w.label()
    w.emit(f"movi.n a12, {w.rng.randrange(1, 6)}")
    w.emit(f"movi a13, {w.rng.randrange(-2, 1)}")
    w.emit(f"loop a13, {end}")
    w.emit("addi a12, a12, -1")
    w.emit(f"beqz a12, {end}")
    w.any("addi.n")
    w.lines[-1] = w.lines[-1] if " a12, " not in w.lines[-1] else "    nop.n"
    w.lines.append(f"{end}:")


def nested(w: Writer) -> None:
    """A loop whose body calls a function with a loop of its own, windowed or not."""
    end = w.label()
    w.emit(f"movi.n a13, {w.rng.randrange(1, 5)}")
    w.emit(f"loopnez a13, {end}")
    if w.rng.random() < 0.5:
        w.emit("call0 leaf_loop")
    else:
        w.lines += ["    s32i a14, a1, 16", "    s32i a15, a1, 20"]
        w.emit("mov.n a6, a2")
        w.emit("call4 looping")
        w.emit("add a2, a2, a6")
        w.lines += ["    l32i a14, a1, 16", "    l32i a15, a1, 20", "    movi.n a13, 0"]
    w.any("add")
    w.lines.append(f"{end}:")
    for number in range(4, 14):
        w.emit(f"movi.n a{number}, 0")


def ends_in_branch(w: Writer) -> None:
    """The last instruction of the body is a branch, taken after some iterations."""
    end, out = w.label(), w.label()
    w.emit(f"movi.n a12, {w.rng.randrange(1, 8)}")
    w.emit("movi.n a13, 4")
    w.emit(f"{w.rng.choice(('loop', 'loopgtz'))} a13, {end}")
    w.emit("addi.n a12, a12, -1")
    w.emit(f"{w.rng.choice(('beqz', 'beqz.n'))} a12, {out}")
    w.lines.append(f"{end}:")
    w.emit("addi a11, a11, 1")
    w.lines.append(f"{out}:")


def by_hand(w: Writer) -> None:
    """Loop registers written one by one; a jump to the end of the body does not end an iteration."""
    start, end = w.label(), w.label()
    w.emit(f"movi a13, {start}")
    w.emit("wsr.lbeg a13")
    w.emit(f"movi a13, {end}")
    w.emit("wsr.lend a13")
    w.emit(f"movi a13, {w.rng.randrange(4)}")
    w.emit("wsr.lcount a13")
    w.emit("isync")
    if w.rng.random() < 0.3:
        w.emit(f"j {end}")
    w.lines.append(f"{start}:")
    w.any("addx2", ar=12)
    w.any("add.n", ar=11)
    w.lines.append(f"{end}:")


SYNCS = ("nop", "nop.n", "isync", "rsync", "esync", "dsync", "memw", "extw")


def system(w: Writer) -> None:
    """Special registers, rotated windows, atomic accesses, and instructions without visible effect."""
    for _ in range(4):
        w.emit(w.rng.choice(SYNCS))
        w.any(w.rng.choice(("add", "xor", "addi.n")))
        name = w.rng.choice(("sar", "br", "scompare1", "excsave1", "lbeg", "lend", "lcount"))
        w.set(12, {"sar": w.rng.randrange(33), "lcount": 0}.get(name, w.rng.getrandbits(16)))
        w.emit(f"xsr.{name} a12")
        w.emit(f"rsr.{name} a11")
    w.emit("movi.n a13, 0")
    w.emit("wsr.lend a13")
    w.any("wur.threadptr")
    w.any("rur.threadptr")
    w.any("rsil", imm=w.rng.randrange(16))
    w.emit("rsr.ps a13")
    quarter = w.rng.choice((1, 2))  # a4.. or a8.. become a0..
    w.any("rotw", imm=quarter)
    w.emit(f"addi a{w.rng.randrange(2)}, a2, {w.rng.randrange(-128, 128)}")
    w.emit(f"xor a3, a{w.rng.randrange(4)}, a1")
    w.any("rotw", imm=-quarter)
    offset, value = w.rng.randrange(0, BLOCK_BYTES, 4), w.integer()
    w.set(10, value)
    w.emit_bytes("s32ri", w.rng.choice((2, 10)), 14, offset)
    w.emit("wsr.scompare1 a10")
    w.emit(f"s32c1i a9, a14, {offset}")
    w.emit_bytes("l32ai", 8, 14, offset)
    w.emit("call0 leaf0_wide")


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
    """Floats to integers and back."""
    for _ in range(5):
        w.any(w.rng.choice(("float.s", "ufloat.s", "wfr", "neg.s")))
        w.any(w.rng.choice(TO_INTEGER))
        w.any(w.rng.choice(TO_INTEGER))


def conversion_flags(w: Writer) -> None:
    """FSR after floats to integers, in a3..a8. Only the flag invalid is compared: QEMU scales in float first."""
    for number in range(3, 9):
        done = w.label()
        w.emit("movi.n a13, 0")
        w.emit("wur.fsr a13")
        w.any(w.rng.choice(TO_INTEGER), ar=12)
        w.emit(f"rur.fsr a{number}")
        w.emit(f"bbci a{number}, 11, {done}")
        w.emit(f"movi a{number}, 2048")
        w.lines.append(f"{done}:")


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
    # The callee's window overlaps ours: the registers that it used have changed.
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
leaf0_wide:
    movi a13, 55
    ret

    .align 4
leaf_loop:  // keeps the caller's loop
    rsr.lbeg a4
    rsr.lend a5
    rsr.lcount a6
    movi.n a7, 3
    loop a7, .Lleaf_loop_end
    addx2 a8, a8, a2
.Lleaf_loop_end:
    add a2, a2, a8
    wsr.lbeg a4
    wsr.lend a5
    wsr.lcount a6
    isync
    ret

    .align 4
looping:
    entry a1, 48
    rsr.lbeg a4
    rsr.lend a5
    rsr.lcount a6
    movi.n a3, 5
    loopgtz a3, .Llooping_end
    addi.n a2, a2, 3
.Llooping_end:
    mov.n a10, a2
    call8 stack_of
    xor a2, a2, a10
    wsr.lbeg a4
    wsr.lend a5
    wsr.lcount a6
    isync
    retw.n

    .align 4
stack_of:   // spills windows to where movsp has moved the stack (the core has no movsp with a spilled caller)
    entry a1, 48
    addi a3, a1, -64
    movsp a1, a3
    s32i a2, a1, 0
    extui a10, a2, 0, 3
    call8 recurse4
    l32i a3, a1, 0
    add a2, a10, a3
    retw

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

# Kinds of blocks, and how many of each a program has.
GROUPS: dict[str, tuple[Block, int]] = {
    "arithmetic": (alu, 400),
    "division": (divide, 150),
    "booleans": (booleans, 200),
    "memory": (memory, 250),
    "branches": (branches, 200),
    "loops": (loops, 40),
    "system": (system, 60),
    "floats": (floats, 500),
    "special floats": (floats, 500),
    "conversions": (conversions, 200),
    "conversion flags": (conversion_flags, 100),
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


def random_table(rng: random.Random, blocks: int, special: float) -> str:
    """Initial values of all blocks: floats (this share of them from FLOATS), booleans, SAR, a2..a13."""
    rows = []
    for number in range(blocks):
        values = [rng.choice(FLOATS) if rng.random() < special else rng.getrandbits(32) for _ in range(16)]
        values += [rng.getrandbits(16), rng.randrange(33)]
        values += [rng.choice(EDGES) if rng.random() < 0.4 else rng.getrandbits(32) for _ in range(12)]
        rows.append(f"row{number}: .int {', '.join(map(hex, values))}")
    return "\n".join(rows)


def random_program(group: str, seed: int) -> tuple[str, set[str]]:
    """A program's source, and the mnemonics that it tests."""
    block, count = GROUPS[group]
    rng = random.Random(f"{group} {seed}")
    w = Writer(rng)
    for number in range(count):
        load_registers(w, number)
        block(w)
        store_registers(w)
    w.mnemonics |= {"entry", "retw", "retw.n", "ret.n"}
    if group in ("loops", "system"):
        w.mnemonics |= {"ret"}
    if group == "loops":
        w.mnemonics |= {"movsp"}
    if group == "windowed calls":
        w.mnemonics |= {"rfwo", "rfwu", "l32e", "s32e"}
    table = random_table(rng, count, 1.0 if group == "special floats" else 0.5)
    block_data = ", ".join(f"{byte:#x}" for byte in rng.randbytes(BLOCK_BYTES))
    body = "\n".join(w.lines)
    source = f"""
    .section .reset, "ax"
    movi a0, {ATOMIC_MEMORY}
    wsr.atomctl a0
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
