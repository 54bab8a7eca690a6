"""The agent's code in one piece: what it imports, compiled, so that its start in the guest asks for no file.

Each file asked for over 9p costs an emulated guest a millisecond, and an import asks for a dozen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ebpf_magic import cache

_COLLECT_S = 30
# Run by the guest's interpreter, here: it imports what the agent does, and writes the code of it all.
_COLLECT = """
import sys; sys.path.append(sys.argv[1])
import ctypes, importlib, json, marshal, pkgutil
import agent
for module in pkgutil.walk_packages(agent.__path__, "agent."):
    importlib.import_module(module.name)
from agent.libbpf import PATHS
try:
    ctypes.CDLL(PATHS[0])
except OSError:
    pass
with open("/proc/self/maps") as maps:
    mapped = {line.split(None, 5)[5].rstrip() for line in maps if "r-xp" in line and " /" in line}
found = {}
for name, module in list(sys.modules.items()):
    spec = getattr(module, "__spec__", None)
    loader = getattr(spec, "loader", None)
    if name == "__main__" or not getattr(spec, "has_location", False) or not spec.origin:
        continue
    kind = type(loader).__name__
    if kind == "SourceFileLoader":
        found[name] = (spec.origin, bool(spec.submodule_search_locations), loader.get_code(name))
    elif kind == "ExtensionFileLoader":
        found[name] = (spec.origin, False, None)
sys.stdout.buffer.write(json.dumps(sorted(mapped)).encode() + b"\\n" + marshal.dumps(found))
"""
# Run in the guest. What is not in the bundle is imported from its file, as ever.
START = """
import sys, marshal
import _frozen_importlib as core, _frozen_importlib_external as external
sys.path.append(sys.argv[1])
class Bundle:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.found = marshal.loads(file.read())
    def find_spec(self, name, path=None, target=None):
        if name not in self.found:
            return None
        origin, is_package, code = self.found[name]
        if code is None:
            return core.ModuleSpec(name, external.ExtensionFileLoader(name, origin), origin=origin)
        spec = core.ModuleSpec(name, self, origin=origin, is_package=is_package)
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations.append(origin.rpartition("/")[0])
        return spec
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(self.found.pop(module.__name__)[2], module.__dict__)
if sys.argv[2]:
    sys.meta_path.insert(0, Bundle(sys.argv[2]))
from agent import libbpf; libbpf.PATHS = (*sys.argv[3:], *libbpf.PATHS)
from agent.__main__ import main
open("/run/agent-is-up", "w").close()
sys.exit(main(shell=True))
"""


class Bundle(NamedTuple):
    """What an interpreter needs to run the agent: compiled code, and the files that it maps into memory."""

    code: bytes
    mapped: list[str]


def collect(python: str, package: Path) -> Bundle | None:
    """Return the bundle for an interpreter of this machine.

    Parameters
    ----------
    python : str
        The interpreter that will run in the guest.
    package : Path
        The folder of ebpf_magic.

    Returns
    -------
    Bundle or None
        None where the interpreter cannot run the agent: it lacks ctypes, or is not there.
    """
    try:
        key = cache.digest(_COLLECT, _about(Path(python)), *map(_about, sorted((package / "agent").rglob("*.py"))))
    except OSError:
        return None
    made = cache.get("initramfs", key)
    if made is None:
        try:
            done = subprocess.run(
                [python, "-I", "-S", "-B", "-c", _COLLECT, str(package)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_COLLECT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        made = done.stdout
        cache.put("initramfs", key, made)
    mapped, _, code = made.partition(b"\n")
    return Bundle(code, json.loads(mapped))


def interpreter(package: Path) -> str:
    """Return the interpreter for the agent: the system's, which starts soonest, or the one that runs this."""
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable) or sys.executable)
    system = os.path.realpath("/usr/bin/python3")
    return system if system != own and collect(system, package) is not None else own


def _about(path: Path) -> str:
    about = path.stat()
    return f"{path} {about.st_size} {about.st_mtime_ns}"
