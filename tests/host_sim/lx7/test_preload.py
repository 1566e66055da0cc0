# SPDX-License-Identifier: MIT
"""The data cache's manual preload: registers, hidden time, and sharing of the bus."""

import pytest

from host_sim.lx7 import profile
from host_sim.lx7.machine import (
    DATA_SRAM,
    FLASH_CODE,
    PRELOAD_ADDR,
    PRELOAD_CTRL,
    PRELOAD_DONE,
    PRELOAD_ENA,
    PRELOAD_ORDER,
    PRELOAD_SIZE,
    Machine,
    MachineError,
)
from host_sim.lx7.timing import Cache, Timing
from tests.host_sim.lx7.test_timing import FLASH, PSRAM, SMALL, loads, run

LINE = 64
READ = 480  # cycles that a line of flash takes
BASE = PRELOAD_CTRL - 0x40
START = [
    ("s32i", reg, 13, address - BASE) for reg, address in ((3, PRELOAD_ADDR), (15, PRELOAD_SIZE), (12, PRELOAD_CTRL))
]


def preload(lines, count, address=FLASH, ctrl=PRELOAD_ENA, timing=None, **registers) -> Machine:
    """Start a preload of `count` lines, then run `lines`; a2 is what loads() reads from."""
    values = {"a2": FLASH, "a3": address, "a12": ctrl, "a13": BASE, "a15": count, **registers}
    return run([*START, *lines], timing, **values)


def work(cycles) -> list:
    """Instructions that touch no memory."""
    return [("nop.n",)] * cycles


def every_line(count) -> list:
    """Loads of the first word of each line."""
    return loads(*(LINE * n for n in range(count)))


def status(register) -> tuple:
    """Load CTRL."""
    return ("l32i", register, 13, PRELOAD_CTRL - BASE)


def test_a_preload_costs_the_core_nothing():
    machine = preload(work(5 * READ), 2)
    assert machine.totals.external == 0
    assert machine.totals.lines_read["flash"] == machine.totals.lines_preloaded["flash"] == 2
    # Of four lines, those begun before the end are counted.
    assert preload(work(READ + 10), 4).totals.lines_preloaded["flash"] == 2


def test_enough_work_hides_all_of_it():
    count = 4
    totals = preload([*work(count * READ), *every_line(count)], count).totals
    assert totals.stalls["cache"] == 0
    assert totals.lines_preloaded == {"sram": 0, "psram": 0, "flash": count}
    assert totals.cycles == totals.instructions + sum(totals.stalls.values())


@pytest.mark.parametrize("hidden", [1, 100, READ + 100, 3 * READ + 479])
def test_less_work_hides_as_much_as_it_takes(hidden):
    count = 4
    waited = preload([*work(hidden), *every_line(count)], count).totals.stalls["cache"]
    # Each load takes a cycle, and the loads before the last one hide some time, too.
    assert count * READ - hidden - count <= waited <= count * READ - hidden


@pytest.mark.parametrize("address", [FLASH, PSRAM])
def test_reading_at_once_costs_what_it_costs_without(address):
    count = 8
    without = run(every_line(count), a2=address).totals
    at_once = preload(every_line(count), count, address, a2=address).totals
    assert 0 <= without.stalls["cache"] - at_once.stalls["cache"] <= count
    assert at_once.lines_read == without.lines_read


def test_a_miss_waits_for_the_line_on_its_way_and_goes_before_those_to_come():
    other = 15 * LINE
    totals = preload([*work(99), *loads(other)], 3).totals
    assert totals.stalls["cache"] == (READ - 100) + READ
    # As the first arrives, the second would begin.
    totals = preload([*work(READ - 1), *loads(other)], 3).totals
    assert totals.stalls["cache"] == READ
    # Later lines are delayed by as much: the second line begins when the miss is served.
    totals = preload([*work(99), *loads(other), *work(200), *loads(LINE)], 3).totals
    assert totals.stalls["cache"] == (READ - 100) + READ + (READ - 201)


def test_a_line_wanted_before_its_turn_is_read_once():
    totals = preload([*work(99), *loads(2 * LINE), *work(3 * READ), *every_line(3)], 3).totals
    assert totals.stalls["cache"] == (READ - 100) + READ
    assert totals.lines_read["flash"] == 3
    assert totals.lines_preloaded["flash"] == 2


