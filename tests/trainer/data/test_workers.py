# SPDX-License-Identifier: MIT
"""No process that reads pictures outlives a training that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.photos import write_photos

# Batches of 8 x 128 x 128 x 3 bytes do not fit a pipe: workers wait for room in it when the training is killed.
TRAINING = """
import sys, time
from pathlib import Path
from trainer.data import DataSettings, open_data
if sys.argv[2] == "watchdog":
    from trainer.data import workers
    workers.die_with_parent = lambda: False
settings = DataSettings(source="folder", path=sys.argv[1], size=128, channels=3, validation=4, workers=3)
batches = open_data(settings)[0].batches(4, 1, 0)
next(batches)
print("reading", flush=True)
time.sleep(1000)
"""


def state_of(process: int) -> tuple[str, int]:
    """State and parent of a process; state "X" of one that is gone."""
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
        return state, int(parent)
    except OSError:
        return "X", 0


def children(parent: int) -> list[int]:
    """The processes that `parent` started."""
    numbers = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [number for number in numbers if state_of(number)[1] == parent]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("how", ["kernel", "watchdog"])
def test_workers_end_with_a_killed_training(tmp_path, how):
    """At once by the kernel's signal, within seconds where there is none."""
    write_photos(tmp_path, 8)
    command = [sys.executable, "-W", "ignore", "-c", TRAINING, tmp_path, how]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout.readline() == "reading\n"
        workers = children(training.pid)
        assert len(workers) == 3
        time.sleep(1)  # until their pipes are full
        training.kill()
        training.wait()
        deadline = time.monotonic() + (1 if how == "kernel" else 4)
        left = workers
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [worker for worker in workers if state_of(worker)[0] not in "XZ"]
        for worker in left:
            os.kill(worker, signal.SIGKILL)
        assert not left
