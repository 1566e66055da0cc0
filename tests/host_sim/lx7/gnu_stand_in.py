# SPDX-License-Identifier: MIT
"""A stand-in for Espressif's GNU as where there is none: llvm-mc and our macros, with the refusals of the real one.

    gnu_stand_in.py --llvm-mc PROGRAM --macros FILE [--wrong MNEMONIC ...] [--strict MNEMONIC ...] -o OUTPUT SOURCE

Its rules are its own: they were found with GNU as 2.40 in Espressif's configuration of the chip, and nothing here knows
host_sim/lx7. As GNU as does, it names every line that it refuses and then makes no object. --wrong assembles a mnemonic
to zeros, --strict refuses it with any operands: a table that is wrong, and an assembler with a rule more.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# Positions of written operands, for instructions that write several registers of one file.
DESTINATIONS = (
    (r"ee\.v(adds|subs|max|min)\.s(8|16|32)\.ld\.incp|ee\.vmul\.[su](8|16)\.ld\.incp|ee\.cmul\.s16\.ld\.incp", (0, 2)),
    (r"ee\.vmulas\..*\.qup|ee\.src\.q\.ld\.[ix]p", (0, -2)),
    (r"ee\.src\.q\.qup|ee\.v(un)?zip\.(8|16|32)|ee\.s[lr]c(i|xxp)\.2q|ee\.vldhbc\.16\.incp", (0, 1)),
    (r"ee\.ldf\.64\.[ix]p|ee\.fft\.r2bf\.s16", (0, 1)),
    (r"ee\.ldf\.128\.[ix]p", (0, 1, 2, 3)),
    (r"ee\.fft\.cmul\.s16\.ld\.xp", (0, 3)),
    (r"ee\.fft\.ams\.s16\.ld\..*", (0, 2, 3)),
    (r"ee\.fft\.ams\.s16\.st\.incp", (2, 3)),
)
# Special registers of the simulated core: number, and the instructions that accept it.
SPECIAL = {
    "lbeg": 0, "lend": 1, "lcount": 2, "sar": 3, "br": 4, "scompare1": 12, "windowbase": 72, "windowstart": 73,
    "epc1": 177, "depc": 192, "excsave1": 209, "cpenable": 224, "ps": 230, "vecbase": 231, "exccause": 232,
    "ccount": 234, "excvaddr": 238,
}  # fmt: skip
READ_ONLY = {"prid": 235}
ACCESS = {"rsr": 0x030000, "wsr": 0x130000, "xsr": 0x610000}
# Instructions that llvm-mc lacks or refuses, as 24-bit words of the ISA manual: opcode, and positions of operands.
WORDS = {
    "ssa8b": (0x403000, (8,)), "l32ai": (0x00B002, (4, 8, 16)), "s32ri": (0x00F002, (4, 8, 16)),
    "simcall": (0x005100, ()), "rsil": (0x006000, (4, 8)), "break": (0x004000, (8, 4)),
}  # fmt: skip


def operands_of(text: str) -> list[str]:
    """Operands of a line."""
    return [part.strip() for part in text.split(",") if part.strip()]


def number(operand: str) -> int:
    """The number of a register or an immediate."""
    return int(operand.lstrip("abfq"))


def refusal(mnemonic: str, operands: list[str]) -> str | None:
    """GNU as's error for a line that it refuses."""
    if mnemonic in ("any4", "all4", "any8", "all8") and number(operands[1]) % int(mnemonic[-1]) != 0:
        return "register number out of range"
    if mnemonic == "extui" and number(operands[2]) + number(operands[3]) > 32:
        return "immediate operands sum to greater than 32"
    if access := re.fullmatch(r"(rsr|wsr|xsr)\.(\w+)", mnemonic):
        known = SPECIAL | READ_ONLY if access[1] == "rsr" else SPECIAL
        if access[2] not in known:
            return f"unknown opcode or format name '{mnemonic}'"
    for pattern, places in DESTINATIONS:
        written = [operands[place] for place in places] if re.fullmatch(pattern, mnemonic) else []
        if len(set(written)) != len(written):
            return "multiple writes to the same register"
    return None


def for_llvm(mnemonic: str, operands: list[str], line: str) -> str:
    """The line in a form that llvm-mc accepts."""
    word = None
    if mnemonic[:4] in ("rsr.", "wsr.", "xsr."):
        word = ACCESS[mnemonic[:3]] | (SPECIAL | READ_ONLY)[mnemonic[4:]] << 8 | number(operands[0]) << 4
    elif mnemonic == "break.n":
        return f".short {0xF02D | number(operands[0]) << 8:#x}"
    elif mnemonic == "slli" and number(operands[2]) == 32:
        word = 0x010000 | number(operands[0]) << 12 | number(operands[1]) << 8
    elif mnemonic in WORDS:
        word, places = WORDS[mnemonic]
        scale = 4 if mnemonic in ("l32ai", "s32ri") else 1
        numbers = [number(operand) for operand in operands]
        numbers = [*numbers[:-1], numbers[-1] // scale] if numbers else []
        word |= sum(value << place for value, place in zip(numbers, places, strict=True))
    return line if word is None else ".byte " + ", ".join(str(byte) for byte in word.to_bytes(3, "little"))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--llvm-mc", required=True)
    parser.add_argument("--mattr", default="")
    parser.add_argument("--macros", type=Path, required=True)
    parser.add_argument("--wrong", nargs="*", default=[])
    parser.add_argument("--strict", nargs="*", default=[])
    parser.add_argument("-o", dest="output", required=True)
    parser.add_argument("source", type=Path)
    arguments = parser.parse_args()
    errors, lines = [], [arguments.macros.read_text(), ".text"]
    for place, line in enumerate(arguments.source.read_text().splitlines(), 1):
        if not line.strip() or line.startswith((".begin", ".end")):
            continue
        mnemonic, _, rest = line.partition(" ")
        operands = operands_of(rest)
        reason = "never" if mnemonic in arguments.strict else refusal(mnemonic, operands)
        if reason:
            errors.append(f"{arguments.source}:{place}: Error: {reason}")
        elif mnemonic in arguments.wrong:
            lines.append(".byte 0, 0" if mnemonic.endswith(".n") else ".byte 0, 0, 0")
        else:
            lines.append(for_llvm(mnemonic, operands, line))
    if errors:
        print(f"{arguments.source}: Assembler messages:", *errors, sep="\n", file=sys.stderr)
        return 1
    with tempfile.NamedTemporaryFile("w", suffix=".s") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        command = [arguments.llvm_mc, "-triple=xtensa", f"-mattr={arguments.mattr}", "-filetype=obj", file.name]
        return subprocess.run([*command, "-o", arguments.output]).returncode


if __name__ == "__main__":
    sys.exit(main())
