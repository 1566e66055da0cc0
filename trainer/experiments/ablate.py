# SPDX-License-Identifier: MIT
"""Ablation: what each choice of the method contributes; one change per row, equal budgets, several seeds."""

import fcntl
import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from host_sim.tables import markdown
from trainer.config import Config, load_config
from trainer.errors import TrainerError
from trainer.files import write_atomically, write_json
from trainer.model.predict import accuracy
from trainer.training.loop import Progress
from trainer.training.phases import Recipe, calibrate_student, prepare_teacher, recover, train_control, train_student

ROWS: dict[str, tuple[str, ...]] = {
    "base: TWN per channel, KL + 0.3 label, all ternary": (),
    "rule absmean (BitNet b1.58)": ("ternary.rule.name=absmean",),
    "rule least squares": ("ternary.rule.name=least_squares",),
    "rule learned scale": ("ternary.rule.name=learned",),
    "one scale per tensor": ("ternary.rule.per=tensor",),
    "4 of 8 epochs in full precision": ("student.full_precision_epochs=4",),
    "4 of 8 in full precision, output-aware start": ("student.full_precision_epochs=4", "student.start=output_aware"),
    "dampening 1": ("student.dampening=1.0",),
    "4 of 8 in full precision, output-aware start, dampening 1": (
        "student.full_precision_epochs=4",
        "student.start=output_aware",
        "student.dampening=1.0",
    ),
    "KL only": ("distillation.label_weight=0.0",),
    "KL + label + features": ("distillation.feature_weight=1.0",),
    "averaged weights (EMA 0.998)": ("student.ema=0.998",),
    "LayerNorm in full precision": ("ternary.layernorm=false",),
    "stem and patch embedding in full precision": ("ternary.patch_embed=false",),
    "head in full precision": ("ternary.head=false",),
    "per-token activation scales": ("ternary.activations=per_token",),
}
CONTROL = "FP32 control"


@dataclass(frozen=True)
class Outcome:
    """Validation top-1 in percent of one seed.

    calibrated, recovered: in SPEC's integers, before and after recovery; None where SPEC has no form for the row.
    """

    trained: float
    calibrated: float | None
    recovered: float | None


@contextmanager
def claimed(directory: Path) -> Iterator[bool]:
    """Whether this process locked `directory`; this is how processes that run at the same time share the rows."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "claim", "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # see training.manifest.locked
        except (BlockingIOError, PermissionError):
            yield False
        else:
            yield True


def run_row(config: Config, directory: Path, control: bool) -> Outcome:
    """Train one row with one seed."""
    with Recipe.opened(config, directory) as recipe:
        return outcome_of(recipe, control)


def outcome_of(recipe: Recipe, control: bool) -> Outcome:
    """`run_row` of an opened recipe."""
    config = recipe.config
    teacher, _ = prepare_teacher(recipe)
    if control:
        return Outcome(trained(train_control(recipe, teacher)[1]).best, None, None)
    student, progress = train_student(recipe, teacher)
    calibrated = recovered = None
    if config.ternary.complete:
        calibrate_student(recipe, student)
        calibrated = accuracy(student, recipe.validation)
        recovered = trained(recover(recipe, teacher, student)).best
    return Outcome(trained(progress).best, calibrated, recovered)


def trained(progress: Progress | None) -> Progress:
    """The progress of a phase; TrainerError where the settings skip it."""
    if progress is None:
        raise TrainerError("student.epochs and recovery.epochs must be at least 1 for an ablation")
    return progress


def write_results(results: dict[str, list[Outcome]], config: Config, output: Path) -> None:
    """Write the results so far as JSON: for each row its changes, and a number for each seed."""
    rows = [
        {
            "name": name,
            "changes": list(ROWS.get(name, ("student.full_precision_epochs=all",))),
            **{key: [getattr(outcome, key) for outcome in outcomes] for key in ("trained", "calibrated", "recovered")},
        }
        for name, outcomes in results.items()
    ]
    budget = {"epochs": config.student.epochs, "recovery_epochs": config.recovery.epochs, "batch": config.student.batch}
    content = {"configuration": config.name, **budget, "rows": rows}
    write_json(content, output)


def cell(values: list[float | None]) -> str:
    """Mean and half the range over the seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:.2f} (one seed)"
    return f"{statistics.mean(known):.2f} +- {(max(known) - min(known)) / 2:.2f}"


def table(results: dict) -> str:
    """Markdown: a row for each change, validation top-1 in percent, mean and half range over the seeds."""
    head = ("one change a row", "trained", "int8, before recovery", "after recovery")
    keys = ("trained", "calibrated", "recovered")
    return markdown(head, ((row["name"], *(cell(row[key]) for key in keys)) for row in results["rows"]))


@dataclass(frozen=True)
class Plan:
    """config: the base; directory: of a folder for each row and seed; output: JSON file; changes: for all rows."""

    config: Path
    directory: Path
    output: Path
    seeds: int
    changes: tuple[str, ...] = ()

    def row(self, number: int, seed: int, changes: tuple[str, ...]) -> tuple[Config, Path]:
        """The configuration of one row and seed, and its folder."""
        config = load_config(self.config, [*self.changes, *changes, f"seed={seed}"])
        return config, self.directory / f"{number:02}-{seed}"


def ablate(plan: Plan, only: str = "") -> str:
    """Run all rows (or those whose name contains `only`), write JSON and return the table as markdown.

    Resumes after an interruption. Processes that run at the same time share the rows, and the table of each holds the
    results of all.
    """
    rows = {**ROWS, CONTROL: ()}
    chosen = [name for name in rows if only.lower() in name.lower()]
    if not chosen:
        raise TrainerError(f"--only {only!r}: names no row; there are {'; '.join(rows)}")
    for seed in range(1, plan.seeds + 1):
        for number, (name, changes) in enumerate(rows.items()):
            config, directory = plan.row(number, seed, changes)
            done = directory / "outcome.json"
            if name not in chosen or done.exists():
                continue
            with claimed(directory) as ours:
                if ours and not done.exists():
                    print(f"seed {seed} of {plan.seeds}: {name}", flush=True)
                    outcome = run_row(config, directory, name == CONTROL)
                    write_atomically(json.dumps(vars(outcome)).encode(), done)
    results: dict[str, list[Outcome]] = {}
    for number, name in enumerate(rows):
        found = sorted(plan.directory.glob(f"{number:02}-*/outcome.json"))
        if found:
            results[name] = [Outcome(**json.loads(path.read_text())) for path in found]
    write_results(results, load_config(plan.config, plan.changes), plan.output)
    return table(json.loads(plan.output.read_text()))
