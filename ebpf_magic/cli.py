"""The command ``ebpf-magic``: what is wanted outside a notebook."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebpf_magic import kernel_command, workload
from ebpf_magic.errors import EbpfMagicError

if TYPE_CHECKING:
    import pandas as pd


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0 when all went well."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.act(options)
        return status
    except EbpfMagicError as error:
        print(f"ebpf-magic: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ebpf-magic", description="eBPF in a Jupyter notebook.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    doctor = commands.add_parser("doctor", help="what works on this machine, what does not, and what mends it")
    doctor.add_argument("--on", default="auto", metavar="HOST", help="the host to examine: auto, local, sudo, vm")
    doctor.set_defaults(act=_doctor)
    demo = commands.add_parser("demo", help="run the first notebook on this machine's kernel and keep it as a page")
    demo.add_argument("notebook", nargs="?", type=Path, help="another notebook to run instead")
    demo.add_argument("--output", type=Path, default=Path("ebpf-magic-demo"), metavar="FOLDER", help="%(default)s")
    demo.set_defaults(act=_demo)
    kernel_command.add_to(commands)
    workload.add_arguments(commands.add_parser("workload", help="known, countable work, to try a probe on"))
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from ebpf_magic.doctor import doctor

    frame = doctor(on=options.on)
    print("\n".join(_doctor_lines(frame)))
    # A program type this kernel lacks is news, not a failure; no place to run anything is one.
    return int("a host that can load programs" in frame.index)


def _doctor_lines(frame: pd.DataFrame) -> list[str]:
    width = max(len(str(check)) for check in frame.index)
    lines = []
    for check, ok, found, mend in frame[["ok", "found", "mend"]].itertuples():
        lines.append(f"{'ok  ' if ok else 'no  '}{check!s:{width}}  {found}".rstrip())
        if mend and not ok:
            lines.append(f"    {'':{width}}  -> {mend}")
    return lines


def _demo(options: argparse.Namespace) -> int:
    from ebpf_magic.demo import FIRST_NOTEBOOK, run_demo

    return run_demo(options.notebook or FIRST_NOTEBOOK, options.output)


if __name__ == "__main__":
    sys.exit(main())
