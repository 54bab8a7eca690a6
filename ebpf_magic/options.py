"""The options of the magics: one parser, which is also their help."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from difflib import get_close_matches
from typing import Any, NoReturn

from ebpf_magic.errors import UsageError

# Options come before the command, and none of them has a value with a space in it.
_SH = re.compile(
    r"\s*sh(?P<options>(?:\s+--(?:on|timeout)(?:=|\s+)\S+|\s+--?[\w-]+\S*)*)(?:\s+--)?(?:\s+(?P<command>.*)|\s*)",
    re.DOTALL,
)
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is a UsageError with near option names."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of ending the process."""
        unknown = re.search(r"unrecognized arguments: (-\S+)", message)
        near: list[str] = []
        if unknown:
            actions = [action for each in _with_verbs(self) for action in each._actions]
            options = dict.fromkeys(name for action in actions for name in action.option_strings)
            near = get_close_matches(unknown[1].split("=")[0], options)
            message = f"unknown option {unknown[1]}"
        raise UsageError(self.prog, message, f"{self.prog.split()[0]}? shows all options.", near=near)


def seconds(text: str) -> float:
    """Read a duration: ``10s``, ``500ms``, ``2m``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text)
    value = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 10s, 500ms or 2m")
    return value


def size(text: str) -> int:
    """Read a size in bytes: ``512M``, ``2G``."""
    found = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", text, re.IGNORECASE)
    value = int(found[1]) * _BYTES[found[2].upper()] if found else 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512M or 2G")
    return value


def share(text: str) -> float:
    """Read a share of one core: ``25%``, ``0.25``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    value = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of one core such as 25%")
    return value


def target(text: str) -> tuple[str, str]:
    """Read where a program goes: ``sample=cpu-clock:99hz``."""
    program, separator, where = text.partition("=")
    if not (program and separator and where):
        raise argparse.ArgumentTypeError(f"{text!r} is not PROGRAM=TARGET, such as sample=cpu-clock:99hz")
    return program, where


def variable(text: str) -> tuple[str, str]:
    """Read what a variable begins with: ``limit=10``."""
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise argparse.ArgumentTypeError(f"{text!r} is not VARIABLE=VALUE, such as limit=10")
    return name, value


