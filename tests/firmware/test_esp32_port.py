# SPDX-License-Identifier: MIT
"""MicroPython's esp32 port compiles both copies of the module with the right options, definitions and directories."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from host_sim.boards import unix
from host_sim.build import SOURCE
from tests.firmware import esp32_port

C_SOURCES = set(SOURCE.rglob("*.c"))
ASSEMBLY = set(SOURCE.rglob("*.S"))
OURS = {"TERNARY_ESP32": "", "TERNARY_PIE": "", "TERNARY_PARALLEL_FREERTOS": "", "TERNARY_CACHE_LINE": "64"}
OPTIMISED = ("-O2", "-O3")
EMPTY_PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(stub LANGUAGES C)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
include(${MICROPY_DIR}/py/usermod.cmake)
add_executable(firmware empty.c)
target_compile_options(firmware PRIVATE -Os)
target_link_libraries(firmware usermod)
"""


@pytest.fixture(scope="module", params=["1.26", "1.28"])
def port(request, tmp_path_factory):
    """The port unchanged, and with the options that it sets from 1.28 on. Its own optimisation is -Os."""
    folder = tmp_path_factory.mktemp("port")
    kconfig = ("CONFIG_COMPILER_OPTIMIZATION_SIZE=y", "CONFIG_COMPILER_OPTIMIZATION_PERF=n")
    return esp32_port.configure(folder, f"-DSTAND_IN_PORT_OPTIONS={request.param == '1.28'}", kconfig=kconfig)


@pytest.fixture(params=esp32_port.COPIES)
def copy(port, request):
    """The commands of one target."""
    return port.commands[request.param]


def test_the_port_has_two_copies(port):
    """Precondition of the other tests: MicroPython's build structure creates the second copy."""
    for name, commands in port.commands.items():
        ours = {path for path in commands if path.is_relative_to(SOURCE)}
        assert ours == C_SOURCES | ASSEMBLY, name
    others = {path for path in port.commands["linked"] if not path.is_relative_to(SOURCE)}
    assert others == {esp32_port.IDF / "tools" / "cmake" / "empty.c"}


def test_every_c_file_is_optimised_in_sections_with_warnings(copy):
    for source in C_SOURCES:
        command = copy[source]
        assert command.optimisation() in OPTIMISED, source.name
        assert {"-ffunction-sections", "-fdata-sections", "-Wall", "-Wextra"} <= set(command.arguments), source.name


def test_every_file_has_the_modules_definitions_and_esp_idfs(copy):
    for source in C_SOURCES | ASSEMBLY:
        definitions = copy[source].definitions()
        assert {name: value for name, value in definitions.items() if name.startswith("TERNARY_")} == OURS, source.name
        idfs = {"ESP_PLATFORM": "", "_GNU_SOURCE": "", "IDF_VER": '"v5"', "NDEBUG": ""}
        assert {name: definitions.get(name) for name in idfs} == idfs, source.name


def test_every_c_file_has_esp_idfs_options(copy):
    """Some change code; one here is set when the module's file was already read."""
    for source in C_SOURCES:
        arguments = copy[source].arguments
        assert {"-fno-jump-tables", "-std=gnu17", "-DSTAND_IN_LATE_OPTION"} <= set(arguments), source.name


def test_assembly_has_no_options_of_the_c_compiler(port):
    for name, commands in port.commands.items():
        for source in ASSEMBLY:
            arguments = set(commands[source].arguments)
            assert not {argument for argument in arguments if argument.startswith("-std=")}, name
            # ESP-IDF's and the port's own options are allowed here, the module's are not.
            assert "-O2" not in arguments, name


def test_the_modules_options_are_its_own(port):
    """Sources of MicroPython keep the port's optimisation."""
    others = {path.name: command for path, command in port.commands["component"].items() if path.name == "gc.c"}
    assert others["gc.c"].optimisation() == "-Os"
    assert "-O2" not in others["gc.c"].arguments


def test_headers_are_found(copy, port):
    for source in C_SOURCES:
        folders = [Path(value) for value in copy[source].values("-I")]
        for header in ("py/runtime.h", "mpconfigport.h", "esp_heap_caps.h", "freertos/task.h", "sdkconfig.h"):
            assert any((folder / header).is_file() for folder in folders), header
        assert port.folder in folders  # genhdr/ is made there


def test_names_are_collected_with_the_definitions(port):
    """By the preprocessor, for which MicroPython builds a separate command."""
    [command] = re.findall(
        r"makeqstrdefs\.py pp .*", (port.folder / "esp-idf/main/CMakeFiles/__idf_main.dir/build.make").read_text()
    )
    assert " -DTERNARY_ESP32 " in command


@pytest.mark.parametrize("unicore", [False, True])
def test_a_second_core_is_used_where_there_is_one(tmp_path, unicore):
    kconfig = ("CONFIG_FREERTOS_UNICORE=y",) if unicore else ()
    for commands in esp32_port.configure(tmp_path, kconfig=kconfig).commands.values():
        for source in C_SOURCES:
            assert ("TERNARY_PARALLEL_FREERTOS" in commands[source].definitions()) != unicore


def test_a_board_with_other_cache_lines(tmp_path):
    kconfig = ("CONFIG_ESP32S3_DATA_CACHE_LINE_64B=n", "CONFIG_ESP32S3_DATA_CACHE_LINE_32B=y")
    linked = esp32_port.configure(tmp_path, kconfig=kconfig).commands["linked"]
    assert linked[SOURCE / "pie" / "pie.c"].definitions()["TERNARY_CACHE_LINE"] == "32"


def test_other_ports_with_cmake_optimise_the_module(tmp_path):
    """A port with one target in the folder that reads the module's file, such as rp2."""
    (tmp_path / "CMakeLists.txt").write_text(EMPTY_PROJECT)
    (tmp_path / "empty.c").touch()
    options = [f"-DMICROPY_DIR={unix.source()}", f"-DUSER_C_MODULES={SOURCE}/micropython.cmake"]
    esp32_port.run_cmake(tmp_path, tmp_path / "build", *options)
    commands = esp32_port.read_commands(tmp_path / "build", {"firmware": "firmware.dir"})["firmware"]
    plain = {path for path in C_SOURCES if path.parent == SOURCE}
    assert set(commands) == plain | {tmp_path / "empty.c"}
    assert commands[tmp_path / "empty.c"].optimisation() == "-Os"
    for source in plain:
        assert commands[source].optimisation() == "-O2", source.name
        assert not {name for name in commands[source].definitions() if name.startswith("TERNARY_")}


def test_unix_compiles_every_file_once_with_its_definitions():
    """Its makefile has one copy of everything, with the port's optimisation and the module's definitions."""
    command = ["make", "-n", "-B", "V=1", "-C", unix.source() / "ports" / "unix", *unix.MAKE_OPTIONS]
    folder = unix.OUTPUT.with_name(f"usermods-{unix.OUTPUT.name}")
    unix.firmware()
    command += [f"USER_C_MODULES={folder}", f"BUILD={unix.OUTPUT}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True)
    for source in (path for path in C_SOURCES if path.parent == SOURCE):
        commands = [line.partition(" || ")[0].split() for line in done.stdout.splitlines() if " -c " in line]
        [words] = [words for words in commands if words[-1] == f"{folder}/ternary/{source.name}"]
        assert "-DTERNARY_PARALLEL_PTHREAD" in words, source.name
        assert [word for word in words if word.startswith("-O")][-1] in ("-Os", *OPTIMISED), source.name
