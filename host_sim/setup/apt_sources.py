# SPDX-License-Identifier: MIT
"""Reads the `deb` entries of this machine's apt sources and finds the one for Debian's main archive."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class AptSource(NamedTuple):
    """One `deb` entry of a machine's apt sources."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str


def parse_deb822(text: str) -> Iterator[AptSource]:
    """The enabled `deb` entries of a .sources file."""
    text = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields = {
            name.lower(): value.strip()
            for name, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, flags=re.MULTILINE)
        }
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        suites, components = (tuple(fields.get(name, "").split()) for name in ("suites", "components"))
        for uri in fields.get("uris", "").split():
            yield AptSource(uri, suites, components, fields.get("signed-by", ""))


def parse_one_line(text: str) -> Iterator[AptSource]:
    """The `deb` entries of a .list file."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)", line)
        if match:
            options, uri, suite, components = match.groups()
            signed_by = re.search(r"signed-by=(\S+)", options or "")
            yield AptSource(uri, (suite,), tuple(components.split()), signed_by[1] if signed_by else "")


def apt_sources(directory: Path = Path("/etc/apt")) -> list[AptSource]:
    """All `deb` entries of a machine, in apt's order."""
    found: list[AptSource] = []
    for path in (directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))):
        if path.suffix in (".list", ".sources") and path.is_file():
            parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
            found += parse(path.read_text(errors="replace"))
    return found


def debian_archive(sources: list[AptSource], codename: str) -> AptSource | None:
    """The entry that serves Debian's main archive, or None."""

    def serves_archive(source: AptSource) -> bool:
        return (
            "main" in source.components
            and codename in source.suites
            and not source.uri.startswith("cdrom:")
            and "security" not in source.uri
        )

    def resemblance(source: AptSource) -> int:
        path = source.uri.rstrip("/")
        return 2 * path.endswith("/debian") + ("debian-archive" in source.signed_by) + ("debian" in path)

    candidates = [source for source in sources if serves_archive(source)]
    best = max(candidates, key=resemblance, default=None)
    return best if best and resemblance(best) else None


def debian_codename(path: Path = Path("/etc/os-release")) -> str:
    """The codename of the Debian release that this machine runs, or an empty string."""
    try:
        fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', path.read_text(), flags=re.MULTILINE))
    except OSError:
        return ""
    return fields.get("VERSION_CODENAME", "") if fields.get("ID") == "debian" else ""
