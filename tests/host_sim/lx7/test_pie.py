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
    """A core with only its own memory."""
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
    """The core's registers in the oracle's form."""
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


PIE = [i for i in isa.instructions().values() if i.pie]


def test_both_know_the_same_instructions():
    table = {i.mnemonic for i in PIE if i.executed}
    assert table <= pie_oracle.MNEMONICS | {"wsr.sar"}
    assert pie_oracle.MNEMONICS - table <= {"wsr.sar", "rur.gpio_out", "wur.gpio_out"}


@pytest.mark.parametrize("mnemonic", sorted(i.mnemonic for i in PIE if i.executed))
def test_instruction(machine, mnemonic):
    rng = np.random.default_rng(zlib.crc32(mnemonic.encode()))
    for case in range(CASES):
        operands, state, memory = random_case(rng, mnemonic)
        difference = outcome(machine, mnemonic, operands, state, memory)
        assert not difference, f"case {case}: {operands}: {difference}"


# Cases where manual, assembler tables and emulators differ, as the simulator decides them (docs/simulator.md).

FIRST, SECOND, LOADED = (bytes(range(start, start + 16)) for start in (0x10, 0x40, 0x80))
DATA = 0x3FC90000


def run(machine: Machine, *lines: tuple, q: dict[int, bytes] | None = None, a: dict[int, int] | None = None):
    """Run instructions on registers of zeros but for those given, SAR_BYTE 5, memory of LOADED; returns registers."""
    machine.write(CODE, b"".join(isa.encode(*line) for line in lines))
    machine.write(DATA, LOADED)
    state = State(q=[(q or {}).get(n, bytes(16)) for n in range(8)], a=[(a or {}).get(n, 0) for n in range(16)])
    state.sar_byte = 5
    set_state(machine, state)
    machine.run(len(lines))
    return machine.registers


def taken(registers, number: int) -> bytes:
    """A q register."""
    return bytes(registers.q[number])


def test_sar_byte_and_fft_bit_width_have_four_bits(machine):
    for name in ("sar_byte", "fft_bit_width"):
        lines = [(f"wur.{name}", 2), (f"rur.{name}", 3)]
        for value, kept in ((0xFFFFFFFF, 15), (0x10, 0), (0x8000001A, 10)):
            assert run(machine, *lines, a={2: value}).ar[3] == kept


@pytest.mark.parametrize(
    ("mnemonic", "operands", "count", "result"),
    [
        ("ee.vrelu.s8", (1, 2, 3), 33, [-9, 5]),
        ("ee.vrelu.s8", (1, 2, 3), 64 + 32 + 2, [-5, 5]),
        ("ee.vprelu.s8", (1, 1, 4, 3), 33, [-9, 5]),
        ("ee.vrelu.s16", (1, 2, 3), 65, [-9, 5]),
        ("ee.vprelu.s16", (1, 1, 4, 3), 64 + 2, [-5, 5]),
    ],
)
def test_relu_shifts_by_five_bits_for_bytes_and_six_for_halfwords(machine, mnemonic, operands, count, result):
    dtype = np.dtype(f"i{int(mnemonic.rpartition('.s')[2]) // 8}")
    lanes, slopes = (np.resize(np.array(v, dtype), 16 // dtype.itemsize).tobytes() for v in ([-6, 5], [3]))
    registers = run(machine, (mnemonic, *operands), q={1: lanes, 4: slopes}, a={2: 3, 3: count})
    assert np.frombuffer(taken(registers, 1), dtype)[:2].tolist() == result


@pytest.mark.parametrize(("mnemonic", "operands"), [("ee.vrelu.s16", (1, 2, 3)), ("ee.vprelu.s16", (1, 1, 4, 3))])
def test_relu_of_halfwords_stops_at_shifts_that_nobody_measured(machine, mnemonic, operands):
    for count in (32, 63, 64 + 33):
        with pytest.raises(
            MachineError, match=r"not settled by a manual or a chip: vrelu or vprelu with a shift above 31"
        ):
            run(machine, (mnemonic, *operands), q={1: FIRST}, a={3: count})


def test_sources_are_read_before_anything_is_written(machine):
    """qs0 of .qup and src.q forms gets the window of the old qs0 and qs1, even if other operands name them."""
    window, rotated = FIRST[5:] + SECOND[:5], FIRST[5:] + FIRST[:5]
    q, a = {1: FIRST, 2: SECOND}, {4: DATA}
    qup = "ee.vmulas.s8.accx.ld.ip.qup"
    registers = run(machine, (qup, 2, 4, 16, 2, 2, 1, 2), q=q, a=a)  # the load goes to qs1
    assert (taken(registers, 1), taken(registers, 2)) == (window, LOADED)
    assert registers.accx == sum(value * value for value in SECOND)
    registers = run(machine, (qup, 3, 4, 16, 1, 1, 1, 1), q=q, a=a)  # qs0 and qs1 are one
    assert (taken(registers, 1), taken(registers, 3)) == (rotated, LOADED)
    assert registers.accx == sum(value * value for value in FIRST)
    registers = run(machine, ("ee.src.q.ld.ip", 2, 4, 16, 1, 2), q=q, a=a)
    assert (taken(registers, 1), taken(registers, 2)) == (window, LOADED)
    registers = run(machine, ("ee.src.q.qup", 2, 1, 2), q=q)
    assert (taken(registers, 1), taken(registers, 2)) == (SECOND, window)
    registers = run(machine, ("ee.src.q.qup", 3, 1, 1), q=q)
    assert (taken(registers, 1), taken(registers, 3)) == (FIRST, rotated)
    for destination in (1, 2):
        registers = run(machine, ("ee.src.q", destination, 1, 2), q=q)
        assert [taken(registers, n) for n in (1, 2)] == [window if n == destination else q[n] for n in (1, 2)]


@pytest.mark.parametrize(
    "line",
    [
        ("ee.vmulas.s8.accx.ld.ip.qup", 1, 4, 16, 2, 2, 1, 2),
        ("ee.src.q.ld.ip", 1, 4, 16, 1, 2),
        ("ee.src.q.qup", 1, 1, 2),
    ],
)
def test_two_destinations_in_one_register_stop(machine, line):
    with pytest.raises(MachineError, match=r"not settled by a manual or a chip: .*two destinations in one register"):
        run(machine, line, q={1: FIRST, 2: SECOND}, a={4: DATA})


@pytest.mark.parametrize("instruction", [i for i in PIE if not i.executed], ids=lambda i: i.mnemonic)
def test_what_has_an_encoding_alone_stops_by_its_name(machine, instruction):
    """With CPENABLE set or clear, and without changing anything."""
    fields = [(3 * k + 1) % operand.count for k, operand in enumerate(instruction.operands)]
    values = [o.value(field) for o, field in zip(instruction.operands, fields, strict=True)]
    for cpenable in (0xFF, 0):
        machine.write(CODE, instruction.encode(values))
        set_state(machine, State(q=[bytes([n]) * 16 for n in range(8)], a=[DATA] * 16))
        registers = machine.registers
        registers.cpenable = cpenable
        machine.registers = registers
        before = get_state(machine)
        with pytest.raises(MachineError) as error:
            machine.run(1)
        assert str(error.value).startswith(f"{instruction.mnemonic} is not simulated; pc {CODE:#010x}: ")
        assert str(error.value).endswith(instruction.text(values))
        assert not before.diff(get_state(machine)) and machine.registers.pc == CODE
