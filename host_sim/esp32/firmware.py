# SPDX-License-Identifier: MIT
"""Builds firmware of the ESP32-S3 boards with the user's ESP-IDF, and writes firmware and models to a board.

    python -m host_sim.esp32.firmware build BOARD              build firmware.bin under build/firmware
    python -m host_sim.esp32.firmware build --check ELF        check a built micropython.elf (check.py)
    python -m host_sim.esp32.firmware flash PORT [BOARD]       write a built firmware.bin with esptool
    python -m host_sim.esp32.firmware deploy PORT MODEL [FILES]   write a ROMFS image of a model with mpremote
    python -m host_sim.esp32.firmware versions                 print the versions of the sources as NAME=VALUE

BOARD is a folder of firmware/boards with an sdkconfig.board; firmware/boards/versions.toml names the versions.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from host_sim.esp32.check import check
from host_sim.setup.artefact import MARKER, filled, write_whole
from host_sim.setup.micropython import tree_version, versions
from host_sim.setup.mpy import compiler
from host_sim.setup.romfs import build_image, given_files, partition_size, standard_files
from host_sim.setup.shell import BUILD, ROOT, Failure, check_path, lock, one_line_errors, processors, run, step

BOARDS = ROOT / "firmware" / "boards"
OUTPUT = BUILD / "firmware"
MODULES = BOARDS / "modules.cmake"
CAMERA = "https://github.com/cnadler86/micropython-camera-API"
BAUD = 460800
COMPILER = "xtensa-esp32s3-elf-gcc"
# Two submodules that the port needs and Debian's source package lacks.
SUBMODULES = ("berkeley-db-1.xx", "micropython-lib")


def boards() -> list[str]:
    """The names of the ESP32-S3 boards."""
    return sorted(path.parent.name for path in BOARDS.glob("*/sdkconfig.board"))


def check_board(name: str) -> Path:
    """A board's folder; a Failure for an unknown board lists all boards."""
    if name not in boards():
        raise Failure(f"no board {name}: the boards are {', '.join(boards())}")
    return BOARDS / name


def check_port(port: str) -> None:
    """Raise Failure for the path of a device that does not exist."""
    if port.startswith("/") and not Path(port).exists():
        raise Failure(f"no device {port}: is the board connected, and is this its port?")


def directory(variable: str, holds: str) -> Path | None:
    """The directory that an environment variable names, or None if it lacks the file `holds`."""
    path = Path(os.environ.get(variable) or os.devnull).expanduser().resolve()
    return path if (path / holds).exists() else None


def instructions(missing: list[str]) -> str:
    """Three lines: what is missing, and the commands that install ESP-IDF and MicroPython."""
    idf, micropython = (versions()[name] for name in ("idf", "micropython"))
    return (
        f"firmware needs ESP-IDF {idf} and MicroPython {micropython} with submodules; missing: {'; '.join(missing)}\n"
        f"  git clone -b v{idf} --recursive https://github.com/espressif/esp-idf"
        " && esp-idf/install.sh esp32s3 && . esp-idf/export.sh\n"
        f"  git clone -b v{micropython} https://github.com/micropython/micropython"
        " && make -C micropython/ports/esp32 BOARD=ESP32_GENERIC_S3 submodules && export MPY_DIR=$PWD/micropython"
    )


def sources() -> tuple[Path, Path]:
    """The folders that IDF_PATH and MPY_DIR name; if one is missing, a Failure says what to install."""
    idf = directory("IDF_PATH", "tools/cmake/project.cmake")
    tree = directory("MPY_DIR", "ports/esp32/CMakeLists.txt")
    missing = []
    if not idf:
        missing.append("IDF_PATH, an ESP-IDF")
    if not shutil.which("idf.py"):
        missing.append("idf.py on PATH (ESP-IDF's export.sh puts it there)")
    if not tree:
        missing.append("MPY_DIR, a MicroPython")
    elif absent := [name for name in SUBMODULES if not any((tree / "lib" / name).glob("*"))]:
        missing.append(f"MPY_DIR's submodules {', '.join(absent)}")
    if missing or not idf or not tree:
        raise Failure(instructions(missing))
    return idf, tree


def camera(idf: Path) -> Path | None:
    """CAMERA_DIR, or None if it is not set."""
    if not os.environ.get("CAMERA_DIR"):
        return None
    path = directory("CAMERA_DIR", "src/modcamera.c")
    if not path or not any((path / folder / "micropython.cmake").exists() for folder in (".", "src")):
        raise Failure(f"CAMERA_DIR={os.environ['CAMERA_DIR']} is not a clone of {CAMERA}")
    # Newer versions have the driver as a submodule; with older ones the user installs it.
    driver = path / "esp32-camera" if (path / "idf_component.yml").exists() else idf / "components" / "esp32-camera"
    if not (driver / "CMakeLists.txt").exists():
        raise Failure(f"the camera's driver is missing: git clone https://github.com/espressif/esp32-camera {driver}")
    return path


