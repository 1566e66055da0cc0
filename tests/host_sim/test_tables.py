# SPDX-License-Identifier: MIT
"""Tables, and where documents hold them."""

import pytest

from host_sim.tables import aligned, markdown, write_between

START, END = "<!-- start -->", "<!-- end -->"


def test_only_the_space_between_the_markers_changes(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write_between(readme, START, END, r"new \1")
    assert readme.read_text() == f"before\n{START}\nnew \\1\n{END}\nafter\n"


@pytest.mark.parametrize("content", ["nothing here", f"{START}{END}{START}{END}", START])
def test_missing_or_doubled_markers_are_named(content, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(content)
    with pytest.raises(ValueError, match=r"README\.md: must have the lines .* exactly once"):
        write_between(readme, START, END, "")
    assert readme.read_text() == content


def test_tables():
    rows = [["name", "count"], ["a", "1"], ["long", "1,000"]]
    assert aligned(rows) == "name  count\na         1\nlong  1,000"
    assert markdown(rows[0], rows[1:]) == "| name | count |\n| --- | --- |\n| a | 1 |\n| long | 1,000 |"
