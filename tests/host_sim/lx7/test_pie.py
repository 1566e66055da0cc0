# SPDX-License-Identifier: MIT
"""Every PIE instruction of the core against the second implementation, as machine code, on random and extreme state."""

import zlib

import numpy as np
import pytest

from host_sim.lx7 import isa
from host_sim.lx7.machine import CODE_SRAM, Machine, MachineError
from tests.host_sim.lx7 import pie_oracle
from tests.host_sim.lx7.pie_oracle import State, Undefined, random_case

CASES = 60
CODE = CODE_SRAM[0]
LANE = (1 << 20) - 1


@pytest.fixture(scope="module")
def machine() -> Machine:
    """A core with nothing but its own memory."""
    return Machine()


def set_state(machine: Machine, state: State) -> None:
    """Put the oracle's registers into the core."""
    registers = machine.registers
    registers.windowbase, registers.windowstart, registers.ps = 0, 1, 1 << 18
    registers.pc, registers.cpenable = CODE, 0xFF
    registers.ar[:16], registers.f = state.a, state.f
    registers.q = np.array([list(value) for value in state.q], np.uint8)
    lanes = [(half >> 20 * n) & LANE for half in (state.qacc_l, state.qacc_h) for n in range(8)]
    registers.qacc = [lane - (lane >> 19 << 20) for lane in lanes]
    registers.accx, registers.sar, registers.sar_byte = state.accx, state.sar, state.sar_byte
    registers.fft_bit_width = state.fft_bit_width
    registers.ua_state = list(state.ua_state.to_bytes(16, "little"))
    machine.registers = registers


def get_state(machine: Machine) -> State:
    """The core's registers as the oracle has them."""
    registers = machine.registers
    halves = [sum((int(lane) & LANE) << 20 * n for n, lane in enumerate(registers.qacc[i : i + 8])) for i in (0, 8)]
    return State(
        q=[bytes(value) for value in registers.q],
        qacc_l=halves[0],
        qacc_h=halves[1],
        accx=registers.accx,
        sar=registers.sar,
        sar_byte=registers.sar_byte,
        ua_state=int.from_bytes(bytes(registers.ua_state), "little"),
        fft_bit_width=registers.fft_bit_width,
        a=[int(value) for value in registers.ar[:16]],
        f=[int(value) for value in registers.f],
    )


def outcome(machine: Machine, mnemonic: str, operands: dict[str, int], state: State, memory) -> str:
    """Run one case on both; returns what differs, or an empty string."""
    code = isa.encode(mnemonic, *(operands[name] for name in pie_oracle.OPERANDS[mnemonic]))
    machine.write(CODE, code)
    machine.write(memory.base, bytes(memory.data))
    set_state(machine, state)
    expected, expected_memory = state.copy(), memory.copy()
    try:
        pie_oracle.execute(mnemonic, operands, expected, expected_memory)
        undefined = ""
    except Undefined as error:
        undefined = str(error)
    try:
        machine.run(1)
    except MachineError as error:
        if undefined and "not settled by a manual or a chip" in str(error):
            memory_now = pie_oracle.Memory(memory.base, bytearray(machine.read(memory.base, len(memory.data))))
            return state.diff(get_state(machine)) or memory.diff(memory_now)
        return f"the core stops: {error}; the oracle: {undefined or 'does not'}"
    if undefined:
        return f"the core goes on, the oracle stops: {undefined}"
    memory_now = pie_oracle.Memory(memory.base, bytearray(machine.read(memory.base, len(memory.data))))
    return get_state(machine).diff(expected) or memory_now.diff(expected_memory)


def test_both_know_the_same_instructions():
    table = {i.mnemonic: tuple(o.name for o in i.operands) for i in isa.instructions().values() if i.pie}
    assert set(table) <= pie_oracle.MNEMONICS | {"wsr.sar"}
    assert pie_oracle.MNEMONICS - set(table) <= {"wsr.sar", "rur.gpio_out", "wur.gpio_out"}


@pytest.mark.parametrize("mnemonic", sorted(i.mnemonic for i in isa.instructions().values() if i.pie))
def test_instruction(machine, mnemonic):
    rng = np.random.default_rng(zlib.crc32(mnemonic.encode()))
    for case in range(CASES):
        operands, state, memory = random_case(rng, mnemonic)
        difference = outcome(machine, mnemonic, operands, state, memory)
        assert not difference, f"case {case}: {operands}: {difference}"