def idf_version(idf: Path) -> str:
    """The version of an ESP-IDF, or "?"."""
    path = idf / "tools" / "cmake" / "version.cmake"
    text = path.read_text(errors="replace") if path.exists() else ""
    found = [re.search(rf"IDF_VERSION_{part}\s+(\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
    return ".".join(match[1] for match in found if match) if all(found) else "?"


def idf_python(idf: Path) -> Path:
    """The Python of ESP-IDF's virtual environment or, without one (as in Nix), the `python` that idf.py would run.

    idf.py starts with `env python`: the first `python` on PATH, which may be a pyenv shim or the user's own virtual
    environment, neither of which has ESP-IDF's packages.
    """
    given = os.environ.get("IDF_PYTHON_ENV_PATH")
    if given:
        places = [Path(given)]
    else:
        tools = Path(os.environ.get("IDF_TOOLS_PATH") or "~/.espressif").expanduser()
        series = idf_version(idf).rpartition(".")[0]
        places = sorted((tools / "python_env").glob(f"idf{series}_py*_env"), reverse=True)
    found = [path for place in places if (path := place / "bin" / "python").exists()]
    if given and not found:
        raise Failure(f"IDF_PYTHON_ENV_PATH={given} has no bin/python: run ESP-IDF's install.sh, then its export.sh")
    if not found and (first := shutil.which("python")):
        found = [Path(first)]
    if not found:
        raise Failure("ESP-IDF's idf.py needs a `python`: run ESP-IDF's install.sh, then its export.sh")
    return found[0]


def answer(command: list[str | Path], pattern: str, environment: dict[str, str] | None = None) -> str:
    """The first group of a pattern in a program's output, or "?" if it does not match or the program fails."""
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    match = re.search(pattern, done.stdout) if done.returncode == 0 else None
    return match[1] if match else "?"


def tool_environment(python: Path) -> dict[str, str]:
    """Environment for ESP-IDF's and MicroPython's tools, as if that Python's virtual environment were active."""
    environment = os.environ | {
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHON": str(python),
    }
    environment.pop("PYTHONHOME", None)
    environment.pop("VIRTUAL_ENV", None)
    # CMake looks for Python there first.
    if (python.parent.parent / "pyvenv.cfg").exists():
        environment["VIRTUAL_ENV"] = str(python.parent.parent)
    return environment


def report_versions(idf: Path, tree: Path, python: Path, environment: dict[str, str]) -> None:
    """Print the versions of sources and tools, with a note for each source whose version is not the boards'."""
    number = r"(\d+\.\d+\S*)"
    compiler = shutil.which(COMPILER, path=environment["PATH"]) or COMPILER
    runs = answer([python, "--version"], number, environment)
    if runs == "?":
        raise Failure(f"{python} does not run, and idf.py needs it: run ESP-IDF's install.sh, then its export.sh")
    found = {"idf": idf_version(idf), "micropython": tree_version(tree)}
    tools = {
        COMPILER: answer([compiler, "--version"], r"\) " + number, environment),
        "cmake": answer(["cmake", "--version"], number, environment),
        str(python): runs,
    }
    print(f"found MicroPython {found['micropython']} ({tree}), ESP-IDF {found['idf']} ({idf}),", file=sys.stderr)
    print("  " + ", ".join(f"{name} {version}" for name, version in tools.items()), file=sys.stderr)
    for name, version in found.items():
        if version != versions()[name]:
            print(f"note: {name} is {version}; the boards are made for {versions()[name]}", file=sys.stderr)


def build_directory(board: str, with_camera: bool) -> Path:
    """The build folder of a board's firmware."""
    return OUTPUT / (f"{board}-camera" if with_camera else board)


def build(board: str) -> Path:
    """Build a board's firmware and check it; returns firmware.bin, the flash image from address 0 on."""
    folder = check_board(board)
    idf, tree = sources()
    module = camera(idf)
    python = idf_python(idf)
    environment = tool_environment(python)
    report_versions(idf, tree, python, environment)
    output = build_directory(board, module is not None)
    for path, what in ((idf, "ESP-IDF"), (tree, "MicroPython's source"), (output, "the folder to build in")):
        check_path(path, what)
    environment.pop("CAMERA_DIR", None)
    if module:
        environment["CAMERA_DIR"] = str(module)
    jobs = f"-j{processors()}"
    with step("building mpy-cross"):
        run(["make", jobs, "-C", tree / "mpy-cross"], "building mpy-cross", "firmware-mpy-cross.log", env=environment)
    settings = [f"BOARD_DIR={folder}", f"BUILD={output}", f"USER_C_MODULES={MODULES}"]
    # CMake and ninja compare settings themselves: only an unfinished build starts empty.
    with lock(f"firmware-{output.name}"), step(f"building {output.name}"), filled(output, []):
        command: list[str | Path] = ["make", "-C", tree / "ports" / "esp32", *settings]
        run(command, f"building {output.name}", f"firmware-{output.name}.log", env=environment)
    print(*check(output / "micropython.elf"), sep="\n", file=sys.stderr)
    return output / "firmware.bin"


def build_or_check(board: str | None, elf: Path | None) -> None:
    """The command `build`: either a board's name or an ELF file."""
    if elf and not board:
        print(*check(elf), sep="\n")
    elif board and not elf:
        print(build(board))
    else:
        raise Failure(f"give a board ({', '.join(boards())}), or --check ELF")


def built(board: str | None) -> Path:
    """The firmware.bin of a board (or BOARD-camera), or the only one that is built."""
    found = (path for path in sorted(OUTPUT.glob("*/firmware.bin")) if not (path.parent / MARKER).exists())
    images = {path.parent.name: path for path in found}
    if board is None and len(images) == 1:
        return next(iter(images.values()))
    if board is None and images:
        raise Failure(f"several firmwares are built: name one of {', '.join(images)}")
    if board in images:
        return images[board]
    raise Failure(
        f"no firmware of {board or 'any board'} is built: run `just firmware BOARD` first ({', '.join(boards())})"
    )


def module_command(module: str) -> list[str]:
    """The command line that runs a module of the virtual environment."""
    return [sys.executable, "-m", module]


def call(command: list[str | Path], what: str) -> None:
    """Run a tool with its output on the terminal; a Failure if it fails."""
    status = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL).returncode
    if status:
        raise Failure(f"{what} failed: see above")


def flash(port: str, board: str | None) -> None:
    """Write a built firmware to the board at a serial port; files on it stay."""
    check_port(port)
    image = built(board)
    command = [*module_command("esptool"), "--chip", "esp32s3", "--port", port, "--baud", str(BAUD)]
    call([*command, "write-flash", "0", image], f"writing {image.parent.name} to {port}")


MPY_QUESTION = """\
import sys
i = sys.implementation
print("mpy", getattr(i, "_mpy", 0) & 255, ".".join(str(n) for n in i.version[:3]))
"""


def mpy_version(port: str) -> int:
    """The version of .mpy files that the board at a port reads; a Failure if it does not answer or reads none."""
    command = [*module_command("mpremote"), "connect", port, "exec", MPY_QUESTION]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = re.search(r"^mpy (\d+) (\S+)", result.stdout, re.MULTILINE)
    if result.returncode or not found:
        *_, reason = (result.stdout + result.stderr).strip().splitlines() or ["no answer"]
        raise Failure(f"{port}: the board does not say which .mpy files it reads: {reason}")
    if found[1] == "0":
        raise Failure(f"{port}: its MicroPython {found[2]} reads no .mpy files: flash firmware of this tree")
    return int(found[1])


def deploy(port: str, model: Path, files: Sequence[Path] = ()) -> Path:
    """Write a ROMFS image to the board at a port: model, package, scripts, pictures, and the given files and folders.

    Returns the image's path.
    """
    check_port(port)
    version = mpy_version(port)
    try:
        compiler(version)
    except Failure as failure:
        raise Failure(f"{port}: {failure}") from None
    image = build_image(standard_files(model, version) | given_files(list(files)))
    sizes = {name: partition_size(BOARDS / name / "partitions.csv") for name in boards()}
    if len(image) > max(sizes.values()):
        room = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise Failure(f"{model}: the image needs {len(image):,} bytes; the romfs partitions have: {room}")
    path = BUILD / "romfs" / f"{model.stem}.romfs"
    write_whole(path, image)
    call([*module_command("mpremote"), "connect", port, "romfs", "deploy", path], f"writing {path.name} to {port}")
    return path


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m host_sim.esp32.firmware", description="Firmware of the ESP32-S3 boards."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, call: Callable[[argparse.Namespace], object], text: str) -> argparse.ArgumentParser:
        recipe = {"build": "firmware", "flash": "flash", "deploy": "deploy"}.get(name)
        prog = f"just {recipe}" if recipe else None
        command = commands.add_parser(name, prog=prog, help=text)
        command.set_defaults(call=call)
        return command

    command = add(
        "build", lambda given: build_or_check(given.board, given.check), "build a board's firmware and check it"
    )
    command.add_argument("board", metavar="BOARD", nargs="?", help=", ".join(boards()))
    command.add_argument("--check", type=Path, metavar="ELF", help="only check a micropython.elf in its build folder")
    command = add("flash", lambda given: flash(given.port, given.board), "write the firmware to a board")
    command.add_argument("port", metavar="PORT", help="such as /dev/ttyACM0")
    command.add_argument("board", metavar="BOARD", nargs="?", help="(default: the only one built)")
    command = add("deploy", lambda given: deploy(given.port, given.model, given.files), "write a model to a board")
    command.add_argument("port", metavar="PORT", help="such as /dev/ttyACM0")
    command.add_argument("model", metavar="MODEL", type=Path, help="model file (.safetensors)")
    command.add_argument("files", metavar="FILES", type=Path, nargs="*", default=[], help="files and folders to add")
    add("versions", lambda _: print(*(f"{k}={v}" for k, v in versions().items()), sep="\n"), "print versions")
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    sys.exit(main())
