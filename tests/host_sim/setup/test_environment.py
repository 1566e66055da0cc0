# SPDX-License-Identifier: MIT
"""The virtual environment: locked packages are installed, from the indexes that pip is configured with."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from host_sim.setup import environment
from host_sim.setup.shell import ROOT, Failure

GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
UV = ROOT / ".venv" / "bin" / "uv"
PYPROJECT = """\
[dependency-groups]
light = ["one"]
torch = ["torch==3.1", "torchvision==0.9"]
torchvision-alone = ["torchvision==0.2"]
"""


def test_everything_is_locked_but_torch():
    for group, names in GROUPS.items():
        for name in names:
            if group.startswith("torch"):
                assert re.fullmatch(r"torch(vision)?==[\d.]+", name)
            else:
                wanted = Requirement(name)
                entry = environment.locked(wanted.name)
                assert "--hash=sha256:" in entry
                assert re.match(r"[^=]+==(\S+)", entry)[1] in wanted.specifier
    lock = (ROOT / environment.LOCK).read_text()
    entries = [entry for entry in re.split(r"\n(?=\S)", lock) if not entry.startswith("#")]
    assert len(entries) > 60
    assert all(re.match(r"[a-z0-9.-]+==[^\s]+ ", entry) and "--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"^torch(vision)?\b", lock, flags=re.MULTILINE)
    assert "//" not in lock
    assert "file:" not in lock


def test_demo_and_kernels_need_no_torch():
    for task in ("demo", "kernels", "lint", "lx7", "flash", "qemu"):
        assert not {"torch", "train"} & set(environment.GROUPS[task])
    assert {group for groups in environment.GROUPS.values() for group in groups} <= GROUPS.keys()


@pytest.mark.parametrize(
    ("arguments", "task"),
    [
        ((), "test"),
        (("-x", "-q"), "test"),
        (("-k", "linear"), "test"),
        (("tests/mpy_module",), "kernels"),
        (("-q", "tests/mpy_module/test_linear.py::test_nothing", "-k", "linear"), "kernels"),
        (("tests/host_sim/test_ternary.py", "tests/mpy_module/"), "kernels"),
        (("tests/mpy_module", "tests/trainer"), "test"),
        (("tests/mpy_module/../trainer",), "test"),
        (("tests",), "test"),
    ],
)
def test_kernel_tests_are_prepared_without_torch(arguments, task):
    assert environment.task_of_tests(arguments) == task


def test_kernel_tests_import_without_torch():
    blocked = "import sys; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'timm', 'PIL', 'trainer')))"
    command = f"{blocked}; import pytest; sys.exit(pytest.main(['--collect-only', '-q', *sys.argv[1:]]))"
    done = subprocess.run(
        [sys.executable, "-c", command, *environment.KERNEL_TESTS], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_uv_takes_pips_settings(monkeypatch, tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://a.example/simple\nfind-links = /nowhere\nconstraint = /c.txt\ncert = /ca.pem\n"
        "[install]\nfind-links =\n    /wheels\n    https://b.example/wheels\ntrusted-host = a.example b.example\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://c.example/simple https://d.example/simple")
    for name in ("CERT", "FIND_LINKS", "INDEX_URL", "TRUSTED_HOST", "CONSTRAINT"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
    settings = environment.pip_settings()
    assert settings["constraint"] == "/c.txt"
    expected = {
        "UV_DEFAULT_INDEX": "https://a.example/simple",
        "UV_INDEX": "https://c.example/simple https://d.example/simple",
        "UV_FIND_LINKS": "/wheels,https://b.example/wheels",
        "UV_INSECURE_HOST": "a.example b.example",
        "SSL_CERT_FILE": "/ca.pem",
    }
    variables = environment.uv_variables(settings)
    assert {name: variables[name] for name in expected} == expected


def test_no_cache_without_a_home(monkeypatch):
    assert "UV_NO_CACHE" not in environment.uv_variables({})
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert environment.uv_variables({})["UV_NO_CACHE"] == "1"


class Offers:
    """A folder of wheels, pip's only source, for a tree with its own virtual environment."""

    def __init__(self, root: Path):
        self.root, self.folder = root, root / "wheels"
        self.folder.mkdir()
        self.settings = {"find-links": str(self.folder), "no-index": "yes"}

    def wheel(self, name: str, version: str, *needs: str) -> str:
        """Offer an empty package; returns its line for the lock."""
        path = self.folder / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        metadata = "".join(f"Requires-Dist: {need}\n" for need in needs)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{name}.py", "")
            file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}")
            file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr(f"{info}/RECORD", "")
        return f"{name}=={version} --hash=sha256:{sha256(path.read_bytes()).hexdigest()}\n"

    def lock(self, *lines: str) -> None:
        """Write the tree's lock."""
        (self.root / environment.LOCK).write_text("".join(lines))

    def installed(self) -> set[str]:
        """Packages in the virtual environment, as NAME-VERSION."""
        return {path.name.removesuffix(".dist-info") for path in (self.root / ".venv").rglob("*.dist-info")}


