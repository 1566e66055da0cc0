# SPDX-License-Identifier: MIT
"""A temporary repository root and a temporary PATH."""

import pytest

from host_sim.setup import apt, environment, shell


@pytest.fixture
def tree(monkeypatch, tmp_path):
    """A temporary repository root."""
    for name, path in (("ROOT", ""), ("BUILD", "build"), ("LOGS", "build/log"), ("VENV", ".venv")):
        for module in (apt, environment, shell):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / path)
    return tmp_path


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """A PATH with only the scripts given to the returned function."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))

    def add(name: str, body: str) -> None:
        path = directory / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    return add
