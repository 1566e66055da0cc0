# SPDX-License-Identifier: MIT
"""The package as installed by `mpremote mip install`, and its error on firmware without the C module."""

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
import tomllib

import ftervit
import pytest

from tests.boards import WITHOUT_MODULE
from tests.conftest import ROOT

WHY = "ftervit needs firmware with the C module 'ternary': flash one that has it, see docs/board.md"


@pytest.fixture(scope="module")
def description() -> dict:
    """package.json."""
    return json.loads((ROOT / "package.json").read_text())


@pytest.fixture
def server():
    """Serves the tree over HTTP; its URL."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=ROOT)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/"
        served.shutdown()


def test_every_file_is_listed(description):
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "firmware" / "ftervit").rglob("*.py")}
    assert {source: target for target, source in description["urls"]} == {
        source: source.removeprefix("firmware/") for source in sources
    }


def test_version(description):
    assert description["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("origin", ["path", "url"])
def test_mip_installs_it(own_board, request, origin):
    where = ROOT / "package.json" if origin == "path" else request.getfixturevalue("server")
    own_board.mpremote("fs", "rm", "-r", ":ftervit")
    assert "ImportError" in own_board.mpremote("exec", "import ftervit").stdout
    result = own_board.mpremote("mip", "install", where)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "Done"), result.stdout
    script = "import ftervit; m = ftervit.VisionTransformer.load('models/fashion_mnist.safetensors')\n"
    script += "print(ftervit.__file__, m.predict(ftervit.read_image('images/7_sneaker.pgm'))[0][0])"
    assert own_board.mpremote("exec", script).stdout == "/lib/ftervit/__init__.py Sneaker\n"


def test_every_name_is_there(board):
    """ModelFile, architecture, modelfile and plan come when they are first used."""
    script = """
import ftervit, sys
names = {names}
print([name for name in names if not hasattr(ftervit, name)], "ftervit.plan" in sys.modules)
from ftervit import ModelFile, architecture, modelfile, plan
print(ModelFile is modelfile.ModelFile, plan.Plan, architecture.SIZES[0])
try:
    ftervit.nothing
except AttributeError as error:
    print(error)
"""
    result = board.mpremote("exec", script.format(names=ftervit.__all__))
    assert result.stdout == "[] False\nTrue <class 'Plan'> img_size\nmodule 'ftervit' has no attribute 'nothing'\n"


def test_every_name_is_there_on_cpython():
    script = "import ftervit; from ftervit import *; print(ModelFile.__name__, ftervit.plan.Plan.__name__)"
    path = {"PYTHONPATH": f"{ROOT / 'host_sim'}:{ROOT / 'firmware'}"}
    result = subprocess.run([sys.executable, "-c", script], env=os.environ | path, capture_output=True, text=True)
    assert result.stdout == "ModelFile Plan\n", result.stderr
    with pytest.raises(AttributeError, match="module 'ftervit' has no attribute 'nothing'"):
        _ = ftervit.nothing


def test_firmware_without_the_module(board):
    lines = board.mpremote("exec", WITHOUT_MODULE + "import ftervit\n").stdout.splitlines()
    assert lines[-1] == f"ImportError: {WHY} (no module named 'ternary')"
    assert not any("layers.py" in line or "image.py" in line for line in lines)


def test_cpython_without_the_module():
    result = subprocess.run(
        [sys.executable, "-c", "import ftervit"], cwd=ROOT / "firmware", capture_output=True, text=True
    )
    assert result.stderr.splitlines()[-1] == f"ImportError: {WHY} (No module named 'ternary')"
    assert result.stderr.count("Traceback") == 1
