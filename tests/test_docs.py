# SPDX-License-Identifier: MIT
"""Documents name what exists: relative links, paths of the repository, recipes, and modules for `python -m`."""

import importlib.util
import re

import pytest

from tests.conftest import ROOT

FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] not in "._"} - {"build"} | {".github"}
FOUND = (*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")))
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in FOUND)
# CHANGELOG.md also names files of earlier versions.
CURRENT = [name for name in DOCUMENTS if name != "CHANGELOG.md"]
RECIPES = set(re.findall(r"^([a-z][\w-]*)(?: [^:\n]*)?:(?!=)", (ROOT / "justfile").read_text(), re.MULTILINE))
PLACEHOLDER = re.compile(r"(?<![A-Za-z])(BOARD|DIR|FILE|MODEL|NAME)(?![A-Za-z])|[*?{}<>]|\.\.\.")


def links(text):
    """Targets of links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", text)


def paths(text):
    """Words that look like paths of the repository: folder/..., or a document like README.md."""
    # Markdown escapes underscores. Targets of links are relative to the document, and `place: text` is a commit.
    text = re.sub(r"\]\([^)]*\)|`\S+: [^`]*`", "", text.replace("\\_", "_"))
    words = re.findall(r"(?<![\w./:-])[\w.][\w./*{}<>-]*", text)
    found = {word.rstrip(".") for word in words}
    return {
        word
        for word in found
        if not PLACEHOLDER.search(word)
        and (word.partition("/")[0] in FOLDERS if "/" in word else re.fullmatch(r"[A-Z]+\.md", word))
    }


def recipes(text):
    """Names after `just`, in code."""
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^(?: {4}|\t)(.*)$", text, re.MULTILINE)
    return {name for line in code for name in re.findall(r"(?:^|[$&|/] ?|\b(?:bin/)?)just ([a-z][\w-]*)", line)}


def modules(text):
    """Modules after `python -m`."""
    return set(re.findall(r"python3? -m ((?:host_sim|trainer|tests)[\w.]*)", text))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    folder = (ROOT / document).parent
    relative = [link for link in links((ROOT / document).read_text()) if not re.match(r"\w+:|#", link)]
    assert [link for link in relative if not (folder / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("document", CURRENT)
def test_paths_exist(document):
    assert [path for path in sorted(paths((ROOT / document).read_text())) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_recipes_exist(document):
    assert recipes((ROOT / document).read_text()) - RECIPES == set()


@pytest.mark.parametrize("document", CURRENT)
def test_modules_exist(document):
    missing = [name for name in sorted(modules((ROOT / document).read_text())) if not importlib.util.find_spec(name)]
    assert missing == []


def test_what_documents_name_is_found():
    text = (
        "See [it](docs/a.md), `just demo` and tests/none.py, OLD.md, host\\_sim/\\_\\_main\\_\\_.py, firmware/NAME.py\n"
        "`trainer/none: a commit`\n\n    pip install rust-just && just test x\n    python -m host_sim.nothing\n"
    )
    assert links(text) == ["docs/a.md"]
    assert paths(text) == {"tests/none.py", "OLD.md", "host_sim/__main__.py"}
    assert recipes(text) == {"demo", "test"}
    assert modules(text) == {"host_sim.nothing"}


def test_documents_name_something():
    texts = [(ROOT / name).read_text() for name in DOCUMENTS]
    assert {"demo", "test", "deploy"} <= set().union(*map(recipes, texts)) <= RECIPES
    assert len(set().union(*map(paths, texts))) > 50
    assert sum(len(links(text)) for text in texts) > 20
