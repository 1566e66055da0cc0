# SPDX-License-Identifier: MIT
"""`just boards`: the answers of boards, and the reasons given for ports that do not answer."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import tty
from types import SimpleNamespace

import pytest
import serial
from serial.tools import list_ports

from host_sim.boards import list as boards
from host_sim.boards.client import Board
from host_sim.boards.list import NoAnswer, ask
from host_sim.setup.romfs import build_image
from host_sim.setup.shell import ROOT
from tests.boards import WITHOUT_MODULE

MODEL = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"
SHIPPED = {f"/models/{path.name}": path.stat().st_size for path in MODEL.parent.glob("*.safetensors")}


@pytest.fixture
def running(monkeypatch, tmp_path):
    """An empty folder for the files of running boards."""
    monkeypatch.setattr(boards, "RUNNING", tmp_path / "running")
    return tmp_path / "running"


@pytest.fixture
def just_boards(monkeypatch, capsys):
    """Runs the command line with these serial ports; returns its output."""

    def run(*arguments, ports=()):
        monkeypatch.setattr(list_ports, "comports", lambda: list(ports))
        monkeypatch.setattr(sys, "argv", ["boards", *arguments])
        assert boards.main() == 0
        return capsys.readouterr().out

    return run


class Talker:
    """A terminal whose other end writes the same bytes all the time, or none."""

    def __init__(self, text: bytes):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.path, self.text, self.ended = os.ttyname(self.slave), text, threading.Event()
        os.set_blocking(self.master, False)
        self.thread = threading.Thread(target=self.talk)

    def talk(self) -> None:
        while not self.ended.wait(0.001):
            try:
                os.write(self.master, self.text)
            except BlockingIOError:
                continue

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()
        os.close(self.master)
        os.close(self.slave)


def test_a_board_tells_what_it_carries(board):
    version = board.mpremote("exec", "import sys; print('%d.%d.%d' % sys.implementation.version[:3])").stdout.strip()
    for _ in range(2):
        answer = ask(board.path)
        assert answer["name"] == "micropython"
        assert answer["version"] == version
        assert "reference" in answer["backends"].split(", ")
        assert sorted(answer["models"]) == sorted(SHIPPED.items())


def test_variables_stay_and_none_are_left(board):
    board.mpremote("exec", "kept = 7")
    ask(board.path)
    names = board.mpremote("resume", "exec", "print(kept, [n for n in globals() if n.startswith('_a')])").stdout
    assert names == "7 []\n"


def test_models_in_rom(own_board, tmp_path):
    (tmp_path / "rom.img").write_bytes(
        build_image({"a.safetensors": b"a", "models/b.safetensors": b"bc", "c.txt": b""})
    )
    mount = "import vfs; vfs.mount(vfs.VfsRom(open('rom.img', 'rb').read()), '/rom')"
    own_board.mpremote("fs", "cp", tmp_path / "rom.img", ":")
    own_board.mpremote("exec", mount)
    models = dict(ask(own_board.path)["models"])
    assert models == {
        "/rom/a.safetensors": 1,
        "/rom/models/b.safetensors": 2,
        **SHIPPED,
    }


def test_firmware_without_the_module(own_board):
    own_board.mpremote("exec", WITHOUT_MODULE)
    answer = ask(own_board.path)
    assert "backends" not in answer
    assert "no module ternary: this firmware cannot run models" in boards.describe(answer)


def test_firmware_from_before_backends_and_a_board_without_models():
    lines = boards.describe({"name": "micropython", "version": "1.25.0", "machine": "x", "backends": "", "models": []})
    assert lines[1:] == ["ternary: an older version, flash this tree", "no model in /rom, /models or models"]


def test_a_port_that_another_program_has_open(board):
    with serial.Serial(board.path, exclusive=True), pytest.raises(NoAnswer, match="busy: another program has it open"):
        ask(board.path)


def test_a_running_program_is_left_alone(own_board):
    own_board.mpremote("exec", "--no-follow", "import time\nwhile True: time.sleep(0.01); open('t', 'w').close()")
    started = time.monotonic()
    with pytest.raises(NoAnswer, match=r"no answer within 2 s: it is running a program \(--interrupt"):
        ask(own_board.path)
    assert time.monotonic() - started < boards.SECONDS + 1
    before = (own_board.flash / "t").stat().st_mtime_ns
    time.sleep(0.2)
    assert (own_board.flash / "t").stat().st_mtime_ns > before
    assert ask(own_board.path, interrupt=True)["name"] == "micropython"


@pytest.mark.parametrize("text", [b"", b"U" * 64], ids=["silent", "chatty"])
def test_what_is_no_board_ends_in_time(text):
    with Talker(text) as talker:
        started = time.monotonic()
        with pytest.raises(NoAnswer, match="no answer within 2 s"):
            ask(talker.path)
        assert time.monotonic() - started < boards.SECONDS + 1


def test_a_port_that_is_not_there():
    with pytest.raises(NoAnswer, match="no such port"):
        ask("/dev/no-such-port")


def test_a_port_without_permission():
    assert "permission" in boards.why_not_open(PermissionError(13, "Permission denied"))


def test_virtual_boards_are_found_while_they_run(program):
    with Board(program=program) as board:
        assert board.path in [port.device for port in boards.virtual_boards()]
    assert board.path not in [port.device for port in boards.virtual_boards()]


def test_a_killed_board_is_forgotten(program):
    with Board(program=program) as board:
        left = boards.RUNNING / f"{board.process.pid}.json"
        assert left.exists()
        board.process.send_signal(signal.SIGKILL)
        board.process.wait()
        assert left.exists()
        # A child process inherits the locked file until it executes its program.
        deadline = time.monotonic() + 5
        while board.path in [port.device for port in boards.virtual_boards()]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not left.exists()


def test_the_list(just_boards, running, own_board):
    usb = SimpleNamespace(device="/dev/no-such-port", description="USB JTAG", vid=0x303A)
    other = SimpleNamespace(device="/dev/ttyS9", description="n/a", vid=None)
    with boards.announced(own_board.path, "virtual, unix port"):
        lines = just_boards(ports=[other, usb]).splitlines()
    assert lines[:3] == [
        "/dev/no-such-port (USB JTAG)",
        "    no such port",
        f"{own_board.path} (virtual, unix port)",
    ]
    assert f"    model: /models/fashion_mnist.safetensors, {MODEL.stat().st_size:,} bytes" in lines
    assert lines[-1] == "/dev/ttyS9 (not on USB): not queried; to query it: just boards /dev/ttyS9"
    assert list(running.iterdir()) == []


def test_no_boards(just_boards, running):
    assert just_boards() == "no boards: plug one in, or start a virtual one with `just board`\n"


def test_named_ports(just_boards, running, board):
    lines = just_boards(board.path).splitlines()
    assert lines[0] == board.path
    assert lines[1].startswith("    micropython ")


def test_it_runs_as_a_program(board):
    result = subprocess.run(
        [sys.executable, "-m", "host_sim.boards.list", board.path], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"ternary: (\w+, )*reference\n", result.stdout)
