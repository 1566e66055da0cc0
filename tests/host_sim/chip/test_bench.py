# SPDX-License-Identifier: MIT
"""`just bench-s3` on a small network: its rows, their parts and the plan's limit."""

import pytest
import ternary

from host_sim.chip import bench
from host_sim.lx7.timing import CLOCK_HZ
from tests.tiny import calibrated, small
from trainer.modelfile.export import export

KEYS = {"name", "macs", "cycles", "flash_cycles", "mac_per_cycle", "cores", "seconds"}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A model file with 65 tokens of 32 channels; its activations take 50 KB."""
    sizes = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 4}
    path = tmp_path_factory.mktemp("bench") / "model.safetensors"
    export(calibrated(small("bench", img_size=32, channels=3, classes=4, **sizes)), path)
    return path


@pytest.fixture(scope="module")
def row(network):
    """Its row, planned for 28 KB."""
    yield bench.network_row("small", network, 28 * 1024, 2)
    ternary.use("host")


def test_a_row_has_what_readers_of_the_json_want(row):
    numbers = row.numbers()
    assert set(numbers) > KEYS
    modelled, free = row.runs["modelled"], row.runs["free flash"]
    assert numbers["cycles"] == round(free.cycles)
    assert numbers["flash_cycles"] == round(modelled.cycles - free.cycles) >= 0
    # 64 patches of 48 values; two blocks of 65 tokens.
    block = 65 * (4 * 32 * 32 + 2 * 32 * 128) + 2 * 65 * 65 * 32
    assert numbers["macs"] == 64 * 48 * 32 + 2 * block
    inside = modelled.cycles - modelled.external
    assert numbers["seconds"] == pytest.approx((inside / 1.6 + modelled.external) / CLOCK_HZ)
    assert numbers["seconds_bound"] < numbers["seconds"] < numbers["seconds_one_core"]
    # The weights of so small a network stay in the cache.
    assert numbers["seconds_without_preload"] >= numbers["seconds"]


def test_parts_add_up(row):
    run = row.runs["modelled"]
    assert sum(run.parts.values()) == pytest.approx(run.cycles, rel=1e-6)
    assert all(cycles >= 0 for cycles in run.parts.values()), run.parts
    assert run.parts["products of linear layers"] >= run.macs / 16 * 0.8


def test_plans(network, monkeypatch):
    """A budget's, whose memory the simulated chip does not exceed, and by default the chip's, less 64 KB for others."""
    assert " of 4096 bytes" in bench.plan_of(network, 4096, 2) and "PSRAM" in bench.plan_of(network, 28 * 1024, 2)
    run = bench.network_run(bench.TIMINGS["modelled"], network, None, 2)
    small = bench.network_run(bench.TIMINGS["modelled"], network, 4096, 2)
    assert run.macs == small.macs and run.external < small.external
    plan = bench.plan_of(network, None, 2)
    assert "65536 bytes of SRAM stay free in one block" in plan and "for 2 cores" in plan
    # What nobody leaves to others is noticed.
    monkeypatch.setattr(bench, "FREE", (50_000, 40_000))
    with pytest.raises(bench.Failure, match=r"a block of \d+ bytes is left to others, not of 65536"):
        bench.network_run(bench.TIMINGS["modelled"], network, None, 2)
    ternary.use("host")


def test_the_table_names_targets_and_bounds(row):
    line = bench.cells(row)
    assert line[0] == "small" and line[8] == "2"
    assert "at the 2x bound" in bench.network_lines([row])[0]
    assert bench.part_lines(row)[-1][0] == "bound: 16 products a cycle"


def test_an_unknown_network_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "MODELS", tmp_path)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench.subprocess, "run", lambda *arguments, **options: None)
    with pytest.raises(bench.Failure, match="nonsense: no such network"):
        bench.network_path("nonsense")
