# SPDX-License-Identifier: MIT
"""Soak test on a virtual board: runs bench.soak to find rare errors on two cores and memory leaks.

python -m host_sim.boards.soak [unix|qemu] [--runs N]      (`just soak`); the last line counts the faults
"""

import argparse
import re
import sys

from host_sim.boards.client import Board, stream
from host_sim.setup.shell import ROOT, Failure, one_line_errors

FIRMWARE = ROOT / "firmware"
RUNS = {"unix": 10_000, "qemu": 1_000}  # per network and number of cores


def soak(board: Board, runs: int) -> None:
    """Run the soak test and show its output; raises Failure unless it ends without a fault."""
    # bench.py comes from this machine, models from the board's own current directory.
    call = f"import bench; os.chdir(here); bench.soak({runs})"
    status, output = stream(board.command("exec", "import os; here = os.getcwd()", "mount", FIRMWARE, "exec", call))
    faults = re.findall(r"^(\d+) faults\r?$", output, flags=re.MULTILINE)
    if status or not faults:
        raise Failure("firmware/bench.py failed on the virtual board: see its output above")
    if faults[-1] != "0":
        raise Failure(f"{faults[-1]} faults: see above")


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="just soak", description="Soak test on a virtual board.")
    parser.add_argument("kind", nargs="?", choices=list(RUNS), default="unix", help="kind of board (default unix)")
    parser.add_argument("--runs", type=int, metavar="N", help="runs of each network on one core and on two")
    arguments = parser.parse_args()
    # Board's default kind is unix.
    options = {} if arguments.kind == "unix" else {"kind": arguments.kind}
    with Board(**options) as board:
        soak(board, arguments.runs or RUNS[arguments.kind])


if __name__ == "__main__":
    sys.exit(main())
