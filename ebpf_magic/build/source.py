"""A cell's text: which dialect it is, what it declares, and its lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ebpf_magic.errors import UsageError

MAX_BYTES = 4 << 20

# Every alternative takes at least what it began with and never fails later on, so that the time is linear in any text.
_TOKEN = re.compile(
    r"""(?P<comment>//(?:\\\n|[^\n])*|/\*.*?(?:\*/|\Z))
      | (?P<string>"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)""",
    re.DOTALL | re.VERBOSE,
)
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*(?:include|include_next|import)\b", re.MULTILINE)
_LICENCE = re.compile(r"""(?:\bSEC|\bsection)\s*\(\s*"license"\s*\)""")
_OLD_MAPS = re.compile(r"""(?:\bSEC|\bsection)\s*\(\s*"maps"\s*\)""")
_USDT = re.compile(r"""(?:\bSEC|\bsection)\s*\(\s*"usdt\b""")
_DIRECTIVE = re.compile(r"\s*(?P<text>#[ \t]*(?:define|undef)[ \t]+(?P<name>[A-Za-z_]\w*)(?:\\\n|[^\n])*)")


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


@dataclass(frozen=True)
class Source:
    """The text of one cell, checked and with its line ends made the same.

    Attributes
    ----------
    text : str
        The cell; line n of it is line n of what the compiler sees.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Source:
        """Check a cell's text.

        Raises
        ------
        UsageError
            When there is no code in it, or it is not text a compiler could read.
        """
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        if len(text) > MAX_BYTES:
            raise UsageError("compile the cell", f"it has {len(text):,} characters; {MAX_BYTES:,} is the limit")
        for character, name in (("\0", "a NUL byte"), (_first_surrogate(text), "half a character (a lone surrogate)")):
            if character and character in text:
                line = text.count("\n", 0, text.index(character)) + 1
                raise UsageError(
                    f"compile the cell, line {line}", f"it has {name}, which no C source can have", line=line
                )
        source = cls(text)
        if not source.code.strip():
            raise UsageError(
                "compile the cell",
                "there is no code in it",
                'A program begins with SEC("tracepoint/...") and a function.',
            )
        return source

    @cached_property
    def code(self) -> str:
        """The text with comments blanked out."""
        return self._without(lambda token: token.group("comment") is not None)

    @cached_property
    def own_includes(self) -> bool:
        """Whether the cell brings its own includes (the libbpf way); if not, the prelude is implied."""
        return _INCLUDE.search(self._without(lambda token: True)) is not None

    @property
    def has_licence(self) -> bool:
        """Whether the cell itself says what its licence is."""
        return _LICENCE.search(self.code) is not None

    @property
    def has_old_maps(self) -> bool:
        """Whether it declares maps the way libbpf 1.0 and later no longer takes: `struct bpf_map_def` in `maps`."""
        return _OLD_MAPS.search(self.code) is not None

    @property
    def has_usdt(self) -> bool:
        """Whether one of its programs is for USDT probes, which take a header of their own."""
        return _USDT.search(self.code) is not None

    def leading_definitions(self) -> dict[str, str]:
        """Return the ``#define`` and ``#undef`` lines ahead of all other code, by the name they concern."""
        code, at = self.code, 0
        found: dict[str, list[str]] = {}
        while match := _DIRECTIVE.match(code, at):
            found.setdefault(match["name"], []).append(match["text"])
            at = match.end()
        return {name: "".join(f"{text}\n" for text in texts) for name, texts in found.items()}

    def line(self, number: int) -> str:
        """Return a line of the cell, counted from 1; empty when there is no such line."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    @property
    def last_line(self) -> int:
        """The number of the last line that is not blank."""
        return self.text.rstrip().count("\n") + 1

    @property
    def longest_word(self) -> int:
        """The length of its longest word, in characters."""
        return max(map(len, re.findall(r"\w+", self.text)), default=0)

    @cached_property
    def lines(self) -> list[str]:
        """The cell's lines."""
        return self.text.split("\n")

    def _without(self, drop: Callable[[re.Match[str]], bool]) -> str:
        return _TOKEN.sub(lambda token: _blank(token.group()) if drop(token) else token.group(), self.text)


def _first_surrogate(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return text[error.start]
    return ""
