# SPDX-License-Identifier: MIT
"""Processes that read pictures end with the training, however it ends."""

import ctypes
import os
import signal
import threading
import time

DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
LOOK_SECONDS = 1.0


def die_with_parent() -> bool:
    """Ask the kernel to kill this process when the thread that started it ends; False where it cannot be asked."""
    try:
        return ctypes.CDLL(None).prctl(DEATH_SIGNAL, ctypes.c_ulong(signal.SIGKILL)) == 0
    except (OSError, AttributeError):
        return False


def watch(parent: int) -> None:
    """Kill this process within seconds once `parent` is no longer its parent."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    # Not sys.exit: the process may block forever while it passes on its last batch.
    os.kill(os.getpid(), signal.SIGKILL)


def start_worker(parent: int, worker: int) -> None:
    """Prepare worker number `worker` of the process `parent`: it ends with it, and leaves Ctrl-C to it.

    Without the first, a worker that waits for room in its pipe would outlive a killed training for ever; without the
    second, each would print a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not die_with_parent() or os.getppid() != parent:
        threading.Thread(target=watch, args=(parent,), daemon=True).start()
