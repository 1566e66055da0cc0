# SPDX-License-Identifier: MIT
"""backends.h: every backend gives the reference's bytes (backends_check.c), here, on AArch64 in QEMU, and in node."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import ternary

from host_sim import build
from host_sim.web.firmware import NODE_MODULES
from tests.mpy_module.kernel import PLAIN

CHECK = Path(__file__).resolve().parent / "backends_check.c"
SANITIZED = bool(os.environ.get("TERNARY_LIBRARY"))
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{build.SOURCE}")
# One file, which holds the module: node's own fetch() would not read another. Emscripten looks for its parts in
# NODE_PATH.
WEBASSEMBLY = ("-O1", "-msimd128", "-sSINGLE_FILE=1", "-sENVIRONMENT=node", "-sALLOW_MEMORY_GROWTH")
# Of QEMU's processors: one with dot products, one without.
AARCH64 = {"max": ["neon_dot", "neon", "reference"], "cortex-a53": ["neon", "reference"]}


def compiled(compiler, output, *flags, environment=PLAIN):
    """The check with all kernels, as a program."""
    sources = (*build.kernels().sources, CHECK)
    command = [compiler, *STRICT, *flags, *sources, "-o", output]
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


def equal_ones(command):
    """Names of the backends, all of which equal the reference."""
    done = subprocess.run(list(map(str, command)), env=PLAIN, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.removesuffix(" equals") for line in done.stdout.splitlines()]


def test_backends_of_this_machine(tmp_path):
    """Under the sanitizers when `just asan` runs it: memory ends where the data does."""
    flags = build.SANITIZE if SANITIZED else ("-O2",)
    assert equal_ones([compiled(build.compiler(), tmp_path / "check", *flags)]) == ternary.HostRunner().backends()


@pytest.mark.parametrize("name", ["avx512_vnni", "avx_vnni", "avx2", "neon_dot", "neon"])
def test_backend_is_chosen_by_the_processor(name):
    flags = {
        "avx512_vnni": "avx512_vnni",
        "avx_vnni": "avx_vnni",
        "avx2": "avx2",
        "neon_dot": "asimddp",
        "neon": "asimd",
    }
    words = Path("/proc/cpuinfo").read_text().split()
    if flags[name] not in words:
        pytest.skip(f"this machine has no {flags[name]}")
    if name == "avx512_vnni" and "avx512vbmi" not in words:
        pytest.skip("this machine has no avx512vbmi")
    assert name in ternary.HostRunner().backends()


@pytest.fixture(scope="module")
def aarch64_program(tmp_path_factory):
    """The check for AArch64."""
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if not compiler or not shutil.which("qemu-aarch64"):
        pytest.skip("needs Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user")
    return compiled(compiler, tmp_path_factory.mktemp("aarch64") / "check", "-O2", "-static")


@pytest.mark.parametrize("processor", AARCH64)
def test_backends_of_aarch64(aarch64_program, processor):
    assert equal_ones(["qemu-aarch64", "-cpu", processor, aarch64_program]) == AARCH64[processor]


def test_backends_of_webassembly(tmp_path):
    if not shutil.which("emcc") or not shutil.which("node"):
        pytest.skip("needs Debian's emscripten and nodejs")
    environment = PLAIN | {"NODE_PATH": NODE_MODULES}
    program = compiled("emcc", tmp_path / "check.js", *WEBASSEMBLY, environment=environment)
    assert equal_ones(["node", program]) == ["simd128", "reference"]
