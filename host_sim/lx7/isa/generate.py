# SPDX-License-Identifier: MIT
"""Files generated from the table: the C decoder's table, and PIE's mnemonics as macros for llvm-mc."""

from collections.abc import Iterable

from host_sim.lx7.isa import FILES, SPECIAL_REGISTERS, STATE, Immediate, Instruction, Operand, instructions

NOTE = "Generated from host_sim/lx7/isa; do not edit."


def braces(items: Iterable[str]) -> str:
    """Initialiser of an array."""
    return f"{{{', '.join(items)}}}"


def initialiser(**fields: object) -> str:
    """Initialiser of a struct."""
    return braces(f".{name} = {value}" for name, value in fields.items())


def c_operand(operand: Operand) -> str:
    """Initialiser of an `operand` of decode.c."""
    shape = Immediate("", 0) if operand.file else operand.value_rule
    form = f"REGISTER_{operand.file.upper()}" if operand.file else shape.form.upper()
    return initialiser(
        place=f"offsetof(lx7_insn, {operand.name})",
        form=form,
        bits=shape.bits,
        is_signed=str(shape.signed).lower(),
        scale=shape.scale,
        offset=shape.offset,
        piece_count=len(operand.pieces),
        pieces=braces(initialiser(to=p.operand_bit, **{"from": p.word_bit}, width=p.width) for p in operand.pieces),
    )


def c_stage(name: str, stage: int, instruction: Instruction) -> str:
    """Initialiser of a `stage` of decode.c: a fixed resource, or the register that an operand names."""
    operands = {operand.name for operand in instruction.operands}
    if name in operands:
        place = f"offsetof(lx7_insn, {name})"
        return initialiser(resource=f"LX7_RESOURCE_{name[0].upper()}", by_operand="true", place=place, stage=stage)
    resource = f"LX7_RESOURCE_{name}" if name in STATE else f"LX7_RESOURCE_{name[0].upper()} + {name[1:]}"
    return initialiser(resource=resource, stage=stage)


def c_row(instruction: Instruction) -> str:
    """Initialiser of an `instruction` of decode.c."""
    unit = "NONE" if instruction.unit == "-" else instruction.unit.upper()
    row = initialiser(
        execute=f"lx7_do_{instruction.identifier if instruction.executed else 'not_executed'}",
        mask=f"{instruction.mask:#010x}u",
        match=f"{instruction.match:#010x}u",
        length=instruction.length,
        unit=f"LX7_UNIT_{unit}",
        macs=instruction.macs,
        # Where nothing is executed, CPENABLE does not matter either.
        pie=str(instruction.pie and instruction.executed).lower(),
        operand_count=len(instruction.operands),
        operands=braces(map(c_operand, instruction.operands)),
        use_count=len(instruction.uses),
        uses=braces(c_stage(name, stage, instruction) for name, stage in instruction.uses),
        def_count=len(instruction.defs),
        defs=braces(c_stage(name, stage, instruction) for name, stage in instruction.defs),
    )
    return f"    {row},\n"


def c_header() -> str:
    """instructions.h: the table for decode.c, in the same order."""
    table = instructions().values()
    functions = [instruction.identifier for instruction in table if instruction.executed]
    declarations = "".join(f"LX7_DO({name});\n" for name in (*functions, "not_executed"))
    rows = "".join(map(c_row, table))
    return f"// {NOTE}\n{declarations}\nstatic const instruction instructions[] = {{\n{rows}}};\n"


def special_registers() -> str:
    """special_registers.h: their numbers."""
    rows = "".join(f"    LX7_SPECIAL_{name.upper()} = {number},\n" for name, number in SPECIAL_REGISTERS.items())
    return f"// {NOTE}\nenum {{\n{rows}}};\n"


def macro_operand(operand: Operand) -> tuple[list[str], str]:
    """Checks of a macro's operand, and its field as an expression."""
    if operand.file:
        return [f".Lpie_register {operand.file}, \\{operand.name}"], f".Lpie_{operand.file}_\\{operand.name}"
    shape = operand.value_rule
    values = sorted(shape.values())
    check = f'.Lpie_range "\\{operand.name}", {values[0]}, {values[-1]}, {shape.scale}'
    return [check], f"(((\\{operand.name}) - {shape.offset}) / {shape.scale})"


def macro(instruction: Instruction) -> str:
    """The macro of one mnemonic: checks the operands and emits the bytes in one directive."""
    lines, terms = [], [f"{instruction.match:#x}"]
    for operand in instruction.operands:
        checks, field = macro_operand(operand)
        lines += checks
        for piece in operand.pieces:
            mask = (1 << piece.width) - 1
            terms.append(f"((({field} >> {piece.operand_bit}) & {mask:#x}) << {piece.word_bit})")
    parameters = ", ".join(f"{operand.name}:req" for operand in instruction.operands)
    lines.append(f".set .Lpie_word, {' | '.join(terms)}")
    lines.append(".byte " + ", ".join(f"(.Lpie_word >> {8 * i}) & 255" for i in range(instruction.length)))
    body = "\n".join(lines)
    return f".macro {instruction.mnemonic} {parameters}\n{body}\n.endm\n"


PROLOGUE = """
.macro .Lpie_register kind, name
.ifndef .Lpie_\\kind\\()_\\name
.error "\\name is not one of the \\kind registers"
.endif
.endm
.macro .Lpie_range value, low, high, step
.if (\\value) < (\\low)
.error "immediate \\value is not in \\low\\()..\\high"
.elseif (\\value) > (\\high)
.error "immediate \\value is not in \\low\\()..\\high"
.elseif (\\value) & ((\\step) - 1)
.error "immediate \\value is not a multiple of \\step"
.endif
.endm
"""


def pie_macros() -> str:
    """pie.inc: a macro for each PIE mnemonic, for assemblers that do not know them."""
    names = [f".set .Lpie_{file}_{file}{n}, {n}\n" for file in "afq" for n in range(FILES[file])]
    macros = (macro(instruction) for instruction in instructions().values() if instruction.pie)
    return f"# {NOTE}\n{''.join(names)}.set .Lpie_a_sp, 1\n{PROLOGUE}{''.join(macros)}"
