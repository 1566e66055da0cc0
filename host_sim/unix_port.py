# SPDX-License-Identifier: MIT
"""MicroPython's unix port with our C modules: fetches the source, builds it, names the executable.

The source is, in this order: the clone that MPY_DIR names; Debian's source package, from the mirror that
this machine's own apt sources name; a shallow git clone. It stays as it is, unpatched, under
build/micropython-src; what is built from it goes to build/unix.

    python host_sim/unix_port.py      build, and print the executable's path
"""

import contextlib
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from host_sim.setup.environment import (
    BUILD,
    ROOT,
    Failure,
    install_packages,
    lock,
    one_line_errors,
    run,
    step,
)

VERSION = "1.25.0"
DEBIAN_SOURCE = f"micropython={VERSION}+ds-1"
DEBIAN_SUITE = "trixie"
GIT_URL = "https://github.com/micropython/micropython"

SOURCE = BUILD / "micropython-src"
OUTPUT = BUILD / "unix"
MODULES = {"raw_repl": ROOT / "host_sim" / "raw_repl", "ternary": ROOT / "mpy_module"}

# The virtual board needs none of these, and Debian's source package lacks their libraries.
MAKE_OPTIONS = (
    "VARIANT=standard",
    "FROZEN_MANIFEST=",
    "MICROPY_PY_BTREE=0",
    "MICROPY_PY_FFI=0",
    "MICROPY_PY_SSL=0",
    "MICROPY_SSL_AXTLS=0",
    "MICROPY_SSL_MBEDTLS=0",
    # The source is pinned and compilers are not: a newer one's new warning must not stop the build.
    "CFLAGS_EXTRA=-Wno-error",
)


class AptSource(NamedTuple):
    """One `deb` entry of a machine's apt sources."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str


def parse_deb822(text: str) -> Iterator[AptSource]:
    """The enabled `deb` entries of a .sources file."""
    text = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields = {
            name.lower(): value.strip()
            for name, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, flags=re.MULTILINE)
        }
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        suites, components = (tuple(fields.get(name, "").split()) for name in ("suites", "components"))
        for uri in fields.get("uris", "").split():
            yield AptSource(uri, suites, components, fields.get("signed-by", ""))


def parse_one_line(text: str) -> Iterator[AptSource]:
    """The `deb` entries of a .list file."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)", line)
        if match:
            options, uri, suite, components = match.groups()
            signed_by = re.search(r"signed-by=(\S+)", options or "")
            yield AptSource(uri, (suite,), tuple(components.split()), signed_by[1] if signed_by else "")


def apt_sources(directory: Path = Path("/etc/apt")) -> list[AptSource]:
    """All `deb` entries of a machine, in apt's order."""
    found = []
    for path in (directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))):
        if path.suffix in (".list", ".sources") and path.is_file():
            parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
            found += parse(path.read_text(errors="replace"))
    return found


def debian_archive(sources: list[AptSource], codename: str) -> AptSource | None:
    """The entry that serves Debian's main archive, or None."""

    def serves_archive(source: AptSource) -> bool:
        return (
            "main" in source.components
            and codename in source.suites
            and not source.uri.startswith("cdrom:")
            and "security" not in source.uri
        )

    def resemblance(source: AptSource) -> int:
        path = source.uri.rstrip("/")
        return 2 * path.endswith("/debian") + ("debian-archive" in source.signed_by) + ("debian" in path)

    candidates = [source for source in sources if serves_archive(source)]
    best = max(candidates, key=resemblance, default=None)
    return best if best and resemblance(best) else None


def debian_codename(path: Path = Path("/etc/os-release")) -> str:
    """The codename of the Debian release that this machine runs, or an empty string."""
    try:
        fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', path.read_text(), flags=re.MULTILINE))
    except OSError:
        return ""
    return fields.get("VERSION_CODENAME", "") if fields.get("ID") == "debian" else ""


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
    command = ["git", "clone", "--depth", "1", "--branch", f"v{VERSION}", GIT_URL, clone]
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


def link_modules(folder: Path, modules: dict[str, Path]) -> None:
    """Lay C modules out as MicroPython's USER_C_MODULES wants them: a directory of module directories."""
    folder.mkdir(parents=True, exist_ok=True)
    for link in folder.iterdir():
        if modules.get(link.name) != link.readlink():
            link.unlink()
    for name, path in modules.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(path)


def discard_if_reconfigured(output: Path, settings: list[str], files: list[Path]) -> None:
    """Make sees changed files but not changed settings: on those, start from an empty output directory."""
    settings = [*settings, *(text for file in files for text in (str(file), file.read_text()))]
    digest = hashlib.sha256("\0".join(settings).encode()).hexdigest()
    stamp = output / "configured"
    if not stamp.is_file() or stamp.read_text() != digest:
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        stamp.write_text(digest)


def build(
    port: str, output: Path, modules: dict[str, Path], options: Sequence[str], settings: Sequence[Path] = ()
) -> None:
    """Fetch MicroPython's source if need be, and build one of its ports into `output` as far as it is out of date.

    modules: name -> directory of a C module, some of which a tree may lack; options: make's variables; settings: files
    that the port's makefile includes.
    """
    with lock("micropython"):
        tree = source()
        for path in (tree, BUILD):
            if re.search(r"\s", str(path)):
                raise Failure(f"MicroPython's makefiles need a path without spaces, unlike {path}")
        modules = {name: path for name, path in modules.items() if (path / "micropython.mk").exists()}
        folder = output.with_name(f"usermods-{output.name}")
        link_modules(folder, modules)
        includes = [file for path in modules.values() for file in sorted(path.glob("micropython.*"))]
        discard_if_reconfigured(output, [str(tree), *options], [*includes, *settings])
        jobs = len(os.sched_getaffinity(0))
        command = ["make", f"-j{jobs}", "-C", tree / "ports" / port, *options]
        paths = [f"USER_C_MODULES={folder}", f"BUILD={output}", f"PYTHON={sys.executable}"]
        with step(f"building MicroPython ({output.name}) with the ternary module"):
            run([*command, *paths], "building MicroPython", f"micropython-make-{output.name}.log")


def firmware() -> Path:
    """Fetch and build whatever is missing or out of date; returns the executable."""
    build("unix", OUTPUT, MODULES, MAKE_OPTIONS)
    return OUTPUT / "micropython"


@one_line_errors
def main() -> None:
    """Command line."""
    print(firmware())


if __name__ == "__main__":
    sys.exit(main())
