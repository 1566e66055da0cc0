# SPDX-License-Identifier: MIT
"""The virtual board as seen by mpremote and by a terminal."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from host_sim.boards import __main__ as command_line
from host_sim.boards import esp32s3, flash, kinds
from host_sim.boards.client import Board
from host_sim.setup.shell import BUILD, Failure
from tests.boards import Terminal, children, running, wait_until

ALL_BYTES = bytes(range(256)) * 40

# The flash of the other kinds is read-only.
unix_only = pytest.mark.parametrize("kind", ["unix"], indirect=True, scope="module")


def why_no_esp32s3() -> str:
    """The reason why boards of kind esp32s3 cannot be tested here, or an empty string."""
    try:
        esp32s3.emulator()
        esp32s3.firmware()
    except Failure as reason:
        return str(reason)
    return ""


ABSENT = {"esp32s3": why} if (why := why_no_esp32s3()) else {}


@pytest.mark.parametrize("kind", ABSENT)
def test_kind_that_cannot_be_tested(kind):
    """Reports this once, instead of every test below."""
    pytest.skip(f"{kind}: {ABSENT[kind]}")


@pytest.fixture(scope="module", params=[kind for kind in kinds.KINDS if kind not in ABSENT])
def kind(request) -> str:
    """Every kind of board in turn."""
    return request.param


@pytest.fixture(scope="module")
def program(kind) -> Path:
    """The firmware of this kind of board."""
    return kinds.firmware_of(kind)


@pytest.fixture(scope="module")
def board(kind, program):
    """A board shared by the tests: every mpremote command starts with a soft reset."""
    with Board(program=program, kind=kind) as board:
        yield board


@pytest.fixture
def own_board(kind, program, tmp_path):
    """A board that a test may break."""
    with Board(program=program, flash=tmp_path / "flash", kind=kind) as board:
        yield board


@pytest.fixture
def script(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    return write


def test_run(board, script):
    result = board.mpremote("run", script("import sys\nprint(sys.implementation.name, 'ä')\n"))
    assert (result.returncode, result.stdout) == (0, "micropython ä\n")


def test_eval_and_exec(board):
    assert board.mpremote("eval", "6 * 7").stdout == "42\n"
    assert board.mpremote("exec", "print('one'); print('two')").stdout == "one\ntwo\n"


def test_failing_script(board, script):
    result = board.mpremote("run", script("print('before')\n1 / 0\n"))
    assert result.returncode == 1
    assert "before" in result.stdout
    assert "ZeroDivisionError" in result.stdout


def test_long_script(board, script):
    lines = [f"x{i} = '{'y' * 50}'" for i in range(500)]
    result = board.mpremote("run", script("\n".join([*lines, "print(len(x499))"])))
    assert result.stdout == "50\n"


def test_two_soft_resets(board):
    board.mpremote("exec", "kept = 1")
    assert board.mpremote("resume", "exec", "print(kept)").stdout == "1\n"
    for _ in range(2):
        assert board.mpremote("soft-reset").returncode == 0
    assert board.mpremote("resume", "exec", "print('kept' in globals())").stdout == "False\n"


def test_soft_reset_at_the_friendly_prompt(terminal):
    terminal.send(b"\x04")
    assert b"MPY: soft reboot\r\n" in terminal.read_until(b">>> ")


def test_system_exit_resets(board):
    assert board.mpremote("exec", "print('bye'); raise SystemExit").stdout == "bye\n"
    assert board.mpremote("exec", "print('again')").stdout == "again\n"


def test_mount_passes_every_byte(board, tmp_path):
    (tmp_path / "data.bin").write_bytes(ALL_BYTES)
    (tmp_path / "helper.py").write_text("def copy(data):\n    open('copy.bin', 'wb').write(data)\n")
    (tmp_path / "main.py").write_text("import helper\nhelper.copy(open('data.bin', 'rb').read())\n")
    result = board.mpremote("mount", tmp_path, "run", tmp_path / "main.py")
    assert result.returncode == 0, result.stdout
    assert (tmp_path / "copy.bin").read_bytes() == ALL_BYTES


def test_mounted_repl_survives_a_soft_reset(board, tmp_path):
    (tmp_path / "helper.py").write_text("print('from', 'host')\n")
    master, slave = os.openpty()
    command = board.command("mount", tmp_path, "repl")
    with (
        subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as client,
        Terminal(master) as terminal,
    ):
        os.close(slave)
        terminal.read_until(b">>> ")
        terminal.send(b"import helper\r")
        terminal.read_until(b"from host\r\n>>> ")
        terminal.send(b"\x04")
        terminal.read_until(b"Remount")
        terminal.read_until(b">>> ")
        terminal.send(b"import helper\r")
        terminal.read_until(b"from host\r\n>>> ")
        terminal.send(b"\x1d")
        assert client.wait(10) == 0


@unix_only
def test_flash_is_a_directory_of_its_own(board, script, tmp_path):
    source = script("print('from flash')\n")
    board.mpremote("fs", "cp", source, ":copied.py")
    assert "copied.py" in board.mpremote("fs", "ls").stdout
    assert board.mpremote("exec", "import copied").stdout == "from flash\n"
    board.mpremote("fs", "cp", ":copied.py", tmp_path / "back.py")
    assert (tmp_path / "back.py").read_bytes() == source.read_bytes()
    listing = board.mpremote("exec", "import os; print('etc' in os.listdir('/'), os.getcwd())").stdout
    assert listing == "False /\n"


def test_flash_starts_with_the_package(monkeypatch, tmp_path):
    """As bytecode; old source files, which MicroPython would prefer, are removed, and other files stay."""
    package, folder = tmp_path / "firmware" / "ftervit", tmp_path / "flash"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "firmware" / "classify.py").touch()
    monkeypatch.setattr(flash, "ROOT", tmp_path)
    monkeypatch.setattr(flash.mpy, "FIRMWARE", tmp_path / "firmware")
    (folder / "ftervit").mkdir(parents=True)
    for name in ("__init__.py", "mine.py"):
        (folder / "ftervit" / name).write_text("old = True\n")
    flash.fill_flash(folder)
    assert [path.name for path in folder.iterdir()] == ["ftervit"]
    assert {path.name for path in (folder / "ftervit").iterdir()} == {"__init__.mpy", "mine.py"}


def test_kept_flash(kind, program, tmp_path):
    (tmp_path / "mine.py").write_text("print('kept')\n")
    for _ in range(2):
        with Board(flash=tmp_path, program=program, kind=kind) as board:
            assert board.mpremote("exec", "import mine").stdout == "kept\n"


@pytest.mark.parametrize("busy", ["while True: pass", "import time; time.sleep(60)"])
def test_interrupt(terminal, busy):
    terminal.send(f"{busy}\r\r".encode())
    terminal.read_until(b"\r\n")
    time.sleep(0.1)
    terminal.send(b"\x03")
    terminal.read_until(b"KeyboardInterrupt")
    terminal.read_until(b">>> ")
    terminal.send(b"print(6 * 7)\r")
    terminal.read_until(b"42\r\n")


def test_interrupt_at_the_prompt(terminal):
    terminal.send(b"half a line\x03")
    terminal.read_until(b"\r\n>>> ")


@pytest.mark.parametrize("busy", ["while True: pass", "while True: print('x' * 1000)"])
def test_reconnect_to_a_busy_board(board, busy):
    assert board.mpremote("exec", "--no-follow", busy).returncode == 0
    time.sleep(0.3)
    assert board.mpremote("exec", "print('free')").stdout == "free\n"


def test_client_killed_while_it_follows(board):
    command = board.command("exec", "print('on')\nwhile True: pass")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as client:
        client.stdout.readline()
        client.kill()
    assert board.mpremote("eval", "'still here'").stdout == "still here\n"


def test_crash_is_reported_and_the_board_comes_back(own_board):
    command = own_board.command("exec", "print('on')\nwhile True: pass")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as client:
        client.stdout.readline()
        os.kill(children(own_board.process.pid)[0], signal.SIGSEGV)
        assert "MicroPython ended with SIGSEGV" in client.stdout.read()
    assert client.returncode == 1
    assert own_board.mpremote("eval", "1").stdout == "1\n"


def test_program_that_does_not_start():
    with Board(program=Path("/bin/false")) as board:
        assert board.process.wait(10) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_server_ends(own_board, number):
    own_board.mpremote("exec", "--no-follow", "while True: pass")
    [interpreter] = children(own_board.process.pid)
    own_board.process.send_signal(number)
    own_board.process.wait(10)
    assert wait_until(lambda: not running(interpreter))


def test_nothing_is_left_when_the_parent_dies(kind, program, tmp_path):
    code = (
        "import os, sys, pathlib\n"
        "from host_sim.boards.client import Board\n"
        "program, flash = map(pathlib.Path, sys.argv[2:])\n"
        "with Board(program=program, flash=flash, kind=sys.argv[1]) as board:\n"
        "    print(board.process.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, kind, program, tmp_path], capture_output=True, text=True)
    server = int(result.stdout)
    assert wait_until(lambda: not running(server)), result.stderr


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_command_line_serves_until_interrupted(kind, program, before):
    """Also as a background job of a shell, which starts with SIGINT ignored."""
    command = [sys.executable, "-m", "host_sim.boards", "serve", kind, "--program", program]
    start = {"preexec_fn": lambda: signal.signal(signal.SIGINT, before)}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **start) as server:
        path = server.stdout.readline().strip()
        assert Path(path).is_char_device()
        server.send_signal(signal.SIGINT)
        try:
            assert server.wait(10) == 0
        finally:
            server.kill()


@pytest.fixture
def demo(monkeypatch, tmp_path, kind, program):
    """Run the demo in a tree with the given text as classify.py."""
    (tmp_path / "firmware").mkdir()
    monkeypatch.setattr(command_line, "ROOT", tmp_path)
    monkeypatch.setattr(command_line, "BUILD", tmp_path)
    monkeypatch.setattr("host_sim.boards.client.firmware_of", lambda _: program)

    def run(text: str) -> dict:
        (tmp_path / "firmware" / "classify.py").write_text(text)
        command_line.demo(argparse.Namespace(kind=kind))
        return json.loads((tmp_path / "demo.json").read_text())

    return run


def test_demo(demo, kind, capfdbinary):
    assert demo("print('1 of 2 right')\nprint('9 of 10 right')\n") == {"right": 9, "of": 10, "board": kind}
    assert capfdbinary.readouterr().out == b"1 of 2 right\n9 of 10 right\n"


@pytest.mark.parametrize("text", ["print('no count')\n", "print('9 of 10 right')\n1 / 0\n"])
def test_demo_that_fails(demo, text):
    with pytest.raises(Failure, match=r"classify\.py"):
        demo(text)


def test_a_board_ends_with_the_process_that_started_it(kind, program):
    serve = [sys.executable, "-m", "host_sim.boards", "serve", "--with-parent", kind, "--program", program]
    starter = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    with subprocess.Popen(
        [sys.executable, "-c", starter, *serve], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as parent:
        parent.stdout.readline()
        (server,) = children(parent.pid)
        (interpreter,) = children(server)
        parent.kill()
    assert wait_until(lambda: not running(server) and not running(interpreter))


def copies() -> set[Path]:
    """Copies of files that boards run from, of all kinds."""
    return {path for path in [*(BUILD / "board").glob("*"), *BUILD.glob("qemu-*.romfs")] if path.suffix != ".json"}


def test_copies_of_killed_servers_go_and_of_others_stay(kind, program):
    with Board(program=program, kind=kind) as running:
        before = copies()
        with Board(program=program, kind=kind) as killed:
            left = copies() - before
            killed.process.kill()
            killed.process.wait()
            assert left and left <= copies()
        with Board(program=program, kind=kind) as later:
            assert not left & copies()
            assert before <= copies()
            for board in (running, later):
                assert board.mpremote("eval", "6 * 7").stdout == "42\n"
