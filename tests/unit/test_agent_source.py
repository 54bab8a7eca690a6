"""The agent starts on any Python from 3.9 with nothing installed: its source is held to that."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import ebpf_magic

AGENT = Path(ebpf_magic.__file__).parent / "agent"
FILES = sorted(AGENT.rglob("*.py"))
# Newer than 3.9, and not caught by the parser.
TOO_NEW = {("int", "bit_count"), ("itertools", "pairwise"), ("itertools", "batched"), ("socket", "send_fds")}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path), feature_version=(3, 9))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imports_only_the_standard_library_and_itself(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            assert all(name.name.partition(".")[0] in sys.stdlib_module_names for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                assert str(node.module).partition(".")[0] in sys.stdlib_module_names
                continue
            place = path.parents[node.level - 1]
            assert place.is_relative_to(AGENT)
            named = place.joinpath(*(node.module or node.names[0].name).split("."))
            assert named.with_suffix(".py").exists() or (named / "__init__.py").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_is_python_3_9(path: Path) -> None:
    module = tree(path)
    if path.name != "__init__.py":
        assert "annotations" in {
            name.name
            for node in module.body
            if isinstance(node, ast.ImportFrom) and node.module == "__future__"
            for name in node.names
        }
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg for keyword in node.keywords}
            assert not (isinstance(node.func, ast.Name) and node.func.id == "zip" and "strict" in keywords)
            assert not {"slots", "kw_only"} & keywords
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in TOO_NEW


def test_unions_are_never_evaluated() -> None:
    """``X | None`` is fine in an annotation (never evaluated) and an error at run time before 3.10."""
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
                assert not any(
                    isinstance(side, ast.Constant) and side.value is None for side in (node.left, node.right)
                ) or (is_annotation(path, node))


def is_annotation(path: Path, wanted: ast.BinOp) -> bool:
    for node in ast.walk(tree(path)):
        for field in ("annotation", "returns"):
            part = getattr(node, field, None)
            if part is not None and any(
                (inner.lineno, inner.col_offset) == (wanted.lineno, wanted.col_offset)
                for inner in ast.walk(part)
                if isinstance(inner, ast.expr)
            ):
                return True
    return False
