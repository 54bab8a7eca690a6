"""The options of the magics."""

from __future__ import annotations

import pytest

from ebpf_magic import options
from ebpf_magic.errors import UsageError


def test_defaults_are_those_of_run() -> None:
    chosen = options.run_options(options.parse(options.cell_parser(), "opens"))
    assert chosen == {
        "name": "opens",
        "engine": "auto",
        "on": "auto",
        "attach": {},
        "for_s": None,
        "set": {},
        "keep_maps": False,
        "allow_change": False,
        "optional": [],
        "with_cells": [],
        "include": [],
        "clang": None,
    }


def test_every_option_reaches_run() -> None:
    line = (
        "lat --on local --engine libbpf --attach sample=cpu-clock:99hz --attach m=/lib/libc.so.6:malloc --for 10s "
        "--set limit=10 --set conn.pid=1 --keep-maps --allow-change --map-budget 512M --max-cpu 50% "
        "--clang '/opt/my clang' "
        "--optional a --optional b --with lib,other --with more --include ../repo --include '/a b'"
    )
    chosen = options.run_options(options.parse(options.cell_parser(), line))
    assert chosen["attach"] == {"sample": "cpu-clock:99hz", "m": "/lib/libc.so.6:malloc"}
    assert (chosen["for_s"], chosen["map_budget_bytes"], chosen["max_cpu"]) == (10.0, 512 << 20, 0.5)
    assert (chosen["on"], chosen["clang"]) == ("local", "/opt/my clang")
    assert chosen["set"] == {"limit": "10", "conn.pid": "1"}
    assert chosen["optional"] == ["a", "b"]
    assert chosen["with_cells"] == ["lib", "other", "more"]
    assert chosen["include"] == ["../repo", "/a b"]
    assert chosen["keep_maps"] is True
    assert chosen["allow_change"] is True


def test_every_option_of_load_reaches_load_object() -> None:
    chosen = options.parse_line("load '/tmp/my prog.o' mine --on vm:6.1 --attach a=b --for 2s --max-cpu 50%")
    assert options.load_options(chosen) == {
        "path": "/tmp/my prog.o",
        "name": "mine",
        "on": "vm:6.1",
        "attach": {"a": "b"},
        "for_s": 2.0,
        "set": {},
        "keep_maps": False,
        "allow_change": False,
        "optional": [],
        "max_cpu": 0.5,
    }
    assert options.load_options(options.parse_line("load prog.o"))["name"] is None
    for line in ("load", "load a.o b c", "load a.o --clang x"):
        with pytest.raises(UsageError):
            options.parse_line(line)


def test_no_attach_attaches_nothing() -> None:
    assert options.run_options(options.parse(options.cell_parser(), "x --no-attach"))["attach"] is False


@pytest.mark.parametrize(
    ("text", "value"), [("10s", 10.0), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), ("3", 3.0), ("0.5s", 0.5)]
)
def test_durations(text: str, value: float) -> None:
    assert options.seconds(text) == value


@pytest.mark.parametrize(("text", "value"), [("512M", 512 << 20), ("2GiB", 2 << 30), ("64k", 65536), ("100", 100)])
def test_sizes(text: str, value: int) -> None:
    assert options.size(text) == value


@pytest.mark.parametrize(
    "line", ["x --for never", "x --for 0s", "x --for -1s", "x --map-budget 0", "x --max-cpu 0%", "x --set limit"]
)
def test_values_that_cannot_be_meant(line: str) -> None:
    with pytest.raises(UsageError):
        options.parse(options.cell_parser(), line)


def test_unknown_option_names_the_near_one() -> None:
    with pytest.raises(UsageError) as caught:
        options.parse(options.cell_parser(), "opens --keep-map")
    assert "unknown option --keep-map" in str(caught.value)
    assert "--keep-maps" in caught.value.near


@pytest.mark.parametrize("line", ["", "opens extra", "'open", "opens --attach nowhere"])
def test_lines_that_cannot_be_read(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        options.parse(options.cell_parser(), line)
    assert "%%ebpf" in str(caught.value)


@pytest.mark.parametrize("line", ["", "explode", "stop", "stop a --all"])
def test_line_magic_refuses(line: str) -> None:
    with pytest.raises(UsageError):
        options.parse(options.line_parser(), line)


def test_help_names_every_option() -> None:
    text = options.cell_parser().format_help()
    for option in (
        "--on",
        "--attach",
        "--for",
        "--keep-maps",
        "--quiet",
        "--allow-change",
        "--map-budget",
        "--max-cpu",
    ):
        assert option in text


def test_help_names_every_option_of_every_verb() -> None:
    text = options.help_text()
    for word in ("%ebpf doctor", "--all", "--kind", "TARGET", "PROG.o", "--timeout 10s", "COMMAND", "--max-cpu 25% "):
        assert word in text


def test_a_complaint_names_help_that_there_is() -> None:
    for line in ("probes --knd iter x", "sh --timeout never ls"):
        with pytest.raises(UsageError, match=r"\n%ebpf\? shows all options\."):
            options.parse_line(line)
    with pytest.raises(UsageError, match=r"unknown option --knd \(near: --kind, --on\)"):
        options.parse_line("probes --knd iter x")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sh ls -l", {"command": "ls -l"}),
        (" sh  echo \"it's\"  'x  y' ", {"command": "echo \"it's\"  'x  y'"}),
        ("sh --on vm:6.1 grep --on x", {"command": "grep --on x", "on": "vm:6.1"}),
        ("sh --on=vm:6.1,vm --timeout 9s make &", {"command": "make &", "on": ["vm:6.1", "vm"], "timeout_s": 9.0}),
        ("sh -- --odd", {"command": "--odd"}),
        ("sh 'open", {"command": "'open"}),
    ],
)  # fmt: skip
def test_a_shell_command_stays_as_it_was_typed(line: str, expected: dict[str, object]) -> None:
    chosen = options.sh_options(options.parse_line(line))
    assert chosen == {"on": None, "timeout_s": None, **expected}


@pytest.mark.parametrize(
    "line", ["sh", "sh --on", "sh --on vm", "sh --onn vm ls", "sh --timeout never ls", "shell ls", "sh --on 'vm ls"]
)
def test_shell_lines_that_cannot_be_read(line: str) -> None:
    with pytest.raises(UsageError):
        options.parse_line(line)


def test_probes_and_describe() -> None:
    chosen = options.parse_line("probes --kind iter --on vm:6.1 *task*")
    assert (chosen.verb, chosen.pattern, chosen.kind, chosen.on) == ("probes", "*task*", "iter", "vm:6.1")
    chosen = options.parse_line("describe struct task_struct")
    assert (chosen.verb, chosen.target, chosen.on) == ("describe", ["struct", "task_struct"], "auto")
    with pytest.raises(UsageError):
        options.parse_line("describe")
    with pytest.raises(UsageError, match="unknown option --knd"):
        options.parse_line("probes --knd iter x")
