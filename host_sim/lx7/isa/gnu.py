# SPDX-License-Identifier: MIT
"""What Espressif's GNU as takes of all that the table can encode: what it refuses, and samples that it takes.

Its configuration for the chip has a list of destinations for each opcode, registers of booleans in groups of 4 and 8,
and a mnemonic for each special register; the rest of its rules are in the assembler.
"""

from collections.abc import Iterator, Sequence

from host_sim.lx7.isa import SPECIAL_REGISTERS, Instruction, IsaError

# Such an instruction reads the first boolean of a group of this size.
GROUPS = {"any4": 4, "all4": 4, "any8": 8, "all8": 8}
# Special registers that can be read alone.
READ_ONLY = {"prid"}
SPECIAL = ("rsr", "wsr", "xsr")
TURNS = 64


def refusal(instruction: Instruction, values: Sequence[int]) -> str | None:
    """Why GNU as refuses an instruction with these operands, in its words; None if it takes them."""
    mnemonic = instruction.mnemonic
    by_name = {operand.name: value for operand, value in zip(instruction.operands, values, strict=True)}
    if mnemonic in GROUPS and by_name["bs"] % GROUPS[mnemonic]:
        return "register number out of range"
    if mnemonic == "extui" and by_name["imm"] + by_name["imm2"] > 32:
        return "immediate operands sum to greater than 32"
    if mnemonic in SPECIAL and by_name["imm"] not in special_registers(mnemonic):
        return "unknown opcode or format name"
    written = [(o.file, by_name[o.name]) for o in instruction.operands if o.file and o.name in dict(instruction.defs)]
    if len(set(written)) < len(written):
        return "multiple writes to the same register"
    return None


def special_registers(mnemonic: str) -> list[int]:
    """Numbers of the special registers that rsr, wsr or xsr has."""
    return [number for name, number in SPECIAL_REGISTERS.items() if mnemonic == "rsr" or name not in READ_ONLY]


def choices(instruction: Instruction) -> list[Sequence[int]]:
    """The fields that each operand can have by itself."""
    fields: list[Sequence[int]] = [range(operand.count) for operand in instruction.operands]
    if instruction.mnemonic in GROUPS:
        fields[1] = fields[1][:: GROUPS[instruction.mnemonic]]
    if instruction.mnemonic in SPECIAL:
        fields[1] = special_registers(instruction.mnemonic)
    return fields


def wishes(fields: list[Sequence[int]]) -> Iterator[tuple[list[int], int | None]]:
    """Places in `fields` to try, and the operand that has to keep its own: all first, all last, two mixtures; then
    each operand with each of its bits alone, or with each of a few fields."""
    for start, step in ((0, 0), (-1, 0), (3, 5), (6, 7)):
        yield [start + step * k for k in range(len(fields))], None
    for kept, of_operand in enumerate(fields):
        places: Sequence[int] = range(len(of_operand))
        if isinstance(of_operand, range) and of_operand.step == 1:
            places = [1 << bit for bit in range((len(of_operand) - 1).bit_length())]
        for place in places:
            yield [place if k == kept else k for k in range(len(fields))], kept


def samples(instruction: Instruction) -> list[tuple[int, ...]]:
    """Operands' values that GNU as takes, each bit of each operand set in some and clear in others.

    For operands that are addresses there are none, as what they encode depends on the place.
    """
    if any(operand.relative for operand in instruction.operands):
        return []
    fields = choices(instruction)
    taken: dict[tuple[int, ...], None] = {}
    for wish, kept in wishes(fields):
        # The others move on, each at its own pace, until GNU as takes them together.
        for turn in range(TURNS):
            places = [place + (turn * (k + 1) if k != kept else 0) for k, place in enumerate(wish)]
            picked = [of_operand[place % len(of_operand)] for of_operand, place in zip(fields, places, strict=True)]
            values = tuple(o.value(field) for o, field in zip(instruction.operands, picked, strict=True))
            if not refusal(instruction, values):
                taken[values] = None
                break
        else:
            raise IsaError(f"{instruction.mnemonic}: found no operands that GNU as takes, of {wish}")
    return list(taken)