@pytest.fixture
def offers(tree, monkeypatch):
    """The tree of a test, with uv in its virtual environment and no network access."""
    if not UV.exists():
        pytest.skip("no uv in .venv: `just test` installs it")
    subprocess.run([UV, "--quiet", "venv", tree / ".venv"], check=True)
    (tree / ".venv" / "bin" / "uv").symlink_to(UV)
    (tree / "build").mkdir()
    (tree / "pyproject.toml").write_text(PYPROJECT)
    for name in ("UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setattr(environment, "install_uv", lambda: None)
    offers = Offers(tree)
    monkeypatch.setattr(environment, "pip_settings", lambda: offers.settings)
    return offers


def test_locked_versions_are_installed_once(offers, monkeypatch):
    one, two = offers.wheel("one", "1.0", "two"), offers.wheel("two", "1.0")
    offers.wheel("one", "1.1", "two")
    offers.wheel("two", "1.1")
    offers.lock(one, two)
    environment.install(["light"])
    assert offers.installed() == {"one-1.0", "two-1.0"}
    calls = []
    monkeypatch.setattr(environment, "run", lambda *arguments, **_: calls.append(arguments))
    environment.install(["light"])
    assert not calls
    offers.lock(one, two, "\n")
    environment.install(["light"])
    assert len(calls) == 1


@pytest.mark.parametrize("broken", ["one", "two"])
def test_another_file_than_the_locked_one_is_refused(offers, broken):
    lines = {"one": offers.wheel("one", "1.0", "two"), "two": offers.wheel("two", "1.0")}
    offers.lock(*lines.values())
    offers.wheel(broken, "1.0", *(["two"] if broken == "one" else []), "one")
    with pytest.raises(Failure, match=r"\(light\) failed: a downloaded package does not match its hash"):
        environment.install(["light"])
    assert not offers.installed()


def test_what_the_lock_lacks_is_refused(offers):
    offers.lock(offers.wheel("one", "1.0", "two"))
    offers.wheel("two", "1.0")
    with pytest.raises(Failure):
        environment.install(["light"])
    assert not offers.installed()


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (("torch-3.1+cpu", "torch-3.1", "torchvision-0.9+cpu", "torchvision-0.9"), "torch-3.1+cpu torchvision-0.9+cpu"),
        (("torch-3.1+cpu", "torch-3.1", "torchvision-0.9", "torchvision-0.2"), "torch-3.1+cpu torchvision-0.2"),
        (("torch-3.1", "torchvision-0.9", "torchvision-0.2", "torch-3.2+cpu"), "torch-3.1 torchvision-0.9"),
    ],
)
def test_torch_for_cpus_comes_first(offers, offered, taken):
    offers.lock()
    for item in offered:
        name, version = item.split("-")
        offers.wheel(name, version, *(["torch==1.0"] if item == "torchvision-0.2" else []))
    environment.install(["torch"])
    assert offers.installed() == set(taken.split())


SCRIPT = """\
[project]
name = "mine"
version = "1"
scripts = { trainer = "trainer.__main__:main" }
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
"""


