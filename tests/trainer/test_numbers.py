# SPDX-License-Identifier: MIT
"""The generated table in README.md."""

import json

import pytest

from tests.conftest import ROOT
from trainer.errors import TrainerError
from trainer.files import Files
from trainer.numbers import END, START, read, table, write_numbers

EVALUATION = {
    "images": 10000,
    "teacher_top1": 93.5,
    "student_top1": 89.25,
    "exported_top1": 89.25,
    "agreement": 100.0,
    "equal_logits": 10000,
    "images_per_s": 250.4,
    "model_bytes": 180352,
}
DEMO = {"right": 9, "of": 10, "board": "unix"}
RECORD = {"validation_top1": {"ternary, float activations": 90.0, "after recovery": 90.1}}


def test_only_the_space_between_the_markers_changes(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write_numbers(readme, table(EVALUATION, DEMO, RECORD))
    text = readme.read_text()
    assert text.startswith(f"before\n{START}\n| measured | |\n")
    assert text.endswith(f"|\n{END}\nafter\n")
    assert "old" not in text
    assert "**89.25 %**" in text
    assert "9 of 10 right" in text


def test_missing_markers_and_files_are_named(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing here")
    with pytest.raises(TrainerError, match=r"README\.md: needs the lines"):
        write_numbers(readme, "")
    with pytest.raises(TrainerError, match=r"eval\.json: not found; `just eval` makes it"):
        read(tmp_path / "eval.json", "eval")


def test_readme_and_record_speak_of_the_shipped_file():
    """Size and validation accuracy in README are those of the files beside it."""
    files = Files()
    record = json.loads(files.record.read_text())
    readme = (ROOT / "README.md").read_text()
    assert record["model_bytes"] == files.model.stat().st_size
    assert f"| {record['model_bytes']:,} bytes |" in readme
    assert f"{record['validation_top1']['after recovery']:.2f} % |" in readme
