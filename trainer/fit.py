# SPDX-License-Identifier: MIT
"""The training loop that teacher and student share: epochs, validation, log, resume."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from trainer.checkpoint import load_if_present, save_state, write_atomically
from trainer.data import Split, batches

STATEFUL = ("model", "optimizer", "schedule")  # the parts of a Run that a checkpoint holds


def checkpoint_path(directory: Path, name: str) -> Path:
    """Where the state of the run `name` lies."""
    return directory / f"{name}.pt"


@dataclass
class Run:
    """What one training run needs.

    loss: (model, images uint8 [batch, height, width], labels) -> scalar; directory: checkpoint and log go there;
    start_epoch: called with the epoch's number, answers whether this epoch's weights may become the best ones.
    """

    name: str
    model: nn.Module
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    training: Split
    validation: Split
    epochs: int
    batch: int
    seed: int
    directory: Path
    start_epoch: Callable[[int], bool] = lambda epoch: True

    @property
    def checkpoint(self) -> Path:
        """Where the run's state lies."""
        return checkpoint_path(self.directory, self.name)


def predictions(model: nn.Module, images: Tensor, batch: int = 500, label: str = "") -> Iterator[Tensor]:
    """Logits of `images` (uint8 [count, height, width]), batch by batch, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        for start in tqdm(range(0, len(images), batch), label, disable=None if label else True, leave=False):
            yield model(images[start : start + batch])


def accuracy(model: nn.Module, split: Split) -> float:
    """Top-1 accuracy in percent."""
    hits = torch.cat(list(predictions(model, split.images))).argmax(1) == split.labels
    return 100 * hits.double().mean().item()


def train_epoch(run: Run, epoch: int) -> float:
    """One pass over the training data; returns the mean loss."""
    run.model.train()
    steps = len(run.training) // run.batch
    total = 0.0
    bar = tqdm(
        batches(run.training, run.batch, run.seed, epoch),
        f"{run.name} {epoch + 1}/{run.epochs}",
        total=steps,
        leave=False,
        disable=None,  # off where nobody watches; the line after each epoch is for logs
    )
    for images, labels in bar:
        loss = run.loss(run.model, images, labels)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        run.optimizer.step()
        run.schedule.step()
        total += loss.item()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return total / steps


@dataclass
class Progress:
    """How far a run has come: epochs done, the best one's validation top-1 in percent and weights, a row each."""

    epoch: int = 0
    best: float = -1.0
    best_weights: dict[str, Tensor] | None = None
    log: list[dict[str, float]] = field(default_factory=list)


def resume(run: Run) -> Progress:
    """Load the run's last checkpoint into model, optimizer and schedule; without one, start from nothing."""
    state = load_if_present(run.checkpoint)
    if state is None:
        return Progress()
    for name in STATEFUL:
        getattr(run, name).load_state_dict(state[name])
    progress = Progress(**state["progress"])
    if progress.epoch < run.epochs:
        print(f"{run.name}: resuming after epoch {progress.epoch} of {run.epochs}")
    return progress


def save(run: Run, progress: Progress) -> None:
    """Write the checkpoint, and the log that people and tools read beside it."""
    state = {name: getattr(run, name).state_dict() for name in STATEFUL}
    save_state({**state, "progress": vars(progress)}, run.checkpoint)
    rows = "".join(json.dumps(row) + "\n" for row in progress.log)
    write_atomically(rows.encode(), run.directory / f"{run.name}.jsonl")


def fit(run: Run) -> Progress:
    """Train to the end, or from the last checkpoint to the end; leaves the best epoch's weights in the model.

    The best epoch is the one with the highest validation accuracy.
    """
    progress = resume(run)
    for epoch in range(progress.epoch, run.epochs):
        started = time.time()
        torch.manual_seed(run.seed * 1_000_003 + epoch)
        eligible = run.start_epoch(epoch)
        loss = train_epoch(run, epoch)
        top1 = accuracy(run.model, run.validation)
        if eligible and top1 > progress.best:
            progress.best = top1
            progress.best_weights = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        progress.epoch = epoch + 1
        seconds = time.time() - started
        progress.log.append({"epoch": epoch + 1, "loss": loss, "validation_top1": top1, "seconds": seconds})
        save(run, progress)
        print(f"{run.name} {epoch + 1}/{run.epochs}: loss {loss:.4f}, validation top-1 {top1:.2f} %")
    run.model.load_state_dict(progress.best_weights)
    return progress