def test_the_tree_is_installed_in_place_as_a_command(offers, tmp_path, monkeypatch):
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert own["project"]["scripts"] == {"trainer": "trainer.__main__:main"}
    place = own["tool"]["setuptools"]
    [packages] = offers.root.glob(".venv/lib/*/site-packages")
    (packages / "setuptools.pth").write_text(str(Path(pytest.importorskip("setuptools").__file__).parent.parent))
    lines = f"packages = {place['packages']}\npackage-dir = {{ '' = {place['package-dir']['']!r} }}\n"
    groups = PYPROJECT.replace("light", "command").replace("one", "two")
    (offers.root / "pyproject.toml").write_text(SCRIPT + lines + groups)
    offers.lock(offers.wheel("two", "1.0"))
    shutil.copytree(ROOT / "trainer", offers.root / "trainer", ignore=lambda folder, names: {*names} - {"__main__.py"})
    (offers.root / "trainer" / "__init__.py").touch()
    (offers.root / "trainer" / "cli.py").write_text("import mine\ndef main():\n    print(mine.WORDS)\n    return 3\n")
    (offers.root / "mine.py").write_text("import sys\nWORDS = sys.argv[1:]\n")
    environment.install(["command"])
    command = [offers.root / ".venv" / "bin" / "trainer", "a", "b c"]

    def said() -> tuple[int, str]:
        done = subprocess.run(command, cwd=tmp_path.parent, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    line = "trainer: works in its own tree: run `pip install -e .` in a clone of it\n"
    assert said() == (1, line)
    (offers.root / "firmware" / "ftervit").mkdir(parents=True)
    assert said() == (3, "['a', 'b c']\n")
    monkeypatch.setattr(environment, "run", None)
    environment.install(["command"])  # is up to date


def test_no_torch_at_all(offers):
    offers.lock()
    with pytest.raises(Failure, match=r"installing torch==3.1 failed: the registry does not have it"):
        environment.install(["torch"])
    assert not (offers.root / ".venv" / "installed-torch").exists()


def test_uv_comes_with_its_locked_hashes(tree, monkeypatch):
    (tree / ".venv").mkdir()
    (tree / environment.LOCK).write_text("two==2\nuv==1 \\\n    --hash=sha256:00\n    # via x\nzeta==1\n")
    calls = []
    monkeypatch.setattr(environment, "run", lambda command, *_: calls.append(command))
    environment.install_uv()
    environment.install_uv()
    [command] = calls
    assert "--require-hashes" in command
    assert command[-1].read_text() == "uv==1 \\\n    --hash=sha256:00\n    # via x\n"
    (tree / environment.LOCK).write_text("two==2\n")
    with pytest.raises(Failure, match=r"requirements.lock has no uv"):
        environment.install_uv()


def test_an_interrupted_installation_starts_anew(offers, monkeypatch):
    """uv takes a package for installed as soon as its name and version stand there."""
    offers.lock(offers.wheel("one", "1.0"))
    uv, venv, real = UV, environment.VENV, environment.run
    monkeypatch.setitem(environment.GROUPS, "demo", ("light",))
    monkeypatch.setattr(environment, "missing_packages", lambda task: {})

    def link_uv() -> None:
        if not (venv / "bin" / "uv").exists():
            (venv / "bin" / "uv").symlink_to(uv)

    def killed(command, what, *rest, **options):
        if "install" not in command:
            return real(command, what, *rest, **options)
        [packages] = venv.glob("lib/*/site-packages")
        (packages / "one-1.0.dist-info").mkdir()
        (packages / "one-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: one\nVersion: 1.0\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "install_uv", link_uv)
    monkeypatch.setattr(environment, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        environment.prepare("demo")
    monkeypatch.setattr(environment, "run", real)
    environment.prepare("demo")
    assert [path.name for path in venv.rglob("one.py")] == ["one.py"]
    before = (venv / "made-by").stat().st_mtime_ns
    environment.prepare("demo")
    assert (venv / "made-by").stat().st_mtime_ns == before


def test_an_installation_that_fails_keeps_what_is_there(offers, monkeypatch):
    offers.lock(offers.wheel("one", "1.0", "two"))
    with pytest.raises(Failure):
        environment.install(["light"])
    (environment.VENV / "mine").touch()
    offers.lock(offers.wheel("one", "1.0", "two"), offers.wheel("two", "1.0"))
    environment.install(["light"])
    assert offers.installed() == {"one-1.0", "two-1.0"}
    assert (environment.VENV / "mine").exists()


def test_a_half_made_venv_is_made_anew(tree, monkeypatch):
    """Python is there early, its pip late."""
    real, made = environment.run, []

    def killed(command, *_, **__):
        (environment.VENV / "bin").mkdir(parents=True)
        environment.python().symlink_to(sys.executable)
        (environment.VENV / "rest").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        environment.make_venv()
    monkeypatch.setattr(environment, "run", lambda command, *rest, **options: made.append(command))
    environment.make_venv()
    assert len(made) == 1
    assert not (environment.VENV / "rest").exists()
    monkeypatch.setattr(environment, "run", real)


@pytest.mark.parametrize("character", [*"'$;(#%& "])
def test_a_checkout_at_a_path_that_tools_do_not_take(tmp_path, character):
    """Refused before anything is asked of the network, or made."""
    checkout = tmp_path / f"my{character}project"
    (checkout / "host_sim").mkdir(parents=True)
    (checkout / "host_sim" / "__init__.py").touch()
    shutil.copytree(ROOT / "host_sim" / "setup", checkout / "host_sim" / "setup")
    command = [sys.executable, "-m", "host_sim.setup.environment", "demo"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    name = "a space" if character == " " else ascii(character)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: the path of this checkout has {name} in it, which make and compilers do not")
    assert [path.name for path in checkout.iterdir()] == ["host_sim"]


@pytest.mark.parametrize("name", ["/home/me/FTerViT-for-MicroPython_2.0", "/srv/a+b@c", "/home/m\u00fcller/\u6771"])
def test_paths_that_tools_take(name):
    environment.check_path(Path(name), "this checkout")
