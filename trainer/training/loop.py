# SPDX-License-Identifier: MIT
"""The training loop that all phases share: steps, validation, log, checkpoints, resume, more than one process."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.task import TrainingTask
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from trainer.config import ComputeSettings, Phase
from trainer.data import Batch, Pictures
from trainer.data.jitter import coarsened, resized
from trainer.errors import TrainerError
from trainer.files import write_atomically
from trainer.model.confusion import Confusion
from trainer.model.predict import autocast, device, limited_threads
from trainer.training.checkpoint import ANEW, load_phase, made_for, save_state
from trainer.training.manifest import checkpoint_path
from trainer.training.processes import Processes

STATISTICS_STEPS = 50  # of training pictures, for the BatchNorms of averaged weights


@dataclass
class Run:
    """What one training run needs.

    model: trained by `task`, whose forward takes (images, labels, keys=.., whole=..) and returns {"loss": scalar, ..};
    directory: checkpoint and log go there; manifest: digest of the run's manifest, which its checkpoint bears;
    start_epoch: called with the model (and again with the averaged one), the epoch's number and the steps of it that an
    interrupted run has done; answers whether this epoch's weights may become the best ones; after_step: called with the
    model and the learning rate after each step.
    """

    name: str
    model: nn.Module
    task: TrainingTask
    training: Pictures
    validation: Pictures
    phase: Phase
    compute: ComputeSettings
    seed: int
    directory: Path
    processes: Processes
    manifest: str = ""
    start_epoch: Callable[[nn.Module, int, int], bool] = lambda model, epoch, step: True
    after_step: Callable[[nn.Module, float], None] = lambda model, rate: None

    @property
    def checkpoint(self) -> Path:
        """Path of the run's state."""
        return checkpoint_path(self.directory, self.name)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.training.steps(self.phase.batch)


