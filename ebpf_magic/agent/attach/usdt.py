"""Programs on the probes that programs and libraries bring along: usdt."""

from __future__ import annotations

import ctypes as C
import errno as errnos
from typing import TYPE_CHECKING

from .. import near
from .handles import Context, Handle, UsdtLink
from .refused import not_attached, refused
from .user import resolve, unresolved

if TYPE_CHECKING:
    from ..declared import Program

# The maps that <bpf/usdt.bpf.h> declares and libbpf fills.
MAPS = frozenset({"__bpf_usdt_specs", "__bpf_usdt_ip_to_spec_id"})


def usdt(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to the probe ``PATH:PROVIDER:NAME`` of a file, in every process that runs it; raises `Fault`."""
    path, _, rest = target.partition(":")
    provider, _, name = rest.partition(":")
    if not (path and provider and name) or ":" in name:
        raise not_attached(program, target, "a USDT probe is written PATH:PROVIDER:NAME")
    found = resolve(path)
    if found is None:
        raise not_attached(program, target, unresolved(path))
    probes = near.usdt_probes(found)
    if not probes:
        raise not_attached(program, target, f"{found} has no USDT probes")
    if f"{provider}:{name}" not in probes:
        names = near.close(f"{provider}:{name}", probes)
        raise not_attached(program, target, f"no such USDT probe in {found}", near=names)
    if not context.maps.keys() >= MAPS:
        why = "its cell brings its own includes, and not the one that USDT needs"
        raise not_attached(program, target, why, "Add #include <bpf/usdt.bpf.h>.")
    with context.library.printed() as lines:
        pointer = context.library.bpf_program__attach_usdt(
            program.pointer, -1, found.encode(), provider.encode(), name.encode(), None
        )
        number = C.get_errno()
    if pointer:
        return [UsdtLink(context.library, pointer)]
    reasons = {
        errnos.EOPNOTSUPP: "this kernel cannot count up the probe's semaphore (Linux 4.20)",
        errnos.E2BIG: "the probe stands in more places than BPF_USDT_MAX_SPEC_CNT (256) has room for",
    }
    raise refused(program, f"attach usdt {target}", target, number, lines, reasons)
