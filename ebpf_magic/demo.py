"""Run a notebook from top to bottom in a fresh kernel, say what it saw, and keep it as a page with its pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ebpf_magic.errors import NoHostError, NoKernelError, UsageError

FIRST_NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "01-first-probe.ipynb"
_CELL_TIMEOUT_S = 120
_KERNEL = "6.12"
# nbconvert forgets it for code in what a cell shows.
_CODE_STYLE = "<style>.jp-OutputArea-output .highlight pre { font-family: var(--jp-code-font-family); }</style>"


def run_demo(notebook: Path, output: Path) -> int:
    """Run `notebook` and leave it as an HTML page in the folder `output`.

    Parameters
    ----------
    notebook : Path
        The notebook; the file itself stays as it is.
    output : Path
        Folder for the page, made when it is not there.

    Returns
    -------
    int
        0 when every cell ran, 1 when one failed. The page is there in both cases and shows how far it came.

    Raises
    ------
    UsageError
        No such notebook, or nbclient and nbconvert are not installed.
    FetchError
        Programs can run in a VM alone, and no kernel for it can be had.
    """
    try:
        import nbclient
        import nbformat
    except ImportError as error:
        raise _missing(error) from error
    if not notebook.is_file():
        raise UsageError(
            f"run {notebook}",
            "no such notebook",
            "The first one lies in the folder notebooks of ebpf_magic's repository.",
        )
    document = nbformat.read(notebook, as_version=4)
    client = nbclient.NotebookClient(
        document,
        timeout=_CELL_TIMEOUT_S,
        kernel_name="python3",
        # Errors in cells are told from the notebook; what the kernel warns of at its start is nobody's concern here.
        extra_arguments=["--log-level=ERROR"],
        # When its session stops, a view becomes a picture: the page needs no widget.
        store_widget_state=False,
        resources={"metadata": {"path": str(notebook.parent)}},
    )
    failure = ""
    print(f"running {notebook.name} {_place()} ...", flush=True)
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    for text in _seen(document):
        print(f"\n{text}")
    page = _write_page(document, notebook, output)
    print(f"\nthe notebook with its charts: {page.resolve()}")
    if failure:
        print(f"\nthe notebook stopped at a cell that failed:\n{failure}", file=sys.stderr)
    return 1 if failure else 0


def _place() -> str:
    """Say where cells without a host of their own will run; fetch a kernel if that is a VM's and there is none."""
    from ebpf_magic import kernels
    from ebpf_magic.hosts import registry

    refusals = []
    for name in registry.names():
        try:
            registry.start(name).close()
        except NoHostError as error:
            refusals.append(f"  {name}: {error.why}")
        else:
            return "on this machine's kernel"
    print("This user may load no programs into this machine's kernel:", *refusals, sep="\n")
    try:
        kernel = kernels.find()
    except NoKernelError:
        print("Fetching a kernel of its own, from the distribution's packages ...", flush=True)
        kernel = kernels.fetch(_KERNEL)
    return f"in a virtual machine, on a kernel of its own ({kernel.release})"


def _missing(error: ImportError) -> UsageError:
    return UsageError("run a notebook", f"{error.name} is not installed", "pip install 'ebpf-magic[demo]'")


def _seen(document: Any) -> Iterator[str]:
    """Give what the cells printed, and the tables they ended with."""
    for cell in document.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stdout":
                yield output.text.rstrip()
            elif output.output_type == "execute_result" and "text/html" in output.data:
                yield output.data["text/plain"]


def _write_page(document: Any, notebook: Path, output: Path) -> Path:
    try:
        from nbconvert import HTMLExporter
    except ImportError as error:
        raise _missing(error) from error
    # What a notebook's page would load from elsewhere is for widgets and formulas; the pictures are in the page itself.
    exporter = HTMLExporter(require_js_url="", mathjax_url="", jquery_url="", widget_renderer_url="")
    text, _ = exporter.from_notebook_node(document, resources={"metadata": {"name": notebook.stem}})
    text = text.replace("</head>", f"{_CODE_STYLE}</head>", 1)
    output.mkdir(parents=True, exist_ok=True)
    page = output / f"{notebook.stem}.html"
    page.write_text(text, encoding="utf-8")
    return page