@dataclass
class Progress:
    """Progress of a run: completed epochs, steps and summed loss of the current one; best score and weights of the
    best epoch; a log row for each epoch. The score is validation top-1 in percent, or balanced accuracy where classes
    are drawn equally often."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    best: float = -1.0
    best_weights: dict[str, Tensor] | None = None
    log: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """A run with its optimizer, schedule and averaged weights, all of which a checkpoint holds."""

    def __init__(self, run: Run):
        phase, self.run = run.phase, run
        run.model.to(device(run.model))
        (epochs, rate), (last_epochs, last_rate) = phase.cosines[0], phase.cosines[-1]
        total = run.steps * epochs
        warmup = round(total * phase.warmup)
        if run.steps == 0 or warmup == 0:
            raise TrainerError(
                f"[{run.name}] {total} steps are too few for batch {phase.batch} and warmup {phase.warmup}: "
                f"{len(run.training)} training pictures; use a smaller batch"
            )
        self.optimizer = create_optimizer_v2(
            run.model, phase.optimizer, lr=phase.learning_rate, weight_decay=phase.weight_decay
        )
        # timm's rounding may take the first step of the second cosine for the end of the first: a learning rate of 0.
        self.schedule = CosineLRScheduler(
            self.optimizer,
            total,
            cycle_mul=last_epochs / epochs,
            cycle_decay=last_rate / rate,
            cycle_limit=len(phase.cosines),
            warmup_t=warmup,
            warmup_lr_init=rate / 25,
            t_in_epochs=False,
        )
        self.ema = ModelEmaV3(run.model, decay=phase.ema, use_warmup=True) if phase.ema else None
        self.progress = Progress()
        self.saved = time.monotonic()
        if run.compute.compile:
            run.task.trainable_module = torch.compile(run.task.trainable_module)
        if run.processes.world > 1:
            devices = [torch.cuda.current_device()] if device().type == "cuda" else None
            # Learned scales get no gradient in full precision.
            unused = any(name.endswith(".scale") for name, _ in run.model.named_parameters())
            run.task.prepare_distributed(devices, find_unused_parameters=unused)

    @property
    def kept_model(self) -> nn.Module:
        """The model whose weights are validated and kept."""
        return self.run.model if self.ema is None else self.ema.module

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        parts = {"model": self.run.model, "optimizer": self.optimizer}
        if self.ema is not None:
            parts["ema"] = self.ema
        states = {name: part.state_dict() for name, part in parts.items()}
        made = made_for(self.run.name, self.run.manifest)
        return states | {"progress": asdict(self.progress), "made_for": made}

    def resume(self) -> None:
        """Continue from the run's last checkpoint, if there is one."""
        path = self.run.checkpoint
        state = load_phase(path, self.run.name, self.run.manifest)
        if state is None:
            return
        try:
            self.run.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
            self.progress = Progress(**state["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainerError(f"{path}: does not fit the model ({error}); {ANEW}") from None
        if self.run.processes.first:
            self.write_log()  # a run that was killed behind its checkpoint has not written it
        if self.progress.epoch < self.run.phase.epochs:
            done, step = self.progress.epoch, self.progress.step
            where = f", step {step} of {self.run.steps}" if step else ""
            self.run.processes.say(f"{self.run.name}: resuming after epoch {done} of {self.run.phase.epochs}{where}")

    def write_log(self) -> None:
        """Write the log of the epochs, a line of JSON each."""
        rows = "".join(json.dumps(row) + "\n" for row in self.progress.log)
        write_atomically(rows.encode(), self.run.directory / f"{self.run.name}.jsonl")

    def save(self) -> None:
        """Write the checkpoint, and the log beside it."""
        if self.run.processes.first:
            save_state(self.state(), self.run.checkpoint)
            self.write_log()
        self.saved = time.monotonic()

    def step(self, batch: Batch, number: int) -> float:
        """One optimizer step, the `number`-th of the epoch; returns the loss."""
        run, epoch = self.run, self.progress.epoch
        update = epoch * run.steps + number
        self.schedule.step_update(update)
        # Dropout and other random layers depend on the step alone, so a resumed run draws the same numbers.
        torch.manual_seed((run.seed * 1_000_003 + update) * 1_009 + run.processes.rank)
        where = device(run.model)
        with where, autocast(run.compute.amp):
            whole = batch.images.to(where)
            seen = resized(coarsened(whole, run.phase.coarse), run.phase.side(epoch) or whole.shape[1])
            loss = run.task(seen, batch.labels.to(where), keys=batch.keys, whole=whole)["loss"]
        # The processes' gradients are averaged, whatever their shares of the batch.
        loss = loss * (len(batch.labels) * run.processes.world / run.phase.batch)
        if not loss.isfinite():
            raise TrainerError(f"{run.name}: the loss is {loss.item()} at epoch {epoch + 1}, step {number + 1}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(run.model.parameters(), run.phase.clip)
        self.optimizer.step()
        run.after_step(run.model, self.optimizer.param_groups[0]["lr"])
        if self.ema is not None:
            self.ema.update(run.model, step=update)
        return loss.item()

    def start_epoch(self) -> bool:
        """Whether the weights of the current epoch may become the best ones."""
        # In the same order in all processes.
        models, progress = dict.fromkeys((self.run.model, self.kept_model)), self.progress
        eligible = [self.run.start_epoch(model, progress.epoch, progress.step) for model in models]
        for model in models:
            self.run.processes.share(model)
        return all(eligible)

    def epoch(self) -> None:
        """Train the rest of the current epoch."""
        run, progress = self.run, self.progress
        started = time.monotonic() - progress.seconds
        run.task.train()
        arguments = (run.phase.batch, run.seed, progress.epoch, progress.step, run.processes.rank, run.processes.world)
        title = f"{run.name} {progress.epoch + 1}/{run.phase.epochs}"
        quiet = None if run.processes.first else True  # None: no bar unless stderr is a terminal
        with tqdm(total=run.steps, initial=progress.step, desc=title, leave=False, disable=quiet) as bar:
            for batch in run.training.batches(*arguments):
                loss = self.step(batch, progress.step)
                progress.step += 1
                progress.loss += loss
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()
                if time.monotonic() - self.saved > 60 * run.compute.checkpoint_minutes and progress.step < run.steps:
                    progress.seconds = time.monotonic() - started
                    self.save()
        progress.seconds = time.monotonic() - started

    def settle_statistics(self) -> None:
        """Recompute the BatchNorm statistics for the averaged weights: these round to other trits, so the averages of
        the trained model's statistics do not fit them."""
        run = self.run
        if self.ema is not None and run.processes.first:
            batches = run.training.batches(run.phase.batch, run.seed, self.progress.epoch, 0, 0, 1)
            side = run.phase.side(self.progress.epoch) or run.training.size
            pictures = (resized(batch.images, side) for batch in islice(batches, STATISTICS_STEPS))
            with torch.no_grad():
                update_bn(pictures, self.ema.module, device(run.model))

    def close_epoch(self, eligible: bool) -> None:
        """Validate, keep the weights if they are the best, log, save."""
        run, progress = self.run, self.progress
        self.settle_statistics()
        loss = run.processes.mean(progress.loss / run.steps)
        found = Confusion.of_model(self.kept_model, run.validation) if run.processes.first else None
        top1, balanced = (
            run.processes.world * run.processes.mean(value)
            for value in ((found.top1, found.balanced) if found else (0.0, 0.0))
        )
        score = balanced if run.training.balanced else top1
        if eligible and score > progress.best:
            progress.best = score
            weights = self.kept_model.state_dict()
            progress.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        row = {"epoch": progress.epoch + 1, "loss": loss, "validation_top1": top1, "seconds": progress.seconds}
        if run.training.balanced:
            row["validation_balanced"] = balanced
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        progress.log.append(row)
        progress.epoch, progress.step, progress.loss, progress.seconds = progress.epoch + 1, 0, 0.0, 0.0
        self.save()
        left = (run.phase.epochs - progress.epoch) * row["seconds"]
        run.processes.say(
            f"{run.name} {progress.epoch}/{run.phase.epochs}: loss {loss:.4f}, validation top-1 {top1:.2f} %, "
            + (f"balanced {balanced:.2f} %, " if run.training.balanced else "")
            + f"{row['seconds']:.0f} s"
            + (f", {math.ceil(left / 60)} min left" if left else "")
        )


def fit(run: Run) -> Progress:
    """Train from the start or the last checkpoint to the end; leaves the best epoch's weights in the model.

    The best epoch is the one with the highest validation accuracy (Progress.best).
    """
    with limited_threads(run.compute.threads):
        trainer = Trainer(run)
        trainer.resume()
        while trainer.progress.epoch < run.phase.epochs:
            eligible = trainer.start_epoch()
            trainer.epoch()
            trainer.close_epoch(eligible)
        run.model.load_state_dict(trainer.progress.best_weights)
        run.processes.share(run.model)
        run.processes.wait()
    return trainer.progress
