# SPDX-License-Identifier: MIT
"""What each choice of the method is worth: one change a row, at equal budgets, over several seeds."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint import write_atomically
from trainer.config import Config, load_config
from trainer.errors import TrainerError
from trainer.fit import accuracy
from trainer.train import Recipe, calibrate_student, prepare_teacher, recover, train_control, train_student

ROWS: dict[str, tuple[str, ...]] = {
    "base: TWN per channel, KL + 0.3 label, all ternary": (),
    "rule absmean (BitNet b1.58)": ("ternary.rule.name=absmean",),
    "rule least squares": ("ternary.rule.name=least_squares",),
    "rule learned scale": ("ternary.rule.name=learned",),
    "one scale per tensor": ("ternary.rule.per=tensor",),
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
    """Validation top-1 in percent of one seed; recovered: after recovery, on SPEC's integers; None where SPEC has no
    form for the row."""

    trained: float
    calibrated: float | None
    recovered: float | None


def run_row(config: Config, directory: Path, control: bool) -> Outcome:
    """Train one row with one seed, or take what an earlier call found."""
    done = directory / "outcome.json"
    if done.exists():
        return Outcome(**json.loads(done.read_text()))
    recipe = Recipe.load(config, directory)
    teacher, _ = prepare_teacher(recipe)
    if control:
        outcome = Outcome(train_control(recipe, teacher)[1].best, None, None)
    else:
        student, progress = train_student(recipe, teacher)
        calibrated = recovered = None
        if config.ternary.complete:
            calibrate_student(recipe, student)
            calibrated = accuracy(student, recipe.validation)
            recovered = recover(recipe, teacher, student).best
        outcome = Outcome(progress.best, calibrated, recovered)
    write_atomically(json.dumps(vars(outcome)).encode(), done)
    return outcome


def write_results(results: dict[str, list[Outcome]], config: Config, output: Path) -> None:
    """JSON of what is known so far: for each row its changes, and a number for each seed."""
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
    write_atomically((json.dumps(content, indent=1) + "\n").encode(), output)


def cell(values: list[float | None]) -> str:
    """Mean and half the range over the seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{statistics.mean(known):.2f} +- {(max(known) - min(known)) / 2:.2f}"


def table(results: dict) -> str:
    """Markdown: a row for each change, validation top-1 in percent, mean and half range over the seeds."""
    lines = ["| one change a row | trained | int8, before recovery | after recovery |", "|---|---|---|---|"]
    for row in results["rows"]:
        cells = " | ".join(cell(row[key]) for key in ("trained", "calibrated", "recovered"))
        lines.append(f"| {row['name']} | {cells} |")
    return "\n".join(lines)


def ablate(path: Path, directory: Path, output: Path, seeds: int, only: str = "") -> str:
    """Run all rows (or those whose name holds `only`); write JSON to `output` and return the table as markdown.

    Interrupted, it goes on where it stopped: every row and seed has a folder in `directory`.
    """
    rows = {**ROWS, CONTROL: ()}
    chosen = {name: changes for name, changes in rows.items() if only.lower() in name.lower()}
    if not chosen:
        raise TrainerError(f"--only {only!r}: names no row; there are {'; '.join(rows)}")
    results: dict[str, list[Outcome]] = {}
    for seed in range(1, seeds + 1):
        for index, (name, changes) in enumerate(rows.items()):
            if name in chosen:
                print(f"seed {seed} of {seeds}: {name}", flush=True)
                config = load_config(path, [f"seed={seed}", *changes])
                outcome = run_row(config, directory / f"{index:02}-{seed}", name == CONTROL)
                results.setdefault(name, []).append(outcome)
                write_results(results, config, output)
    return table(json.loads(output.read_text()))
