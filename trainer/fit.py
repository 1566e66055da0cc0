"""The training loop that teacher and student share: epochs, validation, log, resume."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from trainer.checkpoint import load_if_present, save_state
from trainer.data import Split, batches


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
        return self.directory / f"{self.name}.pt"


def predictions(model: nn.Module, images: Tensor, batch: int = 500, label: str = "") -> Iterator[Tensor]:
    """Logits of `images` (uint8 [count, height, width]), batch by batch, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        for start in tqdm(range(0, len(images), batch), label, disable=not label, leave=False):
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


def fit(run: Run) -> float:
    """Train to the end, or from the last checkpoint to the end; leaves the best epoch's weights in the model.

    The best epoch is the one with the highest validation accuracy; returned in percent.
    """
    state = load_if_present(run.checkpoint)
    first, best, best_weights = 0, -1.0, None
    if state is not None:
        run.model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.schedule.load_state_dict(state["schedule"])
        first, best, best_weights = state["epoch"], state["best"], state["best_weights"]
        print(f"{run.name}: resuming after epoch {first} of {run.epochs}")
    for epoch in range(first, run.epochs):
        started = time.time()
        torch.manual_seed(run.seed * 1_000_003 + epoch)
        eligible = run.start_epoch(epoch)
        loss = train_epoch(run, epoch)
        top1 = accuracy(run.model, run.validation)
        if eligible and top1 > best:
            best = top1
            best_weights = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        save_state(
            {
                "model": run.model.state_dict(),
                "optimizer": run.optimizer.state_dict(),
                "schedule": run.schedule.state_dict(),
                "epoch": epoch + 1,
                "best": best,
                "best_weights": best_weights,
            },
            run.checkpoint,
        )
        row = {"epoch": epoch + 1, "loss": loss, "validation_top1": top1, "seconds": time.time() - started}
        with open(run.directory / f"{run.name}.jsonl", "a") as log:
            log.write(json.dumps(row) + "\n")
        print(f"{run.name} {epoch + 1}/{run.epochs}: loss {loss:.4f}, validation top-1 {top1:.2f} %")
    run.model.load_state_dict(best_weights)
    return best
