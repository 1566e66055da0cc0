# SPDX-License-Identifier: MIT
"""Prepares the virtual environment of the recipes and the system packages that they use.

`python3 -m host_sim.setup.environment TASK` installs what that task (a key of GROUPS) lacks and nothing else. It runs
on the system's Python before any package is installed, so it uses only the standard library. uv installs the Python
packages: pyproject.toml lists them by group; requirements.lock pins versions and hashes of them and their dependencies.
`... lock` writes that file.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this is what an older Python meets first
    sys.exit(f"error: Python 3.11 or newer is needed, {sys.executable} is older: set PYTHON to a newer one")

import argparse
import ast
import hashlib
import os
import re
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

from host_sim.setup.apt import install_packages, missing_packages
from host_sim.setup.artefact import changing, empty, interrupted
from host_sim.setup.shell import BUILD, ROOT, VENV, Failure, check_path, lock, one_line_errors, run, step

# The groups of pyproject.toml that a task needs.
GROUPS = {
    "demo": ("board",),
    "lint": ("lint",),
    "kernels": ("board", "kernels", "test"),
    "test": ("board", "browser", "command", "kernels", "lint", "pictures", "test", "torch", "train"),
    "train": ("command", "kernels", "pictures", "torch", "train"),
    "eval": ("command", "kernels", "pictures", "torch", "train"),
    "lx7": ("kernels", "pictures"),
    "flash": ("board", "flash"),
    "qemu": ("board",),
    "web": ("board",),
    "browser": ("board", "browser"),
    "bench-web": ("bench-web", "board", "browser", "kernels"),
}
# Tests that `just test` runs without torch.
KERNEL_TESTS = ("tests/mpy_module", "tests/host_sim/setup", "tests/host_sim/test_ternary.py")
LOCK = "requirements.lock"
# Neither locked nor hashed, because builds of one version differ: see install_torch.
UNLOCKED = ("torch", "torchvision")
# pip's settings -> uv's environment variables. uv ignores pip's own files and variables.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}


def python() -> Path:
    """The virtual environment's Python."""
    return VENV / "bin" / "python"


def make_venv() -> None:
    """Make the virtual environment; again if another Python made it or an installation into it was interrupted."""
    maker = f"{sys.version}\n{sys.base_prefix}\n"
    stamp = VENV / "made-by"
    unfinished = interrupted(VENV)
    if unfinished and running_inside():
        raise Failure(f"{VENV} was left unfinished: remove it, and run it again with another Python than its own")
    if not unfinished and python().exists() and (running_inside() or (stamp.is_file() and stamp.read_text() == maker)):
        return
    # One that another tool made is kept and only added to.
    if unfinished or stamp.exists():
        empty(VENV)
    VENV.mkdir(exist_ok=True)
    with step("making .venv", VENV), changing(VENV):
        run([sys.executable, "-m", "venv", VENV], "making the virtual environment", "venv.log")
        stamp.write_text(maker)


def running_inside() -> bool:
    """Whether this process runs on the virtual environment's Python."""
    return Path(sys.prefix) == VENV


def requirements(group: str) -> list[str]:
    """The requirements of a group in pyproject.toml."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["dependency-groups"][group]


def locked(name: str) -> str:
    """A package's entry in the lock: version and hashes; a Failure if it has none."""
    found = re.search(rf"^{re.escape(name)}==.*\n(?:[ \t].*\n)*", (ROOT / LOCK).read_text(), flags=re.MULTILINE)
    if not found:
        raise Failure(f"{LOCK} has no {name}: run `just lock` to write it again")
    return found[0]


