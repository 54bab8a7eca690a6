"""The macros of ebpf_magic.h as its own comments describe them."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from ebpf_magic.build.headers import OWN

_DOCUMENTED = re.compile(r"^/\*\* ((\w+)\(.*\)): (.*) \*/$", re.MULTILINE)


class Macro(NamedTuple):
    """A macro: how it is written, and what it does."""

    usage: str
    meaning: str


@cache
def macros() -> dict[str, Macro]:
    """Return the macros by name, in the header's order."""
    header = (OWN / "ebpf_magic.h").read_text("utf-8")
    return {name: Macro(usage, meaning) for usage, name, meaning in _DOCUMENTED.findall(header)}


def macros_help() -> str:
    """Return the macros a cell can use, one a line."""
    width = max(len(macro.usage) for macro in macros().values())
    return "\n".join(f"{macro.usage:<{width}}  {macro.meaning}" for macro in macros().values())
