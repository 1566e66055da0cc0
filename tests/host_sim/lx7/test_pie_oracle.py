# SPDX-License-Identifier: MIT
"""The second implementation of PIE compared with values printed in the written reference or computed by hand."""

from itertools import combinations

import numpy as np
import pytest

from tests.host_sim.lx7 import pie_oracle
from tests.host_sim.lx7.pie_oracle import (
    IMMEDIATES,
    MNEMONICS,
    OPERANDS,
    Memory,
    State,
    Undefined,
    choices,
    destinations,
    execute,
    random_case,
)

BASE = 0x1000
S20 = (-0x80000, 0x7FFFF)
S40 = (-(2**39), 2**39 - 1)


def memory(data=None):
    """64 bytes that count up, or the given ones."""
    return Memory(BASE, bytearray(range(64) if data is None else data))


def run(line, state, ram=None):
    """Executes one line of assembly; returns the state."""
    mnemonic, _, rest = line.partition(" ")
    texts = [text.strip() for text in rest.split(",")] if rest else []
    values = [int(text.lstrip("qaf"), 0) for text in texts]
    execute(mnemonic, dict(zip(OPERANDS[mnemonic], values, strict=True)), state, ram or memory())
    return state


def q(values, bits):
    """A q register from its lanes; one value fills it."""
    values = values if isinstance(values, list) else [values] * (128 // bits)
    return np.array([value % 2**bits for value in values], f"<u{bits // 8}").tobytes()


def with_q(*registers, **others):
    """A state whose first q registers are given."""
    return State(q=[*registers, *[bytes(16)] * (8 - len(registers))], **others)


def with_a(*values, **others):
    """A state whose first address registers are given."""
    return State(a=[*values, *[0] * (16 - len(values))], **others)


def lane(state, register, bits, signed=True):
    """Lanes of a q register."""
    return pie_oracle.lanes(state.q[register], bits, signed)


def filled(value, bits):
    """A state whose QACC lanes hold the value, and whose q0, q1 and q2 hold 100, 1 and -1 in every lane."""
    width = {20: 8, 40: 16}[bits]
    state = with_q(q(100, width), q(1, width), q(-1, width))
    state.set_qacc_lanes([value] * (320 // bits), bits)
    return state


# The set


def test_every_opcode_but_the_17_left_out():
    """The reference counts 217 ee.* opcodes; CMUL has 3, FFT 9, BITREV 1 and GPIO 4."""
    assert sum(mnemonic.startswith("ee.") for mnemonic in MNEMONICS) == 217 - 17
    others = {mnemonic for mnemonic in MNEMONICS if not mnemonic.startswith("ee.")}
    assert {"ld.qr", "st.qr", "mv.qr", "wsr.sar"} < others
    assert sum(mnemonic.startswith("rur.") for mnemonic in others) == 18
    assert sum(mnemonic.startswith("wur.") for mnemonic in others) == 18


@pytest.mark.parametrize(
    "mnemonic, low, high, step",
    [
        ("ee.vld.128.ip", -2048, 2032, 16),
        ("ee.vmulas.s8.qacc.ld.ip", -512, 496, 16),
        ("ee.vld.h.64.ip", -1024, 1016, 8),
        ("ee.st.accx.ip", -1024, 1016, 8),
        ("ee.st.qacc_h.h.32.ip", -512, 508, 4),
        ("ee.vldbc.16.ip", 0, 254, 2),
        ("ee.vldbc.8.ip", 0, 127, 1),
        ("ee.ldf.128.ip", -128, 112, 16),
    ],
)
def test_immediates(mnemonic, low, high, step):
    values = IMMEDIATES[mnemonic]
    assert (values[0], values[-1], values.step) == (low, high, step)


# Addresses


@pytest.mark.parametrize(
    "line, start, count, after",
    [
        ("ee.vld.128.ip q3, a1, -16", 16, 16, BASE + 31 - 16),
        ("ee.vld.128.xp q3, a1, a2", 16, 16, BASE + 31 + 3),
        ("ee.vld.128.xp q3, a1, a1", 16, 16, 2 * (BASE + 31)),
        ("ld.qr q3, a1, 16", 32, 16, BASE + 31),
    ],
)
def test_a_load_masks_the_address_and_steps_the_unmasked_register(line, start, count, after):
    state = run(line, with_a(0, BASE + 31, 3))
    assert state.q[3] == bytes(range(start, start + count))
    assert state.a[1] == after


def test_address_registers_wrap():
    assert run("ee.slcxxp.2q q0, q1, a1, a2", with_a(0, 0xFFFFFFF0, 0x20)).a[1] == 0x10


@pytest.mark.parametrize(
    "line, first, step",
    [
        ("ee.vldbc.8.ip q0, a1, 5", [23] * 16, 5),
        ("ee.vldbc.16.ip q0, a1, 6", [22, 23] * 8, 6),
        ("ee.vldbc.32.ip q0, a1, -4", [20, 21, 22, 23] * 4, -4),
        ("ee.vldbc.16 q0, a1", [22, 23] * 8, 0),
        ("ee.vldhbc.16.incp q0, q1, a1", [16, 17, 16, 17, 18, 19, 18, 19, 20, 21, 20, 21, 22, 23, 22, 23], 16),
    ],
)
def test_broadcasts(line, first, step):
    state = run(line, with_a(0, BASE + 23))
    assert list(state.q[0]) == first
    assert state.a[1] == BASE + 23 + step
    if "vldhbc" in line:
        assert list(state.q[1]) == [24, 25, 24, 25, 26, 27, 26, 27, 28, 29, 28, 29, 30, 31, 30, 31]


def test_half_loads_keep_the_other_half_and_mask_to_8():
    low = run("ee.vld.l.64.ip q0, a1, 8", with_a(0, BASE + 15, q=[q(-1, 8)] * 8))
    assert low.q[0] == bytes(range(8, 16)) + b"\xff" * 8
    assert low.a[1] == BASE + 23
    high = run("ee.vld.h.64.xp q0, a1, a2", with_a(0, BASE + 15, q=[q(-1, 8)] * 8))
    assert high.q[0] == b"\xff" * 8 + bytes(range(8, 16))


def test_half_stores():
    ram = memory()
    state = with_q(bytes(range(100, 116)), a=[0, BASE + 7] + [0] * 14)
    run("ee.vst.h.64.ip q0, a1, 8", state, ram)
    run("ee.vst.l.64.ip q0, a1, 8", state, ram)
    assert ram.data[:16] == bytes([*range(108, 116), *range(100, 108)])


def test_float_loads_and_stores_have_the_lowest_word_in_register_0():
    state = run("ee.ldf.128.ip f9, f8, f7, f6, a1, 16", with_a(0, BASE + 5))
    assert state.f[6:10] == [0x03020100, 0x07060504, 0x0B0A0908, 0x0F0E0D0C]
    assert state.a[1] == BASE + 21
    run("ee.ldf.64.xp f1, f0, a1, a2", state)
    assert state.f[:2] == [0x13121110, 0x17161514]
    ram = memory(bytes(32))
    run("ee.stf.64.ip f9, f8, a1, -8", state, ram)
    run("ee.stf.128.xp f6, f7, f8, f9, a1, a0", state, ram)
    assert ram.data == bytes([12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3, *range(8, 16), *[0] * 8])


# LDXQ, STXQ


def test_indexed_access_is_at_as_plus_four_times_the_halfword():
    """Not 4 bytes lower, as in QEMU; misaligned addresses are masked."""
    state = with_q(q(-1, 8), q([0, 0, 0, 0, 0, 3, 0, 0], 16), a=[0, BASE + 6] + [0] * 14)
    run("ee.ldxq.32 q0, q1, a1, 2, 5", state)
    assert lane(state, 0, 32, False) == [0xFFFFFFFF, 0xFFFFFFFF, 0x13121110, 0xFFFFFFFF]
    assert state.a[1] == BASE + 6
    ram = memory()
    run("ee.stxq.32 q0, q1, a1, 3, 4", state, ram)
    assert ram.data[:12] == bytes([0, 1, 2, 3, 255, 255, 255, 255, 8, 9, 10, 11])


@pytest.mark.parametrize("mnemonic", ["ee.ldxq.32", "ee.stxq.32"])
def test_a_negative_index_is_open(mnemonic):
    with pytest.raises(Undefined, match="index -1"):
        run(f"{mnemonic} q0, q1, a1, 0, 7", with_q(bytes(16), q([0] * 7 + [-1], 16), a=[BASE + 32] * 16))


# Accumulators


def test_s8_qacc_clamps_at_both_rails():
    for start, line, end in (
        (S20[1] - 99, "q0, q1", S20[1]),
        (S20[0] + 99, "q0, q2", S20[0]),
        (S20[1] - 100, "q0, q1", S20[1]),
        (S20[0] + 101, "q0, q2", S20[0] + 1),
        (S20[0], "q0, q1", S20[0] + 100),
    ):
        state = run(f"ee.vmulas.s8.qacc {line}", filled(start, 20))
        assert state.qacc_lanes(20) == [end] * 16, (hex(start), line)


def test_u8_qacc_clamps_after_17_products():
    """Silicon: 0xfffff, QEMU: 0x6f208."""
    state = with_q(q(255, 8))
    for _ in range(16):
        run("ee.vmulas.u8.qacc q0, q0", state)
    assert state.qacc_lanes(20, False) == [16 * 65025] * 16
    assert run("ee.vmulas.u8.qacc q0, q0", state).qacc_lanes(20, False) == [0xFFFFF] * 16


@pytest.mark.parametrize("x, y, largest", [(-128, -1, 4095), (127, -1, 4128), (-128, -128, 31), (-127, -128, 32)])
def test_longest_sum_without_clamping(x, y, largest):
    state = with_q(q(x, 8), q(y, 8))
    for _ in range(largest):
        run("ee.vmulas.s8.qacc q0, q1", state)
    assert state.qacc_lanes(20) == [largest * x * y] * 16
    assert run("ee.vmulas.s8.qacc q0, q1", state).qacc_lanes(20) != [(largest + 1) * x * y] * 16


@pytest.mark.parametrize(
    "line, bits, fine, open_",
    [
        ("ee.vmulas.s16.qacc q0, q1", 40, S40[1] - 100, S40[1] - 99),
        ("ee.vmulas.s16.qacc q0, q2", 40, S40[0] + 101, S40[0] + 100),
        ("ee.vsmulas.s16.qacc q0, q1, 0", 40, S40[1] - 100, S40[1] - 99),
        ("ee.vsmulas.s8.qacc q0, q1, 0", 20, S20[1] - 100, S20[1] - 99),
        ("ee.vsmulas.s8.qacc q0, q2, 0", 20, S20[0] + 101, S20[0] + 100),
        ("ee.vmulas.u16.qacc q0, q1", 40, 2**40 - 101, 2**40 - 100),
    ],
)
def test_unconfirmed_qacc_rails_are_open(line, bits, fine, open_):
    product = -100 if "q2" in line else 100
    assert run(line, filled(fine, bits)).qacc_lanes(bits, ".u" not in line)[0] == fine + product
    with pytest.raises(Undefined, match="unconfirmed rail"):
        run(line, filled(open_, bits))


def test_accx_rails():
    state = filled(0, 20)
    state.accx = S40[1] - 1599
    assert run("ee.vmulas.s8.accx q0, q1", state).accx == S40[1]
    state.accx = S40[0] + 1601
    assert run("ee.vmulas.s8.accx q0, q2", state).accx == S40[0] + 1
    with pytest.raises(Undefined, match="unconfirmed rail"):
        run("ee.vmulas.s8.accx q0, q2", state)
    state = with_q(q(100, 16), accx=S40[1] - 1)
    assert run("ee.vmulas.s16.accx q0, q0", state).accx == S40[1]
    state = with_q(q(1, 16), accx=-8)
    with pytest.raises(Undefined, match="unconfirmed rail"):
        run("ee.vmulas.u16.accx q0, q0", state)
    state.accx = -9
    assert run("ee.vmulas.u16.accx q0, q0", state).accx == -1


def test_accx_clamps_the_sum_once():
    """Clamping product by product would lose the first one."""
    state = with_q(q([100] + [-1] * 15, 8), q([100, 100] + [0] * 14, 8), accx=S40[1] - 5)
    assert run("ee.vmulas.s8.accx q0, q1", state).accx == S40[1]
    state = with_q(q([100, -100] + [0] * 14, 8), q(100, 8), accx=S40[1] - 5)
    assert run("ee.vmulas.s8.accx q0, q1", state).accx == S40[1] - 5
    assert run("ee.vmulas.s16.accx q0, q1", with_q(q(-2, 16), q(3, 16), accx=10)).accx == 10 - 48


def test_vsmulas_multiplies_the_vector_qx_by_one_lane_of_qy():
    state = with_q(q(list(range(16)), 8), q([0] * 9 + [-3] + [0] * 6, 8))
    assert run("ee.vsmulas.s8.qacc q0, q1, 9", state).qacc_lanes(20) == [-3 * i for i in range(16)]
    state = with_q(q(list(range(8)), 16), q([0] * 5 + [-300, 0, 0], 16))
    assert run("ee.vsmulas.s16.qacc q0, q1, 5", state).qacc_lanes(40) == [-300 * i for i in range(8)]


def test_lanes_0_to_7_are_in_qacc_l():
    state = run("ee.mov.s8.qacc q0", with_q(q(list(range(-8, 8)), 8)))
    assert state.qacc_l == sum((i - 8) % 2**20 << (20 * i) for i in range(8))
    assert state.qacc_h == sum(i << (20 * i) for i in range(8))
    state = run("ee.mov.s16.qacc q0", with_q(q([-1, 2, 3, 4, 5, 6, 7, -8], 16)))
    assert state.qacc_l == (2**40 - 1) + (2 << 40) + (3 << 80) + (4 << 120)
    assert state.qacc_h == 5 + (6 << 40) + (7 << 80) + ((2**40 - 8) << 120)
    assert run("ee.mov.u16.qacc q0", state).qacc_lanes(40)[0] == 0xFFFF
    assert run("ee.zero.qacc", state).qacc_l == state.qacc_h == 0


def test_srcmb_writes_the_shifted_lanes_back_unclamped():
    state = with_a(0, 4 + 32)
    state.set_qacc_lanes([0x1234, -0x1235] + [0] * 14, 20)
    run("ee.srcmb.s8.qacc q0, a1, 0", state)
    assert state.qacc_lanes(20)[:3] == [0x123, -0x124, 0]
    assert lane(state, 0, 8)[:3] == [127, -128, 0]
    run("ee.srcmb.s8.qacc q0, a1, 0", state)
    assert lane(state, 0, 8)[:3] == [0x12, -0x13, 0]
    state = with_a(0, 39 + 64)
    state.set_qacc_lanes([S40[1], S40[0]] * 4, 40)
    run("ee.srcmb.s16.qacc q0, a0, 0", state)
    assert lane(state, 0, 16) == [32767, -32768] * 4
    run("ee.srcmb.s16.qacc q0, a1, 0", state)
    assert lane(state, 0, 16) == [0, -1] * 4
    assert state.qacc_lanes(40) == [0, -1] * 4


def test_srs_writes_accx_back_and_clamps_to_32_bits():
    state = run("ee.srs.accx a2, a1, 0", with_a(0, 4, accx=-(2**36) - 1))
    assert (state.accx, state.a[2]) == (-(2**32) - 1, 0x80000000)
    state = run("ee.srs.accx a1, a1, 0", with_a(0, 64 + 33, accx=S40[1]))
    assert (state.accx, state.a[1]) == (63, 63)


@pytest.mark.parametrize("line", ["ee.srcmb.s8.qacc q0, a0, 1", "ee.srcmb.s16.qacc q0, a0, 1", "ee.srs.accx a0, a0, 1"])
def test_sel2_is_open(line):
    with pytest.raises(Undefined, match="sel2"):
        run(line, State())


def test_qacc_halves_through_memory():
    state = with_a(0, BASE + 3, qacc_l=0xABCDEF01 << 128 | 5, qacc_h=0x12345678 << 128 | 6)
    ram = memory()
    run("ee.st.qacc_l.l.128.ip a1, 16", state, ram)
    run("ee.st.qacc_h.h.32.ip a1, 4", state, ram)
    run("ee.st.qacc_l.h.32.ip a1, 4", state, ram)
    assert ram.data[:24].hex() == "05" + "00" * 15 + "78563412" + "01efcdab"
    assert state.a[1] == BASE + 27
    run("ee.ld.qacc_h.h.32.ip a1, -16", state, memory())
    assert state.qacc_h == 0x1B1A1918 << 128 | 6
    run("ee.ld.qacc_h.l.128.ip a1, 0", state, memory())
    assert state.qacc_h == 0x1B1A1918 << 128 | int.from_bytes(range(16), "little")


def test_ldqa_extends():
    data = bytes([0x80, 0x7F, 0xFF, 0xFF]) + bytes(12)
    for kind, first in (("s8", [-128, 127, -1]), ("u8", [128, 127, 255])):
        state = run(f"ee.ldqa.{kind}.128.ip a1, 16", with_a(0, BASE + 15), memory(data))
        assert state.qacc_lanes(20)[:3] == first
        assert state.a[1] == BASE + 31
    for kind, first in (("s16", [0x7F80, -1]), ("u16", [0x7F80, 0xFFFF])):
        assert run(f"ee.ldqa.{kind}.128.xp a1, a2", with_a(0, BASE), memory(data)).qacc_lanes(40)[:2] == first


def test_accx_through_memory():
    """64 bits, zero-extended; the step counts bytes."""
    state, ram = with_a(0, BASE + 9, accx=-2), memory(b"\xaa" * 24)
    run("ee.st.accx.ip a1, 8", state, ram)
    assert ram.data[8:16] == b"\xfe\xff\xff\xff\xff\x00\x00\x00"
    assert state.a[1] == BASE + 17
    assert run("ee.ld.accx.ip a1, 8", state, ram).accx == 0xAAAAAAAAAA - 2**40


# User registers


def test_accx_1_is_zero_extended():
    state = run("rur.accx_1 a3", State(accx=-1))
    assert state.a[3] == 0xFF
    assert run("rur.accx_0 a3", state).a[3] == 0xFFFFFFFF
    state.a[3] = 0x12345680
    assert run("wur.accx_1 a3", state).accx == -(2**39) + 0xFFFFFFFF


def test_user_register_words():
    state = State(qacc_l=sum((10 + i) << (32 * i) for i in range(5)), ua_state=9 << 96, a=[7] * 16)
    assert [run(f"rur.qacc_l_{n} a1", state).a[1] for n in range(5)] == [10, 11, 12, 13, 14]
    assert run("rur.ua_state_3 a1", state).a[1] == 9
    assert run("wur.qacc_h_4 a2", state).qacc_h == 7 << 128
    state.a[2] = 0xFFFFFFFF
    run("wur.sar_byte a2", state)
    run("wur.fft_bit_width a2", state)
    run("wsr.sar a2", state)
    assert (state.sar_byte, state.fft_bit_width, state.sar) == (15, 15, 63)


# Fused instructions


def test_fused_loads_use_old_registers():
    for name in ("q0, a1, 16, q0, q1", "q1, a1, 16, q0, q1"):
        state = with_q(q(3, 8), q(5, 8), a=[0, BASE] + [0] * 14)
        run(f"ee.vmulas.s8.qacc.ld.ip {name}", state)
        assert state.qacc_lanes(20) == [15] * 16
        assert state.q[int(name[1])] == bytes(range(16))
    state = run("ee.vmulas.u16.qacc.ldbc.incp q0, a1, q0, q0", with_q(q(-1, 16), a=[0, BASE + 3] + [0] * 14))
    assert state.qacc_lanes(40, False) == [65535**2] * 8
    assert (list(state.q[0]), state.a[1]) == ([2, 3] * 8, BASE + 5)
    state = run("ee.vsmulas.s16.qacc.ld.incp q0, a1, q0, q0, 1", with_q(q([1, 2] * 4, 16), a=[0, BASE] + [0] * 14))
    assert (state.qacc_lanes(40), state.a[1]) == ([2, 4] * 4, BASE + 16)


def test_fused_stores_store_the_old_register():
    ram = memory()
    state = with_q(q(100, 8), q(101, 8), a=[0, BASE + 20] + [0] * 14)
    run("ee.vadds.s8.st.incp q0, a1, q0, q0, q1", state, ram)
    assert ram.data[16:32] == q(100, 8)
    assert (state.q[0], state.a[1]) == (q(127, 8), BASE + 36)


def test_qup_shifts_old_registers_and_loads():
    """qs1 may be the loaded register and qs0 a factor: MAC and window use the old values."""
    first, second = bytes(range(16)), bytes(range(16, 32))
    state = with_q(first, second, a=[0, BASE + 32] + [0] * 14, sar_byte=3)
    run("ee.vmulas.s8.accx.ld.ip.qup q1, a1, 16, q0, q0, q0, q1", state)
    assert state.accx == sum(i * i for i in range(16))
    assert state.q[0] == bytes(range(3, 19))
    assert state.q[1] == bytes(range(32, 48))
    assert state.a[1] == BASE + 48


# Lanes


def test_saturating_lanes_reach_the_true_minimum():
    for bits in (8, 16, 32):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        state = with_q(q(low, bits), q(-1, bits))
        assert lane(run(f"ee.vadds.s{bits} q2, q0, q1", state), 2, bits) == [low] * (128 // bits)
        state = with_q(q(low, bits), q(high, bits))
        assert lane(run(f"ee.vsubs.s{bits} q2, q0, q1", state), 2, bits) == [low] * (128 // bits)
        assert lane(run(f"ee.vsubs.s{bits} q2, q1, q0", state), 2, bits) == [high] * (128 // bits)
        assert lane(run(f"ee.vadds.s{bits} q2, q0, q1", state), 2, bits) == [-1] * (128 // bits)


def test_comparisons_and_extremes_are_signed():
    state = with_q(q([-1, 1, 5, -128] * 4, 8), q([1, -1, 5, 127] * 4, 8))
    for name, lanes in (("gt", [0, -1, 0, 0]), ("lt", [-1, 0, 0, -1]), ("eq", [0, 0, -1, 0])):
        assert lane(run(f"ee.vcmp.{name}.s8 q2, q0, q1", state), 2, 8) == lanes * 4
    assert lane(run("ee.vmax.s8 q2, q0, q1", state), 2, 8) == [1, 1, 5, 127] * 4
    assert lane(run("ee.vmin.s8 q2, q0, q1", state), 2, 8) == [-1, -1, 5, -128] * 4


def test_logic():
    state = with_q(q(0b1100, 8), q(0b1010, 8))
    results = {"andq": 0b1000, "orq": 0b1110, "xorq": 0b0110}
    assert {name: run(f"ee.{name} q2, q0, q1", state).q[2][5] for name in results} == results
    assert run("ee.notq q2, q0", state).q[2] == q(~0b1100, 8)
    assert run("ee.zero.q q0", state).q[0] == bytes(16)


@pytest.mark.parametrize(
    "kind, x, y, sar, result",
    [
        ("s8", -128, -128, 8, 64),
        ("s8", -128, 127, 0, -128),  # -16256 = 0xc080
        ("s8", -1, 1, 7, -1),  # floor
        ("s8", -3, 1, 31, -1),
        ("s8", -128, 127, 32, 0),
        ("u8", 255, 255, 8, -2),
        ("u8", 255, 255, 63, 0),
        ("s16", -32768, -32768, 16, 16384),
        ("u16", 65535, 65535, 16, -2),
        ("u16", 65535, 65535, 31, 1),
        ("u16", 65535, 65535, 32, 0),
    ],
)
def test_vmul_shifts_and_wraps(kind, x, y, sar, result):
    bits = int(kind[1:])
    state = run(f"ee.vmul.{kind} q2, q0, q1", with_q(q(x, bits), q(y, bits), sar=sar))
    assert lane(state, 2, bits) == [result] * (128 // bits)


@pytest.mark.parametrize(
    "line, sar", [("ee.vmul.s8 q2, q0, q1", 33), ("ee.vmul.s16 q2, q0, q1", 32), ("ee.vsl.32 q2, q0", 33)]
)
def test_unmeasured_shifts_are_open(line, sar):
    run(line, State(sar=0))
    with pytest.raises(Undefined, match=f"SAR = {sar}"):
        run(line, State(sar=sar))


def test_word_shifts_at_32_as_on_silicon():
    words = q([0x12345678, 1, 0xFFFFFFFF, 0x80000000], 32)
    state = run("ee.vsl.32 q1, q0", with_q(words, sar=32))
    assert lane(state, 1, 32, False) == [0x7FFFFFFF, 0x7FFFFFFF, 0x80000000, 0x80000000]
    assert run("ee.vsr.32 q1, q0", state).q[1] == bytes(16)
    with pytest.raises(Undefined, match="SAR = 40"):
        run("ee.vsr.32 q1, q0", with_q(words, sar=40))
    state.sar = 4
    assert lane(run("ee.vsl.32 q1, q0", state), 1, 32, False) == [0x23456780, 0x10, 0xFFFFFFF0, 0]
    assert lane(run("ee.vsr.32 q1, q0", state), 1, 32, False) == [0x01234567, 0, 0xFFFFFFFF, 0xF8000000]


def test_relu_scales_what_is_not_positive():
    state = run("ee.vrelu.s8 q0, a1, a2", with_q(q([-128, -3, 0, 127] * 4, 8), a=[0, 0x1FD, 32 + 1] + [0] * 13))
    assert lane(state, 0, 8) == [-64, 4, 0, 127] * 4  # 384 >> 1 = 192, 9 >> 1
    state = run("ee.vrelu.s8 q0, a1, a2", with_q(q([-128, 5] * 8, 8), a=[0, 0x1FD, 32 + 9] + [0] * 13))
    assert lane(state, 0, 8) == [0, 5] * 8  # 384 >> 9
    state = run("ee.vrelu.s16 q0, a1, a2", with_q(q([-300, 300] * 4, 16), a=[0, 0x1FFFF, 1] + [0] * 13))
    assert lane(state, 0, 16) == [150, 300] * 4
    state = run("ee.vprelu.s8 q2, q0, q1, a1", with_q(q([-8, 8] * 8, 8), q(3, 8), a=[0, 1] + [0] * 14))
    assert lane(state, 2, 8) == [-12, 8] * 8
    state.a[1] = 32 + 16
    assert lane(run("ee.vprelu.s8 q2, q0, q1, a1", state), 2, 8) == [-1, 8] * 8
    state = run("ee.vprelu.s16 q2, q0, q1, a1", with_q(q([-32768, 8] * 4, 16), q(-32768, 16), a=[0, 15] + [0] * 14))
    assert lane(state, 2, 16) == [-32768, 8] * 4
    state = run("ee.vrelu.s16 q0, a1, a2", with_q(q([-300, 300] * 4, 16), a=[0, 3, 64 + 1] + [0] * 13))
    assert lane(state, 0, 16) == [-450, 300] * 4
    for line in ("ee.vrelu.s16 q0, a1, a2", "ee.vprelu.s16 q0, q1, q2, a2"):
        with pytest.raises(Undefined, match="a shift of 33 is unmeasured"):
            run(line, with_q(q(1, 16), a=[0, 3, 64 + 33] + [0] * 13))


# Permutations


def test_zip_and_unzip():
    x, y = list(range(16)), list(range(100, 116))
    state = run("ee.vzip.8 q0, q1", with_q(q(x, 8), q(y, 8)))
    assert list(state.q[0]) == [v for pair in zip(x[:8], y[:8], strict=True) for v in pair]
    assert list(state.q[1]) == [v for pair in zip(x[8:], y[8:], strict=True) for v in pair]
    assert run("ee.vunzip.8 q0, q1", state).q[:2] == [q(x, 8), q(y, 8)]
    state = run("ee.vzip.32 q0, q1", with_q(q([0, 1, 2, 3], 32), q([10, 11, 12, 13], 32)))
    assert (lane(state, 0, 32), lane(state, 1, 32)) == ([0, 10, 1, 11], [2, 12, 3, 13])
    state = run("ee.vunzip.32 q0, q1", with_q(q([0, 1, 2, 3], 32), q([10, 11, 12, 13], 32)))
    assert (lane(state, 0, 32), lane(state, 1, 32)) == ([0, 2, 10, 12], [1, 3, 11, 13])
    state = run("ee.vunzip.16 q0, q1", with_q(q(list(range(8)), 16), q(list(range(8, 16)), 16)))
    assert (lane(state, 0, 16), lane(state, 1, 16)) == ([0, 2, 4, 6, 8, 10, 12, 14], [1, 3, 5, 7, 9, 11, 13, 15])
    assert lane(run("ee.vzip.16 q0, q1", state), 0, 16) == list(range(8))


def test_words_between_q_and_a():
    state = with_q(q([1, -2, 3, 4], 32), a=[9] * 16)
    assert run("ee.movi.32.a q0, a3, 1", state).a[3] == 0xFFFFFFFE
    assert lane(run("ee.movi.32.q q0, a4, 2", state), 0, 32) == [1, -2, 9, 4]


def test_src_q_has_qs0_in_the_low_half():
    first, second = bytes(range(16)), bytes(range(16, 32))
    state = run("ee.src.q q2, q0, q1", with_q(first, second, sar_byte=5))
    assert state.q[:3] == [first, second, bytes(range(5, 21))]
    assert run("ee.src.q q2, q0, q0", state).q[2] == first[5:] + first[:5]
    assert run("ee.src.q.qup q2, q0, q1", state).q[:3] == [second, second, bytes(range(5, 21))]


def test_an_unaligned_stream():
    """USAR takes the low address bits before the step; SRC.Q.LD and SRCQ.ST then give the bytes in a row."""
    ram, state = memory(), with_a(0, BASE + 3)
    run("ee.ld.128.usar.ip q0, a1, 16", state, ram)
    assert (state.sar_byte, state.q[0], state.a[1]) == (3, bytes(range(16)), BASE + 19)
    run("ee.vld.128.ip q1, a1, 16", state, ram)
    run("ee.src.q.ld.ip q2, a1, 16, q0, q1", state, ram)
    assert (state.q[0], state.q[2]) == (bytes(range(3, 19)), bytes(range(32, 48)))
    assert run("ee.ld.128.usar.xp q3, a2, a3", with_a(0, 0, BASE + 13, 16)).sar_byte == 13
    state.a[1] = BASE + 1
    run("ee.srcq.128.st.incp q1, q2, a1", state, ram)
    assert (ram.data[:16], state.a[1]) == (bytes(range(19, 35)), BASE + 17)


def test_pair_shifts():
    low, high = bytes(range(1, 17)), bytes(range(17, 33))
    right = run("ee.srci.2q q1, q0, 2", with_q(low, high))
    assert right.q[0] + right.q[1] == (low + high)[3:] + bytes(3)
    left = run("ee.slci.2q q1, q0, 15", with_q(low, high))
    assert left.q[:2] == [bytes(16), low]
    for mnemonic, expected in (("slcxxp", bytes(1) + (low + high)[:-1]), ("srcxxp", (low + high)[1:] + bytes(1))):
        state = run(f"ee.{mnemonic}.2q q1, q0, a1, a2", with_q(low, high, a=[0, 16, 5] + [0] * 13))
        assert state.q[0] + state.q[1] == expected
        assert state.a[1] == 21


# Every instruction


@pytest.mark.parametrize("mnemonic", sorted(MNEMONICS))
def test_a_random_case_changes_destinations_only_or_nothing(mnemonic):
    rng = np.random.default_rng(sorted(MNEMONICS).index(mnemonic))
    done = 0
    for _ in range(20):
        operands, state, ram = random_case(rng, mnemonic)
        assert all(value in choices(mnemonic, name) for name, value in operands.items())
        before, ram_before = state.copy(), ram.copy()
        try:
            execute(mnemonic, operands, state, ram)
            done += 1
            apart = {operands[name] for name in destinations(mnemonic) if name[0] == "q"}
        except Undefined:
            assert ram == ram_before
            apart = set()
            assert state == before
        for i in set(range(8)) - apart:
            assert state.q[i] == before.q[i]
    assert done >= 5


@pytest.mark.parametrize("mnemonic", sorted(name for name in MNEMONICS if len(destinations(name)) > 1))
def test_one_register_as_two_destinations_is_open(mnemonic):
    rng = np.random.default_rng(5)
    for first, second in combinations(sorted(destinations(mnemonic)), 2):
        operands, state, ram = random_case(rng, mnemonic)
        state.sar = state.accx = state.qacc_l = state.qacc_h = 0
        execute(mnemonic, operands, state.copy(), ram)
        operands[first] = operands[second]
        with pytest.raises(Undefined, match="two destinations"):
            execute(mnemonic, operands, state, ram)


def test_random_cases_reach_what_they_are_for():
    """Rails on both sides, every open rule, misaligned and aligned addresses."""
    rng, seen = np.random.default_rng(1), set()
    stopping = {"ee.ldxq.32", "ee.vmul.s16", "ee.vrelu.s16", "ee.srs.accx", "ee.vsl.32", "ee.vsmulas.s16.qacc"}
    for mnemonic in ("ee.vmulas.s8.qacc", *sorted(stopping)):
        for _ in range(150):
            operands, state, ram = random_case(rng, mnemonic)
            if "as" in operands:
                seen.add(f"alignment {state.a[operands['as']] % 16}")
            try:
                execute(mnemonic, operands, state, ram)
            except Undefined as error:
                seen.add(str(error).split(":")[0] + (" low" if "reaches" in str(error) else ""))
                continue
            if mnemonic == "ee.vmulas.s8.qacc":
                seen |= {f"rail {value:#x}" for value in S20 if value in state.qacc_lanes(20)}
    assert {f"alignment {n}" for n in range(16)} < seen
    assert {"rail -0x80000", "rail 0x7ffff", "ee.vsmulas.s16.qacc low"} < seen
    assert stopping < seen


def test_the_same_seed_gives_the_same_case():
    cases = [random_case(np.random.default_rng(9), "ee.vmulas.s8.qacc.ld.ip") for _ in range(2)]
    assert cases[0] == cases[1]


# State, memory, errors


def test_differences_name_field_and_lane():
    state = State()
    other = state.copy()
    assert state == other
    assert state.diff(other) == ""
    other.q[3] = q([0, 0, 0, 0, 0, 7, 0, 0], 16)
    assert "q3 byte 10 (halfword 5, word 2): 0x00, not 0x07" in state.diff(other)
    assert state.q[3] == bytes(16)
    assert "qacc_h 20-bit lane 3 (40-bit lane 1)" in state.diff(State(qacc_h=1 << 60))
    assert state.diff(with_a(0, 0, 5)) == "a2: 0x00000000, not 0x00000005"
    assert state.diff(State(accx=-1)) == "accx: 0x0, not -0x1"
    assert "memory at 0x1002: 0x02, not 0x09" in memory().diff(memory([0, 1, 9, *range(3, 64)]))


def test_numpy_registers_are_taken():
    state = State(q=np.arange(128, dtype=np.uint8).reshape(8, 16), a=np.zeros(16, np.uint32))
    state.q[1] = np.full(16, 255, np.uint8)
    assert run("mv.qr q0, q1", state).q[0] == b"\xff" * 16


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"accx": 2**39}, "State.accx"),
        ({"sar": 64}, "State.sar"),
        ({"a": [0] * 15}, "State.a"),
        ({"q": [bytes(15)] * 8}, "State.q"),
    ],
)
def test_impossible_states(arguments, message):
    with pytest.raises(ValueError, match=message):
        State(**arguments)


@pytest.mark.parametrize(
    "mnemonic, operands, message",
    [
        ("ee.vld", {}, "not an instruction"),
        ("ee.notq", {"qa": 1}, "operands are qa, qx"),
        ("ee.notq", {"qa": 1, "qx": 8}, "qx = 8"),
        ("ld.qr", {"qu": 1, "as": 8, "imm": 8}, "imm = 8"),
    ],
)
def test_operands_that_cannot_be_encoded(mnemonic, operands, message):
    with pytest.raises(ValueError, match=message):
        execute(mnemonic, operands, State(), memory())


def test_a_bad_address_changes_nothing():
    state, ram = with_a(0, BASE + 64), memory()
    for line in ("ee.vld.128.ip q0, a1, 16", "ee.vst.128.ip q0, a1, 16", "ee.vadds.s8.st.incp q0, a1, q1, q2, q3"):
        with pytest.raises(IndexError, match="0x1040"):
            run(line, state, ram)
    assert (state, ram) == (with_a(0, BASE + 64), memory())
