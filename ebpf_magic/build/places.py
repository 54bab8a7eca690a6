"""Where in a cell that is what the kernel or the guard refused: a program, a map, a name declared extern."""

from __future__ import annotations

import re

from ebpf_magic.build.compiler import Built
from ebpf_magic.build.diagnostics import excerpt
from ebpf_magic.errors import EbpfMagicError

# NAME stands for the name, and `at` is where the line is: a program's is that of its SEC(), the last one before it.
_PROGRAM = (r'(?P<at>\bSEC)\s*\(\s*"[^"\n]+"\s*\)(?:(?!\bSEC\s*\()[^{;])*?\bNAME\b',)
_OTHERS = (r"\bextern\b[^;{]*\b(?P<at>NAME)\b", r"[}\w]\s+(?P<at>NAME)\s+SEC\b", r"\b[A-Z_]+\s*\(\s*(?P<at>NAME)\b")


def point_at(built: Built, error: EbpfMagicError) -> None:
    """Give an error about a program, a map or an extern the cell's line of it, if it has none yet.

    Parameters
    ----------
    built : Built
        What was loaded.
    error : EbpfMagicError
        What came of it, as the agent reported it.
    """
    name = error.program or error.target
    if not name or error.line is not None or error.excerpt:
        return
    code = built.source.code
    for pattern in _PROGRAM if error.program else _OTHERS:
        found = re.search(pattern.replace("NAME", re.escape(name)), code)
        if found:
            error.line = code.count("\n", 0, found.start("at")) + 1
            error.excerpt = excerpt(built.source, error.line)
            return
