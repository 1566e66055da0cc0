# SPDX-License-Identifier: MIT
"""The instructions of the ESP32-S3's LX7 core: one table from which assembler macros, decoders, disassembler and cycle
model are made.

base.txt and pie.txt hold one line per instruction, with these columns between bars:

1. syntax: mnemonic and operands in assembly order; an operand is a register (its first letter says of which file:
   a, b, f or q) or `name:kind`, an immediate (see IMMEDIATES);
2. bits of the encoding, most significant first: digits, and fields such as qu[2:1] or imm[7];
3. pipeline stages: operands and special state read > written, each with the stage at whose beginning a source is
   needed and at whose end a result is there (1 = E, 2 = M; TRM 1.7.1);
4. unit: what the cycle model has to know beyond the stages (see UNITS);
5. multiply-accumulates that one execution makes;
6. sources of the line; "silicon": the effect was checked on a chip, otherwise only manuals speak; "not executed": the
   core knows the encoding alone, and stops there.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TABLES = (HERE / "base.txt", HERE / "pie.txt")

# mac and drain share adders: a drain right after a mac stalls (OVL's functional units).
UNITS = ("-", "branch", "jump", "loop", "divide", "mac", "drain")
# State besides operands that instructions read and write in known pipeline stages.
STATE = ("BR", "SAR", "SAR_BYTE", "ACCX", "QACC_L", "QACC_H", "UA_STATE", "FFT_BIT_WIDTH")
FILES = {"a": 16, "b": 16, "f": 16, "q": 8}

B4CONST = (-1, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256)
B4CONSTU = (32768, 65536, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256)

SPECIAL_REGISTERS = {
    "lbeg": 0,
    "lend": 1,
    "lcount": 2,
    "sar": 3,
    "br": 4,
    "scompare1": 12,
    "windowbase": 72,
    "windowstart": 73,
    "epc1": 177,
    "depc": 192,
    "excsave1": 209,
    "cpenable": 224,
    "ps": 230,
    "vecbase": 231,
    "exccause": 232,
    "ccount": 234,
    "prid": 235,
    "excvaddr": 238,
}


class IsaError(ValueError):
    """An instruction or operand that the core does not have; the message says what is allowed."""


@dataclass(frozen=True)
class Immediate:
    """How a field of `bits` bits becomes a value.

    form: linear: (sign-extended) field * scale + offset; from32: 32 - field; addi_n, movi_n, b4const, b4constu: the
    ISA manual's tables; pc, pc_call, pc_literal: an address, relative to the instruction; special: number of a special
    register.
    """

    form: str
    bits: int
    signed: bool = False
    scale: int = 1
    offset: int = 0

    def values(self, pc: int = 0) -> dict[int, int]:
        """Every value at this address, with its field (which fits 2**18 entries)."""
        return {self.value(field, pc): field for field in range(1 << self.bits)}

    def value(self, field: int, pc: int = 0) -> int:
        """The value of a field; pc: address of the instruction."""
        number = field - (1 << self.bits) if self.signed and field >> (self.bits - 1) else field
        match self.form:
            case "from32":
                return 32 - number
            case "addi_n":
                return number or -1
            case "movi_n":
                return number - 128 if number >= 96 else number
            case "b4const":
                return B4CONST[number]
            case "b4constu":
                return B4CONSTU[number]
            case "pc":
                return (pc + 4 + number) & 0xFFFFFFFF
            case "pc_call":
                return ((pc & ~3) + 4 + 4 * number) & 0xFFFFFFFF
            case "pc_literal":
                return (((pc + 3) & ~3) + 4 * (number - 65536)) & 0xFFFFFFFF
        return number * self.scale + self.offset

    def field(self, value: int, pc: int = 0) -> int:
        """The field of a value; IsaError if there is none."""
        if self.form == "linear" and not (value - self.offset) % self.scale:
            number = (value - self.offset) // self.scale
            low = -(1 << (self.bits - 1)) if self.signed else 0
            if low <= number < low + (1 << self.bits):
                return number & ((1 << self.bits) - 1)
        elif self.form in ("pc", "pc_call", "pc_literal"):
            start = self.value(0, pc)
            step = 1 if self.form == "pc" else 4
            field = ((value - start) & 0xFFFFFFFF) // step & ((1 << self.bits) - 1)
            if self.value(field, pc) == value:
                return field
        elif self.form != "linear":
            fields = self.values(pc)
            if value in fields:
                return fields[value]
        raise IsaError(f"{value} is not {self.description}")

    @property
    def relative(self) -> bool:
        """Whether values are addresses that count from the instruction."""
        return self.form.startswith("pc")

    @property
    def description(self) -> str:
        """What values there are, for people."""
        if self.form == "special":
            return "the number of a special register"
        if self.relative:
            return "an address in reach"
        values = sorted(self.values())
        step = f" in steps of {self.scale}" if self.scale > 1 else ""
        return f"in {values[0]}..{values[-1]}{step}"


NAMED_IMMEDIATES = {
    "addi_n": Immediate("addi_n", 4),
    "movi_n": Immediate("movi_n", 7),
    "b4const": Immediate("b4const", 4),
    "b4constu": Immediate("b4constu", 4),
    "32-u5": Immediate("from32", 5),
    "pc_u6": Immediate("pc", 6),
    "pc_s8": Immediate("pc", 8, signed=True),
    "pc_u8": Immediate("pc", 8),
    "pc_s12": Immediate("pc", 12, signed=True),
    "pc_s18": Immediate("pc", 18, signed=True),
    "pc_call": Immediate("pc_call", 18, signed=True),
    "pc_literal": Immediate("pc_literal", 16),
    "special": Immediate("special", 8),
}


def immediate(kind: str) -> Immediate:
    """The immediate of a kind such as s8*16 (8 bits, signed, times 16), u4*4-64 or one of NAMED_IMMEDIATES."""
    if kind in NAMED_IMMEDIATES:
        return NAMED_IMMEDIATES[kind]
    parts = re.fullmatch(r"([us])(\d+)(?:\*(\d+))?([+-]\d+)?", kind)
    if not parts:
        raise IsaError(f"{kind!r}: no kind of immediate")
    sign, bits, scale, offset = parts.groups()
    return Immediate("linear", int(bits), sign == "s", int(scale or 1), int(offset or 0))


@dataclass(frozen=True)
class Piece:
    """`width` bits of an operand from bit `operand_bit` on, at bit `word_bit` of the instruction."""

    operand_bit: int
    word_bit: int
    width: int

    def extract(self, word: int) -> int:
        """Its part of the operand's field."""
        return (word >> self.word_bit & ((1 << self.width) - 1)) << self.operand_bit

    def insert(self, field: int) -> int:
        """Its part of the instruction."""
        return (field >> self.operand_bit & ((1 << self.width) - 1)) << self.word_bit


