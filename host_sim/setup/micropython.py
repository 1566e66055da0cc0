# SPDX-License-Identifier: MIT
"""Finds or fetches MicroPython's source.

The first of: the clone that MPY_DIR names; a shallow git clone of the version that the ESP32-S3 boards use
(firmware/boards/versions.toml); if cloning fails, Debian's source package, an older version, from the mirror in this
machine's apt sources. Fetched source is kept unpatched in build/micropython-src.
"""

import os
import re
import shutil
import tomllib
from pathlib import Path

from host_sim.setup.apt import install_packages
from host_sim.setup.apt_sources import AptSource, apt_sources, debian_archive, debian_codename
from host_sim.setup.shell import BUILD, ROOT, Failure, lock, run, step

DEBIAN_SUITE = "trixie"
GIT_URL = "https://github.com/micropython/micropython"
# Seconds within which the server must answer; a clone below 1,000 bytes per second for 30 s is aborted.
ANSWER = 15
STUCK = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30")
SOURCE = BUILD / "micropython-src"


def versions() -> dict[str, str]:
    """firmware/boards/versions.toml: micropython, idf and debian (versions), camera (a commit)."""
    return tomllib.loads((ROOT / "firmware" / "boards" / "versions.toml").read_text())


def private_apt(directory: Path, archive: AptSource) -> dict[str, str]:
    """Set up a private apt under `directory`, without root; returns its environment."""
    for name in ("sources.list.d", "lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True)
    fields = {"Types": "deb-src", "URIs": archive.uri, "Suites": DEBIAN_SUITE, "Components": "main"}
    if archive.signed_by:
        fields["Signed-By"] = archive.signed_by
    entry = "".join(f"{name}: {value}\n" for name, value in fields.items())
    (directory / "sources.list.d" / "micropython.sources").write_text(entry)
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": f"{directory}/sources.list.d/",
        "Dir::State::lists": f"{directory}/lists/",
        "Dir::Cache": f"{directory}/cache/",
        "Acquire::Languages": "none",
        "Acquire::GzipIndexes": "true",
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
    }
    config = directory / "apt.conf"
    config.write_text("".join(f'{name} "{value}";\n' for name, value in options.items()))
    return os.environ | {"APT_CONFIG": str(config)}


def fetch_from_debian(work: Path, archive: AptSource) -> Path:
    """Fetch and unpack Debian's source package under `work`."""
    if not shutil.which("dpkg-source"):
        install_packages({"dpkg-source": "dpkg-dev"})
    environment = private_apt(work / "apt", archive)
    what = f"fetching MicroPython {versions()['debian']} from Debian's mirror"
    package = f"micropython={versions()['debian']}+ds-1"
    with step(what, work):
        run(["apt-get", "update"], what, "micropython-apt-update.log", env=environment)
        run(["apt-get", "source", package], what, "micropython-apt-source.log", cwd=work, env=environment)
    return next(path for path in work.glob("micropython-*") if path.is_dir())


def fetch_from_git(work: Path) -> Path:
    """Clone the release that the boards use under `work`; a Failure if the server cannot be reached."""
    tag = f"v{versions()['micropython']}"
    if not shutil.which("git"):
        raise Failure(f"cloning MicroPython {tag} failed: git is not installed")
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    clone, what = work / "micropython", f"cloning MicroPython {tag}"
    probe = ["git", "ls-remote", "--exit-code", GIT_URL, f"refs/tags/{tag}"]
    run(probe, what, "micropython-git.log", env=environment, timeout=ANSWER)
    with step(what, work):
        command: list[str | Path] = ["git", *STUCK, "clone", "--depth", "1", "--branch", tag, GIT_URL, clone]
        run(command, what, "micropython-git.log", env=environment)
    return clone


def fetch(work: Path) -> Path:
    """Fetch the source from git, else from Debian; returns its directory under `work`."""
    try:
        return fetch_from_git(work)
    except Failure:
        archive = debian_archive(apt_sources(), debian_codename()) if shutil.which("apt-get") else None
        if not archive:
            raise
        shutil.rmtree(work / "micropython", ignore_errors=True)
        return fetch_from_debian(work, archive)


def tree_version(tree: Path) -> str:
    """The version of a MicroPython source tree, such as 1.25.1 or 1.26.0-preview, or "?"."""
    header = tree / "py" / "mpconfig.h"
    text = header.read_text(errors="replace") if header.exists() else ""
    parts = [
        re.search(rf"MICROPY_VERSION_{part}\s+\(?(\d+)", text) for part in ("MAJOR", "MINOR", "MICRO", "PRERELEASE")
    ]
    numbers = [part[1] for part in parts if part]
    if not all(parts[:3]):
        return "?"
    preview = "-preview" if parts[3] and parts[3][1] != "0" else ""
    return ".".join(numbers[:3]) + preview


def source() -> Path:
    """MicroPython's source tree, fetched if it is not there."""
    if os.environ.get("MPY_DIR"):
        tree = Path(os.environ["MPY_DIR"]).expanduser().resolve()
        if not (tree / "ports" / "unix").is_dir():
            raise Failure(f"MPY_DIR={tree} is not a MicroPython source tree (it has no ports/unix)")
        return tree
    if out_of_date():
        with lock("micropython-source"):
            if out_of_date():
                fetch_source()
    return SOURCE


def out_of_date() -> bool:
    """Whether there is no source yet, or one that an older versions.toml asked for."""
    return not SOURCE.exists() or tree_version(SOURCE) not in (versions()["micropython"], versions()["debian"])


def fetch_source() -> None:
    """Fetch the source to a folder of its own, and give it its name when it is whole."""
    work = BUILD / "micropython-fetch"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        fetched = fetch(work)
        if SOURCE.exists():
            SOURCE.rename(work / "old")  # renamed first: a half-removed tree must not count as a source
        fetched.rename(SOURCE)
    finally:
        shutil.rmtree(work, ignore_errors=True)
