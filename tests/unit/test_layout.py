"""The import rule: which part may know of which, what stays unimported, and what the pages' code may fetch."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ebpf_magic

PACKAGE = Path(ebpf_magic.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
PARTS = ("agent", "build", "data", "hosts", "kernels", "views", "tools")
NEVER_IN_PURE_CODE = {"threading", "_thread", "concurrent", "multiprocessing", "ctypes", "subprocess"}


def name_of(path: Path) -> str:
    """Dotted name of a module of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def in_part(path: Path, *parts: str) -> bool:
    return path.relative_to(PACKAGE).parts[0] in parts


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def nodes(tree: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    """Nodes of a module that run; with `at_import`, only those that run when it is imported."""
    for child in ast.iter_child_nodes(tree):
        if is_type_checking(child):
            assert isinstance(child, ast.If)
            for other in child.orelse:
                yield other
                yield from nodes(other, at_import)
            continue
        if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from nodes(child, at_import)


def imports(path: Path, at_import: bool = False) -> set[str]:
    """Absolute dotted names that a module imports, as far as they run (not those for type checkers alone)."""
    found = set()
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in nodes(ast.parse(path.read_text(encoding="utf-8")), at_import):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")
                base = ".".join([*anchor[: len(anchor) - node.level + 1], *filter(None, [base])])
            # `from a.b import c` may name the module a.b.c.
            found.update({base} if base == "__future__" else {f"{base}.{alias.name}" for alias in node.names})
    return found


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def parts_known(names: set[str]) -> set[str]:
    """Parts of the package among imported names; for what lies at its top, the module's name."""
    return {name.split(".")[1] for name in names if name.startswith("ebpf_magic.")}


def those_in(*parts: str) -> list[Path]:
    return [path for path in MODULES if in_part(path, *parts)]


def test_there_is_something_to_look_at() -> None:
    for part in ("agent", "build", "data", "hosts", "kernels", "views"):
        assert those_in(part), part


@pytest.mark.parametrize("path", those_in("agent"), ids=name_of)
def test_the_agent_is_on_its_own(path: Path) -> None:
    # It starts as the package `agent`, without ebpf_magic around it: in a VM, under sudo, on another host.
    foreign = tops(imports(path)) - set(sys.stdlib_module_names) - {"agent"}
    known = {name for name in imports(path) if name.startswith("ebpf_magic.")}
    assert foreign <= {"ebpf_magic"}
    assert {name for name in known if not name.startswith("ebpf_magic.agent.")} == set()


@pytest.mark.parametrize("path", those_in("data"), ids=name_of)
def test_data_is_pure(path: Path) -> None:
    known = imports(path)
    assert parts_known(known) <= {"arguments", "data", "errors"}
    assert not tops(known) & NEVER_IN_PURE_CODE


@pytest.mark.parametrize("path", those_in("build"), ids=name_of)
def test_build_knows_no_host(path: Path) -> None:
    assert parts_known(imports(path)) <= {"build", "cache", "data", "errors"}


@pytest.mark.parametrize("path", those_in("kernels"), ids=name_of)
def test_kernels_know_no_host(path: Path) -> None:
    assert parts_known(imports(path)) <= {"kernels", "data", "errors"}


@pytest.mark.parametrize("path", those_in("hosts"), ids=name_of)
def test_hosts_know_of_the_agent_only_what_works_on_both_sides(path: Path) -> None:
    known = imports(path)
    assert parts_known(known) <= {"hosts", "agent", "arguments", "cache", "errors", "kernels"}
    of_agent = {".".join(name.split(".")[2:3]) for name in known if name.startswith("ebpf_magic.agent.")}
    assert of_agent <= {"wire", "maps", "shell"}
    if path.name == "replay.py":
        assert not tops(known) & NEVER_IN_PURE_CODE


@pytest.mark.parametrize("path", those_in("views"), ids=name_of)
def test_views_start_no_thread_and_no_process(path: Path) -> None:
    known = imports(path)
    assert parts_known(known) <= {"views", "data", "errors"}
    # A lock is no thread: views are written from the live thread and read from the kernel's.
    assert not tops(known) & (NEVER_IN_PURE_CODE - {"threading"})
    threads = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("threading.Thread", "threading.Timer")
    ]
    assert threads == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_views_import_widgets_and_only_magics_imports_ipython(path: Path) -> None:
    if not in_part(path, "views"):
        assert not tops(imports(path)) & {"ipywidgets", "anywidget"}
    if path != PACKAGE / "magics.py":
        assert "IPython" not in tops(imports(path, at_import=True))


def loaded_by(statement: str) -> set[str]:
    """Names of all modules a fresh Python has after a statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_is_light() -> None:
    heavy = {"bcc", "dask", "pyarrow", "matplotlib", "pandas", "numpy", "IPython", "ipywidgets", "anywidget"}
    assert not loaded_by("import ebpf_magic") & heavy


@pytest.mark.parametrize("part", ["data.maps", "data.histogram", "build", "session"])
def test_importing_a_part_brings_no_optional_package(part: str) -> None:
    # pandas itself imports pyarrow where it is installed: only what comes on top of pandas counts.
    more = loaded_by(f"import pandas; import ebpf_magic.{part}") - loaded_by("import pandas")
    assert not more & {"bcc", "dask", "pyarrow", "matplotlib"}


def test_all_is_the_namespace() -> None:
    assert sorted(set(ebpf_magic.__all__)) == sorted(ebpf_magic.__all__)
    for name in ebpf_magic.__all__:
        getattr(ebpf_magic, name)
    assert set(dir(ebpf_magic)) == set(ebpf_magic.__all__)


def test_the_version_is_the_package_s() -> None:
    text = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{ebpf_magic.__version__}"\n' in text


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.js")), ids=lambda path: path.name)
def test_javascript_is_plain_and_fetches_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert path.with_suffix(".py").exists(), "a view's code lies beside its Python"
    if path.name != "base.js":  # the text that base.py puts before each view's own
        assert re.search(r"^export ", text, re.MULTILINE), "an ES module exports something"
    assert not re.search(r"\bimport\b[^\n]*[\"']|\bimport\s*\(|\brequire\s*\(", text), "no imports: no build step"
    urls = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not urls
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon)\b", text)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.css")), ids=lambda path: path.name)
def test_styles_fetch_nothing(path: Path) -> None:
    assert not re.search(r"@import|url\((?![\"']?data:)", path.read_text(encoding="utf-8"))
