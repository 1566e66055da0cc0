# SPDX-License-Identifier: MIT
"""A long run on a virtual board: bench.soak, for errors of two cores and memory that gets lost.

python -m host_sim.boards.soak [unix|qemu] [--runs N]      (`just soak`); the last line counts the faults
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from host_sim.boards.client import Board, stream
from host_sim.setup.shell import ROOT, Failure, one_line_errors

RUNS = {"unix": 10_000, "qemu": 1_000}  # of each network, on one core and on two


def script(runs: int) -> str:
    """firmware/bench.py as a board is to run it."""
    text, count = re.subn(
        r"^SOAK = 0$", f"SOAK = {runs}", (ROOT / "firmware" / "bench.py").read_text(), flags=re.MULTILINE
    )
    if count != 1:
        raise Failure("firmware/bench.py has no line 'SOAK = 0'")
    return text


def soak(board: Board, runs: int) -> None:
    """Run it and show what it prints; raises Failure unless it ends without a fault."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "soak.py"
        path.write_text(script(runs))
        status, output = stream(board.command("run", path))
    faults = re.findall(r"^(\d+) faults\r?$", output, flags=re.MULTILINE)
    if status or not faults:
        raise Failure("firmware/bench.py failed on the virtual board: its output stands above")
    if faults[-1] != "0":
        raise Failure(f"{faults[-1]} faults: they stand above")


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="A long run on a virtual board.")
    parser.add_argument("kind", nargs="?", choices=list(RUNS), default="unix", help="which board (default unix)")
    parser.add_argument("--runs", type=int, metavar="N", help="of each network, on one core and on two")
    arguments = parser.parse_args()
    # Only boards that are not the usual one need a name.
    options = {} if arguments.kind == "unix" else {"kind": arguments.kind}
    with Board(**options) as board:
        soak(board, arguments.runs or RUNS[arguments.kind])


if __name__ == "__main__":
    sys.exit(main())
