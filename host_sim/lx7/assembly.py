# SPDX-License-Identifier: MIT
"""Assembly for Espressif's GNU as, rewritten for llvm-mc.

Differences handled here:

- llvm-mc has no .word, .hword, .begin and .end; its .align takes a power of two, GNU as's takes bytes;
- it rejects registers in the compiler's .cfi directives (nothing here unwinds);
- it gives no line to bytes that come from macros, as all PIE instructions do: each statement of a .S file gets an
  explicit .loc; a macro's expansion has the line of its invocation;
- it does not align loops (GNU as, "Xtensa Automatic Alignment"): the first instruction of a loop's body must lie
  within an aligned word of 4 bytes;
- it fills a gap of one byte before an aligned statement with a zero, which is not an instruction;
- the linker (of a core without windows) knows no windowed calls: call8 f becomes movi a8, f and callx8 a8, as GCC's
  -mlongcalls does; the call overwrites a8 anyway.

Loops and gaps need addresses, which only llvm-mc knows: Assembly.text() puts labels at these places, and
Assembly.pad() adds a nop at the first one that is wrong, until none is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

LOOPS = {"loop", "loopnez", "loopgtz"}
ALIGNMENTS = {".align", ".balign", ".p2align"}
RENAMED = {".align": ".balign", ".word": ".4byte", ".hword": ".2byte"}
DROPPED = {".begin", ".end"}
DATA = {".byte", ".2byte", ".short", ".4byte", ".int", ".long", ".8byte", ".quad"}
# Control does not fall through these.
LEAVING = {"ret", "ret.n", "retw", "retw.n", "j", "jx", "ill", "ill.n", "rfe", "rfwo", "rfwu"}
WINDOWED_CALLS = {"call4": "4", "call8": "8", "call12": "12"}
PADDING = {2: "nop.n", 3: "nop"}
PROBE = "lx7_probe_"

MARKER = re.compile(r'#\s+(\d+)\s+"((?:[^"\\]|\\.)*)"')
TOKEN = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)'?|//|.""")
LABELS = re.compile(r"\s*(?:(?:[\w.$\\@()]+:|\d+:)\s*)*")
WORD = re.compile(r"\S*")


def matched(pattern: re.Pattern[str], text: str) -> str:
    """What a pattern that may be empty matches at the start of a text."""
    found = pattern.match(text)
    return found[0] if found else ""


class AssemblyError(ValueError):
    """Assembly that cannot be rewritten; the message names its file and line."""


class Place(NamedTuple):
    """A label's section and offset in an object file."""

    section: str
    offset: int


@dataclass(frozen=True)
class Probe:
    """A statement whose address matters; alignment 0: a loop instruction, otherwise what it aligns to, in bytes."""

    source: str
    alignment: int
    in_macro: bool


@dataclass
class Assembly:
    """A file's statements, and padding found so far."""

    lines: list[str] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    # (probe, number of the macro's invocation) -> statements
    padding: dict[tuple[int, int], list[str]] = field(default_factory=dict)

    def text(self, labels: bool) -> str:
        """The file for llvm-mc, with or without a label at each probe."""
        place = re.compile(f"{PROBE}(\\d+);")
        return (
            "\n".join(place.sub(lambda found: self.at_probe(int(found[1]), labels), line) for line in self.lines) + "\n"
        )

    def at_probe(self, number: int, label: bool) -> str:
        """Replacement of a probe's mark."""
        parts = []
        in_macro = self.probes[number].in_macro
        for (probe, invocation), statements in self.padding.items():
            if probe == number:
                padding = "; ".join(statements)
                parts.append(f".if \\@ == {invocation}; {padding}; .endif" if in_macro else padding)
        if label:
            parts.append(f"{PROBE}{number}_" + (r"\@:" if in_macro else "0:"))
        return "".join(f"{part}; " for part in parts)

    def pad(self, symbols: Mapping[str, Place], sections: Mapping[str, bytes]) -> bool:
        """Add padding before the first misplaced statement of each section; returns whether there was one.

        symbols, sections: of the object file that llvm-mc made from text(True). Sections start at multiples of 4.
        """
        settled = set()
        for name, (section, offset) in sorted(symbols.items(), key=lambda item: item[1]):
            if not (found := re.fullmatch(rf"{PROBE}(\d+)_(\d+)", name)) or section in settled:
                continue
            key = int(found[1]), int(found[2])
            if padding := missing_bytes(self.probes[key[0]].alignment, offset, sections[section]):
                self.padding.setdefault(key, []).append(PADDING[padding])
                settled.add(section)
        return bool(settled)


