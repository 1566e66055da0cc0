# SPDX-License-Identifier: MIT
"""The page, served to a headless Chromium, with a webcam made of a test picture."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT

SIDE = 240  # pixels of the webcam's frames
SHOE = ROOT / "firmware" / "images" / "7_sneaker.pgm"


def need(condition: object, reason: str) -> None:
    """Skip where a tool is missing; in CI, where the recipe installs it, fail."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def site() -> Path:
    """The built site."""
    need(shutil.which("emcc"), "needs Emscripten: apt-get install emscripten")
    need(shutil.which("npm"), "needs npm: apt-get install npm")
    from host_sim.web.site import site

    return site()


@pytest.fixture(scope="session")
def address(site):
    """Where the site is served, cross-origin isolated, with a serial port (stand_in.py) beside it."""
    from host_sim.web.server import serving
    from tests.host_sim.web.stand_in import SerialHandler

    with serving(site, SerialHandler) as address:
        yield address


def video(path: Path) -> Path:
    """A video of two frames, each the sneaker: YUV4MPEG2, grey."""
    pixels = np.frombuffer(SHOE.read_bytes()[-28 * 28 :], np.uint8).reshape(28, 28)
    frame = pixels.repeat(8, 0).repeat(8, 1)
    luma = np.zeros((SIDE, SIDE), np.uint8)
    luma[8 : 8 + frame.shape[0], 8 : 8 + frame.shape[1]] = frame
    # Studio range: 16 is black, 235 white.
    luma = (16 + luma.astype(int) * 219 // 255).astype(np.uint8)
    chroma = bytes([128]) * (SIDE * SIDE // 2)
    head = f"YUV4MPEG2 W{SIDE} H{SIDE} F10:1 Ip A1:1 C420jpeg\n".encode()
    path.write_bytes(head + (b"FRAME\n" + luma.tobytes() + chroma) * 2)
    return path


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A headless Chromium: playwright's Browser."""
    pytest.importorskip("playwright", reason="needs playwright: pip install playwright")
    from host_sim.setup.apt import CHROMIUM
    from host_sim.web.browser import browser

    need(any(map(shutil.which, CHROMIUM)), "needs Chromium: apt-get install chromium")
    film = video(tmp_path_factory.mktemp("video") / "sneaker.y4m")
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with browser([*camera, f"--use-file-for-fake-video-capture={film}"]) as running:
        yield running


@pytest.fixture
def page(chromium, address):
    """A fresh page of a fresh profile, ready; what it asked for is in page.asked, errors fail the test."""
    from host_sim.web.browser import open_page

    context = chromium.new_context(permissions=["camera"])
    context.set_default_timeout(60_000)
    asked, errors = [], []
    context.on("request", lambda request: asked.append(request.url))
    context.on("weberror", lambda error: errors.append(str(error.error)))
    page = open_page(context, address)
    page.asked = asked
    yield page
    context.close()
    assert errors == []
