# SPDX-License-Identifier: MIT
"""A MicroPython process behind its own terminal."""

import ctypes
import os
import signal
import subprocess
import sys
import termios
import tty

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def open_raw_terminal() -> tuple[int, int]:
    """A new pseudo-terminal that passes every byte unchanged; returns master and slave."""
    master, slave = os.openpty()
    tty.setraw(slave)
    attributes = termios.tcgetattr(slave)
    # raw_repl.c enables signals while a program runs: only Ctrl-C may raise one.
    for key in (termios.VQUIT, termios.VSUSP):
        attributes[6][key] = os.fpathconf(slave, "PC_VDISABLE").to_bytes()
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    os.set_blocking(master, False)
    return master, slave


def end_with_parent() -> None:
    """Make Linux send SIGTERM to this process when its parent ends: `just` does not forward signals."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Interpreter:
    """A running MicroPython: its process and the master end of its terminal. Closing that end terminates it."""

    process: subprocess.Popen
    master: int

    def stop(self) -> int:
        """Terminate the process if it is still running; returns its exit status."""
        os.close(self.master)
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait()
