"""The kernel's symbols as text: those that /proc/kallsyms has, of the kernel itself and in its order."""

from __future__ import annotations

import hashlib

SHOWS = "program: iter/ksym"
NEEDS = ("iter",)
OPTIONS = {}


def prove(session, sh):
    said = sh("head -50000 /proc/kallsyms | cut -f1 | cut -d' ' -f2,3 | sha256sum").split()[0]
    found = session.iter["symbols"].text().splitlines()[:50000]
    assert hashlib.sha256("".join(f"{line}\n" for line in found).encode()).hexdigest() == said
    return "50,000 symbols"
