# SPDX-License-Identifier: MIT
"""Finds missing system packages and installs them with apt-get."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from host_sim.setup.shell import VENV, Failure, run, step

DATASET = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
NEEDS_MICROPYTHON = {"demo", "kernels", "test", "qemu", "web", "browser", "bench-web"}
# Tasks that read Fashion-MNIST, that compile C for this machine, and that compile it for the ESP32-S3's core.
NEEDS_DATASET = {"test", "train", "eval"}
NEEDS_HOST_BUILD = NEEDS_DATASET | {"kernels", "lx7", "bench-web"}
NEEDS_XTENSA = {"kernels", "test", "lx7"}
NEEDS_ARM = {"test", "qemu"}
# Tasks that build the page, and that drive it in a headless browser.
NEEDS_WEB = {"web", "browser", "bench-web", "test"}
NEEDS_CHROMIUM = {"browser", "bench-web", "test"}
# The first version that Debian builds with the Xtensa target.
OLDEST_LLVM = 22
XTENSA_LINKER = "xtensa-lx106-elf-ld"
XTENSA_EMULATOR = "qemu-system-xtensa"
ARM_COMPILER = "arm-none-eabi-gcc"
ARM_EMULATOR = "qemu-system-arm"
WEB_TOOLS = {"emcc": "emscripten", "node": "nodejs", "npm": "npm"}
# What Chromium is called on PATH, by Debian and by others.
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APT_INSTALL = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y")


def missing_packages(task: str) -> dict[str, str]:
    """What the task lacks on this system: missing item -> Debian package that provides it."""
    missing = {}
    if importlib.util.find_spec("ensurepip") is None and not (VENV / "bin" / "python").exists():
        missing["Python's venv module"] = "python3-venv"
    if task in NEEDS_MICROPYTHON | NEEDS_HOST_BUILD:
        missing |= {tool: tool for tool in ("gcc", "make") if not shutil.which(tool)}
        if not has_header("stdio.h"):
            missing["the C library's headers"] = "libc6-dev"
    # Elsewhere no package has them, and pictures of one's own need none: data.path names them.
    if task in NEEDS_DATASET and not DATASET.exists() and shutil.which("apt-get"):
        missing["the Fashion-MNIST pictures"] = "dataset-fashion-mnist"
    if task in NEEDS_XTENSA:
        missing |= missing_xtensa_packages()
    if task == "test" and not shutil.which(XTENSA_EMULATOR):
        missing[XTENSA_EMULATOR] = "qemu-system-misc"
    if task == "test" and not shutil.which("cmake"):
        missing["cmake"] = "cmake"
    if task in NEEDS_ARM:
        missing |= missing_arm_packages()
    if task in NEEDS_WEB:
        missing |= {tool: package for tool, package in WEB_TOOLS.items() if not shutil.which(tool)}
    if task in NEEDS_CHROMIUM and not any(map(shutil.which, CHROMIUM)):
        missing["a Chromium"] = "chromium"
    return missing


def missing_arm_packages() -> dict[str, str]:
    """What building and running firmware for a Cortex-M lacks: missing item -> Debian package."""
    missing = {}
    if not shutil.which(ARM_COMPILER):
        missing[ARM_COMPILER] = "gcc-arm-none-eabi"
    if not shutil.which(ARM_COMPILER) or not has_header("stdio.h", ARM_COMPILER):
        # Headers only: MicroPython's qemu port links none of newlib's libraries, which are 45 MB.
        missing["the C library's headers for Cortex-M"] = "libnewlib-dev"
    if not shutil.which(ARM_EMULATOR):
        missing[ARM_EMULATOR] = "qemu-system-arm"
    return missing


def missing_xtensa_packages() -> dict[str, str]:
    """What compiling for the ESP32-S3's core lacks: missing item -> Debian package."""
    missing = {}
    if xtensa_llvm() is None:
        missing["clang for Xtensa"] = f"clang-{OLDEST_LLVM}"
        missing["llvm-mc for Xtensa"] = f"llvm-{OLDEST_LLVM}"
    if not shutil.which(XTENSA_LINKER):
        missing[XTENSA_LINKER] = "binutils-xtensa-lx106"
    return missing


def xtensa_llvm() -> int | None:
    """The newest version N >= 22 with clang-N and an llvm-mc-N that supports Xtensa on PATH, or None."""
    names = (path.name for directory in os.get_exec_path() for path in Path(directory).glob("llvm-mc-*"))
    versions = {int(found[1]) for name in names if (found := re.fullmatch(r"llvm-mc-(\d+)", name))}
    for version in sorted(versions, reverse=True):
        if version >= OLDEST_LLVM and shutil.which(f"clang-{version}") and has_xtensa(f"llvm-mc-{version}"):
            return version
    return None


def has_xtensa(tool: str) -> bool:
    """Whether an LLVM tool was built with the Xtensa target."""
    result = subprocess.run([tool, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return re.search(r"^\s*xtensa\b", result.stdout, re.MULTILINE) is not None


def has_header(name: str, compiler: str = "gcc") -> bool:
    """Whether the compiler finds a system header; true without a compiler, which is reported separately."""
    if not shutil.which(compiler):
        return True
    command = [compiler, "-fsyntax-only", "-xc", "-include", name, os.devnull]
    return subprocess.run(command, capture_output=True).returncode == 0


def install_packages(missing: dict[str, str]) -> None:
    """Install Debian packages; a Failure with the command to run if not root, or if there is no apt-get."""
    if not missing:
        return
    packages = sorted(set(missing.values()))
    things = ", ".join(missing)
    if not shutil.which("apt-get"):
        names = " ".join(packages)
        raise Failure(f"missing: {things}; install your system's equivalents of {names}, then run it again")
    if os.geteuid() != 0:
        line = shlex.join([*APT_INSTALL, *packages])
        raise Failure(f"missing: {things}; run this, then run it again: sudo {line}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = [*APT_INSTALL, "--no-install-recommends", *packages]
    with step(f"installing {' '.join(packages)}"):
        try:
            run(command, f"installing {things}", "apt-install.log", env=environment)
        except Failure:
            # Package lists may be absent, or name files that the archive has dropped.
            update = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "update"]
            run(update, f"apt-get update, to install {things},", "apt-update.log", env=environment)
            run(command, f"installing {things}", "apt-install.log", env=environment)
