# SPDX-License-Identifier: MIT
"""A repository root and a PATH of the test's own."""

import pytest

from host_sim.setup import apt, environment, shell


@pytest.fixture
def tree(monkeypatch, tmp_path):
    """A repository root of the test's own."""
    for name, path in (("ROOT", ""), ("BUILD", "build"), ("LOGS", "build/log"), ("VENV", ".venv")):
        for module in (apt, environment, shell):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / path)
    return tmp_path


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """A PATH that holds only the scripts given to the returned function."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))

    def add(name: str, body: str) -> None:
        path = directory / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    return add
