"""Finding a clang that makes BPF objects: one that was named, one on the path, or the one in the ziglang package."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from ebpf_magic import cache
from ebpf_magic.errors import ToolchainError

MIN_VERSION = 14
_VARIABLE = "EBPF_MAGIC_CLANG"
_NAMES = ("clang", *(f"clang-{version}" for version in range(22, MIN_VERSION - 1, -1)))
_INSTALL = 'Install it with `apt install clang` or `pip install "ebpf-magic[zig]"`.'
_PROBE_DEADLINE_S = 20
# Variables that would change what is compiled without being part of an object's key.
_UNWANTED = (
    "CPATH",
    "C_INCLUDE_PATH",
    "CCC_OVERRIDE_OPTIONS",
    "CCC_ADD_ARGS",
    "DEPENDENCIES_OUTPUT",
    "SOURCE_DATE_EPOCH",
)


@dataclass(frozen=True)
class Toolchain:
    """A compiler that can make BPF objects.

    Attributes
    ----------
    kind : str
        "clang", or "zig" for the clang inside the ziglang package.
    path : str
        The program.
    version : str
        What it says of itself, in one line.
    identity : str
        Changes when the file does.
    """

    kind: str
    path: str
    version: str
    identity: str

    @property
    def command(self) -> list[str]:
        """The program and its first arguments."""
        if self.kind == "zig":
            # `zig clang` is the plain driver: unlike `zig cc` it adds no flags and keeps no cache of its own.
            return [self.path, "clang", f"-resource-dir={Path(self.path).parent / 'lib'}"]
        return [self.path]

    @property
    def major(self) -> int:
        """The clang version's first number."""
        return _major(self.version)


_seen: dict[tuple[str, str], Toolchain] = {}


def environment() -> dict[str, str]:
    """Return the environment a compiler is run in: messages in English, nothing that changes its output."""
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    folder = cache.folder("zig")
    if folder:
        kept |= {"ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)}
    return kept | {"LC_ALL": "C"}


def find_toolchain(clang: str | None = None) -> Toolchain:
    """Find the compiler to use.

    Parameters
    ----------
    clang : str, optional
        A program's path or name; "zig" is the one of the ziglang package. Else $EBPF_MAGIC_CLANG is taken, else a clang
        on the path that is new enough and can make BPF, else the ziglang package.

    Raises
    ------
    ToolchainError
        When there is none; says what was looked at and what to install.
    """
    named = clang or os.environ.get(_VARIABLE)
    if named:
        return _named(named, "clang=" if clang else f"${_VARIABLE}=")
    refused = []
    for name in _NAMES:
        path = shutil.which(name)
        if path:
            found = _examine(path, "clang")
            if isinstance(found, Toolchain):
                return found
            refused.append(found)
    zig = _zig()
    if zig:
        found = _examine(zig, "zig")
        if isinstance(found, Toolchain):
            return found
        refused.append(found)
    why = "; ".join(dict.fromkeys(refused)) or "there is no clang on the path, and no ziglang package"
    raise ToolchainError("find a compiler", why, _INSTALL)


def _named(name: str, how: str) -> Toolchain:
    path = shutil.which(os.path.expanduser(name))
    if not path and name == "zig":
        path = _zig()
    if not path:
        raise ToolchainError(f"use the compiler {how}{name}", "there is no such program", _INSTALL)
    found = _examine(path, "zig" if Path(path).stem == "zig" else "clang")
    if isinstance(found, str):
        raise ToolchainError(f"use the compiler {how}{name}", found, _INSTALL)
    return found


def _zig() -> str | None:
    spec = importlib.util.find_spec("ziglang")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = shutil.which("zig", path=folder)
        if path:
            return path
    return None


def _examine(path: str, kind: str) -> Toolchain | str:
    """Return the toolchain at that path, or why it cannot be one; remembered until the file changes."""
    real = os.path.realpath(path)
    about = os.stat(real)
    identity = f"{kind}:{real}:{about.st_mtime_ns}:{about.st_size}"
    found = _seen.get((path, identity)) or _recall_or_ask(path, kind, identity)
    if isinstance(found, Toolchain):
        _seen[path, identity] = found
    return found


def _recall_or_ask(path: str, kind: str, identity: str) -> Toolchain | str:
    key = cache.digest("toolchain", identity)
    known = cache.get("toolchain", key)
    if known:
        return Toolchain(**json.loads(known))
    words = [path, "clang"] if kind == "zig" else [path]
    version = _ask([*words, "--version"])
    if not re.search(r"clang version", version):
        return f"{path} is no clang"
    version = version.splitlines()[0]
    if _major(version) < MIN_VERSION:
        return f"{path} is {version}, and {MIN_VERSION} or later is needed"
    if not re.search(r"^\s*bpf\b", _ask([*words, "--print-targets"]), re.MULTILINE):
        return f"{path} ({version}) cannot make BPF programs"
    found = Toolchain(kind, path, version, identity)
    cache.put("toolchain", key, json.dumps(asdict(found)).encode())
    return found


def _major(version: str) -> int:
    number = re.search(r"version (\d+)", version)
    return int(number.group(1)) if number else 0


def _ask(command: list[str]) -> str:
    """Return what a compiler prints; empty when it cannot be run."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_PROBE_DEADLINE_S,
            stdin=subprocess.DEVNULL, env=environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""  # the caller then says that it is no clang
    return done.stdout