def test_a_line_that_is_there_may_be_read_while_others_come():
    totals = preload([*work(READ + 10), *loads(0, 4, 60)], 4).totals
    assert totals.stalls["cache"] == 0


def test_lines_that_are_there_are_skipped_at_no_cost():
    present = every_line(3)
    machine = run([*present, *START, *loads(3 * LINE)], a2=FLASH, a3=FLASH, a12=PRELOAD_ENA, a13=BASE, a15=4)
    # The fourth is the only one to read, and begins at once.
    assert machine.totals.stalls["cache"] == 4 * READ - 1
    assert machine.totals.lines_preloaded["flash"] == 1
    machine = run([*present, *START, status(4)], a2=FLASH, a3=FLASH, a12=PRELOAD_ENA, a13=BASE, a15=3)
    assert machine.registers.a[4] == PRELOAD_DONE
    assert machine.totals.lines_preloaded["flash"] == 0


def test_done_is_set_and_ena_cleared_when_the_last_line_has_come():
    machine = run([status(4)], a13=BASE)
    assert machine.registers.a[4] == PRELOAD_DONE
    machine = preload([status(4), *work(2 * READ - 3), status(5), status(6), status(7)], 2)
    assert list(machine.registers.a[4:8]) == [PRELOAD_ENA, PRELOAD_ENA, PRELOAD_DONE, PRELOAD_DONE]
    assert machine.totals.external == 0


def test_polling_waits_as_long_as_the_lines_take():
    at = 0x40374000 + 3 * len(START)
    machine = preload([status(4), ("bbci", 4, 1, at)], 10)
    assert machine.totals.cycles == pytest.approx(10 * READ, abs=16)
    assert machine.totals.external == 0


def test_descending():
    machine = preload([*work(READ), *loads(3 * LINE), status(4)], 4, FLASH + 3 * LINE, PRELOAD_ENA | PRELOAD_ORDER)
    assert machine.totals.stalls["cache"] == 0
    assert machine.registers.a[4] == PRELOAD_ENA | PRELOAD_ORDER
    machine = preload([*work(4 * READ), *every_line(4)], 4, FLASH + 3 * LINE, PRELOAD_ENA | PRELOAD_ORDER)
    assert machine.totals.stalls["cache"] == 0


def test_registers_hold_what_they_have():
    reads = [status(4), ("l32i", 5, 13, PRELOAD_ADDR - BASE), ("l32i", 6, 13, PRELOAD_SIZE - BASE)]
    machine = preload(reads, 0x12345, 0xDEADBEEF, PRELOAD_ORDER | 0xFFFFFFF8)
    assert list(machine.registers.a[4:7]) == [PRELOAD_DONE | PRELOAD_ORDER, 0xDEADBEEF, 0x2345]


def test_an_address_within_a_line_means_that_line():
    totals = preload([*work(2 * READ), *every_line(2)], 2, FLASH + 40).totals
    assert totals.stalls["cache"] == 0


def test_dirty_lines_that_leave_take_their_time_on_the_bus():
    timing = Timing(data_cache=SMALL)
    psram_lines = [("s32i", 4, 2, 32 * n) for n in range(8)]  # one of two sets is full and dirty
    registers = {"a2": PSRAM, "a3": FLASH, "a12": PRELOAD_ENA, "a13": BASE, "a15": 1, "a11": FLASH}
    before = run(psram_lines, timing, **registers).totals.stalls["cache"]
    totals = run([*psram_lines, *START, ("l32i", 5, 11, 0)], timing, **registers).totals
    assert totals.lines_written["psram"] == 1
    assert totals.stalls["cache"] - before == pytest.approx(16 * 7.5 + 16 * 207 / 64 - 1, abs=0.1)


def test_a_line_stored_to_while_it_comes_is_dirty():
    timing = Timing(data_cache=SMALL)
    later = [("l32i", 4, 2, 32 * n) for n in range(1, 9)]
    registers = {"a2": PSRAM, "a3": PSRAM, "a12": PRELOAD_ENA, "a13": BASE, "a15": 1}
    totals = run([*START, ("s32i", 4, 2, 0), *later], timing, **registers).totals
    assert totals.lines_written["psram"] == 1


