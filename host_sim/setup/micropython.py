# SPDX-License-Identifier: MIT
"""MicroPython's source, fetched once.

It is, in this order: the clone that MPY_DIR names; Debian's source package, from the mirror that this machine's own
apt sources name; a shallow git clone. It stays as it is, unpatched, under build/micropython-src.
"""

import contextlib
import os
import shutil
from pathlib import Path

from host_sim.setup.apt import install_packages
from host_sim.setup.apt_sources import AptSource, apt_sources, debian_archive, debian_codename
from host_sim.setup.shell import BUILD, Failure, run, step

VERSION = "1.25.0"
DEBIAN_SOURCE = f"micropython={VERSION}+ds-1"
DEBIAN_SUITE = "trixie"
GIT_URL = "https://github.com/micropython/micropython"
SOURCE = BUILD / "micropython-src"


def private_apt(directory: Path, archive: AptSource) -> dict[str, str]:
    """Set up an apt of our own under `directory` (root not needed); returns the environment for it."""
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
    what = f"fetching MicroPython {VERSION} from Debian's mirror"
    run(["apt-get", "update"], what, "micropython-apt-update.log", env=environment)
    run(["apt-get", "source", DEBIAN_SOURCE], what, "micropython-apt-source.log", cwd=work, env=environment)
    return next(path for path in work.glob("micropython-*") if path.is_dir())


def fetch_from_git(work: Path) -> Path:
    """Clone the release under `work`."""
    clone = work / "micropython"
    command: list[str | Path] = ["git", "clone", "--depth", "1", "--branch", f"v{VERSION}", GIT_URL, clone]
    run(command, f"cloning MicroPython {VERSION}", "micropython-git.log")
    return clone


def fetch(work: Path) -> Path:
    """Fetch the source by the first way that works; returns the directory under `work` that holds it."""
    archive = debian_archive(apt_sources(), debian_codename()) if shutil.which("apt-get") else None
    if not archive:
        return fetch_from_git(work)
    try:
        return fetch_from_debian(work, archive)
    except Failure as failure:
        if not shutil.which("git"):
            raise
        with contextlib.suppress(Failure):
            return fetch_from_git(work)
        raise failure


def source() -> Path:
    """MicroPython's source tree, fetched when it is not there yet."""
    if os.environ.get("MPY_DIR"):
        tree = Path(os.environ["MPY_DIR"]).expanduser().resolve()
        if not (tree / "ports" / "unix").is_dir():
            raise Failure(f"MPY_DIR={tree} is not a MicroPython source tree (it has no ports/unix)")
        return tree
    if not SOURCE.exists():
        work = BUILD / "micropython-fetch"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            with step(f"fetching MicroPython {VERSION}"):
                fetch(work).rename(SOURCE)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return SOURCE
