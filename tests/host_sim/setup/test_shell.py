# SPDX-License-Identifier: MIT
"""Failing tools and one-line errors."""

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from host_sim.setup import shell
from host_sim.setup.shell import ROOT, Failure


def test_missing_tool(tree, tools):
    with pytest.raises(Failure, match="cloning failed: git is not installed"):
        shell.run(["git", "clone"], "cloning", "git.log")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("tar: x: Cannot write: No space left on device", "disk is full"),
        ("OSError: [Errno 28] no space", "disk is full"),
        ("Err:1 Temporary failure resolving 'mirror.example'", "network"),
        ("error: Request failed after 3 retries\n  cause: Failed to fetch: `https://index.example/x/`", "network"),
        ("error: Packages were unavailable because the network was disabled.", "network"),
        (
            "error: Failed to download `x==1`\n  cause: Hash mismatch for `x==1`",
            "does not match its hash in requirements.lock",
        ),
        ("fatal: unable to access: Could not resolve host: example", "network"),
        ("x.c:3:1: error: expected ';'", "x.c:3:1: error: expected ';'"),
        ("ld: x.o: in function `main':\nx.c:3: undefined reference to `f'", "x.c:3: undefined reference to `f'"),
        ("", "sh stopped with status 3"),
    ],
)
def test_reason_comes_from_the_output(tree, output, words):
    with pytest.raises(Failure) as failure:
        shell.run(["sh", "-c", 'echo "$0"; exit 3', output], "working", "x.log")
    message = str(failure.value)
    assert message.startswith("working failed: ")
    assert words in message
    assert message.endswith("(its output: build/log/x.log)")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Failure("gcc is missing"), "gcc is missing"),
        (OSError(errno.ENOSPC, "No space left on device", "/some/file"), "disk is full (/some/file)"),
        (OSError(errno.EACCES, "Permission denied", "/some/file"), "Permission denied"),
        (ZeroDivisionError("division by zero"), "unexpected ZeroDivisionError"),
    ],
)
def test_every_error_is_one_line(tree, capsys, error, words):
    @shell.one_line_errors
    def main() -> None:
        raise error

    assert main() == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_full_disk_while_logging(monkeypatch, tree, capsys):
    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", no_space)
    main = shell.one_line_errors(lambda: shell.run(["true"], "working", "x.log"))
    assert main() == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("kept", [True, False])
def test_tools_keep_the_lock_of_a_killed_holder(tree, kept):
    """A tool that outlives its killed starter holds what it was given, and nothing else."""
    script = f"""
        import os, signal, sys, threading
        from pathlib import Path
        from host_sim.setup import shell
        with shell.hold(Path({str(tree / "held")!r}), tools={kept}):
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
            shell.LOGS = Path({str(tree)!r})
            shell.run(["sleep", "2"], "sleeping", "sleep.log")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with shell.idle(tree / "held") as idle:
        assert idle is not kept
    start = time.monotonic()
    assert shell.released(tree / "held")
    assert (time.monotonic() - start > 0.5) is kept


def test_released_without_a_file(tree):
    assert not shell.released(tree / "absent")


def test_a_step_says_seconds_and_what_it_wrote(tmp_path, capsys):
    (tmp_path / "before").write_bytes(bytes(5_000_000))
    with shell.step("making it", tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "new").write_bytes(bytes(2_000_000))
    with shell.step("making nothing", tmp_path / "nowhere"):
        pass
    assert capsys.readouterr().err == "making it ... 0 s, 2 MB\nmaking nothing ... 0 s\n"
    with pytest.raises(KeyboardInterrupt), shell.step("failing", tmp_path):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "failing ... failed\n"


STEP = """
import sys, time
from host_sim.setup import shell
shell.TICK = 0.05
with shell.step("making it", shell.Path(sys.argv[1])):
    open(sys.argv[1] + "/new", "wb").write(bytes(3_000_000))
    time.sleep(0.5)
"""


def test_a_step_on_a_terminal_shows_how_far_it_is(tmp_path):
    master, slave = os.openpty()
    subprocess.run([sys.executable, "-c", STEP, tmp_path], cwd=ROOT, stderr=slave, check=True)
    os.close(slave)
    text = os.read(master, 65536).decode()
    os.close(master)
    states = text.split("\r")
    assert states[0] == "making it ... "
    assert states.count("making it ... 0 s, 3 MB") >= 3
    assert re.fullmatch(r"making it \.\.\. \x1b\[K[01] s, 3 MB", states[-2])
    assert states[-1] == "\n"


def test_processors_where_the_system_does_not_say_which(monkeypatch):
    assert shell.processors() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert shell.processors() == 1


def test_one_place_counts_processors():
    """Elsewhere macOS, which lacks sched_getaffinity, would end `just eval` with a traceback."""
    sources = [path for folder in ("trainer", "host_sim") for path in (ROOT / folder).rglob("*.py")]
    found = [path.relative_to(ROOT).as_posix() for path in sources if "sched_getaffinity" in path.read_text()]
    assert found == ["host_sim/setup/shell.py"]
