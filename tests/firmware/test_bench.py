# SPDX-License-Identifier: MIT
"""bench.py on the virtual board: the table of a network's layers, and the soak test."""

import re
import sys
from random import Random

import bench
import ftervit
import pytest

from host_sim.chip.curve import network
from host_sim.random_models import assembled
from tests.conftest import ROOT

BENCH = ROOT / "firmware" / "bench.py"
MODEL = "models/fashion_mnist.safetensors"
ATTEMPTS = 4  # this machine may be busy between two layers
PARTS = ("norm1", "attn.qkv", "attn", "attn.proj", "norm2", "mlp.fc1", "mlp.act", "mlp.fc2")


def table(output):
    """Layer -> (calls, milliseconds, MACs) of a printed table; empty cells are 0."""
    rows = {}
    for line in output.splitlines():
        name, calls, spent, macs = line[:38].strip(), line[38:45].strip(), line[45:56].strip(), line[56:70].strip()
        if re.fullmatch(r"[\d.]+", spent):
            rows[name] = int(calls or 0), float(spent), int(macs or 0)
    return rows


def changed(tmp_path, **constants):
    """bench.py with other values for its constants."""
    text = BENCH.read_text()
    for name, value in constants.items():
        text, count = re.subn(rf"^{name} = \S+$", f"{name} = {value!r}", text, flags=re.MULTILINE)
        assert count == 1, name
    path = tmp_path / "changed.py"
    path.write_text(text)
    return path


def expected_names(model):
    names = [f"patch_embed.backbone.{i}.{part}" for i in range(3) for part in ("conv", "act")]
    names.append("patch_embed.proj")
    names += [f"blocks.{i}.{part}" for i in range(len(model.blocks)) for part in PARTS]
    return [*names, "norm", "head"]


def check(output, shipped, total):
    """Every layer has its row, the rows sum up to the picture, MACs to those of the network. Returns the share of time
    between layers."""
    model = ftervit.VisionTransformer.load(str(shipped))
    rows = table(output)
    assert list(rows) == [*expected_names(model), "(between layers)", total], output
    *parts, whole = rows.values()
    assert all(calls == 1 for calls, _, _ in list(rows.values())[:-2])
    assert sum(spent for _, spent, _ in parts) == pytest.approx(whole[1], abs=0.1)
    assert sum(macs for _, _, macs in parts) == whole[2] == bench.macs_of(model) + 96 * 10
    assert rows["blocks.1.mlp.fc1"][2] == 17 * 96 * 384
    assert rows["blocks.1.attn"][2] == 2 * 17 * 17 * 96
    return rows["(between layers)"][1] / whole[1]


def test_layers_on_the_board(board, shipped, tmp_path):
    between, script = [], changed(tmp_path, LAYERS=True)
    # A PC's SIMD backends take so little time that the calls between layers are a third of it.
    script.write_text(script.read_text().replace("import ternary\n", "import ternary\n\nternary.use('reference')\n", 1))
    for _ in range(ATTEMPTS):
        result = board.mpremote("run", script)
        assert result.returncode == 0, result.stdout
        between.append(check(result.stdout, shipped, MODEL))
    assert min(between) < 0.2, between


def test_layers_on_this_machine(shipped, monkeypatch, capsys):
    monkeypatch.chdir(ROOT / "firmware")
    monkeypatch.setattr(sys, "argv", ["bench.py", "--layers"])
    between = []
    for _ in range(ATTEMPTS):
        bench.main()
        between.append(check(capsys.readouterr().out, shipped, MODEL))
    assert min(between) < 0.4, between


def test_layers_in_passes_and_back(odd_model, monkeypatch, capsys):
    """A plan with several passes calls layers several times; then nothing is timed and the logits are the same."""
    model = ftervit.VisionTransformer.load(str(odd_model))
    picture = bytes(28 * 28)
    before = list(model(picture)), ftervit.TernaryBitLinear.__call__
    model._scratch.work.rows = 2
    monkeypatch.setattr(bench, "load", lambda path: model)
    rows = bench.layers(str(odd_model))
    assert rows["blocks.0.mlp.fc1"][0] > 1
    assert rows["blocks.0.mlp.fc1"][2] == 5 * 33 * model.blocks[0].mlp.hidden
    assert (list(model(picture)), ftervit.TernaryBitLinear.__call__) == before


def test_layers_with_some_heads_at_a_time(tmp_path, monkeypatch, capsys):
    """As a plan with little memory has them: q, k and v of one head after the other."""
    path = tmp_path / "heads.safetensors"
    path.write_bytes(assembled(Random(1), network(4, 64, 1, heads=4, patch=4, classes=5)))
    model = ftervit.VisionTransformer.load(str(path))
    monkeypatch.setattr(bench, "load", lambda path: model)
    together, work, heads = bench.layers(""), model._scratch.work, model.blocks[0].attn.heads
    work.whole, work.qkv = True, work.qkv[: 2 * model.tokens * model.embed_dim // heads]
    apart = bench.layers("")
    assert together["blocks.0.attn.qkv"][0] == 1 and apart["blocks.0.attn.qkv"][0] == 3 * heads
    assert {name: row[2] for name, row in apart.items()} == {name: row[2] for name, row in together.items()}


def test_soak(board, tmp_path):
    result = board.mpremote("run", changed(tmp_path, SOAK=20))
    assert re.search(r"shipped_model: 20 runs on 1 cores: logits [0-9a-f]{8}, \d+ bytes free", result.stdout)
    assert "20 runs on 2 cores" in result.stdout
    assert result.stdout.endswith("\n0 faults\n"), result.stdout


def test_soak_counts_what_differs(shipped, monkeypatch, capsys):
    logits = iter([b"a", b"a", b"b", b"a", b"a", b"a", b"a", b"b"])  # the first one before all runs, on each core
    free = iter([5000, 5000 - bench.KEPT, 5000, 5000 - bench.KEPT - 1])
    monkeypatch.setattr(bench, "MODELS", {"shipped": str(shipped)})
    monkeypatch.setattr(bench, "network", lambda path: (lambda: next(logits), 1))
    monkeypatch.setattr(bench, "free_bytes", lambda: next(free))
    assert bench.soak(3) == 3
    output = capsys.readouterr().out
    assert "run 1 on 1 cores: logits" in output
    assert "run 2 on 2 cores: logits" in output
    assert "5000 bytes were free before 3 runs, 3975 are after" in output