def missing_bytes(alignment: int, offset: int, code: bytes) -> int:
    """Size of the nop to put before a probe at `offset`, or 0."""
    if alignment:
        # No nop fills a gap of 1; a nop before it widens the gap to 2 or more.
        return (3 if alignment == 2 else 2) if offset % alignment == alignment - 1 else 0
    body = (offset + 3) % 4
    first = code[offset + 3] & 15 if offset + 3 < len(code) else 0
    size = 3 if first < 8 else 2 if first < 14 else 4
    if body + size <= 4:
        return 0
    return 3 if body == 1 else 2


def split(line: str) -> list[str]:
    """A line's statements, without comments."""
    statements = [""]
    for token in TOKEN.findall(line):
        if token in ("#", "//"):
            break
        if token == ";":
            statements.append("")
        else:
            statements[-1] += token
    return [statement.strip() for statement in statements if statement.strip()]


class Rewriter:
    """Rewrites a file line by line; use rewrite()."""

    def __init__(self, name: str, with_lines: bool) -> None:
        self.assembly = Assembly()
        self.file, self.line = name, 0
        self.with_lines = with_lines
        self.files: list[str] = []
        self.blocks: list[str] = []  # open .macro, .rept, .irp and .irpc
        self.sections = [".text"]
        self.previous = ".text"
        self.executable = {".text"}
        self.falls_through = False

    def feed(self, lines: Iterable[str]) -> None:
        """Rewrite these lines."""
        self.assembly.lines.append("\t.text; .balign 4")
        for line in lines:
            if marker := MARKER.match(line):
                self.line, self.file = int(marker[1]), marker[2]
                self.assembly.lines.append(f'# {self.line} "{self.file}"')
            else:
                self.assembly.lines.append(self.rewritten(line))
                self.line += 1

    def rewritten(self, line: str) -> str:
        """One line of output, for one of input."""
        statements = [self.statement(statement) for statement in split(line)]
        text = "; ".join(text for text, _ in statements)
        if self.with_lines and "macro" not in self.blocks and any(emits for _, emits in statements):
            return f"\t{self.location()}{text}"
        return f"\t{text}"

    def location(self) -> str:
        """The directive for the current line."""
        declaration = ""
        if self.file not in self.files:
            self.files.append(self.file)
            declaration = f'.file {len(self.files)} "{self.file}"; '
        return f"{declaration}.loc {self.files.index(self.file) + 1} {self.line} 0; "

    def statement(self, statement: str) -> tuple[str, bool]:
        """A statement rewritten, and whether it may put bytes into code."""
        labels = matched(LABELS, statement)
        body = statement[len(labels) :]
        word = matched(WORD, body)
        rest = body[len(word) :]
        if word.startswith("EE."):
            word = word.lower()
        if word in DROPPED or word.startswith(".cfi_"):
            return labels, False
        if not word:
            return labels, False
        if word.startswith("."):
            return self.directive(labels, RENAMED.get(word, word), rest)
        code = self.sections[-1] in self.executable
        mark = self.probe(0) if word in LOOPS else ""
        self.falls_through = word not in LEAVING
        target = rest.strip()
        if (size := WINDOWED_CALLS.get(word)) and re.fullmatch(r"[A-Za-z_][\w.$]*", target):
            return f"{labels}movi a{size}, {target}; callx{size} a{size}", code
        return f"{labels}{mark}{word}{rest}", code

    def directive(self, labels: str, word: str, rest: str) -> tuple[str, bool]:
        """A directive rewritten, and whether it may put bytes into code."""
        mark = start = ""
        code = self.sections[-1] in self.executable
        if word in (".macro", ".rept", ".irp", ".irpc"):
            self.blocks.append(word[1:])
            self.falls_through = True
        elif word in (".endm", ".endmacro", ".endr") and self.blocks:
            self.blocks.pop()
        elif word in ALIGNMENTS and code and self.falls_through:
            mark = self.alignment_probe(word, rest)
        elif word in DATA:
            self.falls_through = True
        else:
            start = self.section(word, rest)
        return f"{labels}{mark}{word}{rest}{start}", code and word in DATA

    def section(self, word: str, rest: str) -> str:
        """Track the current section; returns a statement to add at the start of a new one."""
        name = rest.split(",")[0].strip().strip('"')
        before = self.sections[-1]
        if word in (".text", ".data", ".bss"):
            name = word
        elif word == ".previous":
            name = self.previous
        elif word == ".popsection" and len(self.sections) > 1:
            self.sections.pop()
            name = self.sections[-1]
        elif word == ".pushsection":
            self.sections.append(before)
        elif word != ".section":
            return ""
        self.previous = before
        self.sections[-1] = name
        self.falls_through = False
        flags = re.search(r',\s*"(\w*)"', rest)
        new = name not in self.executable and (name.startswith((".text", ".iram")) if not flags else "x" in flags[1])
        if new:
            self.executable.add(name)
        return "; .balign 4" if new else ""

    def alignment_probe(self, word: str, rest: str) -> str:
        """The mark before an alignment in the middle of code."""
        try:
            number = int(rest.split(",")[0], 0)
        except ValueError:
            raise AssemblyError(f"{self.file}:{self.line}: {word} in code needs a number") from None
        alignment = 1 << min(number, 16) if word == ".p2align" else number
        return self.probe(alignment) if alignment > 1 else ""

    def probe(self, alignment: int) -> str:
        """The mark before a statement whose address matters."""
        if self.blocks and self.blocks[-1] != "macro":
            what = "an alignment" if alignment else "a loop instruction"
            raise AssemblyError(f"{self.file}:{self.line}: {what} within .{self.blocks[-1]}: put it into a .macro")
        self.assembly.probes.append(Probe(f"{self.file}:{self.line}", alignment, bool(self.blocks)))
        return f"{PROBE}{len(self.assembly.probes) - 1};"

    def line_table(self) -> list[str]:
        """A compilation unit for the line table of a .S file (DWARF 4, 7.5)."""
        if not self.files:
            return []
        name = self.files[0]
        return [
            '\t.section .debug_abbrev,"",@progbits',
            ".Llx7_abbreviations:",
            # one entry: DW_TAG_compile_unit without children: DW_AT_stmt_list, DW_AT_name
            "\t.byte 1, 0x11, 0, 0x10, 0x17, 0x03, 0x08, 0, 0, 0",
            '\t.section .debug_info,"",@progbits',
            "\t.4byte .Llx7_unit_end - .Llx7_unit",
            ".Llx7_unit:",
            "\t.2byte 4; .4byte .Llx7_abbreviations; .byte 4",
            f'\t.byte 1; .4byte .Llx7_lines; .asciz "{name}"',
            ".Llx7_unit_end:",
            '\t.section .debug_line,"",@progbits',
            ".Llx7_lines:",
        ]


def rewrite(text: str, source: Path | str, macros: Path | None = None, with_lines: bool = True) -> Assembly:
    """Assembly for llvm-mc.

    text: a .S file after the preprocessor, or the compiler's output; source: its name in errors; macros: a file of
    macros to include first; with_lines: add line information (the compiler's output has its own).
    """
    rewriter = Rewriter(str(source), with_lines)
    if macros:
        rewriter.assembly.lines.append(f'\t.include "{macros}"')
    rewriter.feed(text.splitlines())
    rewriter.assembly.lines += rewriter.line_table()
    return rewriter.assembly
