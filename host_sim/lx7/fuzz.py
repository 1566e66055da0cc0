# SPDX-License-Identifier: MIT
"""Fuzzing: random code, registers and ELF files must not crash the host process.

`just lx7 fuzz --cases N` runs under AddressSanitizer and UndefinedBehaviorSanitizer; each case is one random program or
file. A case passes if it ends normally, or with a MachineError or ProgramError.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host_sim.lx7 import isa
from host_sim.lx7.machine import CODE_SRAM, DATA_SRAM, EXTERNAL_DATA, HALT, Machine, MachineError, library
from host_sim.lx7.program import Program, ProgramError

CODE_BYTES = 192
STEPS = 64
SKIPS = 16
REUSE = 500  # cases for which one core serves
INTERESTING = (0, 1, 15, 16, 31, 32, 63, 64, 255, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
ADDRESSES = (
    DATA_SRAM[0],
    DATA_SRAM[0] + 4095,
    DATA_SRAM[1] - 8,
    CODE_SRAM[0],
    CODE_SRAM[1] - 2,
    EXTERNAL_DATA[0],
    EXTERNAL_DATA[0] + 8190,
    HALT,
    0xFFFFFFF0,
)


@dataclass
class Outcomes:
    """Counts of cases by outcome; instructions: executed by random programs."""

    instructions: int = 0
    ended: int = 0
    stopped: int = 0
    refused: int = 0
    loaded: int = 0


def random_code(rng: random.Random) -> bytes:
    """Random bytes, or instructions of the table with random fields."""
    if rng.random() < 0.25:
        return rng.randbytes(CODE_BYTES)
    table, code = list(isa.instructions().values()), b""
    while len(code) < CODE_BYTES:
        instruction = rng.choice(table)
        word = rng.getrandbits(8 * instruction.length) & ~instruction.mask | instruction.match
        code += word.to_bytes(instruction.length, "little")
    return code


def random_word(rng: random.Random) -> int:
    """A register's value: random, an edge case, or an address in or near memory."""
    kind = rng.random()
    if kind < 0.5:
        return DATA_SRAM[0] + 16 * rng.randrange(1, 4096)
    if kind < 0.7:
        return (rng.choice(ADDRESSES) + rng.randrange(-32, 8192)) & 0xFFFFFFFF
    return rng.choice(INTERESTING) if kind < 0.85 else rng.getrandbits(32)


def new_machine() -> Machine:
    """A core with some of each kind of memory."""
    machine = Machine()
    machine.map(EXTERNAL_DATA[0], bytearray(8192), "psram")
    machine.map(EXTERNAL_DATA[0] + 8192, bytes(5000), "flash", writable=False)
    return machine


def randomize(machine: Machine, rng: random.Random) -> None:
    """Random registers; pc mostly in the random code."""
    registers = machine.registers
    registers.ar = [random_word(rng) for _ in range(64)]
    registers.f = [random_word(rng) for _ in range(16)]
    registers.q[:] = np.frombuffer(rng.randbytes(128), np.uint8).reshape(8, 16)
    registers.ua_state = list(rng.randbytes(16))
    registers.qacc = [rng.randrange(-(1 << 19), 1 << 19) for _ in range(16)]
    for name in (
        "windowbase",
        "windowstart",
        "ps",
        "sar",
        "lcount",
        "br",
        "fcr",
        "fsr",
        "sar_byte",
        "cpenable",
        "epc1",
    ):
        setattr(registers, name, random_word(rng) if rng.random() < 0.5 else 0xFF)
    registers.ps = rng.choice((1 << 18, 1 << 18, registers.ps))
    registers.cpenable = rng.choice((0xFF, 0xFF, registers.cpenable))
    registers.lbeg, registers.lend = CODE_SRAM[0] + rng.randrange(64), CODE_SRAM[0] + rng.randrange(CODE_BYTES)
    registers.vecbase = rng.choice((0, CODE_SRAM[0]))
    registers.accx = rng.randrange(-(1 << 39), 1 << 39)
    registers.pc = CODE_SRAM[0] if rng.random() < 0.95 else random_word(rng)
    machine.registers = registers


def run_code(machine: Machine, rng: random.Random, outcomes: Outcomes) -> None:
    """Run one random program on random registers, skipping instructions that stop it."""
    machine.write(CODE_SRAM[0], random_code(rng))
    randomize(machine, rng)
    outcomes.instructions -= machine.totals.instructions
    run_on(machine, rng, outcomes)
    outcomes.instructions += machine.totals.instructions


def run_on(machine: Machine, rng: random.Random, outcomes: Outcomes) -> None:
    """Run, skipping at most SKIPS instructions that stop the program."""
    for _ in range(SKIPS):
        stop = machine.advance(STEPS)
        if stop.reason in (library.LX7_LIMIT, library.LX7_RETURNED):
            outcomes.ended += 1
            return
        registers = machine.registers
        inside = CODE_SRAM[0] <= registers.pc < CODE_SRAM[0] + CODE_BYTES - 8
        registers.pc = registers.pc + 3 if inside else CODE_SRAM[0] + rng.randrange(CODE_BYTES)
        machine.registers = registers
    try:
        machine.run(STEPS)
    except MachineError as error:
        str(error)
    outcomes.stopped += 1


def damaged(rng: random.Random, seed_file: bytes) -> bytes:
    """An ELF file with random changes, or the start of an ELF header and random bytes."""
    if rng.random() < 0.2:
        return seed_file[: rng.randrange(64)] + rng.randbytes(rng.randrange(512))
    data = bytearray(seed_file)
    for _ in range(rng.randrange(1, 12)):
        limit = 256 if rng.random() < 0.6 else len(data)
        data[rng.randrange(min(limit, len(data)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(data[: rng.randrange(len(data))]) if rng.random() < 0.2 else bytes(data)


def load_file(path: Path, rng: random.Random, seed_file: bytes, outcomes: Outcomes) -> None:
    """One damaged ELF file: refused, or loaded and run."""
    path.write_bytes(damaged(rng, seed_file))
    try:
        program = Program.load(path)
    except ProgramError:
        outcomes.refused += 1
        return
    outcomes.loaded += 1
    machine = Machine()
    try:
        machine.load(program)
        machine.run(STEPS)
        machine.place(machine.registers.pc)
    except MachineError as error:
        str(error)


def fuzz(
    cases: int, seed: int, elf: Path, folder: Path, progress: Callable[[int], object] = lambda done: None
) -> Outcomes:
    """Run `cases` cases, one in 50 of them an ELF file made from `elf`; files are written in `folder`."""
    rng, outcomes, seed_file = random.Random(seed), Outcomes(), elf.read_bytes()
    for case in range(cases):
        if case % REUSE == 0:
            machine = new_machine()
            progress(case)
        if case % 50 == 49:
            load_file(folder / "fuzz.elf", rng, seed_file, outcomes)
        else:
            run_code(machine, rng, outcomes)
    return outcomes
