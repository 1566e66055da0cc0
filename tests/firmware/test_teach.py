# SPDX-License-Identifier: MIT
"""firmware/teach.py at a terminal: mpremote mount FOLDER repl, then import teach."""

import contextlib
import os
import select
import shutil
import subprocess
import time

import ftervit
import numpy as np
import pytest

from host_sim.boards.client import Board
from tests import oracle
from tests.boards import Terminal, wait_until
from tests.conftest import ROOT
from tests.firmware.test_classify_camera import FAKE, HEIGHT, WIDTH
from tests.mpy_module.kernel import U8

FIRMWARE = ROOT / "firmware"
IMAGES = sorted((FIRMWARE / "images").glob("*.pgm"))


@pytest.fixture(scope="module", params=["unix", "qemu"])
def kind(request):
    """Kinds of virtual boards."""
    if request.param == "qemu":
        from host_sim.setup.apt import missing_packages

        if missing_packages("qemu"):
            pytest.skip("no QEMU here; tests/firmware/test_qemu.py says what installs it")
    return request.param


@pytest.fixture
def folder(tmp_path):
    """What a user mounts: scripts, package, model, three pictures."""
    folder = tmp_path / "firmware"
    (folder / "images").mkdir(parents=True)
    for name in ("ftervit", "models"):
        shutil.copytree(FIRMWARE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (FIRMWARE / "teach.py", FIRMWARE / "classify_camera.py"):
        shutil.copy(path, folder)
    for path in IMAGES[:3]:
        shutil.copy(path, folder / "images")
    return folder


@contextlib.contextmanager
def repl(board, folder):
    """The terminal of mpremote on a board with a mounted folder, at the prompt."""
    master, slave = os.openpty()
    with (
        subprocess.Popen(board.command("mount", folder, "repl"), stdin=slave, stdout=slave, stderr=slave) as client,
        Terminal(master) as terminal,
    ):
        os.close(slave)
        terminal.read_until(b">>> ", 60)
        try:
            yield terminal
            terminal.send(b"\x1d")
            assert client.wait(20) == 0
        finally:
            client.kill()


def model():
    """The backbone on the host."""
    return ftervit.VisionTransformer.load(str(FIRMWARE / "models" / "eyes.safetensors"))


def wait_for(terminal, answer, seconds=60):
    """What the terminal shows up to the answer; unlike read_until it gives up while other things are shown."""
    deadline = time.monotonic() + seconds
    while answer not in terminal.unread:
        assert time.monotonic() < deadline, f"{answer!r} did not come, only {terminal.unread[-500:]!r}"
        readable, _, _ = select.select([terminal.fd], [], [], 1)
        if readable:
            terminal.unread += os.read(terminal.fd, 4096)
    return terminal.read_until(answer)


def press(terminal, key, answer, seconds=60):
    """Press a key; returns what the terminal shows up to the answer."""
    terminal.send(key)
    return wait_for(terminal, answer, seconds)


def test_an_evening(kind, folder):
    """Teach from a folder, undo, save, go on at the next start; the file is the host's, byte for byte."""
    with Board(kind=kind) as board, repl(board, folder) as terminal:
        shown = press(terminal, b"import teach\r", b"nothing is taught yet", 240)
        assert b"no camera: pictures of images/" in shown and b"room for 200 pictures" in shown
        press(terminal, b"1", b"one: 1 pictures")
        press(terminal, b"n", b"1_trouser.pgm")
        press(terminal, b"2", b"two: 1 pictures")
        press(terminal, b"n", b"2_pullover.pgm")
        press(terminal, b"3", b"three: 1 pictures")
        press(terminal, b"u", b"one picture less of three")
        press(terminal, b"1", b"one: 2 pictures")
        press(terminal, b"s", b"saved to taught.learned")
        press(terminal, b"f2", b"two is forgotten")
        press(terminal, b"f9", b"teach.py: forget: 'nine' has not been taught")
        shown = press(terminal, b"q", b">>> ")
        assert b"\r\none 2\r\n" in shown
        shown = press(terminal, b"teach.main()\r", b"0_t-shirt_top.pgm  ")
        assert b"taught.learned: one 2, two 1; there is room for 200 pictures" in shown
        bars = press(terminal, b"p", b"2_pullover.pgm  ") + wait_for(terminal, b"two ")
        assert b"one #" in bars
        press(terminal, b"q", b">>> ")
    host = ftervit.Learner(model())
    for label, path in zip(("one", "two", "one"), IMAGES[:3], strict=True):
        host.learn(label, ftervit.read_image(str(path)))
    host.save(str(folder / "host.learned"))
    assert (folder / "taught.learned").read_bytes() == (folder / "host.learned").read_bytes()


def test_with_a_camera(own_board, folder):
    """It sees each frame anew; what it was shown it knows again."""
    frames, lib = own_board.flash / "frames", own_board.flash / "lib"
    frames.mkdir()
    lib.mkdir(exist_ok=True)
    seen = frames / "seen"
    wait = 'name = "grey.bin"; open("/frames/seen", "w").close()'
    (lib / "camera.py").write_text(FAKE.format(wait=wait, names=[], barless=True))

    def show(number):
        image = ftervit.read_image(str(IMAGES[number]))
        frame = np.zeros((HEIGHT, WIDTH), U8)
        frame[:, 16:80] = oracle.resize(np.frombuffer(image.pixels, U8).reshape(28, 28, 1), 64)[..., 0]
        new = frames / "new"
        new.write_bytes(frame.tobytes())
        new.replace(frames / "grey.bin")
        seen.unlink(missing_ok=True)  # made before the next frame is read: the terminal may hold old lines

    script = folder / "teach.py"  # with the model for grey pictures, as this camera's are
    script.write_text(script.read_text().replace("MODEL = None", 'MODEL = "models/fashion_mnist.safetensors"', 1))
    show(1)
    with repl(own_board, folder) as terminal:
        press(terminal, b"import teach\r", b"camera: nothing is taught yet", 120)
        press(terminal, b"1", b"one: 1 pictures")
        show(9)
        assert wait_until(seen.exists, 60)
        press(terminal, b"2", b"two: 1 pictures")
        wait_for(terminal, b"camera  two #")
        show(1)
        wait_for(terminal, b"camera  one #")
        shown = press(terminal, b"\x03", b">>> ")
        assert b"camera off" in shown and b"one 1, two 1" in shown
    assert (own_board.flash / "off").exists()


def test_what_is_missing_is_said(own_board, folder):
    with repl(own_board, folder) as terminal:
        shutil.rmtree(folder / "images")
        press(
            terminal,
            b"import teach\r",
            b"teach.py: no camera, and no pictures (.pgm, .ppm, .jpg) in images/ or /rom/images/",
        )
        (folder / "taught.learned").write_bytes(b"ftlearnt" + bytes(60))
        press(terminal, b"teach.main()\r", b"teach.py: taught.learned: version: is 0, this reader knows 2")
        shutil.rmtree(folder / "models")
        press(terminal, b"teach.main()\r", b"teach.py: no model (.safetensors) in models/ or /rom/models/")
