# SPDX-License-Identifier: MIT
"""Where MicroPython's source comes from."""

import pytest

from host_sim.setup import micropython
from host_sim.setup.apt_sources import parse_deb822
from host_sim.setup.shell import Failure

INLINE_KEY = """\
Types: deb
URIs: https://mirror.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----
"""


def test_inline_key_reaches_the_private_sources(tmp_path):
    [archive] = parse_deb822(INLINE_KEY)
    micropython.private_apt(tmp_path / "apt", archive)
    entry = (tmp_path / "apt" / "sources.list.d" / "micropython.sources").read_text()
    assert "Types: deb-src\n" in entry
    assert " mQINBF\n" in entry


def test_mpy_dir_that_is_no_source_tree(monkeypatch, tmp_path):
    monkeypatch.setenv("MPY_DIR", str(tmp_path))
    with pytest.raises(Failure, match=r"MPY_DIR=.* is not a MicroPython source tree"):
        micropython.source()
