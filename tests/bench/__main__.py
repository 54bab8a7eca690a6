"""The speed table: ratios against BCC, bpftrace and a C program, measured in one run.

Exit status 0 when every promise is kept, 1 when one is not, 2 when a side could not be measured.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from rows import ALL, Options, Row
from sides import Missing

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
HEADER = ("what", "against", "promised", "ebpf_magic", "the other", "ratio", "kept")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=...", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"only these: {', '.join(ALL)}")
    parser.add_argument("--repeats", type=int, default=Options.repeats, help="how often each side is measured")
    parser.add_argument("--update-readme", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ALL):
        parser.error(f"no such row: {', '.join(unknown)}")
    rows: list[Row] = []
    try:
        for name in arguments.rows or ALL:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            rows += ALL[name](Options(repeats=arguments.repeats))
    except Missing as error:
        print(f"{error}\nscripts/setup-system bench installs what the benchmarks need", file=sys.stderr)
        return 2
    finally:
        table = markdown(rows)
        print(table)
    if arguments.update_readme:
        update_readme(table)
    missed = [row for row in rows if not row.met]
    print(f"\n{len(rows) - len(missed)} of {len(rows)} promises kept")
    return 1 if missed else 0


def markdown(rows: list[Row]) -> str:
    """The table, readable as text and as Markdown."""
    cells = [
        (row.what, row.against, row.target, row.ours, row.theirs, row.ratio, "yes" if row.met else "**no**")
        for row in rows
    ]
    table = [HEADER, *cells]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADER))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in table
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def update_readme(table: str) -> None:
    text = README.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"README.md has no place for the table ({BEGIN} ... {END})")
    README.write_text(pattern.sub(lambda _: f"{BEGIN}\n{table}\n{END}", text), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