def pip_settings() -> dict[str, str]:
    """pip's configuration on this machine, from its files and variables: option -> value."""
    command: list[str | Path] = [python(), "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = dict(re.findall(r"^(\S+?)=(.*)$", done.stdout, flags=re.MULTILINE))
    # The later section wins, as in pip.
    sections = ("global", "install", ":env:")
    return {
        name.removeprefix(f"{section}."): str(ast.literal_eval(value))
        for section in sections
        for name, value in found.items()
        if name.startswith(f"{section}.")
    }


def uv_variables(settings: dict[str, str]) -> dict[str, str]:
    """pip's settings as environment variables of uv."""
    known = settings.keys() & UV_VARIABLES.keys()
    variables = {UV_VARIABLES[name]: " ".join(settings[name].split()) for name in known}
    if "UV_FIND_LINKS" in variables:
        variables["UV_FIND_LINKS"] = variables["UV_FIND_LINKS"].replace(" ", ",")
    if not os.access(Path.home(), os.W_OK):
        variables["UV_NO_CACHE"] = "1"
    # As in pip, all indexes have equal rank, and modules are compiled on installation.
    return variables | {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_COMPILE_BYTECODE": "1", "UV_NO_PROGRESS": "1"}


def uv(*arguments: str | Path, what: str, log: str, settings: dict[str, str]) -> None:
    """Run uv with pip's settings; the user's own variables for uv take precedence."""
    options = ["--no-index"] if settings.get("no-index", "").lower() in ("1", "true", "yes", "on") else []
    command = [VENV / "bin" / "uv", "pip", *arguments, *options]
    run(command, what, log, cwd=ROOT, env=uv_variables(settings) | os.environ)


def uv_install(*arguments: str | Path, what: str, log: str, settings: dict[str, str]) -> None:
    """Install into the virtual environment, in the locked versions."""
    target = ("--python", python(), "--constraints", LOCK)
    uv("install", *target, *arguments, what=what, log=log, settings=settings)


def install_uv() -> None:
    """Install the locked version of uv with pip, unless it is installed."""
    entry = locked("uv")
    stamp = VENV / "installed-uv"
    if stamp.is_file() and stamp.read_text() == entry:
        return
    BUILD.mkdir(exist_ok=True)
    requirement = BUILD / "uv.txt"
    requirement.write_text(entry)
    pip = ["-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--require-hashes", "-r"]
    with step("installing uv", VENV):
        run([python(), *pip, requirement], "installing uv", "pip-uv.log")
    stamp.write_text(entry)


def install_groups(groups: Sequence[str], settings: dict[str, str]) -> None:
    """Install fully locked groups; each file is checked against its hashes."""
    options = [option for group in groups for option in ("--group", group)]
    excluded = BUILD / "unlocked.txt"
    excluded.write_text("\n".join(UNLOCKED))
    what = f"installing the Python packages ({', '.join(groups)})"
    with step(what, VENV):
        locked = ("--require-hashes", "--excludes", excluded)
        uv_install(*locked, *options, what=what, log="uv-install.log", settings=settings)


def install_torch(settings: dict[str, str]) -> None:
    """Install torch and torchvision: CPU-only builds where an index offers them, otherwise the index's default builds.

    CPU builds and PyPI's CUDA builds have the same version and different hashes, so these two have a pinned version and
    no hash; their dependencies are locked.
    """
    torch, torchvision = requirements("torch")
    cpu = f"{torch}+cpu"
    overrides = BUILD / "torch.txt"
    overrides.write_text(cpu)
    ways: tuple[tuple[str | Path, ...], ...] = (
        # pip's configured indexes may offer both, or only a torch. With a lone torch, only an old torchvision that
        # does not register its operators imports; timm uses only its image transforms, which are Python.
        (cpu, f"{torchvision}+cpu"),
        ("--overrides", overrides, cpu, *requirements("torchvision-alone")),
        # uv knows PyTorch's own index.
        ("--torch-backend", "cpu", torch, torchvision),
        (torch, torchvision),
    )
    # pip's constraints apply only here: locked packages need none.
    constraints = [option for path in settings.get("constraint", "").split() for option in ("--constraints", path)]
    what = f"installing {torch}"
    with step(what, VENV):
        for number, way in enumerate(ways, 1):
            try:
                uv_install(*way, *constraints, what=what, log=f"uv-torch-{number}.log", settings=settings)
                return
            except Failure:
                if number == len(ways):
                    raise


def install_command(settings: dict[str, str]) -> None:
    """Install this tree in place, without its dependencies, for the programs of pyproject.toml's [project.scripts]."""
    what = "installing the command trainer"
    with step(what, VENV):
        # Built by the locked setuptools of the group.
        options = ("--no-build-isolation", "--no-deps", "--editable", ".")
        uv_install(*options, what=what, log="uv-command.log", settings=settings)


def project_text() -> str:
    """What an installation of this tree is made from, apart from its groups."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        content = tomllib.load(file)
    return repr([content.get("project"), content.get("build-system"), content.get("tool", {}).get("setuptools")])


def install(groups: Sequence[str]) -> None:
    """Install groups of pyproject.toml, except those whose stamp is up to date."""
    text = (ROOT / LOCK).read_text()
    digests = {group: hashlib.sha256(repr((requirements(group), text)).encode()).hexdigest() for group in groups}
    if "command" in groups:
        digests["command"] += hashlib.sha256(project_text().encode()).hexdigest()
    stamps = {group: VENV / f"installed-{group}" for group in groups}
    missing = [name for name, stamp in stamps.items() if not stamp.is_file() or stamp.read_text() != digests[name]]
    if not missing:
        return
    with changing(VENV):
        install_uv()
        settings = pip_settings()
        if plain := [group for group in missing if group != "torch"]:
            install_groups(plain, settings)
        if "torch" in missing:
            install_torch(settings)
        if "command" in missing:
            install_command(settings)
        for group in missing:
            stamps[group].write_text(digests[group])


def lock_versions(options: Sequence[str]) -> None:
    """Write the lock for all groups, platforms and Python versions, with the hashes of all files that the index serves.

    Versions in the existing lock stay unless uv's `options` (--upgrade, --upgrade-package NAME) say otherwise. Local
    wheels (pip's find-links and extra indexes) are ignored, because other machines do not have them.
    """
    with open(ROOT / "pyproject.toml", "rb") as file:
        groups = tomllib.load(file)["dependency-groups"]
    arguments = ["--universal", "--fork-strategy", "fewest", "--generate-hashes", "--no-emit-index-url"]
    arguments += ["--custom-compile-command", "just lock"]
    arguments += [option for group in groups if group != "torchvision-alone" for option in ("--group", group)]
    arguments += [option for name in UNLOCKED for option in ("--no-emit-package", name)]
    what = f"locking versions in {LOCK}"
    with step(what):
        settings = {
            name: value for name, value in pip_settings().items() if name not in ("find-links", "extra-index-url")
        }
        uv("compile", *arguments, "--output-file", LOCK, *options, what=what, log="uv-lock.log", settings=settings)


def task_of_tests(arguments: Sequence[str]) -> str:
    """The task that prepares `pytest ARGUMENTS`: "kernels" if no path among them needs torch, else "test"."""
    paths = [path for argument in arguments if (path := ROOT / argument.partition("::")[0]).exists()]
    folders = [ROOT / path for path in KERNEL_TESTS]
    alone = paths and all(any(path.resolve().is_relative_to(folder) for folder in folders) for path in paths)
    return "kernels" if alone else "test"


def prepare(task: str) -> None:
    """Install whatever the task (a key of GROUPS) still lacks."""
    check_path(ROOT, "this checkout")
    install_packages(missing_packages(task))
    with lock("environment"):
        make_venv()
        install(GROUPS[task])


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Install the packages that a recipe needs.")
    parser.add_argument("task", choices=[*GROUPS, "lock"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="test: pytest's; lock: uv's")
    given = parser.parse_args()
    prepare("lint" if given.task == "lock" else task_of_tests(given.arguments) if given.task == "test" else given.task)
    if given.task == "lock":
        lock_versions(given.arguments)


if __name__ == "__main__":
    sys.exit(main())
