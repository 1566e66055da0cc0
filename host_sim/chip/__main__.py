# SPDX-License-Identifier: MIT
"""The simulated core's commands, and firmware scripts with every operation on it (`just lx7 --help`)."""

import argparse
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from host_sim.lx7.__main__ import execute, parser
from host_sim.setup.package import use_firmware
from host_sim.setup.shell import Failure, one_line_errors


def run_script(arguments: argparse.Namespace) -> int:
    """lx7 script"""
    script = arguments.script.resolve()
    if not script.exists():
        raise Failure(f"{arguments.script}: no such file")
    use_firmware()
    import ternary

    runner: Any = ternary.use("lx7")  # type: ignore[func-returns-value] # the stub is a board's
    os.chdir(script.parent)
    sys.argv = [str(script), *arguments.arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        print(f"\n{runner.report()}")
    return 0


@one_line_errors
def main() -> None:
    """Command line."""
    commands, add = parser()
    command = add("script", run_script, "Run a firmware script with every operation on the simulated core")
    command.add_argument("script", type=Path, help="such as firmware/classify.py; runs under CPython in its folder")
    command.add_argument("arguments", nargs=argparse.REMAINDER, help="for the script")
    execute(commands)


if __name__ == "__main__":
    sys.exit(main())
