"""The headers a cell is compiled with: the kernel's types, libbpf's, ebpf_magic's own, and the host's few."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ebpf_magic import cache
from ebpf_magic.build.private import PrivateFolder
from ebpf_magic.build.vmlinux import TAIL, vmlinux_h
from ebpf_magic.errors import ToolchainError

OWN = Path(__file__).parent / "include"
PRELUDE = OWN / "prelude.h"
LICENCE = OWN / "licence.h"
USDT = OWN / "usdt.h"
_MULTIARCH = {"x86": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
ARCHES = tuple(_MULTIARCH)


@dataclass(frozen=True)
class KernelTarget:
    """The kernel a cell is compiled for.

    Attributes
    ----------
    arch : str
        "x86" or "arm64".
    build_id : str
        What tells this kernel from others: its GNU build id, in hex.
    btf : callable
        Returns the kernel's BTF; called only when its vmlinux.h is not in the cache.
    """

    arch: str
    build_id: str
    btf: Callable[[], bytes]


@dataclass(frozen=True)
class Headers:
    """Where the headers lie.

    Attributes
    ----------
    vmlinux : Path, optional
        The folder with vmlinux.h; None when the kernel has no BTF and the cell may do without.
    libbpf : Path
        The folder with bpf/bpf_helpers.h.
    host : tuple of Path
        Folders with asm/types.h, which <linux/bpf.h> needs.
    """

    vmlinux: Path | None
    libbpf: Path
    host: tuple[Path, ...]

    def flags(self) -> list[str]:
        """Compiler flags that find them; as system headers, so that warnings are about the cell alone."""
        first = [OWN] if self.vmlinux is None else [self.vmlinux, OWN]
        flags = [word for folder in first for word in ("-isystem", str(folder))]
        return flags + [word for folder in (self.libbpf, *self.host) for word in ("-idirafter", str(folder))]

    def prelude_text(self) -> str:
        """Return all that the implied prelude is made of."""
        files = [OWN / "ebpf_magic.h", *(OWN / "bpf").glob("*.h"), *(self.libbpf / "bpf").glob("*.h")]
        if self.vmlinux:
            files.append(self.vmlinux / "vmlinux.h")
        return "\n".join(file.read_text("utf-8", "replace") for file in files)


def libbpf_headers() -> Path:
    """Find the folder that has bpf/bpf_helpers.h.

    Raises
    ------
    ToolchainError
        When no folder has it.
    """
    for folder in dict.fromkeys((Path(sys.prefix, "include"), Path("/usr/local/include"), Path("/usr/include"))):
        if (folder / "bpf/bpf_helpers.h").is_file():
            return folder
    raise ToolchainError(
        "find bpf/bpf_helpers.h", "libbpf's headers are missing", "Install them: `apt install libbpf-dev`."
    )


def identity(libbpf: Path) -> str:
    """Return a digest that changes when libbpf's headers or ebpf_magic's own do."""
    parts: list[str | bytes] = [str(libbpf)]
    for folder in (libbpf / "bpf", OWN, OWN / "bpf"):
        with os.scandir(folder) as files:
            for file in sorted(files, key=lambda each: each.name):
                if file.name.endswith(".h"):
                    about = file.stat()
                    parts.append(f"{file.name}:{about.st_mtime_ns}:{about.st_size}")
    return cache.digest(*parts)


def host_folders(arch: str) -> tuple[Path, ...]:
    """Return the folder with asm/types.h: the target's if installed, else the host's, whose types are the same."""
    names = (_MULTIARCH.get(arch, ""), f"{platform.machine()}-linux-gnu")
    found = (Path("/usr/include", name) for name in names if name)
    return tuple(folder for folder in found if (folder / "asm/types.h").is_file())[:1]


def vmlinux_folder(kernel: KernelTarget, private: PrivateFolder) -> Path:
    """Return the folder with the kernel's vmlinux.h, made from its BTF when the cache has none.

    Parameters
    ----------
    kernel : KernelTarget
        The kernel.
    private : PrivateFolder
        For when there is no cache.
    """
    name = kernel.build_id if re.fullmatch(r"[0-9a-f]{16,64}", kernel.build_id) else cache.digest(kernel.build_id)
    key = f"{name}-{kernel.arch}/vmlinux.h"
    folder = cache.folder("vmlinux")
    if folder and _is_whole(folder / key):
        cache.touch(folder / key)
        return (folder / key).parent
    header = vmlinux_h(kernel.btf())
    kept = cache.put_file("vmlinux", key, header)
    if kept:
        return kept.parent
    (private.path / "vmlinux.h").write_bytes(header)
    return private.path


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(TAIL), 2)
            return file.read() == TAIL
    except OSError:
        return False  # absent, or shorter than its last lines
