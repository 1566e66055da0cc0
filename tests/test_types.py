# SPDX-License-Identifier: MIT
"""The type checker of `just lint` excludes no module of ours and ignores errors only of programs for MicroPython."""

import tomllib

from tests.conftest import ROOT


def test_no_module_is_excluded():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert {"firmware/ftervit", "host_sim", "trainer"} <= set(settings["files"])
    assert "exclude" not in settings
    ignored = [override["module"] for override in settings["overrides"] if override.get("ignore_errors")]
    assert ignored == ["host_sim.fuzz.on_board.*"]
    typed = {"host_sim.*", "trainer.*"}
    assert any(typed <= set(o["module"]) and o.get("disallow_untyped_defs") for o in settings["overrides"])
