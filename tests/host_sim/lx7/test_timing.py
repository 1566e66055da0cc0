# SPDX-License-Identifier: MIT
"""Caches, external memory and the other constants of the cycle model."""

import pytest

from host_sim.lx7.isa import encode
from host_sim.lx7.machine import CODE_SRAM, DATA_SRAM, EXTERNAL_DATA, FLASH_CODE, HALT, Machine
from host_sim.lx7.timing import Cache, Timing, TwoCores

CODE = CODE_SRAM[0]
PSRAM = EXTERNAL_DATA[0]
FLASH = EXTERNAL_DATA[0] + 0x1000000
SMALL = Cache(size=8 * 16 * 2, line=16, ways=8)  # two sets


def run(lines, timing=None, at=CODE, **registers) -> Machine:
    """Run a sequence with PSRAM and flash mapped, then exit."""
    machine = Machine(timing)
    machine.map(PSRAM, bytearray(1 << 16), "psram")
    machine.map(FLASH, bytes(1 << 16), "flash", writable=False)
    code = b""
    for mnemonic, *values in (*lines, ("jx", 14)):
        code += encode(mnemonic, *values, pc=at + len(code))
    if at != CODE:
        machine.map(at, bytearray(code), "flash", executable=True)
    else:
        machine.write(at, code)
    state = machine.registers
    state.pc, state.ps = at, 1 << 18
    for name, value in {"a14": HALT, **registers}.items():
        state.set_a(int(name[1:]), value)
    machine.registers = state
    machine.run()
    return machine


def loads(*offsets) -> list:
    """l32i of a2 + each offset, into unused registers."""
    return [("l32i", 4 + n % 8, 2, offset) for n, offset in enumerate(offsets)]


def test_a_line_is_read_once():
    totals = run(loads(0, 4, 60, 64), a2=PSRAM).totals
    assert totals.lines_read == {"sram": 0, "psram": 2, "flash": 0}
    assert totals.stalls["cache"] == 2 * 170


def test_flash_costs_what_32_megabytes_a_second_cost():
    totals = run(loads(0), a2=FLASH).totals
    assert totals.stalls["cache"] == 480
    assert totals.external == 480


def test_sram_is_not_cached():
    totals = run(loads(0, 64, 128), a2=DATA_SRAM[0]).totals
    assert totals.stalls["cache"] == 0
    assert totals.bytes_loaded == {"sram": 12, "psram": 0, "flash": 0}


def test_eight_ways_hold_eight_lines_of_a_set_and_the_oldest_leaves():
    timing = Timing(data_cache=SMALL)
    same_set = [32 * n for n in range(9)]
    assert run(loads(*same_set[:8], *same_set[:8]), timing, a2=PSRAM).totals.lines_read["psram"] == 8
    # The ninth line replaces the least recently used one, the first, and so on.
    assert run(loads(*same_set, same_set[0], same_set[1]), timing, a2=PSRAM).totals.lines_read["psram"] == 11
    # A line used again stays.
    kept = [*same_set[:8], same_set[0], same_set[8], same_set[0]]
    assert run(loads(*kept), timing, a2=PSRAM).totals.lines_read["psram"] == 9


def test_a_written_line_is_read_first_and_written_back_when_it_leaves():
    timing = Timing(data_cache=SMALL)
    lines = [("s32i", 4, 2, 0), *loads(*(32 * n for n in range(1, 9)))]
    totals = run(lines, timing, a2=PSRAM).totals
    assert totals.lines_written == {"sram": 0, "psram": 1, "flash": 0}
    assert totals.lines_read["psram"] == 9
    assert totals.stalls["cache"] == pytest.approx(9 * 98 + 16 * 207 / 64, abs=0.1)


def test_code_in_flash_is_fetched_by_lines():
    nops = [("nop.n",)] * 31
    totals = run(nops, at=FLASH_CODE[0]).totals
    assert totals.lines_read["flash"] == 3  # lines of 32 bytes; jx begins in the second and ends in the third
    assert totals.stalls["fetch"] == 3 * 240


def test_a_store_costs_more_where_asked():
    lines = [("s32i", 4, 2, 0)] * 10
    assert run(lines, a2=DATA_SRAM[0]).totals.stalls["store"] == 0
    assert run(lines, Timing(store_extra=0.6), a2=DATA_SRAM[0]).totals.stalls["store"] == pytest.approx(6, abs=0.5)


def test_a_branch_to_an_instruction_across_fetch_words_costs_one_more():
    aligned = run([("nop.n",), ("j", CODE + 8), ("nop",), ("nop.n",)]).totals
    crossing = run([("j", CODE + 6), ("nop",), ("nop",)]).totals
    leave = 2  # jx itself, to HALT, where no memory is
    assert aligned.stalls["branch"] == 2 + leave
    assert crossing.stalls["branch"] == 3 + leave


def test_dividing_takes_seventeen_cycles():
    machine = run([("quou", 4, 5, 6)], a5=100, a6=7)
    assert machine.totals.stalls["divide"] == 16
    assert machine.registers.a[4] == 14


def test_stalls_and_instructions_make_all_cycles():
    machine = run([*loads(0, 64, 128), ("add", 3, 6, 6), ("s32i", 3, 2, 8)], a2=PSRAM)
    totals = machine.totals
    assert totals.cycles == totals.instructions + sum(totals.stalls.values())
    assert sum(cost.cycles for cost in machine.costs()) == totals.cycles


def test_counters_start_again():
    machine = run(loads(0, 64), a2=PSRAM)
    machine.reset_counters()
    assert machine.totals.cycles == 0 and not machine.costs()


def test_two_cores_share_the_bus_but_not_the_work():
    two = TwoCores.of(cycles=1000, external=200)
    assert two.separate == 800 / 1.6 + 200
    assert two.shared == 800 / 1.17 + 200
    assert two.bound == 800 / 2 + 200


@pytest.mark.parametrize(
    "shape", [(64 * 1024, 24), (60 * 1024, 64), (64 * 1024, 64, 0), (512, 64, 16), (64 * 1024, 64, 65)]
)
def test_impossible_caches_are_refused(shape):
    with pytest.raises(ValueError, match="power of two"):
        Cache(*shape)
