# SPDX-License-Identifier: MIT
"""Commands that documents, configurations and help print can be pasted: each is given to the program that it names."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from tests.commands import JUST, Recipes, answer
from tests.conftest import ROOT
from trainer.cli import COMMANDS, parse
from trainer.config import load_config

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")),
)
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("trainer/configs/*.toml"))
# Words that stand for a number; others are taken for file names, boards and the like.
NUMBERS = {"KB": "64", "N": "1", "M": "1"}
PROGRAMS = ("just", "trainer", "torchrun", "mpremote", "python", "python3", "pip")
OF_SYSTEM = ("just", "pip", "python3 -m venv", "python3 $IDF_PATH/tools/")
START = re.compile(rf"(?:\$ )?(?:[A-Z]+=\S+ )*(?:[\w~.-]*/)*(?:{'|'.join(PROGRAMS)})(?: |$)")


def commands(text: str) -> list[list[str]]:
    """The words of each command in indented lines and comments."""
    found = []
    text = re.sub(r"\\\n#?", "", text)
    for line in re.findall(r"^#? {2,}(.*)$", text, flags=re.MULTILINE):
        # A quotation that goes on in the next lines is not followed.
        if START.match(line) and line.count('"') % 2 == 0:
            words = shlex.split(line.removeprefix("$ "), comments=True)
            found += split(words)
    return found


def split(words: list[str]) -> list[list[str]]:
    """The commands between &&."""
    if "&&" in words:
        place = words.index("&&")
        return [words[:place], *split(words[place + 1 :])]
    return [words]


def names(text: str) -> list[list[str]]:
    """The words of each command between backticks."""
    code = re.findall(r"`([^`\n]+)`", text)
    return [line.split() for line in code if START.match(line) and " " in line and "..." not in line]


def refusal(words: list[str], recipes: Recipes) -> str:
    """Why a command cannot be pasted, "" if it can."""
    while re.fullmatch(r"[A-Z]+=.*", words[0]):
        words = words[1:]
    program, *rest = words
    folder, _, name = program.rpartition("/")
    rest = [NUMBERS.get(word, word) for word in (word.strip("[]") for word in rest)]
    if folder not in (".venv/bin", "~/.just/bin") and not " ".join(words).startswith(OF_SYSTEM):
        return f"{name} is not on PATH: .venv/bin/{name}"
    if name == "just":
        return recipes.answer(*rest)
    if name == "trainer" or (name == "python" and rest[:2] == ["-m", "trainer"]):
        return refused_by_trainer(rest if name == "trainer" else rest[2:])
    if name == "torchrun":
        given = get_args_parser().parse_args(rest)
        if not given.module or given.training_script != "trainer":
            return f"starts {given.training_script}"
        return refused_by_trainer(given.training_script_args)
    if name == "python" and rest[0] == "-m":
        return answer(rest[1], rest[2:])
    if name in ("mpremote", "pip") or " ".join(words).startswith(OF_SYSTEM):
        missing = [word for word in rest if re.match(r"(firmware|host_sim)/", word) and not (ROOT / word).exists()]
        return f"no {', '.join(missing)}" if missing else ""
    return f"no test knows {name}"


def refused_by_trainer(arguments: list[str]) -> str:
    """Why the trainer's command line or its settings refuse arguments."""
    said = answer("trainer", arguments)
    if said or "--help" in arguments:
        return said
    given = parse(arguments)
    if getattr(given, "config", None):
        load_config(ROOT / given.config, getattr(given, "changes", ()))
    return ""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    if not JUST:
        pytest.skip("just is not installed")
    return Recipes(tmp_path_factory.mktemp("recipes"))


@pytest.mark.parametrize("source", [*DOCUMENTS, *CONFIGS])
def test_commands_of_documents_and_configurations(source, recipes):
    text = (ROOT / source).read_text()
    found = commands(text)
    # Names alone, `just lx7` and `trainer starts`, need not run: tests/test_docs.py and the test below look for them.
    found += [words for words in names(text) if words[0] != "trainer" and (words[0] != "just" or len(words) > 2)]
    refused = {" ".join(words): said for words in found if (said := refusal(words, recipes))}
    assert refused == {}


def test_commands_of_help(recipes):
    found = commands(subprocess.check_output([sys.executable, "-m", "trainer", "--help"], cwd=ROOT, text=True))
    assert [words[0].rpartition("/")[2] for words in found][-1] == "torchrun"
    assert len(found) == 5
    for words in found:
        # Relative to the repository, where the environment is in it.
        words[0] = words[0].replace(str(Path(sys.executable).parent), ".venv/bin")
        assert refusal(words, recipes) == ""


def test_names_of_commands_in_messages_and_documents():
    sources = [*ROOT.glob("trainer/**/*.py"), *ROOT.glob("host_sim/**/*.py"), *map(ROOT.joinpath, DOCUMENTS)]
    found = {name for path in sources for name in re.findall(r"`trainer ([a-z][\w-]*)", path.read_text())}
    assert "train" in found
    assert found <= COMMANDS.keys()


def test_torchrun_passes_options_on():
    """Without "--" torchrun takes --run for an abbreviation of options of its own."""
    words = ["--nproc-per-node", "2", "-m", "--", "trainer", "train", "--run", "x", "--config", "y"]
    given = get_args_parser().parse_args(words)
    assert (given.training_script, given.training_script_args) == ("trainer", words[5:])


def test_what_is_printed_is_found(recipes):
    text = "Text\n\n    $ just demo qemu   # comment\n    .venv/bin/trainer train \\\n        x.y=1 && just none\n"
    text += "  `just a b` `just`\n"
    assert commands(text) == [["just", "demo", "qemu"], [".venv/bin/trainer", "train", "x.y=1"], ["just", "none"]]
    assert names(text) == [["just", "a", "b"]]
    assert refusal(["trainer", "train"], recipes) == "trainer is not on PATH: .venv/bin/trainer"
    assert "no recipe" in refusal(["just", "none"], recipes).lower() or "not contain" in refusal(
        ["just", "none"], recipes
    )
    assert refusal([".venv/bin/trainer", "train", "--nonsense"], recipes).endswith("unrecognized arguments: --nonsense")
