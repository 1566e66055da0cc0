# SPDX-License-Identifier: MIT
"""The fuzzers: a short run finds nothing and is resumed; each kind finds a fault that is planted."""

import json
import random
import shutil
import subprocess
import sys
import time
import tomllib

import pytest

from host_sim import build
from host_sim.boards.unix import sanitized
from host_sim.fuzz import __main__ as fuzz
from host_sim.fuzz import modelfiles
from host_sim.fuzz.kinds import KINDS, ModelFiles, answers
from host_sim.fuzz.worker import Board, Fault
from host_sim.lx7.library import sanitized_environment
from host_sim.setup import romfs
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the command with results of its own; returns (status, output, what fuzz.json holds)."""
    folder = tmp_path_factory.mktemp("fuzz")

    def run(*arguments):
        places = ["--results", folder / "fuzz.json", "--folder", folder / "cases"]
        command = [sys.executable, "-m", "host_sim.fuzz", *map(str, (*places, *arguments))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
        return done.returncode, done.stdout + done.stderr, json.loads((folder / "fuzz.json").read_text())

    run.folder = folder
    return run


def test_a_short_run_finds_nothing_and_a_second_goes_on(run):
    status, output, counts = run("--minutes", 0.6, "--seed", 3)
    assert (status, counts.pop("failures")) == (0, 0), output
    assert set(counts) == {"model_files", "calls", "images", "romfs", "configs"}
    assert min(counts.values()) > 0
    status, output, later = run("--minutes", 0.05, "--seed", 3, "--kind", "romfs")
    assert status == 0 and later["romfs"] > counts["romfs"] and later["calls"] == counts["calls"], output
    # Another seed begins with its first case, and counts, too.
    _, _, last = run("--minutes", 0.05, "--seed", 4, "--kind", "romfs")
    assert last["romfs"] > later["romfs"]
    assert set(json.loads((run.folder / "cases" / "state.json").read_text())["next"]) >= {"romfs 3", "romfs 4"}


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "ROOT", tmp_path)  # in no repository
    assert fuzz.commit() == ""
    monkeypatch.setenv("PATH", str(tmp_path))  # not installed
    assert fuzz.commit() == ""


def test_another_commit_starts_anew(tmp_path, monkeypatch):
    campaign = fuzz.Campaign(tmp_path / "fuzz.json", tmp_path / "cases")
    campaign.advance("calls", 1, 70)
    campaign.fail("calls", 1, 70, "a fault")
    assert fuzz.Campaign(tmp_path / "fuzz.json", tmp_path / "cases").counts()["calls"] == 70
    assert json.loads((tmp_path / "fuzz.json").read_text())["failures"] == 1
    monkeypatch.setattr(fuzz, "commit", lambda: "another")
    assert set(fuzz.Campaign(tmp_path / "fuzz.json", tmp_path / "cases").counts().values()) == {0}


def first_fault(kind, path, seconds=60):
    """What the first failing case of a kind raises."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        path.write_bytes(kind.make(random.Random(number)))
        try:
            kind.check(path)
        except Exception as error:
            return error
        number += 1
    return None


def test_an_entry_is_changed_again_whatever_it_has_become():
    """The first is a case that once ended the fuzzer itself."""
    assert ModelFiles(None).make(random.Random("1 model_files 61807"))
    for offsets in ([0, None], ["16", 32], [], [None], [0, 16, 16, 0]):
        for seed in range(50):
            header = {"a": {"dtype": "U8", "shape": [16], "data_offsets": list(offsets)}}
            modelfiles.mutate_entry(random.Random(seed), header, bytearray(16))


def test_model_files_find_a_missing_bound(monkeypatch, tmp_path):
    answers()
    from ftervit import strictjson

    monkeypatch.setattr(strictjson, "DEEPEST", 10**6)
    assert isinstance(first_fault(ModelFiles(None), tmp_path / "case"), RecursionError)


def test_images_find_a_missing_bound(monkeypatch, tmp_path):
    answers()
    from ftervit import image

    monkeypatch.setattr(image, "LONGEST_WORD", 10**6)
    assert isinstance(first_fault(KINDS["images"](None), tmp_path / "case"), Fault)


def test_romfs_finds_a_missing_bound(monkeypatch, tmp_path):
    monkeypatch.setattr(romfs, "DEEPEST", 10**6)
    assert isinstance(first_fault(KINDS["romfs"](None), tmp_path / "case"), RecursionError)


def test_configs_find_an_exception_of_the_parser(monkeypatch, tmp_path):
    from trainer import config
    from trainer.experiments.fuzz_configs import Configs

    monkeypatch.setattr(config, "parse_toml", tomllib.loads)
    assert isinstance(first_fault(Configs(), tmp_path / "case"), RecursionError)


def test_calls_find_a_missing_check_of_a_size(tmp_path):
    """The worker dies by AddressSanitizer; the case stays, and the next worker goes on behind it."""
    source = tmp_path / "mpy_module"
    shutil.copytree(build.SOURCE, source)
    checked = "!ternary_size_is(&a->out, a->x.size, error)"
    text = (source / "elementwise.c").read_text()
    assert checked in text
    (source / "elementwise.c").write_text(text.replace(checked, "!error"))
    sources = tuple(sorted(path for path in source.glob("*.c") if path.name not in build.BINDINGS))
    # Without the SIMD backends, whose masked stores AddressSanitizer does not see.
    flags = (*build.PTHREAD, "-DTERNARY_ESP32")
    planted = build.Library("libplanted", "kernels with a fault", sources, tuple(source.glob("*.h")), flags)
    environment = sanitized_environment() | {"TERNARY_LIBRARY": str(build.library(planted, sanitize=True))}
    campaign = fuzz.Campaign(tmp_path / "fuzz.json", tmp_path / "cases")
    runner = fuzz.Runner(campaign, 1, environment, None)
    end = time.monotonic() + 120
    while not campaign.state["failures"] and time.monotonic() < end:
        runner.work("calls", 20)
    [name] = campaign.state["failures"]
    assert "AddressSanitizer: heap-buffer-overflow" in (tmp_path / "cases" / f"{name}.txt").read_text()
    number = int((tmp_path / "cases" / name).read_text())
    sys.path.insert(0, str(ROOT / "host_sim" / "fuzz" / "on_board"))
    import calls

    assert calls.random_call(number)[0] == "lookup"
    assert campaign.first("calls", 1) == int(name.split("-")[-1]) + 1


def test_the_board_is_built_with_sanitizers_and_its_faults_are_seen(tmp_path, monkeypatch):
    program = sanitized()
    assert b"__asan_init" in program.read_bytes()
    board = Board(program)
    try:
        assert board.answer("call", "1") == answers().call("1")
        with pytest.raises(Fault, match="on the board: EXCEPTION OSError"):
            board.answer("image", str(tmp_path / "nowhere"))
        dead = board.start()
        dead.kill()
        dead.wait()
        with monkeypatch.context() as patch, pytest.raises(Fault, match="on the board"):
            patch.setattr(board, "start", lambda: dead)  # as if it died while it answers
            board.answer("call", "1")
        assert board.answer("call", "2") == answers().call("2")
    finally:
        board.close()
