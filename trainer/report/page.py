# SPDX-License-Identifier: MIT
"""The report's page: sections of a sentence and a picture, in one HTML file that needs nothing else."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from trainer.report.measure import Example

STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --card: #f4f6f9; --text: #1c232d; --quiet: #5a6573; --line: #d5dbe3;
  --wrong: #b3261e; --right: #1b7a43 }
@media (prefers-color-scheme: dark) { :root { --back: #12161c; --card: #1b212a; --text: #e3e8ef; --quiet: #9aa6b5;
  --line: #333c49; --wrong: #ff8a80; --right: #6fd79b } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; margin: .5rem 0 } h2 { font-size: 1.2rem; margin: 2.2rem 0 .3rem }
p { margin: .3rem 0 .8rem } .quiet { color: var(--quiet) }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem } a { color: inherit }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem }
.wide > svg { display: block; width: 100%; min-width: 34rem; height: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child, td.text { text-align: left } td.text + td.text { white-space: normal }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .7rem }
figure { margin: 0; font-size: .8rem; line-height: 1.3 }
figure img { width: 100%; image-rendering: pixelated; border-radius: .3rem; border: 3px solid var(--right) }
figure.wrong img { border-color: var(--wrong) } .wrong b { color: var(--wrong) } .right b { color: var(--right) }
"""


@dataclass(frozen=True)
class Section:
    """A heading, one sentence that says what to look for, and content as HTML.

    Without content the sentence says why there is none.
    """

    anchor: str
    title: str
    sentence: str
    content: str = ""

    def html(self) -> str:
        """As HTML."""
        quiet = "" if self.content else ' class="quiet"'
        return (
            f'<section id="{self.anchor}">\n<h2>{escape(self.title)}</h2>\n'
            f"<p{quiet}>{escape(self.sentence)}</p>\n{self.content}\n</section>"
        )


def wide(content: str) -> str:
    """Content that scrolls sideways where the screen is narrow."""
    return f'<div class="wide">{content}</div>'


def table(rows: Sequence[Sequence[str]], head: bool = True) -> str:
    """Rows of texts, the first as headings unless `head` is off; without, cells are texts rather than numbers."""
    lines = []
    for number, row in enumerate(rows):
        kind = "th" if head and number == 0 else "td" if head else 'td class="text"'
        cells = "".join(f"<{kind}>{escape(cell)}</{kind.split()[0]}>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return wide("<table>\n" + "\n".join(lines) + "\n</table>")


def png(pixels: np.ndarray) -> str:
    """uint8 [height, width, 1 or 3] as a data address."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def gallery(examples: Sequence[Example], labels: Sequence[str]) -> str:
    """Pictures with the class that was found, and the true one where that is another."""
    figures = []
    for example in examples:
        right = example.found == example.target
        found, truth = escape(labels[example.found]), escape(labels[example.target])
        caption = f"<b>{found}</b> {100 * example.probability:.0f} %" + ("" if right else f"<br>is: {truth}")
        figures.append(
            f'<figure class="{"right" if right else "wrong"}"><img src="{png(example.pixels)}" alt="{truth}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return f'<div class="examples">{"".join(figures)}</div>'


def page(title: str, summary: str, sections: Sequence[Section]) -> str:
    """The whole file."""
    links = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections)
    body = "\n".join(section.html() for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{summary}\n<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )
