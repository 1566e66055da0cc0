# SPDX-License-Identifier: MIT
"""Building and serving the page."""

import os
import socket
import subprocess
import sys

import pytest

from host_sim.setup.shell import Failure
from host_sim.web import server
from host_sim.web.firmware import with_functions
from host_sim.web.site import MAX_BYTES, TOOLS, copy_to, models, size
from tests.conftest import ROOT


def run(*arguments, path=None):
    """python -m host_sim.web; path: where programs are looked for."""
    command = [sys.executable, "-m", "host_sim.web", *arguments]
    environment = os.environ | ({"PATH": str(path)} if path else {})
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)


def test_arrow_functions_of_a_library_become_functions():
    before = ("a: () => {\n        f(() => 1);\n    },", "b: () => c() - d,", "e: () =>\n        g(1)[0],")
    after = (
        "a: function () {\n        f(() => 1);\n    },",
        "b: function () { return c() - d; },",
        "e: function () { return g(1)[0]; },",
    )
    library = "mergeInto(x, {\n    %s\n});\n"
    assert with_functions(library % "\n    ".join(before)) == library % "\n    ".join(after)


def test_download_is_small(site):
    assert size(site, all_models=False) <= MAX_BYTES
    assert {path.name for path in (site / "models").iterdir()} == {path.name for path in models()}


def test_bundled_packages_are_named_with_their_licences(site):
    text = (site / "licences.txt").read_text()
    for name in ("@xterm/xterm", "codemirror", "esptool-js", "Damien P. George", "FTerViT", "musl", "Emscripten"):
        assert name in text
    assert "Permission is hereby granted" in text


def test_unchanged_site_is_not_built_again(site):
    from host_sim.web.site import site as build

    before = (site / "main.js").stat().st_mtime_ns
    assert build() == site
    assert (site / "main.js").stat().st_mtime_ns == before


def test_busy_port_is_one_line(site):
    with socket.create_server((server.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--port", str(port))
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last == f"error: port {port} is in use by another program: give another one, --port {port + 1}"


@pytest.mark.parametrize("tool", [*TOOLS, "emcc"])
def test_missing_tool_is_one_line(tool, tmp_path):
    for other in {*TOOLS, "emcc"} - {tool}:
        (tmp_path / other).symlink_to("/bin/true")
    result = run(path=tmp_path)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"error: {tool} is missing: install ")


def test_port_beyond_the_last_is_refused(site):
    result = run("--port", "70000")
    assert result.stderr.splitlines()[-1] == "error: --port 70000: must be 0 to 65535"


def test_out_refuses_a_folder_with_other_files(site, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(Failure, match="holds other files"):
        copy_to(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(Failure, match="is a file"):
        copy_to(tmp_path / "thesis.txt")


def test_firmware_is_published_beside_the_page(site, tmp_path):
    with pytest.raises(Failure, match="must be a folder with flash images"):
        copy_to(tmp_path / "site", tmp_path)
    (tmp_path / "MY_BOARD.bin").write_bytes(b"\xe9 image")
    folder = copy_to(tmp_path / "site", tmp_path)
    assert (folder / "firmware" / "MY_BOARD.bin").read_bytes() == b"\xe9 image"
    assert (folder / "firmware" / "list.json").read_text() == '["MY_BOARD.bin"]'
    copy_to(folder)
    assert not (folder / "firmware").exists()


def test_out_replaces_an_older_site(site, tmp_path):
    folder = copy_to(tmp_path / "site")
    (folder / "part-old.js").write_text("old")
    copy_to(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in site.iterdir())
