# SPDX-License-Identifier: MIT
"""Two processes under torchrun train as one does."""

import os
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT
from tests.runs import FOREVER, data

CHANGES = ("student.optimizer=sgd", "student.batch=15", "student.epochs=2", "compute.table=true")
CHANGES += (f"compute.checkpoint_minutes={FOREVER}", "model.options.drop_rate=0.0")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29617")


def run(directory, torchrun, *changes):
    """Train in a program of its own or in two; returns what it printed."""
    directory.mkdir(exist_ok=True)
    command = [sys.executable, "-W", "ignore", *(TORCHRUN if torchrun else ()), "-m", "tests.runs", "train", directory]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*map(str, command), *CHANGES, *changes], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout + result.stderr


def state(directory, rank=0):
    return torch.load(directory / f"weights-{rank}.pt")


@pytest.mark.parametrize("variant", ["twn", "learned"])
def test_two_processes_train_as_one(tmp_path, variant):
    """Batches of 15, which they share as 8 and 7; processes but the first may not write."""
    changes = (f"ternary.rule.name={variant}", "student.ema=0.5")
    alone, both = tmp_path / "alone", tmp_path / "both"
    run(alone, False, *changes)
    said = run(both, True, *changes)
    one, first, second = state(alone), state(both), state(both, 1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first.keys() == one.keys()
    for name, tensor in one.items():
        assert torch.allclose(first[name], tensor, rtol=1e-4, atol=1e-5), name
    assert said.count("student 1/2: loss") == 1
    assert len(list(both.glob("tables/*.npy"))) == 1
    assert "destroy_process_group" not in said


def test_statistics_of_a_stem_are_the_same_in_both(tmp_path):
    """Each has BatchNorm's of its own share while training; what is made from them must not differ."""
    run(tmp_path, True, "model.stem=[[4, 3, 2, 1]]", "model.patch=[7, 7, 0]", "student.start=output_aware")
    first, second = state(tmp_path), state(tmp_path, 1)
    assert any(name.endswith("running_var") for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_shares_of_a_batch_make_it_up():
    pictures = data(70, 1)
    for whole, *shares in zip(
        pictures.batches(15, 3, 0), *(pictures.batches(15, 3, 0, rank=rank, world=2) for rank in (0, 1)), strict=True
    ):
        assert [len(share.labels) for share in shares] == [8, 7]
        assert sorted(whole.keys.tolist()) == sorted(torch.cat([share.keys for share in shares]).tolist())
