"""Kernels to boot: found on this machine, or fetched from the distribution's packages without root.

Nothing is installed and nothing of the system changes: packages are fetched into a private place, their signatures
checked by apt, and what a small virtual machine needs of them is unpacked into the user's data folder.
"""

from __future__ import annotations

from ebpf_magic.kernels.fetching import fetch, fetch_several, fetch_tools
from ebpf_magic.kernels.finding import available, find, listed, remove
from ebpf_magic.kernels.modules import read_module
from ebpf_magic.kernels.packages import Progress
from ebpf_magic.kernels.store import Kernel
from ebpf_magic.kernels.tools import busybox, libbpf

__all__ = [
    "Kernel",
    "Progress",
    "available",
    "busybox",
    "fetch",
    "fetch_several",
    "fetch_tools",
    "find",
    "libbpf",
    "listed",
    "read_module",
    "remove",
]
