# SPDX-License-Identifier: MIT
"""Fuzz readers and operations with hostile input, under AddressSanitizer and UBSan; resumes where it stopped.

Cases are counted in build/fuzz.json, over all runs of one commit. Failed cases are kept in build/fuzz/.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from host_sim.lx7.library import sanitized_environment
from host_sim.setup.artefact import write_whole
from host_sim.setup.shell import BUILD, ROOT, Failure, lock, one_line_errors, step

# Kind -> the module that runs its cases. The trainer is above this package in the layering, so its module is only run.
KINDS = {
    "model_files": "host_sim.fuzz.kinds",
    "calls": "host_sim.fuzz.kinds",
    "images": "host_sim.fuzz.kinds",
    "romfs": "host_sim.fuzz.kinds",
    "configs": "trainer.experiments.fuzz_configs",
}
ON_BOARD = ("model_files", "calls", "images")
# Of the time, if no kind is named.
SHARES = {"model_files": 12, "calls": 4, "images": 2, "romfs": 1, "configs": 1}
ROUND = 120  # seconds of one round through all kinds


def commit() -> str:
    """The commit that is checked out, "" without git. Files that differ do not matter: a campaign writes some."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    except OSError:  # git is not installed
        return ""
    return "" if done.returncode else done.stdout.strip()


class Campaign:
    """Counts of all runs of one commit, kept in the file `results`; folder: of the state and the failed cases."""

    def __init__(self, results: Path, folder: Path) -> None:
        self.results, self.folder = results, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.state: dict[str, Any] = {"commit": commit(), "next": {}, "failures": []}
        try:
            known = json.loads((folder / "state.json").read_text())
            if known["commit"] == self.state["commit"]:
                self.state = known
        except (OSError, ValueError, KeyError):
            pass

    def first(self, kind: str, seed: int) -> int:
        """The number of the next case."""
        return self.state["next"].get(f"{kind} {seed}", 0)

    def done(self, kind: str) -> int:
        """Cases of a kind that ran."""
        return sum(count for key, count in self.state["next"].items() if key.split()[0] == kind)

    def counts(self) -> dict[str, int]:
        """Content of build/fuzz.json."""
        return {kind: self.done(kind) for kind in KINDS} | {"failures": len(self.state["failures"])}

    def advance(self, kind: str, seed: int, number: int) -> None:
        """Record that all cases before `number` ran."""
        self.state["next"][f"{kind} {seed}"] = number
        self.write()

    def fail(self, kind: str, seed: int, number: int, fault: str) -> None:
        """Record a failure and keep its case next to its description."""
        name = f"{kind}-{seed}-{number}"
        self.state["failures"].append(name)
        write_whole(self.folder / f"{name}.txt", fault + "\n")
        self.write()
        print(f"\n{self.folder / name}: {fault.splitlines()[0][:300]}", file=sys.stderr, flush=True)

    def write(self) -> None:
        """Write both files."""
        write_whole(self.folder / "state.json", json.dumps(self.state, indent=1) + "\n")
        write_whole(self.results, json.dumps(self.counts(), indent=2) + "\n")


class Runner:
    """Runs workers. program: the board's MicroPython, or None; environment: of the workers that run C."""

    def __init__(self, campaign: Campaign, seed: int, environment: dict[str, str], program: Path | None) -> None:
        self.campaign, self.seed, self.environment, self.program = campaign, seed, environment, program

    def run(self, kind: str, seconds: float) -> None:
        """Run cases of a kind for some seconds; a worker that dies is restarted after the case that killed it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.work(kind, left):
                return

    def work(self, kind: str, seconds: float) -> bool:
        """Run one worker; returns whether it ended normally."""
        first = self.campaign.first(kind, self.seed)
        with tempfile.TemporaryDirectory(dir=self.campaign.folder) as name, tempfile.TemporaryFile() as errors:
            folder = Path(name)
            command = [sys.executable, "-m", KINDS[kind], kind, *map(str, (self.seed, first, seconds)), name]
            if kind in ON_BOARD and self.program:
                command.append(str(self.program))
            environment = self.environment if KINDS[kind].startswith("host_sim") else dict(os.environ)
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors)
            os.set_blocking(process.stdout.fileno(), False)  # type: ignore[union-attr]
            try:
                number = self.watch(process, kind, folder, first)
            except BaseException:
                process.kill()
                process.wait()
                raise
            if process.returncode == 0:
                return True
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            if number is None:
                raise Failure(f"the worker of {kind} did not start: {said.splitlines()[-1] if said else 'no word'}")
            shutil.copy(folder / "case", self.campaign.folder / f"{kind}-{self.seed}-{number}")
            self.campaign.fail(kind, self.seed, number, f"the process ended with {process.returncode}\n{said[:9000]}")
            self.campaign.advance(kind, self.seed, number + 1)
            return False

    def watch(self, process: subprocess.Popen, kind: str, folder: Path, first: int) -> int | None:
        """Show and record a worker's progress until it ends; returns the number of its last case, None without one."""
        number: int | None = None
        unread = b""
        while True:
            ended = process.poll() is not None
            assert process.stdout
            unread += process.stdout.read() or b""
            *lines, unread = unread.split(b"\n")
            for line in filter(None, lines):
                found = json.loads(line)
                self.campaign.fail(kind, self.seed, found["number"], found["fault"])
            try:
                number = int((folder / "at").read_text())
                self.campaign.advance(kind, self.seed, number)
            except (OSError, ValueError):
                pass
            self.show()
            if ended:
                return number
            time.sleep(0.5)

    def show(self) -> None:
        """The progress line."""
        if sys.stderr.isatty():
            words = ", ".join(f"{name} {count:,}" for name, count in self.campaign.counts().items())
            print(f"\r{words}", end="", file=sys.stderr, flush=True)


def board() -> Path:
    """Build the unix port with sanitizers; returns its file."""
    from host_sim.boards.unix import sanitized

    return sanitized()


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="just fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the random cases (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10, help="time in all, without builds (default: %(default)s)")
    parser.add_argument("--kind", choices=KINDS, action="append", help="kind of cases, may be repeated (default: all)")
    parser.add_argument("--no-board", action="store_true", help="on the host alone; the board takes minutes to build")
    parser.add_argument("--results", type=Path, default=BUILD / "fuzz.json", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=BUILD / "fuzz", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if not 0 < parsed.minutes <= 60 * 24 * 366:
        parser.error(f"--minutes {parsed.minutes}: must be more than 0, and at most a year")
    return parsed


@one_line_errors
def main() -> None:
    """Run the kinds in turn; a Failure if any case fails, or failed in an earlier run of this commit."""
    parsed = arguments()
    kinds = {kind: SHARES[kind] for kind in parsed.kind or KINDS}
    with step("building the kernels with sanitizers"):
        environment = sanitized_environment()
    program = None if parsed.no_board or not set(kinds) & set(ON_BOARD) else board()
    with lock(f"fuzz-{parsed.folder.name}"):
        campaign = Campaign(parsed.results, parsed.folder)
        runner = Runner(campaign, parsed.seed, environment, program)
        end = time.monotonic() + 60 * parsed.minutes
        while (left := end - time.monotonic()) > 0:
            for kind, share in kinds.items():
                runner.run(kind, min(left, ROUND) * share / sum(kinds.values()))
        campaign.write()
    counts = campaign.counts()
    print("\n" + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    failures = campaign.state["failures"]
    if failures:
        where = parsed.folder / failures[0]
        raise Failure(f"{len(failures)} cases failed, the first is {where}, described in {where.name}.txt")


if __name__ == "__main__":
    sys.exit(main())
