"""Run the collection on some kernels and print its table: `python tests/collection [HOST...]`, such as auto vm:6.1.

Each program is a pair of files: NAME.bpf.c, a cell, and NAME.py, which proves it by work whose answer is known:

    SHOWS    "program: tracepoint" or "map: hash": the kind it stands for
    NEEDS    features it needs, as `%ebpf doctor` names them; a kernel without one of them does not run it
    OPTIONS  what `ebpf_magic.run` is given
    OTHERS   cells that run before it, NAME.PART.c as session NAME_PART, and what each is given; may be missing
    prove(session, sh)  makes the work with sh(COMMAND), asserts the exact answer, and says it in a few words
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import ebpf_magic as em
from ebpf_magic.errors import EbpfMagicError
from ebpf_magic.session import Session

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
_MARKED = re.compile(r"(<!-- collection:begin -->\n).*?(<!-- collection:end -->)", re.DOTALL)


class Case(NamedTuple):
    """One program of the collection."""

    name: str
    shows: str
    needs: Sequence[str]
    options: Mapping[str, object]
    others: Mapping[str, Mapping[str, object]]
    prove: Callable[[Session, Callable[[str], str]], str]

    def run(self, on: str, sh: Callable[[str], str] | None = None) -> str:
        """Run it on a host, prove it, stop it; what it found. Raises what the program or its proof raises."""
        with ExitStack() as sessions:
            for other, options in self.others.items():
                file = f"{self.name}.{other.removeprefix(f'{self.name}_')}.c"
                sessions.enter_context(_start(file, other, on, options))
            session = sessions.enter_context(_start(f"{self.name}.bpf.c", self.name, on, self.options))
            return self.prove(session, sh or (lambda command: output(session, command)))


def _start(file: str, name: str, on: str, options: Mapping[str, object]) -> Session:
    source = (HERE / file).read_text(encoding="utf-8")
    session = em.run(source, name=name, on=on, **{"max_cpu": 8.0, **options})
    assert isinstance(session, Session)
    return session


def output(session: Session, command: str) -> str:
    """Run a command where the session runs; what it wrote."""
    said: list[str] = []
    session.agent_host.sh(command, on_output=said.append)
    return "".join(said)


def cases() -> list[Case]:
    """All programs of the collection, by name."""
    found = []
    for path in sorted(HERE.glob("*.bpf.c")):
        name = path.name.removesuffix(".bpf.c")
        spec = importlib.util.spec_from_file_location(f"collection_{name}", HERE / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append(
            Case(name, module.SHOWS, module.NEEDS, module.OPTIONS, getattr(module, "OTHERS", {}), module.prove)
        )
    return found


def _result(case: Case, on: str, lacks: Mapping[str, str]) -> str:
    missing = [name for name in case.needs if name in lacks]
    if missing:
        return f"no {missing[0]}"
    try:
        return case.run(on)
    except (EbpfMagicError, AssertionError) as error:
        return f"FAILED: {str(error).splitlines()[0]}"


def main(hosts: Sequence[str]) -> int:
    """Print the table, and keep it in the README; 1 if any program failed."""
    from ebpf_magic.hosts import registry

    columns, titles = [], []
    for on in hosts:
        host = registry.get(on)
        lacks = {
            row["name"].removesuffix(" programs").removesuffix(" maps"): row["detail"]
            for row in host.features()
            if not row["ok"]
        }
        titles.append(f"Linux {'.'.join(host.info.release.split('.')[:2])}")
        columns.append([_result(case, on, lacks) for case in cases()])
    rows = [["program", "shows", *titles]]
    rows += [[case.name, case.shows, *found] for case, *found in zip(cases(), *columns, strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    table = "\n".join(lines) + "\n"
    print(table)
    text = README.read_text(encoding="utf-8")
    if _MARKED.search(text):
        README.write_text(_MARKED.sub(lambda match: match[1] + table + match[2], text), encoding="utf-8")
    return int("FAILED" in table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["auto", "vm:6.1", "vm:6.12"]))
