# SPDX-License-Identifier: MIT
"""`just cost-curve`: the estimate that a printed plan shows, beside machine code executed on the simulated chip."""

import json
import re

import numpy as np
import pytest
import ternary

from host_sim.chip import curve
from host_sim.chip.bench import FREE
from host_sim.lx7.timing import CLOCK_HZ, SEPARATE_SPEEDUP
from tests.conftest import ROOT

# Networks that the coefficients were not fitted to.
OTHERS = [(5, 160, 2), (8, 96, 2), (7, 192, 1)]


@pytest.fixture(scope="module", params=OTHERS, ids=str)
def row(request, tmp_path_factory):
    size, folder = request.param, tmp_path_factory.mktemp("curve")
    return curve.Row(
        "test", size, 1, curve.planned(curve.network(*size), 1), curve.execute(curve.network(*size), 1, folder)
    )


def test_the_estimate_is_near_executed_machine_code(row):
    assert curve.network(*row.size) not in curve.samples()
    assert abs(row.error()) <= 0.05


def test_shipped_models_are_estimated_as_they_run(tmp_path):
    """With stems, whose padding costs nothing and whose weights come while many pixels are computed."""
    found = curve.shipped(tmp_path, [curve.MODELS / f"{name}.safetensors" for name in ("eyes", "fashion_mnist")])
    assert [(row.sweep, row.cores) for row in found] == [
        (name, cores) for name in ("eyes", "fashion_mnist") for cores in (1, 2)
    ]
    assert all(row.plan.sizes not in curve.samples() for row in found)
    assert max(abs(row.error()) for row in found) <= 0.05, [row.error() for row in found]


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"), [(28, 3, 2, 1), (9, 3, 1, 1), (7, 7, 3, 6), (8, 4, 4, 0)]
)
def test_taps_inside_of_a_picture(side, kernel, stride, padding):
    from ftervit import estimate

    padded = np.pad(np.ones(side), padding)
    new = (side + 2 * padding - kernel) // stride + 1
    expected = sum(padded[i * stride :][:kernel].sum() for i in range(new))
    assert estimate.taps(side, kernel, stride, padding, new) == expected


def test_its_parts_are_near_those_of_the_operations(row):
    """Cycles that compute, of each operation; the coefficients know nothing of this run."""
    from ftervit import estimate

    for part, numbers in estimate.counts(row.plan).items():
        assert len(numbers) == len(estimate.TABLE[part]), part
        if part in curve.OPERATIONS:
            cycles = sum(row.executed.inside.get(name, 0.0) for name in curve.OPERATIONS[part])
            estimated = float(np.dot(numbers, estimate.TABLE[part]))
            assert estimated == pytest.approx(cycles, rel=0.2), part


def test_constants_are_the_simulators():
    from ftervit import estimate

    assert (estimate.CLOCK, estimate.SPEEDUP) == (CLOCK_HZ, SEPARATE_SPEEDUP)


def test_coefficients_are_found_again():
    """Of made-up runs; a column that would need a negative one gets 0."""
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 1000, (40, 3)).astype(float)
    whole = counts @ [2.0, 3.0, 0.5]
    assert curve.fitted(counts, whole, whole) == pytest.approx([2.0, 3.0, 0.5])
    found = curve.fitted(counts, counts @ [2.0, 3.0, -0.5], whole)
    assert found[2] == 0 and (found >= 0).all()


def test_a_table_is_written_where_it_was(tmp_path):
    path = tmp_path / "estimate.py"
    before = (ROOT / "firmware" / "ftervit" / "estimate.py").read_text()
    path.write_text(before)
    namespace = {}
    curve.write_table({"linear": [1.5, 20000.0], "waiting": [0.0, 2.0]}, path)
    exec(re.search(r"^TABLE = \{.*?^\}", path.read_text(), re.MULTILINE | re.DOTALL)[0], namespace)
    assert namespace["TABLE"] == {"linear": (1.5, 20000), "waiting": (0, 2)}
    assert path.read_text().split("TABLE = {")[0] == before.split("TABLE = {")[0]
    assert path.read_text().split("\n}\n", 1)[1] == before.split("\n}\n", 1)[1]


def test_rows_and_their_table(tmp_path, row, monkeypatch):
    monkeypatch.setattr(curve, "execute", lambda sizes, cores, folder: row.executed)
    found = curve.rows(tmp_path, {"depth": [(5, 96, 1)]}, [(24, 768, 24)])
    assert [(r.sweep, r.cores, r.executed is None) for r in found] == [
        *(("depth", 1, False), ("depth", 2, False), ("beyond", 1, True), ("beyond", 2, True))
    ]
    numbers = json.loads(json.dumps([r.numbers() for r in found]))
    assert numbers[0]["tokens"] == 26 and numbers[0]["mac_per_cycle"] > 1 and numbers[3]["seconds"] is None
    assert numbers[2]["estimated_seconds"] > 10 and numbers[2]["psram_bytes"] > 1_000_000
    text = curve.document(found, found)
    assert "| 577 | 768 | 24 | 2 |" in text and re.search(r"by \d+\.\d % on average and by \d+\.\d % at most", text)


def test_a_printed_plan_shows_the_estimate(board):
    """On the board as on the PC."""
    from ftervit import estimate
    from ftervit.plan import Plan

    sizes = curve.network(8, 192, 4)
    for cores in (1, 2):
        ternary.cores(cores)
        try:
            plan = Plan(sizes, free=FREE)
        finally:
            ternary.cores(1)
        line = str(plan).splitlines()[-1]
        words = r"for (\d) cores?; on an ESP32-S3 a picture takes about ([\d.]+) ms, ([\d.]+) of them waiting"
        shown = re.match(words, line).groups()
        waiting = 1000 * estimate.cycles(plan)[1] / estimate.CLOCK
        assert shown == (str(cores), f"{1000 * estimate.seconds(plan):.1f}", f"{waiting:.1f}")
        script = f"import ternary\nfrom ftervit.plan import Plan\nternary.cores({cores})\n"
        script += f"print(Plan({sizes!r}, free={FREE!r}))"
        assert board.mpremote("exec", script).stdout.splitlines()[-1] == line


def test_heads_that_the_fast_kernels_do_not_take_are_named(tmp_path):
    """Executed machine code says how much slower they are."""
    slow, fast = (curve.network(4, 288, 1, heads=heads) for heads in (4, 9))
    assert "heads of 72 values: attention is many times" in str(curve.planned(slow, 1)).splitlines()[-1]
    assert "heads of" not in str(curve.planned(fast, 1))
    cycles = [curve.execute(sizes, 1, tmp_path).inside["attention"] for sizes in (slow, fast)]
    assert cycles[0] > 5 * cycles[1]
