# SPDX-License-Identifier: MIT
"""Post-training ternarization: the accuracy of a trained FP32 model under each rule, without further training."""

import copy
from collections.abc import Iterator
from pathlib import Path

from host_sim.tables import aligned
from trainer.config import Config
from trainer.errors import TrainerError
from trainer.files import write_json
from trainer.model.layers import TernaryLayerNorm, ternary_modules
from trainer.model.predict import accuracy, limited_threads
from trainer.model.quantize import GRANULARITIES, RULES, Rule
from trainer.model.student import Student
from trainer.training.checkpoint import load_phase
from trainer.training.manifest import checkpoint_path
from trainer.training.output_aware import OUTPUT_AWARE, output_aware
from trainer.training.phases import Recipe, calibration_pictures


def trained_control(recipe: Recipe) -> Student:
    """The student of a recipe with the weights of the FP32 control in its folder."""
    student, path = recipe.new_student(), checkpoint_path(recipe.directory, "control")
    state = load_phase(path, "control", recipe.manifest)
    if state is None:
        raise TrainerError(f"{path}: not found; `trainer control` makes it")
    student.load_state_dict(state["progress"]["best_weights"])
    student.full_precision(True)
    return student


def under_rules(student: Student) -> Iterator[tuple[str, Student]]:
    """Copies of a student under each rule, by name."""
    for name in RULES:
        if name == "learned":  # which starts where least squares ends
            continue
        for per in GRANULARITIES:
            made = copy.deepcopy(student)
            made.full_precision(False)
            for layer in ternary_modules(made.vit).values():
                layer.rule = Rule(name, "channel" if isinstance(layer, TernaryLayerNorm) else per)
            yield f"{name}, per {per}", made


def measure(config: Config, run: Path, output: Path) -> str:
    """Validation top-1 in percent of the FP32 control in `run`, and of the control under each rule.

    Writes JSON to `output`; returns readable lines.
    """
    with Recipe.opened(config, run) as recipe:
        found = measured(recipe)
    write_json(found, output)
    return aligned((name, f"{top1:.2f} %") for name, top1 in found.items())


def measured(recipe: Recipe) -> dict[str, float]:
    """Validation top-1 in percent, by what was measured."""
    config, student = recipe.config, trained_control(recipe)
    with limited_threads(config.compute.threads):
        found = {"FP32": accuracy(student, recipe.validation)}
        found |= {name: accuracy(made, recipe.validation) for name, made in under_rules(student)}
        output_aware(student, calibration_pictures(recipe))
        found[OUTPUT_AWARE] = accuracy(student, recipe.validation)
    return found
