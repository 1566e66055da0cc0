# SPDX-License-Identifier: MIT
"""Makes the static site under build/web/site: MicroPython as WebAssembly, the board's files, and the bundled page."""

import base64
import hashlib
import json
import shutil
from pathlib import Path

from host_sim.setup.artefact import write_whole
from host_sim.setup.micropython import source
from host_sim.setup.shell import BUILD, ROOT, Failure, lock, run, step
from host_sim.web.firmware import COMPILER, firmware

FIRMWARE = ROOT / "firmware"
PAGE = ROOT / "host_sim" / "web" / "page"
WORK = BUILD / "web-page"
SITE = BUILD / "web" / "site"
DEFAULT_MODEL = "fashion_mnist.safetensors"
PHOTO_MODEL = "eyes.safetensors"  # where it is shipped
SCRIPTS = ("classify.py", "tinker.py", "teach.py")
MAX_BYTES = 3_000_000  # of the first visit: the site with the models that it starts with
TOOLS = {"npm": "npm", "node": "nodejs"}


def models() -> list[Path]:
    """The shipped models, the default one first."""
    found = sorted((FIRMWARE / "models").glob("*.safetensors"))
    found.sort(key=lambda path: path.name != DEFAULT_MODEL)
    if not found:
        raise Failure("firmware/models has no model (.safetensors)")
    return found


def first_models() -> list[Path]:
    """The models that a first visit downloads: the default one, and the one for photos if it is shipped."""
    return [path for path in models() if path.name in (models()[0].name, PHOTO_MODEL)]


def scripts() -> dict[str, str]:
    """The scripts that the editor offers: name -> text."""
    return {name: (FIRMWARE / name).read_text() for name in SCRIPTS if (FIRMWARE / name).is_file()}


def pictures() -> list[Path]:
    """The test pictures."""
    return sorted(path for path in (FIRMWARE / "images").iterdir() if path.suffix in (".pgm", ".ppm"))


def board_files() -> dict[str, object]:
    """The files of the board: path -> text, or {"base64": ...}. The page adds models when they are chosen."""
    files: dict[str, object] = {}
    for path in sorted((FIRMWARE / "ftervit").rglob("*.py")):
        files[f"/lib/{path.relative_to(FIRMWARE).as_posix()}"] = path.read_text()
    for path in sorted((PAGE / "board").glob("*.py")):
        files[f"/lib/{path.name}"] = path.read_text()
    for path in pictures():
        files[f"/images/{path.name}"] = {"base64": base64.b64encode(path.read_bytes()).decode()}
    return files


def content(folder: Path) -> None:
    """Write what the page reads beside its own code."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)
    for path in models():
        shutil.copyfile(path, folder / "models" / path.name)
    listing = {
        "models": [path.name for path in models()],
        "photos": PHOTO_MODEL if any(path.name == PHOTO_MODEL for path in models()) else None,
        "images": [f"/images/{path.name}" for path in pictures()],
        "scripts": scripts(),
    }
    write_whole(folder / "contents.json", json.dumps(listing))
    write_whole(folder / "board.json", json.dumps(board_files()))
    write_whole(folder / "licences.txt", licences())


def licences() -> str:
    """The licences of what is compiled into micropython.wasm; build.mjs adds those of the npm packages."""
    emscripten = Path(shutil.which(COMPILER) or COMPILER).resolve().parent
    found = [
        ("FTerViT for MicroPython", ROOT / "LICENSE"),
        ("MicroPython", source() / "LICENSE"),
        ("musl, Emscripten's C library", emscripten / "system" / "lib" / "libc" / "musl" / "COPYRIGHT"),
    ]
    texts = [f"{name}\n\n{path.read_text(errors='replace').strip()}" for name, path in found if path.is_file()]
    texts.append("Emscripten's runtime\n\nMIT licence, and University of Illinois/NCSA Open Source License")
    return f"\n\n{'-' * 72}\n".join(texts)


def digest(paths: list[Path]) -> str:
    """A digest of files: their names and what they hold."""
    found = hashlib.sha256()
    for path in paths:
        data = path.read_bytes()
        found.update(f"{path.name} {len(data)}\n".encode() + data)
    return found.hexdigest()


def check_tools() -> None:
    """Raise Failure if node or npm is missing."""
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            raise Failure(f"{tool} is missing: install Node.js 18 or newer (Debian: apt-get install {package})")


def site() -> Path:
    """Build the site unless it is up to date; returns its folder."""
    check_tools()
    board = firmware()
    with lock("web"):
        content(BUILD / "web-content")
        packages = [PAGE / name for name in ("package.json", "package-lock.json", ".npmrc")]
        sources = sorted(path for path in PAGE.rglob("*") if path.is_file() and "node_modules" not in path.parts)
        contents = [path for path in sorted((BUILD / "web-content").rglob("*")) if path.is_file()]
        programs = [board / "micropython.mjs", board / "micropython.wasm"]
        made = BUILD / "web" / "made-with"
        wanted = digest([*sources, *contents, *programs])
        if made.is_file() and made.read_text() == wanted and SITE.is_dir():
            return SITE
        install(packages, WORK)
        for path in sources:
            copy = WORK / path.relative_to(PAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        made.unlink(missing_ok=True)
        shutil.rmtree(SITE, ignore_errors=True)
        with step("bundling the page"):
            command: list[str | Path] = ["node", WORK / "build.mjs", SITE, board, BUILD / "web-content"]
            run(command, "bundling the page", "web-bundle.log", cwd=WORK)
        write_whole(made, wanted)
    return SITE


def install(packages: list[Path], folder: Path) -> None:
    """Install npm packages, in the locked versions, into a folder, unless they are there.

    packages: package.json, package-lock.json and .npmrc.
    """
    stamp = folder / "node_modules" / ".installed"
    wanted = digest(packages)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    what = f"installing the npm packages of {packages[0].parent.relative_to(ROOT)}"
    with step(what):
        folder.mkdir(parents=True, exist_ok=True)
        for path in packages:
            shutil.copyfile(path, folder / path.name)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        run(command, what, f"{folder.name}-npm.log", cwd=folder)
    write_whole(stamp, wanted)


def size(folder: Path, all_models: bool = True) -> int:
    """Bytes of a site's files."""
    left_out = {path.name for path in models()} - {path.name for path in first_models()} if not all_models else set()
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name not in left_out)


def copy_to(folder: Path, firmware: Path | None = None) -> Path:
    """Write the site to a folder, which must be empty, new, or hold an older site.

    firmware: a folder with flash images (NAME.bin), which the page then offers to install.
    """
    images = sorted(firmware.glob("*.bin")) if firmware else []
    if firmware and not images:
        raise Failure(f"--firmware {firmware}: must be a folder with flash images, NAME.bin")
    if folder.exists() and not folder.is_dir():
        raise Failure(f"--out {folder}: is a file, must be a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "sw.js").is_file():
        raise Failure(f"--out {folder}: holds other files; name an empty or a new folder")
    made = site()
    if folder.is_dir():
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(made, folder, dirs_exist_ok=True)
    for image in images:
        (folder / "firmware").mkdir(exist_ok=True)
        shutil.copyfile(image, folder / "firmware" / image.name)
    if images:
        write_whole(folder / "firmware" / "list.json", json.dumps([image.name for image in images]))
    return folder
