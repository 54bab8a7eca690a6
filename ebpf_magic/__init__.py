"""See and understand a running Linux kernel from a notebook.

``%load_ext ebpf_magic`` brings the ``%%ebpf`` cell magic; :func:`run` is the same thing for scripts.
"""

from __future__ import annotations

import importlib
from typing import Any

# Imported here and not on first use: a module and a function of one name, and the function is to win.
from ebpf_magic.doctor import doctor

__version__ = "0.1.0"

# The public names and where they live; each is imported on first use, so that the import stays light.
_HOMES = {
    "run": "running",
    "sh": "shell",
    "sessions": "register",
    "tasks": "tools.tasks",
    "files": "tools.files",
    "sockets": "tools.sockets",
    "maps": "tools.objects",
    "programs": "tools.objects",
    "probes": "finding",
    "describe": "describing",
    "stop_all": "register",
    "Session": "session",
    "Map": "bpf_map",
    "map": "opened",
    "load_object": "running",
    "read_pcap": "data.pcap",
    "EbpfMagicError": "errors",
    "load_ipython_extension": "magics",
    "unload_ipython_extension": "magics",
}

__all__ = [
    "EbpfMagicError",
    "Map",
    "Session",
    "__version__",
    "describe",
    "doctor",
    "errors",
    "files",
    "hosts",
    "load_ipython_extension",
    "load_object",
    "map",
    "maps",
    "probes",
    "programs",
    "read_pcap",
    "run",
    "sessions",
    "sh",
    "sockets",
    "stop_all",
    "tasks",
    "unload_ipython_extension",
]


def __getattr__(name: str) -> Any:
    if name in ("errors", "hosts"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