@dataclass(frozen=True)
class Operand:
    """An operand: a register of a `file` (a, b, f or q), or an immediate; the other one is None."""

    name: str
    file: str | None
    immediate: Immediate | None
    pieces: tuple[Piece, ...]

    @property
    def value_rule(self) -> Immediate:
        """How an immediate's field becomes its value; TypeError for a register."""
        if self.immediate is None:
            raise TypeError(f"operand {self.name} is a register")
        return self.immediate

    @property
    def count(self) -> int:
        """Number of field values: 0 to count - 1."""
        return FILES[self.file] if self.file else 1 << self.value_rule.bits

    @property
    def relative(self) -> bool:
        """Whether it is an address that counts from the instruction."""
        return self.immediate is not None and self.immediate.relative

    def value(self, field: int, pc: int = 0) -> int:
        """Value of a field in an instruction at `pc`."""
        return self.immediate.value(field, pc) if self.immediate else field

    def field(self, word: int) -> int:
        """The operand's field in an instruction word."""
        return sum(piece.extract(word) for piece in self.pieces)

    def encoded(self, value: int, pc: int) -> int:
        """The bits that a value sets in the instruction; IsaError if the operand cannot hold it."""
        if self.immediate:
            try:
                field = self.immediate.field(value, pc)
            except IsaError as error:
                raise IsaError(f"{self.name}: {error}") from None
        elif 0 <= value < self.count:
            field = value
        else:
            raise IsaError(f"{self.name}: there is no {self.file}{value}")
        return sum(piece.insert(field) for piece in self.pieces)

    def text(self, value: int) -> str:
        """As assembly."""
        if self.file:
            return f"{self.file}{value}"
        return f"{value:#x}" if self.relative else str(value)


@dataclass(frozen=True)
class Instruction:
    """A line of the table. length: bytes; a word is one of this instruction if word & mask == match; uses, defs: names
    of operands or STATE (or a fixed register such as a8) with their stages."""

    mnemonic: str
    operands: tuple[Operand, ...]
    length: int
    mask: int
    match: int
    uses: tuple[tuple[str, int], ...]
    defs: tuple[tuple[str, int], ...]
    unit: str
    macs: int
    source: str
    pie: bool

    @property
    def identifier(self) -> str:
        """As a name in C."""
        return re.sub(r"\W", "_", self.mnemonic)

    @property
    def executed(self) -> bool:
        """Whether the core executes it; it stops at the others by their names."""
        return "not executed" not in self.source

    @property
    def silicon(self) -> bool:
        """Whether its effect was checked on a chip; the base ISA counts as checked."""
        return not self.pie or "silicon" in self.source or self.source == "OVL"

    def values(self, word: int, pc: int) -> tuple[int, ...]:
        """The operands' values in an instruction at `pc`."""
        return tuple(operand.value(operand.field(word), pc) for operand in self.operands)

    def encode(self, values: tuple[int, ...] | list[int], pc: int = 0) -> bytes:
        """The instruction's bytes; IsaError names an operand that does not fit."""
        if len(values) != len(self.operands):
            raise IsaError(f"{self.mnemonic} takes {len(self.operands)} operands, not {len(values)}")
        try:
            word = self.match + sum(o.encoded(value, pc) for o, value in zip(self.operands, values, strict=True))
        except IsaError as error:
            raise IsaError(f"{self.mnemonic}: {error}") from None
        return word.to_bytes(self.length, "little")

    def text(self, values: tuple[int, ...]) -> str:
        """As assembly."""
        if self.mnemonic in ("rsr", "wsr", "xsr"):
            names = {number: name for name, number in SPECIAL_REGISTERS.items()}
            return f"{self.mnemonic}.{names.get(values[1], values[1])} a{values[0]}"
        operands = (o.text(value) for o, value in zip(self.operands, values, strict=True))
        return f"{self.mnemonic} {', '.join(operands)}".strip()


