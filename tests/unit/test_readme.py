"""README says what is true now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ebpf_magic import options

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_macros_are_those_of_the_header() -> None:
    assert subprocess.run([sys.executable, ROOT / "scripts" / "readme-macros", "--check"], check=False).returncode == 0


def test_pictures_and_files_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_options_it_names_exist() -> None:
    known = options.cell_parser().format_help() + options.line_parser().format_help() + "--all"
    for option in set(re.findall(r"`(--[a-z-]+)", README)):
        assert option in known, option


def test_make_targets_it_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
