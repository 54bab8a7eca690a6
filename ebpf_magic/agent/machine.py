"""What machine and kernel this is."""

from __future__ import annotations

import os
import platform
from typing import Any

from . import cpus

_ARCHES = {"x86_64": "x86", "aarch64": "arm64"}


def describe() -> dict[str, Any]:
    """Facts of kernel and machine, as ``hello`` tells them; the architecture in libbpf's words."""
    return {
        "release": platform.release(),
        "machine": platform.machine(),
        "arch": _ARCHES.get(platform.machine(), platform.machine()),
        "possible_cpus": cpus.possible(),
        "online_cpus": len(cpus.online()),
        "page_size": os.sysconf("SC_PAGE_SIZE"),
        "build_id": _kernel_build_id(),
    }


def _kernel_build_id() -> str:
    """GNU build id of the running kernel, from its ELF notes; its version text where there is none."""
    try:
        with open("/sys/kernel/notes", "rb") as file:
            data = file.read()
    except OSError:
        data = b""
    position = 0
    while position + 12 <= len(data):
        name_bytes, content_bytes, kind = (
            int.from_bytes(data[position + at : position + at + 4], "little") for at in (0, 4, 8)
        )
        content = position + 12 + (name_bytes + 3) // 4 * 4
        if kind == 3 and data[position + 12 : position + 12 + name_bytes] == b"GNU\0":
            return data[content : content + content_bytes].hex()
        position = content + (content_bytes + 3) // 4 * 4
    return platform.version()
