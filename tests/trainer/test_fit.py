# SPDX-License-Identifier: MIT
"""The training loop: resume after an interruption, and which epoch's weights are kept."""

import json

import pytest
import torch
from torch import nn

from trainer.checkpoint import load_if_present, save_state
from trainer.data import Split
from trainer.errors import TrainerError
from trainer.fit import Run, accuracy, fit


class Interrupted(Exception):
    pass


def split(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 28, 28), generator=generator, dtype=torch.uint8)
    return Split(images, (images.float().mean((1, 2)) > 127.5).long())


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(28 * 28, 2)
        self.dropout = nn.Dropout(0.1)

    def forward(self, images):
        return self.net(self.dropout(images.flatten(1).float() / 255 - 0.5))


def run(directory, epochs=4, **changes):
    torch.manual_seed(3)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * 4)
    settings = dict(
        name="test",
        model=model,
        loss=lambda model, images, labels: nn.functional.cross_entropy(model(images), labels),
        optimizer=optimizer,
        schedule=schedule,
        training=split(70, 1),
        validation=split(30, 2),
        epochs=epochs,
        batch=16,
        seed=3,
        directory=directory,
    )
    return Run(**(settings | changes))


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def interrupt_at(epoch):
    def start_epoch(current):
        if current == epoch:
            raise Interrupted
        return True

    return start_epoch


def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole")
    best = fit(whole).best
    for epoch in (1, 3):
        with pytest.raises(Interrupted):
            fit(run(tmp_path / "parts", start_epoch=interrupt_at(epoch)))
    last = run(tmp_path / "parts")
    assert fit(last).best == best
    assert torch.equal(weights(last), weights(whole))


def test_a_finished_run_is_not_repeated(tmp_path):
    fit(run(tmp_path))
    fit(run(tmp_path))
    assert len((tmp_path / "test.jsonl").read_text().splitlines()) == 4


def test_best_epoch_is_kept(tmp_path):
    last = run(tmp_path)
    best = fit(last).best
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert best == max(row["validation_top1"] for row in rows)
    assert accuracy(last.model, last.validation) == best


def test_ineligible_epochs_are_never_the_best(tmp_path):
    last = run(tmp_path, start_epoch=lambda epoch: epoch == 3)
    best = fit(last).best
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert best == rows[3]["validation_top1"]


def test_a_half_written_checkpoint_never_replaces_a_good_one(tmp_path):
    path = tmp_path / "state.pt"
    save_state({"epoch": 1}, path)
    with pytest.raises(Exception, match=r"pickle|lambda"):
        save_state({"epoch": lambda: None}, path)
    assert load_if_present(path) == {"epoch": 1}


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "state.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainerError, match=r"state\.pt: not a readable checkpoint"):
        load_if_present(path)
