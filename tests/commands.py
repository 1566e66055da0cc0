# SPDX-License-Identifier: MIT
"""What the programs of the tree answer to a command line, without the work that it asks for."""

import argparse
import contextlib
import importlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

from tests.conftest import ROOT
from trainer.cli import parse

JUST = shutil.which("just")
# What recipes call.
TOOLS = ("python", "ruff", "mypy", "clang-format", "codespell")
SOURCES = ("firmware", "mpy_module", "host_sim", "tests")
# Programs whose arguments are another's, or that take none.
PLAIN = {"pytest": ("pytest", None), "tests.sanitize": ("pytest", None), "host_sim.stubs": ("host_sim.stubs", 0)}


class Accepted(BaseException):
    """The program has taken its arguments."""


def answer(module: str, arguments: list[str]) -> str:
    """The last line that `python -m MODULE ARGUMENTS` says to arguments that it refuses, "" if it takes them."""
    if module in PLAIN:
        target, most = PLAIN[module]
        assert importlib.util.find_spec(target)
        paths = [word.partition("::")[0] for word in arguments if word.startswith("tests/")]
        missing = [path for path in paths if not (ROOT / path).exists()]
        return f"no {', '.join(missing)}" if missing else "takes no arguments" if most == 0 and arguments else ""
    if module == "trainer":
        main = parse
    else:
        package = importlib.util.find_spec(module)
        if package is None:
            return f"no module {module}"
        program = importlib.import_module(f"{module}.__main__" if package.submodule_search_locations else module)
        main = lambda words: program.main()  # noqa: E731
    take = argparse.ArgumentParser.parse_args

    def taken(parser, *given):
        take(parser, *given)
        raise Accepted

    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [module, *arguments]),
        mock.patch.object(argparse.ArgumentParser, "parse_args", take if main is parse else taken),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            main(arguments)
            assert main is parse, f"{module} has done its work"
        except Accepted:
            pass
        except SystemExit as end:
            return said.getvalue().splitlines()[-1] if end.code else ""
    return ""


class Recipes:
    """The justfile in a folder of its own, whose tools only note how they are called."""

    def __init__(self, folder: Path):
        self.folder, self.notes = folder, folder / "notes"
        bin_folder = folder / ".venv" / "bin"
        bin_folder.mkdir(parents=True)
        shutil.copy(ROOT / "justfile", folder)
        for name in SOURCES:
            (folder / name).mkdir()
        for name in TOOLS:
            program = bin_folder / name
            # A line for each call, its words between tabs.
            program.write_text(f"#!/bin/sh\n{{ printf '%s\\t' {name} \"$@\"; echo; }} >> '{self.notes}'\n")
            program.chmod(0o755)

    def __call__(self, *words: str) -> tuple[subprocess.CompletedProcess, list[list[str]]]:
        """Run `just WORDS`; its result, and the words of each call that it made."""
        self.notes.write_text("")
        command = [JUST, *words]
        environment = os.environ | {"PYTHON": str(self.folder / ".venv" / "bin" / "python"), "JUST_COLOR": "never"}
        quiet = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
        done = subprocess.run(command, cwd=self.folder, env=environment, **quiet)
        return done, [line.split("\t")[:-1] for line in self.notes.read_text().splitlines()]

    def answer(self, *words: str) -> str:
        """The line with which `just WORDS` refuses its words, "" if it and all programs that it calls take them."""
        done, calls = self(*words)
        if done.returncode:
            return done.stderr.splitlines()[0]
        programs = [(call[2], call[3:]) for call in calls if call[:2] == ["python", "-m"]]
        return next(filter(None, (answer(*program) for program in programs)), "")
