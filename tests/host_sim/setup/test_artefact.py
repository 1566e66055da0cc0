# SPDX-License-Identifier: MIT
"""What is made once is whole: whoever makes it may be killed, fail, or meet others that make the same."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from host_sim.setup import artefact, shell
from host_sim.setup.shell import ROOT, Failure, ToolFailure
from tests.boards import wait_until


def python(code: str, *arguments: object, **options) -> subprocess.Popen:
    """A process of its own, in a session of its own, that runs a script on this tree."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, text=True, **options)


def make_twice(folder: Path, error: BaseException | None) -> bool:
    """Fill a folder, which ends with this exception, then once more; returns whether the first file was kept."""
    with contextlib.suppress(BaseException), artefact.filled(folder, ["settings"]):
        (folder / "deep").mkdir()
        (folder / "deep" / "first").touch()
        if error:
            raise error
    with artefact.filled(folder, ["settings"]):
        return (folder / "deep" / "first").exists()


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (None, True),
        (ToolFailure("make: x.c does not compile"), True),
        (Failure("make was killed"), False),
        (KeyboardInterrupt(), False),
        (OSError(28, "No space left on device"), False),
    ],
    ids=str,
)
def test_only_what_ended_by_itself_is_kept(tmp_path, error, kept):
    assert make_twice(tmp_path / "made", error) == kept


def test_other_settings_and_files_start_empty(tmp_path):
    folder, file = tmp_path / "made", tmp_path / "Makefile"
    file.write_text("a")

    def keeps(*settings: str) -> bool:
        with artefact.filled(folder, settings, [file]):
            kept = (folder / "product").exists()
            (folder / "product").touch()
        return kept

    assert [keeps("x"), keeps("x"), keeps("x", "y"), keeps("x", "y")] == [False, True, False, True]
    file.write_text("b")
    assert [keeps("x", "y"), keeps("x", "y")] == [False, True]


def test_a_folder_whose_emptying_was_killed_is_unfinished(tmp_path, monkeypatch):
    folder = tmp_path / "made"
    with artefact.filled(folder, ["a"]):
        for name in ("x", "y", "z"):
            (folder / name).touch()
    unlink, calls = Path.unlink, []

    def killed(path: Path, missing_ok: bool = False) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        artefact.empty(folder)
    monkeypatch.undo()
    assert artefact.interrupted(folder)
    with artefact.filled(folder, ["a"]):
        assert {path.name for path in folder.iterdir()} == {artefact.MARKER, artefact.SETTINGS}


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("echo x.c:1: error: no; exit 2", ToolFailure),
        ("echo x: No space left on device; exit 2", Failure),
        ("kill -9 $$", Failure),
    ],
)
def test_which_tools_ended_by_themselves(tree, script, kind):
    with pytest.raises(Failure) as caught:
        shell.run(["sh", "-c", script], "working", "x.log")
    assert type(caught.value) is kind


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "file"
    with pytest.raises(KeyboardInterrupt), artefact.new_file(path) as unfinished:
        unfinished.write_text("ha")
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    with artefact.new_file(path) as unfinished:
        unfinished.write_text("half")
        assert not path.exists()
    assert [each.name for each in path.parent.iterdir()] == ["file"]
    artefact.write_whole(path, b"\0")
    assert path.read_bytes() == b"\0"


def test_nobody_sees_a_file_in_part(tmp_path):
    """Two processes write large files under one name, one of them is killed: what stands there is one of them."""
    path = tmp_path / "result.json"
    code = (
        "import sys; from pathlib import Path; from host_sim.setup.artefact import write_whole\n"
        "while True: write_whole(Path(sys.argv[1]), sys.argv[2] * 3_000_000)\n"
    )
    writers = [python(code, path, letter) for letter in "ab"]
    try:
        assert wait_until(path.exists, 30)
        for turn in range(200):
            content = path.read_bytes()
            assert content in (b"a" * 3_000_000, b"b" * 3_000_000)
            if turn == 100:
                writers[0].kill()
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


HOLDER = """
import sys, subprocess
from pathlib import Path
from host_sim.setup import shell
shell.BUILD = shell.LOGS = Path(sys.argv[1])
with shell.lock("thing"):
    Path(sys.argv[1], "held").touch()
    shell.run(["sh", "-c", "echo $$ > $0/tool; sleep 2; touch $0/tool-ended", sys.argv[1]], "working", "x.log")
"""


def test_the_tool_of_a_killed_process_holds_its_lock_on(tmp_path, monkeypatch, capsys):
    """SIGKILL ends the recipe, not make: nobody else may write where that still does."""
    monkeypatch.setattr(shell, "BUILD", tmp_path)
    holder = python(HOLDER, tmp_path)
    assert wait_until((tmp_path / "tool").exists, 30)
    holder.kill()
    holder.wait()
    with shell.lock("thing"):
        assert (tmp_path / "tool-ended").exists()
    assert "waiting for another process that holds" in capsys.readouterr().err
    with shell.lock("thing"):
        pass
    assert capsys.readouterr().err == ""


def test_interrupted_waits_for_who_is_at_work(tmp_path):
    """A folder that another process fills is not unfinished, though its mark is there."""
    code = (
        "import sys, time; from pathlib import Path; from host_sim.setup.artefact import changing\n"
        "with changing(Path(sys.argv[1])): print(flush=True); time.sleep(1)\n"
    )
    worker = python(code, tmp_path, stdout=subprocess.PIPE)
    worker.stdout.readline()
    assert (tmp_path / artefact.MARKER).exists()
    assert not artefact.interrupted(tmp_path)
    assert worker.wait() == 0
    worker = python(code, tmp_path, stdout=subprocess.PIPE)
    worker.stdout.readline()
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    assert artefact.interrupted(tmp_path)