def cell_parser() -> Parser:
    """Return the parser of the ``%%ebpf`` line."""
    parser = Parser(
        prog="%%ebpf",
        add_help=False,
        allow_abbrev=False,
        description="Compile the cell, load it into the kernel, attach it, and bind NAME to the session.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="the session's name; running the cell again replaces it")
    parser.add_argument("--engine", default="auto", help="what compiles and loads it: libbpf")
    parser.add_argument("--clang", metavar="PATH", help="the compiler to use")
    parser.add_argument("--include", action="append", default=[], metavar="FOLDER",
        help="look for headers there too, after the working folder")  # fmt: skip
    parser.add_argument("--with", dest="with_cells", action="append", default=[], metavar="CELL[,CELL...]",
        help="link with cells that ran before, whose functions and maps this one declares extern")  # fmt: skip
    _add_run_options(parser)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what concerns where and how programs run, whatever they come from."""
    add = parser.add_argument
    add("--on", default="auto", metavar="HOST[,HOST...]",
        help="where it runs: auto, local, sudo, vm (a kernel of its own), vm:6.1; several: vm:6.1,vm:6.12")  # fmt: skip
    add("--attach", action="append", default=[], type=target, metavar="PROGRAM=TARGET",
        help="where a program goes that does not say it: sample=cpu-clock:99hz, drop=xdp:eth0; or off")  # fmt: skip
    add("--no-attach", action="store_true", help="only load, whatever its kind; session.run() runs it")
    add("--for", dest="for_s", type=seconds, metavar="10s", help="stop by itself after this time")
    add("--set", action="append", default=[], type=variable, metavar="VARIABLE=VALUE",
        help="what a global variable begins with: limit=10, conn.pid=1")  # fmt: skip
    add("--keep-maps", action="store_true", help="carry over the contents of maps whose type did not change")
    add("--quiet", action="store_true", help="show no card")
    add("--allow-change", action="store_true", help="allow programs that can change what the machine does")
    add("--map-budget", type=size, metavar="256M", help="kernel memory the maps may take")
    add("--max-cpu", type=share, metavar="25%", help="share of one core above which the programs are detached")
    add("--optional", action="append", default=[], metavar="PROGRAM",
        help="go on without this program where the kernel cannot run it, and say why")  # fmt: skip


def line_parser() -> Parser:
    """Return the parser of the ``%ebpf`` line."""
    parser = Parser(
        prog="%ebpf", add_help=False, allow_abbrev=False, description="What works here, and what runs here."
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser(
        "doctor", prog="%ebpf doctor", add_help=False, help="what works here, and how to mend what does not"
    )
    listing = verbs.add_parser("ls", prog="%ebpf ls", add_help=False, help="this notebook's sessions")
    listing.add_argument("--all", action="store_true", help="every program and map in the kernel, with its owner")
    stop = verbs.add_parser("stop", prog="%ebpf stop", add_help=False, help="stop a session")
    which = stop.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="NAME")
    which.add_argument("--all", action="store_true", help="stop all of them")
    probes = verbs.add_parser("probes", prog="%ebpf probes", add_help=False, help="find what can be probed")
    probes.add_argument("pattern", metavar="PATTERN", help="*open*, sched/*, libc.so.6:mem*")
    probes.add_argument(
        "--kind", help="only tracepoint, raw_tp, syscall, fentry, kprobe, lsm, iter, attach, uprobe, usdt"
    )
    probes.add_argument("--on", default="auto", metavar="HOST", help="whose kernel: local, vm, vm:6.1")
    describe = verbs.add_parser(
        "describe",
        prog="%ebpf describe",
        add_help=False,
        help="show what a target is, as C, with a cell that works on it",
    )
    describe.add_argument(
        "target",
        metavar="TARGET",
        nargs="+",
        help="sched_switch, vfs_read, struct file, iter/task, uprobe:libc.so.6:malloc",
    )
    describe.add_argument("--on", default="auto", metavar="HOST", help="whose kernel: local, vm, vm:6.1")
    load = verbs.add_parser(
        "load",
        prog="%ebpf load",
        add_help=False,
        allow_abbrev=False,
        help="load a compiled object (clang, bpf2go, aya) and bind NAME to the session",
    )
    load.add_argument("path", metavar="PROG.o", help="an ELF object for BPF")
    load.add_argument("name", nargs="?", metavar="NAME", help="the session's name; the file's unless given")
    _add_run_options(load)
    sh = verbs.add_parser(
        "sh",
        prog="%ebpf sh",
        add_help=False,
        allow_abbrev=False,
        help="run a shell command where the newest session runs",
    )
    sh.add_argument("--on", metavar="HOST[,HOST...]", help="where instead: local, vm, vm:6.1")
    sh.add_argument("--timeout", dest="timeout_s", type=seconds, metavar="10s", help="end it after this time")
    sh.add_argument(
        "command", metavar="COMMAND", help="a line for /bin/sh; with & at its end it runs in the background"
    )
    return parser


def help_text() -> str:
    """Return the help of both magics, and of each verb."""
    return "\n".join(parser.format_help() for parser in [cell_parser(), *_with_verbs(line_parser())])


def _with_verbs(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return a parser and those of its verbs."""
    verbs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(each for action in verbs for each in action.choices.values())]


def parse(parser: Parser, line: str) -> argparse.Namespace:
    """Parse a magic's line."""
    return parser.parse_args(_words(parser, line))


def _words(parser: Parser, line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(parser.prog, f"{line!r}: {error}") from None


def parse_line(line: str) -> argparse.Namespace:
    """Parse the ``%ebpf`` line; the command after ``sh`` and its options stays as it was typed."""
    found = _SH.fullmatch(line)
    if found is None:
        return parse(line_parser(), line)
    command = (found["command"] or "").rstrip()
    parser = line_parser()
    words = ["sh", *_words(parser, found["options"])]
    return parser.parse_args([*words, "--", command] if command else words)


def sh_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of :func:`ebpf_magic.sh` for a parsed ``%ebpf sh`` line."""
    return {"command": options.command, "on": _hosts(options.on), "timeout_s": options.timeout_s}


def _hosts(text: str | None) -> str | list[str] | None:
    return text.split(",") if text and "," in text else text


def run_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of :func:`ebpf_magic.run` for a parsed ``%%ebpf`` line."""
    cells = [name for names in options.with_cells for name in names.split(",")]
    own = {"engine": options.engine, "clang": options.clang, "with_cells": cells, "include": options.include}
    return {**own, **_shared(options)}


def load_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of :func:`ebpf_magic.load_object` for a parsed ``%ebpf load`` line."""
    return {"path": options.path, **_shared(options)}


def _shared(options: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": options.name,
        "on": _hosts(options.on),
        "attach": False if options.no_attach else dict(options.attach),
        "for_s": options.for_s,
        "set": dict(options.set),
        "keep_maps": options.keep_maps,
        "allow_change": options.allow_change,
        "optional": options.optional,
    }
    if options.map_budget is not None:
        result["map_budget_bytes"] = options.map_budget
    if options.max_cpu is not None:
        result["max_cpu"] = options.max_cpu
    return result
