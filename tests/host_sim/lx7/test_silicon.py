# SPDX-License-Identifier: MIT
"""The cycle model compared with published measurements, and the table of both."""

import json

import pytest

from host_sim.lx7 import silicon
from host_sim.lx7.isa import decode
from host_sim.lx7.silicon import CODE, Row, broken, code_of, hardware_loop
from host_sim.tables import SIMULATOR


@pytest.fixture(scope="module")
def rows():
    """The comparison, run once."""
    return silicon.rows()


def test_the_model_is_within_three_percent_of_what_was_measured(rows):
    assert broken(rows) == []


def test_what_must_agree_is_promised(rows):
    promised = {row.name for row in rows if row.tolerance is not None}
    assert sum(name.startswith("loop of") for name in promised) == 2
    assert sum("then" in name for name in promised) == 20
    assert sum("PSRAM, lines of" in name for name in promised) == 3
    assert {"40 independent PIE instructions", "SRAM copy loop of 4 instructions, 32 bytes"} <= promised
    assert all(row.note for row in rows if row.tolerance is None)


def test_a_broken_promise_is_named():
    rows = [
        Row("a", "X", "cycles", 100.0, 104.0),
        Row("b", "X", "stalls", 0.0, 1.0, 0.0),
        Row("c", "X", "c", 1.0, 9.0, None),
    ]
    assert broken(rows) == ["a: 100 measured, 104 modelled", "b: 0 measured, 1 modelled"]


def test_a_stall_that_the_model_lacked_would_be_seen():
    """15 dependent pairs turn 16 cycles per iteration into 30: the figures are not those of an empty loop."""
    chain = [("ld.qr", 2, 2, 0), ("ee.andq", 3, 2, 4)] * 8
    totals = hardware_loop(chain, 100, a2=0x3FC88000).totals
    assert totals.stalls["data"] == 800
    assert totals.cycles == pytest.approx(2400, abs=10)


def test_the_table_holds_every_row_and_note(rows, tmp_path):
    text = silicon.markdown(rows)
    assert all(row.name in text and row.note in text for row in rows)
    silicon.record(rows, tmp_path / "silicon.json")
    assert [row["name"] for row in json.loads((tmp_path / "silicon.json").read_text())] == [row.name for row in rows]


def test_readme_has_the_table_of_today(rows):
    assert f"{silicon.START}\n{silicon.markdown(rows)}\n{silicon.END}" in SIMULATOR.read_text()


def test_places_in_code_are_addresses():
    code = code_of([("nop.n",), ("j", "start"), ("beqz", 3, "end")])
    assert [decode(code[n:], CODE + n).text for n in (0, 2, 5)] == ["nop.n", f"j {CODE:#x}", f"beqz a3, {CODE + 8:#x}"]
