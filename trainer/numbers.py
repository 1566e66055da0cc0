# SPDX-License-Identifier: MIT
"""The table of measured numbers in README.md, from the JSON that `just eval` and `just demo` write."""

import json
import re
from pathlib import Path
from typing import Any

from trainer.errors import TrainerError

START = "<!-- numbers: written by `just numbers` -->"
END = "<!-- /numbers -->"


def read(path: Path, recipe: str) -> dict[str, Any]:
    """A JSON file that a recipe makes."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise TrainerError(f"{path}: not found; `just {recipe}` makes it") from None


def table(evaluation: dict[str, Any], demo: dict[str, Any], record: dict[str, Any]) -> str:
    """Markdown rows: accuracies on the test set, size, agreement, demo."""
    validation = record["validation_top1"]
    images = f"{evaluation['images']:,} Fashion-MNIST test pictures"
    rows = (
        ("FP32 teacher (residual CNN), " + images, f"{evaluation['teacher_top1']:.2f} %"),
        ("ternary student in torch, SPEC's integers", f"{evaluation['student_top1']:.2f} %"),
        ("**exported file on the kernels**", f"**{evaluation['exported_top1']:.2f} %**"),
        (
            "top-1 agreement of file and student; logits equal bit for bit",
            f"{evaluation['agreement']:.2f} %; {evaluation['equal_logits']:,} of {evaluation['images']:,}",
        ),
        ("size of the model file", f"{evaluation['model_bytes']:,} bytes"),
        (
            "validation: ternary with float activations, after recovery",
            f"{validation['ternary, float activations']:.2f} %, {validation['after recovery']:.2f} %",
        ),
        ("host simulator, one picture at a time", f"{evaluation['images_per_s']:.0f} pictures/s"),
        (f"`just demo`, {demo['board']} board", f"{demo['right']} of {demo['of']} right"),
    )
    lines = ["| measured | |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {value} |" for name, value in rows])


def write_numbers(readme: Path, text: str) -> None:
    """Replace what stands between the two markers."""
    content = readme.read_text()
    pattern = re.escape(START) + ".*?" + re.escape(END)
    changed, count = re.subn(pattern, lambda _: f"{START}\n{text}\n{END}", content, flags=re.DOTALL)
    if count != 1:
        raise TrainerError(f"{readme}: needs the lines {START} and {END} once")
    readme.write_text(changed)