def test_instructions_in_flash_wait_for_the_same_bus():
    # Lines of instructions have 32 bytes; the start and a nop behind it lie in the first.
    code = [*START, *[("nop",)] * 12]
    values = {"a3": FLASH, "a12": PRELOAD_ENA, "a13": BASE, "a15": 1}
    alone = run(code, at=FLASH_CODE[0], **{**values, "a12": 0}).totals
    shared = run(code, at=FLASH_CODE[0], **values).totals
    assert shared.lines_preloaded["flash"] == 1
    waited = shared.stalls["fetch"] - alone.stalls["fetch"]
    assert READ - 12 <= waited < READ
    assert shared.external - alone.external == waited


@pytest.mark.parametrize(
    ("address", "count", "ctrl"),
    [
        (FLASH - LINE, 1, 1),  # nothing mapped
        (FLASH + (1 << 16) - LINE, 2, 1),  # beyond its end
        (FLASH, 2, PRELOAD_ENA | PRELOAD_ORDER),  # before its start
        (0, 2, PRELOAD_ENA | PRELOAD_ORDER),
        (DATA_SRAM[0], 1, 1),
        (PRELOAD_CTRL, 1, 1),
    ],
)
def test_what_the_cache_does_not_hold_is_refused(address, count, ctrl):
    with pytest.raises(MachineError, match="illegal here: a preload of lines that are not all data in flash or PSRAM"):
        preload([], count, address, ctrl)


def test_instructions_are_not_preloaded_as_data():
    with pytest.raises(MachineError, match="not all data"):
        run(START, at=FLASH_CODE[0], a3=FLASH_CODE[0], a12=PRELOAD_ENA, a13=BASE, a15=1)


@pytest.mark.parametrize(
    ("lines", "count", "message"),
    [
        ([], 0, "a preload of 0 lines"),
        ([], 1025, "a preload larger than the data cache"),
        ([START[2]], 2, "a store to a register of a preload that is not done"),
        ([*work(READ), START[0]], 2, "a store to a register of a preload that is not done"),
    ],
)
def test_what_nobody_has_published_stops_the_run(lines, count, message):
    with pytest.raises(MachineError, match=f"not settled by a manual or a chip: {message}"):
        preload(lines, count)


def test_one_after_another_is_fine():
    totals = preload([*work(READ), ("mov.n", 3, 2), *START, *work(READ), *loads(0, LINE)], 1, FLASH + LINE).totals
    assert totals.stalls["cache"] == 0
    assert totals.lines_preloaded["flash"] == 2


@pytest.mark.parametrize(
    "access",
    [
        ("l32i", 4, 13, 0x3C),  # DCACHE_OCCUPY_SIZE
        ("l32i", 4, 13, 0x4C),  # DCACHE_AUTOLOAD_CTRL
        ("s32i", 4, 13, 0x94),  # ICACHE_PRELOAD_CTRL
        ("l16ui", 4, 13, 0x40),
        ("s8i", 4, 13, 0x40),
    ],
)
def test_other_registers_and_parts_of_these_are_no_memory(access):
    with pytest.raises(MachineError, match="no memory for"):
        run([access], a13=BASE)


def test_counters_start_again_without_a_preload():
    machine = preload(every_line(1), 100)
    machine.reset_counters()
    assert machine.totals.lines_preloaded["flash"] == 0
    state = machine.registers
    state.pc = 0x40374000 + 3 * len(START)
    machine.registers = state
    machine.run()
    assert machine.totals.stalls["cache"] == READ
    assert machine.totals.lines_preloaded["flash"] == 0


def test_half_a_cache_at_a_time_and_no_more_than_it_holds():
    timing = Timing(data_cache=Cache(size=2048, line=64))
    count = 32
    totals = preload([*work(count * READ), *every_line(count // 2)], count, timing=timing).totals
    assert totals.stalls["cache"] == 0
    with pytest.raises(MachineError, match="larger than the data cache"):
        preload([], count + 1, timing=timing)


def test_a_profile_counts_the_lines():
    assert "preloaded into the data cache: 2 of 3 lines read" in profile.summary(
        preload([*work(2 * READ), *loads(15 * LINE)], 2)
    )
    assert "preloaded" not in profile.summary(run(loads(0), a2=FLASH))
