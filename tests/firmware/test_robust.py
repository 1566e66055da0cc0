# SPDX-License-Identifier: MIT
"""Interruption, reset and disconnection during an inference; a thousand inferences in a row."""

import os
import re
import shutil
import signal
import subprocess
import time
import tty

import pytest

from host_sim.boards import soak
from host_sim.boards.client import Board
from host_sim.setup.shell import Failure
from tests.conftest import ROOT
from tests.host_sim.boards.test_server import Terminal, children, running, wait_until

CLASSIFY = ROOT / "firmware" / "classify.py"
# The shipped model with its blocks repeated: an inference takes many times as long as any layer.
LOAD = """
import time, ternary, bench
from ftervit import VisionTransformer
model = VisionTransformer.load("models/fashion_mnist.safetensors")
model.blocks = model.blocks * 100
picture = bytearray(28 * 28)
ternary.cores({cores})
def forever():
    print("running")
    while True:
        model(picture)
"""


@pytest.fixture
def slow_board(own_board):
    """A board that can load it."""
    shutil.copy(ROOT / "firmware" / "bench.py", own_board.flash)
    return own_board


def usable(board):
    """Whether the board still works."""
    result = board.mpremote("run", CLASSIFY)
    return result.returncode == 0 and "of 10 right" in result.stdout


@pytest.mark.parametrize("cores", [1, 2])
def test_interrupted_within_one_layer(slow_board, cores):
    script = LOAD.format(cores=cores) + "bench.load = lambda path: model\nrows = bench.layers('slow')\n"
    script += "print('longest', max(us / calls for calls, us, _ in rows.values() if calls))\n"
    output = slow_board.mpremote("exec", script).stdout
    assert "longest" in output, output
    longest = float(re.search(r"longest ([\d.]+)", output)[1]) / 1e6
    whole = float(re.search(r"^slow +\d+ +([\d.]+)", output, re.MULTILINE)[1]) / 1e3
    assert whole > 8 * longest, output
    delays = []
    fd = os.open(slow_board.path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    with Terminal(fd) as terminal:
        terminal.fresh_prompt()
        terminal.send(b"\x05" + LOAD.format(cores=cores).encode().replace(b"\n", b"\r") + b"\x04")
        terminal.read_until(b">>> ", 30)
        for attempt in range(8):
            terminal.send(b"forever()\r")
            terminal.read_until(b"running\r\n")
            # During the first or second picture.
            time.sleep(whole * (0.1 + 0.21 * attempt))
            started = time.monotonic()
            terminal.send(b"\x03")
            terminal.read_until(b"KeyboardInterrupt")
            terminal.read_until(b">>> ")
            delays.append(time.monotonic() - started)
    # The median, because single runs may be delayed by this machine.
    assert sorted(delays)[4] < longest + 0.03, (delays, longest, whole)
    assert sorted(delays)[4] < whole / 3, (delays, longest, whole)
    assert usable(slow_board)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("way", ["mpremote", "keys"])
def test_soft_reset_in_the_middle_of_an_inference(slow_board, cores, way):
    script = LOAD.format(cores=cores) + "forever()\n"
    assert slow_board.mpremote("exec", "--no-follow", script).returncode == 0
    time.sleep(1)
    if way == "mpremote":
        assert slow_board.mpremote("soft-reset").returncode == 0
        assert slow_board.mpremote("resume", "exec", "print('model' in globals())").stdout == "False\n"
    else:
        fd = os.open(slow_board.path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(fd)
        with Terminal(fd) as terminal:
            terminal.send(b"\x03\x04")
            terminal.read_until(b"soft reboot")
    assert usable(slow_board)


@pytest.mark.parametrize("cores", [1, 2])
def test_unplugged_in_the_middle_of_an_inference(slow_board, cores):
    command = slow_board.command("exec", LOAD.format(cores=cores) + "forever()\n")
    client = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with client:
        assert client.stdout.readline() == "running\n"
        [interpreter] = children(slow_board.process.pid)
        slow_board.process.send_signal(signal.SIGKILL)
        slow_board.process.wait(10)
        assert wait_until(lambda: not running(interpreter))
        assert client.wait(10) != 0


def test_a_client_that_goes_away_leaves_the_board_usable(slow_board):
    command = slow_board.command("exec", LOAD.format(cores=2) + "forever()\n")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout.readline() == "running\n"
        client.kill()
    assert usable(slow_board)


def test_a_thousand_inferences_leave_free_memory_as_it_was(board):
    script = """
import gc
from ftervit import VisionTransformer, read_image
model = VisionTransformer.load("models/fashion_mnist.safetensors")
image = read_image("images/0_t-shirt_top.pgm")
def free():
    gc.collect()
    return gc.mem_free()
def run(times):
    for _ in range(times):
        model.predict(image)
run(3); before = free()
run(1000); print("lost", before - free())
"""
    assert board.mpremote("exec", script, timeout=300).stdout == "lost 0\n"


def test_soak_fails_on_any_fault(own_board, monkeypatch, tmp_path, capfdbinary):
    soak.soak(own_board, 3)
    assert b"3 runs on 2 cores" in capfdbinary.readouterr().out
    monkeypatch.setattr(soak, "FIRMWARE", tmp_path)
    script = (ROOT / "firmware" / "bench.py").read_text()
    (tmp_path / "bench.py").write_text(script.replace("wrong = 0\n", "wrong = 2\n"))
    with pytest.raises(Failure, match="2 faults"):
        soak.soak(own_board, 3)
    (tmp_path / "bench.py").write_text("1 / 0\n")
    with pytest.raises(Failure, match="failed on the virtual board"):
        soak.soak(own_board, 3)


def test_soak_from_the_command_line(program, monkeypatch, capfdbinary):
    monkeypatch.setattr(soak, "Board", lambda: Board(program=program))
    monkeypatch.setattr("sys.argv", ["soak", "--runs", "2"])
    assert not soak.main()
    assert b"2 runs on 1 cores" in capfdbinary.readouterr().out