def instruction_length(first_byte: int) -> int:
    """Length in bytes, from the first byte (low nibble 8..13: density option, 14 and 15: PIE's wide forms)."""
    nibble = first_byte & 15
    return 3 if nibble < 8 else 2 if nibble < 14 else 4


def parse_bits(text: str) -> tuple[int, int, int, dict[str, list[Piece]]]:
    """Length in bytes, mask, match and pieces of each operand of the second column."""
    tokens = []
    for word in text.split():
        token = re.fullmatch(r"([01]+)|(\w+)\[(\d+)(?::(\d+))?\]", word)
        if token is None:
            raise IsaError(f"{text}: {word} is neither bits nor NAME[HIGH:LOW]")
        tokens.append(token)
    widths = [len(t[1]) if t[1] else int(t[3]) - int(t[4] or t[3]) + 1 for t in tokens]
    bit = sum(widths)
    if bit not in (16, 24, 32):
        raise IsaError(f"{text}: {bit} bits")
    length, mask, match = bit // 8, 0, 0
    pieces: dict[str, list[Piece]] = {}
    for token, width in zip(tokens, widths, strict=True):
        bit -= width
        if token[1]:
            mask |= ((1 << width) - 1) << bit
            match |= int(token[1], 2) << bit
        else:
            pieces.setdefault(token[2], []).append(Piece(int(token[4] or token[3]), bit, width))
    return length, mask, match, pieces


def parse_stages(text: str) -> tuple[tuple[str, int], ...]:
    """Names and stages of one side of the third column."""
    return tuple((name, int(stage)) for name, stage in (item.split(":") for item in text.split()))


def parse_operand(text: str, pieces: dict[str, list[Piece]]) -> Operand:
    """An operand of the first column."""
    name, _, kind = text.partition(":")
    return Operand(name, None if kind else name[0], immediate(kind) if kind else None, tuple(pieces[name]))


def parse_line(line: str, pie: bool) -> Instruction:
    """A line of a table."""
    syntax, bits, stages, unit, macs, source = (column.strip() for column in line.split("|"))
    mnemonic, _, operands = syntax.partition(" ")
    length, mask, match, pieces = parse_bits(bits)
    names = [text.strip() for text in operands.split(",") if text.strip()]
    uses, _, defs = stages.partition(">")
    instruction = Instruction(
        mnemonic=mnemonic,
        operands=tuple(parse_operand(name, pieces) for name in names),
        length=length,
        mask=mask,
        match=match,
        uses=parse_stages(uses),
        defs=parse_stages(defs),
        unit=unit,
        macs=int(macs),
        source=source,
        pie=pie,
    )
    if unit not in UNITS or set(pieces) != {operand.name for operand in instruction.operands}:
        raise IsaError(f"{line}: unit or fields do not fit")
    return instruction


@functools.cache
def instructions() -> dict[str, Instruction]:
    """All instructions by mnemonic."""
    table = {}
    for path in TABLES:
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                instruction = parse_line(line, path.stem == "pie")
                table[instruction.mnemonic] = instruction
    return table


@functools.cache
def by_low_nibble() -> list[list[Instruction]]:
    """For each low nibble, the instructions that it can begin."""
    table = instructions().values()
    return [[i for i in table if not (i.match ^ nibble) & i.mask & 15] for nibble in range(16)]


@dataclass(frozen=True)
class Decoded:
    """An instruction in memory, with its operands' values."""

    instruction: Instruction
    values: tuple[int, ...]

    @property
    def text(self) -> str:
        """As assembly."""
        return self.instruction.text(self.values)


def decode(code: bytes, pc: int = 0) -> Decoded | None:
    """The instruction at the start of `code`, or None."""
    if not code or len(code) < instruction_length(code[0]):
        return None
    for instruction in by_low_nibble()[code[0] & 15]:
        word = int.from_bytes(code[: instruction.length], "little")
        if word & instruction.mask == instruction.match:
            return Decoded(instruction, instruction.values(word, pc))
    return None


def encode(mnemonic: str, *values: int, pc: int = 0) -> bytes:
    """Bytes of an instruction; IsaError if the core has no such instruction or operand."""
    if mnemonic not in instructions():
        raise IsaError(f"{mnemonic}: not an instruction of this core")
    return instructions()[mnemonic].encode(values, pc)
