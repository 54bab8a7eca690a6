"""Several cells as one object: what one declares extern, another defines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import rights
from IPython.core.interactiveshell import InteractiveShell

import ebpf_magic as em
from ebpf_magic.build import linker
from ebpf_magic.errors import LinkError, NoSuchNameError, ToolchainError, UsageError, VerifierError
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host]

GETPPID = 'SEC("tracepoint/syscalls/sys_enter_getppid")'
LIBRARY = """HASH(seen, u32, u64);
u64 total;

int twice(int number)
{
    if (number > 5)
        COUNT(seen, number);
    total += 1;
    return 2 * number;
}
"""
MAIN = f"""extern int twice(int number);
HASH(calls, u32, u64);
{GETPPID} int f(void *ctx) {{ ADD(calls, PID(), twice(21)); return 0; }}
"""
WORK = "python3 -I -S -c 'import os; print(os.getpid()); [os.getppid() for _ in range(23)]'"


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


def run(cell: str, name: str, *others: str, **options: object) -> Session:
    session = em.run(cell, name=name, on=rights.host_name(), with_cells=others, **options)
    assert isinstance(session, Session)
    return session


def added(session: Session) -> int:
    said: list[str] = []
    session.agent_host.sh(WORK, on_output=said.append)
    return int(session.maps["calls"].df()["value"][int("".join(said))])


def test_a_cell_of_functions_is_linked_into_one_with_programs() -> None:
    library = run(LIBRARY, "library", attach=False)
    assert list(library.programs.index) == []
    session = run(MAIN, "main", "library")
    assert "linked with library" in session.stages[0].detail
    assert set(session.maps) == {"calls", "seen"}
    assert added(session) == 23 * 42
    assert session.maps["seen"].df()["value"][21] >= 23
    assert session.missed().keys() == {"calls", "seen"}
    assert library.maps["seen"].df().empty  # a map of its own


def test_what_a_cell_was_linked_with_comes_along() -> None:
    run(LIBRARY, "library")
    run("extern int twice(int number);\nint four(int number) { return twice(twice(number)); }\n", "middle", "library")
    em.stop_all()  # its text is all that is needed
    session = run(MAIN.replace("twice", "four"), "main", "middle")
    assert added(session) == 23 * 84


def test_a_cell_with_programs_is_linked_as_well() -> None:
    run(LIBRARY + f"{GETPPID} int g(void *ctx) {{ return twice(1); }}\n", "library")
    session = run(MAIN, "main", "library")
    assert set(session.programs.index) == {"f", "g"}


def test_by_magic(shell: InteractiveShell) -> None:
    on = f"--quiet --on {rights.host_name()}"
    shell.run_cell_magic("ebpf", f"library --no-attach {on}", LIBRARY)
    shell.run_cell_magic("ebpf", f"main --with library {on}", MAIN)
    assert set(shell.user_ns["main"].maps) == {"calls", "seen"}


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (MAIN.replace("twice", "thrice"), "link main with library: thrice is declared, and defined nowhere"),
        (MAIN.replace("extern int twice(int number);", "int twice(int n) { return n; }"), "twice is defined twice, in"),
        (MAIN.replace("calls", "seen"), "seen is defined twice, in main and in library"),
        (MAIN.replace("(int number)", "(u64 number)"), "the cells do not agree on what twice is"),
        (
            MAIN.replace("(int number)", "(int number, int more)").replace("(21)", "(21, 2)"),
            "do not agree on what twice",
        ),
        ('char LICENSE[] SEC("license") = "MIT";\n' + MAIN, "non-identical contents of section 'license'"),
    ],
)
def test_cells_that_do_not_fit_together(cell: str, text: str) -> None:
    run(LIBRARY, "library")
    with pytest.raises(LinkError) as caught:
        run(cell, "main", "library")
    assert text in str(caught.value)
    assert [session.name for session in em.sessions()] == ["library"]


def test_what_is_defined_nowhere_is_shown_where_it_stands() -> None:
    with pytest.raises(LinkError) as caught:
        run(MAIN, "main")
    assert caught.value.line == 1
    assert "twice is declared, and defined nowhere\n    1 | extern int twice" in str(caught.value)
    assert "--with CELL" in caught.value.hint


def test_cells_that_are_not_there() -> None:
    run(LIBRARY, "library")
    with pytest.raises(NoSuchNameError) as caught:
        run(MAIN, "main", "librry")
    assert caught.value.near == ["library"]
    with pytest.raises(UsageError, match="cannot be linked with itself"):
        run(MAIN, "main", "main")
    with pytest.raises(UsageError, match="is to be a list of texts"):
        em.run(MAIN, name="main", with_cells="library")


REFUSED = """HASH(seen, u32, u64);

__noinline int first(u32 key)
{
    u64 *value = bpf_map_lookup_elem(&seen, &key);
    return value ? *value : 0;
}

__noinline int second(u32 key)
{
    u64 *value = bpf_map_lookup_elem(&seen, &key);
    return *value;
}
"""


def test_the_verifier_s_error_is_on_the_line_of_the_cell_it_is_in() -> None:
    cell = "extern int first(u32 key);\nextern int second(u32 key);\n\n\n\n\n"
    cell += "__noinline int own(u32 key)\n{\n    int a = first(key);\n    int b = key > 3;\n    return a + b;\n}\n"
    cell += f"{GETPPID} int f(void *ctx) {{ return own(PID()) + second(1); }}\n"
    run(REFUSED, "library", attach=False)
    with pytest.raises(VerifierError) as caught:
        run(cell, "main", "library")
    assert caught.value.line == 12
    assert ", line 12 of library: the verifier says: " in str(caught.value)
    assert "12 |     return *value;" in str(caught.value)


def test_an_error_of_the_cell_itself_names_no_other() -> None:
    run(REFUSED, "library", attach=False)
    cell = (
        "extern int first(u32 key);\n"
        + f"{GETPPID} int f(void *ctx)\n{{\n    first(1);\n    return *(int *)bpf_get_current_task();\n}}\n"
    )
    with pytest.raises(VerifierError) as caught:
        run(cell, "main", "library")
    assert caught.value.line == 5
    assert ", line 5: the verifier says: " in str(caught.value)


def test_a_linker_that_crashes_costs_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crashing = tmp_path / "linker.py"
    crashing.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    run(LIBRARY, "library")
    monkeypatch.setattr(linker, "__file__", str(crashing))
    with pytest.raises(LinkError, match="libbpf's linker itself crashed"):
        run(MAIN, "main", "library")
    monkeypatch.undo()
    assert added(run(MAIN, "main", "library")) == 23 * 42


def test_without_libbpf_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lacking = tmp_path / "linker.py"
    lacking.write_text(
        f"import sys\nprint('libbpf.so.1: cannot open', file=sys.stderr)\nsys.exit({linker.NO_LIBBPF})\n"
    )
    run(LIBRARY, "library")
    monkeypatch.setattr(linker, "__file__", str(lacking))
    with pytest.raises(ToolchainError, match="apt install libbpf1"):
        run(MAIN, "main", "library")
