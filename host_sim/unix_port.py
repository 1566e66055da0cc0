# SPDX-License-Identifier: MIT
"""MicroPython's unix port with our C modules: fetches the source, builds it, names the executable.

The source is, in this order: the clone that MPY_DIR names; a shallow git clone of the version that the ESP32-S3 boards
are made for (firmware/boards/versions.toml); where git does not get that, Debian's source package, an older version,
from the mirror that this machine's own apt sources name. It stays as it is, unpatched, under build/micropython-src;
what is built from it goes to build/unix, with MPY_DIR to a folder of its own.

    python host_sim/unix_port.py      build, and print the executable's path
"""

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

from host_sim.environment import (
    BUILD,
    ROOT,
    Failure,
    install_packages,
    lock,
    one_line_errors,
    run,
    step,
    versions,
)

DEBIAN_SUITE = "trixie"
GIT_URL = "https://github.com/micropython/micropython"

# Seconds for the server to answer at all; bytes and seconds below which a clone counts as stuck.
ANSWER = 15
STUCK = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30")

SOURCE = BUILD / "micropython-src"
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


def output(port: str) -> Path:
    """Where a port is built: each tree that MPY_DIR names has folders of its own, as boards may run meanwhile."""
    tree = os.environ.get("MPY_DIR")
    return BUILD / (f"{port}-{hashlib.sha256(os.path.realpath(tree).encode()).hexdigest()[:8]}" if tree else port)


OUTPUT = output("unix")


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
    what = f"fetching MicroPython {versions()['debian']} from Debian's mirror"
    package = f"micropython={versions()['debian']}+ds-1"
    with step(what):
        run(["apt-get", "update"], what, "micropython-apt-update.log", env=environment)
        run(["apt-get", "source", package], what, "micropython-apt-source.log", cwd=work, env=environment)
    return next(path for path in work.glob("micropython-*") if path.is_dir())


def fetch_from_git(work: Path) -> Path:
    """Clone the release that the boards are made for under `work`; a Failure where that server is out of reach."""
    tag = f"v{versions()['micropython']}"
    if not shutil.which("git"):
        raise Failure(f"cloning MicroPython {tag} failed: git is not installed")
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    clone, what = work / "micropython", f"cloning MicroPython {tag}"
    probe = ["git", "ls-remote", "--exit-code", GIT_URL, f"refs/tags/{tag}"]
    run(probe, what, "micropython-git.log", env=environment, timeout=ANSWER)
    with step(what):
        command = ["git", *STUCK, "clone", "--depth", "1", "--branch", tag, GIT_URL, clone]
        run(command, what, "micropython-git.log", env=environment)
    return clone


def fetch(work: Path) -> Path:
    """Fetch the source by the first way that works; returns the directory under `work` that holds it."""
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
    if not all(parts[:3]):
        return "?"
    preview = "-preview" if parts[3] and parts[3][1] != "0" else ""
    return ".".join(part[1] for part in parts[:3]) + preview


def source() -> Path:
    """MicroPython's source tree, fetched when it is not there yet."""
    if os.environ.get("MPY_DIR"):
        tree = Path(os.environ["MPY_DIR"]).expanduser().resolve()
        if not (tree / "ports" / "unix").is_dir():
            raise Failure(f"MPY_DIR={tree} is not a MicroPython source tree (it has no ports/unix)")
        return tree
    # One that an older versions.toml asked for is fetched anew.
    if not SOURCE.exists() or tree_version(SOURCE) not in (versions()["micropython"], versions()["debian"]):
        work = BUILD / "micropython-fetch"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            fetched = fetch(work)
            shutil.rmtree(SOURCE, ignore_errors=True)
            fetched.rename(SOURCE)
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


def tree_settings(tree: Path) -> list[str]:
    """What a build depends on of a tree beside its files: in another version, older files are newer than objects."""
    return [str(tree), tree_version(tree)]


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
        discard_if_reconfigured(output, [*tree_settings(tree), *options], [*includes, *settings])
        jobs = len(os.sched_getaffinity(0))
        command = ["make", f"-j{jobs}", "-C", tree / "ports" / port, *options]
        paths = [f"USER_C_MODULES={folder}", f"BUILD={output}", f"PYTHON={sys.executable}"]
        with step(f"building MicroPython {tree_version(tree)} ({port}) with the ternary module"):
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
