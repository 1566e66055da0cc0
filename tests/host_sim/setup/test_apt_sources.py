# SPDX-License-Identifier: MIT
"""Debian's archive among a machine's apt sources."""

import pytest

from host_sim.setup.apt_sources import apt_sources, debian_archive, debian_codename, parse_one_line

DEB822 = """\
Types: deb
# a snapshot of the archive
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: https://vendor.example/tools
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
# deb http://off.example/debian bookworm main
deb [arch=amd64 signed-by=/keys/vendor.gpg] https://vendor.example/tools bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb-src http://mirror.example/debian bookworm main
deb [ signed-by=/keys/debian-archive.gpg ] http://mirror.example/debian/ bookworm main non-free # comment
deb http://mirror.example/debian-security bookworm-security main
"""


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("debian.sources", DEB822, "/usr/share/keyrings/debian-archive-keyring.gpg"),
        ("debian.list", ONE_LINE, "/keys/debian-archive.gpg"),
    ],
)
def test_debian_archive_among_the_sources(tmp_path, name, text, key):
    directory = tmp_path / "sources.list.d"
    directory.mkdir()
    (directory / name).write_text(text)
    (directory / "old.sources.disabled").write_text(DEB822.replace("mirror", "disabled"))
    archive = debian_archive(apt_sources(tmp_path), "bookworm")
    assert archive.uri.rstrip("/") == "http://mirror.example/debian"
    assert archive.components[0] == "main"
    assert archive.signed_by == key


def test_plain_sources_list(tmp_path):
    (tmp_path / "sources.list").write_text("deb mirror+file:/etc/apt/mirrors/debian.list trixie main\n")
    archive = debian_archive(apt_sources(tmp_path), "trixie")
    assert archive == ("mirror+file:/etc/apt/mirrors/debian.list", ("trixie",), ("main",), "")


def test_no_debian_archive():
    sources = list(parse_one_line("deb https://vendor.example/tools bookworm main\n"))
    assert debian_archive(sources, "bookworm") is None
    assert debian_archive([], "bookworm") is None


def test_codename(tmp_path):
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    assert debian_codename(release) == "bookworm"
    release.write_text("ID=other\nVERSION_CODENAME=noble\n")
    assert debian_codename(release) == ""
    assert debian_codename(tmp_path / "absent") == ""
