"""A host's kernel's own types and those of its modules, each read once."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ebpf_magic.data import c_types, kinds
from ebpf_magic.data.btf import Btf
from ebpf_magic.data.elf import BtfError
from ebpf_magic.errors import LoadError

if TYPE_CHECKING:
    from ebpf_magic.data.btf import Type
    from ebpf_magic.hosts.base import AgentHost

_LSM, _ITER, _RAW, _TRACE = "bpf_lsm_", "bpf_iter__", "btf_trace_", "__traceiter_"
_MAX_CHAIN = 16
_known: dict[tuple[str, str], Btf] = {}
_modules: dict[tuple[str, str], dict[str, Btf]] = {}  # by a kernel as above: what the agent says of a module -> types
_lock = threading.Lock()


def of(host: AgentHost) -> Btf:
    """Read the types of the kernel of a host; those of a kernel without build id each time."""
    # With the host's name: what a guest says of its kernel is not to be believed of another.
    key = (host.name, host.info.build_id)
    with _lock:
        found = _known.get(key) or Btf(host.btf())
        if host.info.build_id:
            _known[key] = found
        return found


def each(host: AgentHost) -> Iterator[tuple[str, Btf]]:
    """Give the kernel's types, under the name "", then those of each module, which are not read before asked for."""
    kernel = of(host)
    yield "", kernel
    # By name and size: one that was loaded again after it was built anew has other types.
    for told in host.find("module", "*"):
        if (types := _of_module(host, kernel, told)) is not None:
            yield told.partition("\t")[0], types


def _of_module(host: AgentHost, kernel: Btf, told: str) -> Btf | None:
    with _lock:
        known = _modules.setdefault((host.name, host.info.build_id), {}) if host.info.build_id else {}
        if told not in known:
            try:
                known[told] = Btf(host.btf(told.partition("\t")[0]), base=kernel)
            except LoadError as error:
                if error.errno != errno.ENOENT:
                    raise
                return None  # unloaded since it was listed
        return known[told]


def lsm_hooks(btf: Btf) -> dict[str, int]:
    """Return the security hooks by name, each with its function."""
    return _prefixed(btf.names(kinds.FUNC), _LSM)


def iterators(btf: Btf) -> dict[str, int]:
    """Return the iterators by name, each with the struct of its context."""
    functions = btf.names(kinds.FUNC)
    found = _prefixed(btf.names(kinds.STRUCT), _ITER)
    return {name: type_id for name, type_id in found.items() if f"bpf_iter_{name}" in functions}


def raw_tracepoints(btf: Btf) -> dict[str, int]:
    """Return the raw tracepoints by name, each with the pointer to its function's type."""
    return _prefixed(btf.names(kinds.TYPEDEF), _RAW)


def arguments(btf: Btf, name: str) -> list[tuple[str, int]]:
    """Return a raw tracepoint's arguments: name and type id; names that the kernel does not tell are ``arg0``, ..."""
    typed = btf.names(kinds.TYPEDEF)[_RAW + name]
    named = btf.names(kinds.FUNC).get(_TRACE + name, typed)
    parameters = btf.parameters(function_type(btf, named))[1:]
    return [
        (c_types.plain_name(found) or f"arg{number}", type_id) for number, (found, type_id) in enumerate(parameters)
    ]


def function_type(btf: Btf, type_id: int) -> Type:
    """Return the prototype behind a function, or a pointer to one."""
    found = btf.resolve(type_id)
    for _ in range(_MAX_CHAIN):
        if found.kind == kinds.FUNC_PROTO:
            return found
        if found.kind not in (kinds.FUNC, kinds.PTR):
            break
        found = btf.resolve(found.ref)
    raise BtfError(f"type {type_id} is no function")


def _prefixed(names: dict[str, int], prefix: str) -> dict[str, int]:
    return {name[len(prefix) :]: type_id for name, type_id in names.items() if name.startswith(prefix)}
