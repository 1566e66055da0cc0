# SPDX-License-Identifier: MIT
"""The virtual environment and its packages."""

from host_sim.setup import environment


def test_groups_are_pinned():
    for group in {group for groups in environment.GROUPS.values() for group in groups}:
        usual, bare = environment.requirements(group)
        assert usual
        assert all("==" in requirement for requirement in usual + bare)


def test_demo_needs_no_training_packages():
    usual, _ = environment.requirements("light")
    assert environment.GROUPS["demo"] == ("light",)
    assert not any(requirement.startswith(("torch", "timm")) for requirement in usual)


def test_second_install_does_nothing(monkeypatch, tree):
    requirement = '[dependency-groups]\nlight = ["one==1"]\nlight-without-dependencies = ["two==2"]\n'
    (tree / "pyproject.toml").write_text(requirement)
    (tree / ".venv").mkdir()
    calls = []
    monkeypatch.setattr(environment, "run", lambda command, *_: calls.append(command))
    environment.install_group("light")
    assert [command[-1] for command in calls] == ["one==1", "two==2"]
    assert "--no-deps" in calls[1]
    environment.install_group("light")
    assert len(calls) == 2
    (tree / "pyproject.toml").write_text(requirement.replace("one==1", "one==1.1"))
    environment.install_group("light")
    assert len(calls) == 4
