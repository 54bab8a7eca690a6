"""What works on this kernel, each thing tried for real, each with the way to mend it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from . import bpf, kinds, map_probes, network_probes, privileges, probes, tracefs
from .libbpf import Library

_PROGRAMS = {
    "tracepoint": "it needs CONFIG_BPF_EVENTS and a readable tracefs",
    "raw_tp": "it needs CONFIG_BPF_EVENTS",
    "tp_btf": "it needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)",
    "uprobe": "it needs CONFIG_UPROBE_EVENTS",
    "uretprobe": "it needs CONFIG_UPROBE_EVENTS",
    "uprobe.multi": "it needs Linux 6.6; uprobe takes one function",
    "uretprobe.multi": "it needs Linux 6.6; uretprobe takes one function",
    "usdt": "it needs what uprobe needs, and Linux 4.20",
    "perf_event": "it needs CONFIG_PERF_EVENTS",
    "syscall": "it needs Linux 5.14",
    "kprobe": "it needs CONFIG_KPROBE_EVENTS; a VM with a distribution's kernel has it",
    "kretprobe": "it needs CONFIG_KPROBE_EVENTS; a VM with a distribution's kernel has it",
    "ksyscall": "it needs CONFIG_KPROBE_EVENTS; a VM with a distribution's kernel has it",
    "kretsyscall": "it needs CONFIG_KPROBE_EVENTS; a VM with a distribution's kernel has it",
    "kprobe.multi": "it needs CONFIG_FPROBE, Linux 5.18; kprobe takes one function",
    "kretprobe.multi": "it needs CONFIG_FPROBE, Linux 5.18; kretprobe takes one function",
    "fentry": "it needs CONFIG_FUNCTION_TRACER with direct calls and BTF; a VM with a distribution's kernel has them",
    "fexit": "it needs CONFIG_FUNCTION_TRACER with direct calls and BTF; a VM with a distribution's kernel has them",
    "fmod_ret": "it needs what fentry needs; CONFIG_FUNCTION_ERROR_INJECTION opens more functions to it",
    "lsm": "it needs CONFIG_BPF_LSM, and bpf in the kernel's lsm= list",
    "freplace": "it needs a kernel with BTF, Linux 5.6",
    "iter": "it needs a kernel with BTF, Linux 5.8",
    "xdp": "it needs CONFIG_NET, and CAP_NET_ADMIN",
    "tc": "it needs CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS, and CAP_NET_ADMIN",
    "netfilter": "it needs CONFIG_NETFILTER_BPF_LINK, Linux 6.4",
    "sk_lookup": "it needs CONFIG_NET, and CAP_NET_ADMIN",
    "flow_dissector": "it needs CONFIG_NET, and CAP_NET_ADMIN",
    "socket": "it needs CONFIG_PACKET, and CAP_NET_RAW",
    "sk_skb": "it needs CONFIG_BPF_STREAM_PARSER, and CAP_NET_ADMIN",
    "sk_msg": "it needs CONFIG_BPF_STREAM_PARSER, and CAP_NET_ADMIN",
    "sk_reuseport": "it needs CONFIG_INET, and CAP_NET_ADMIN",
    **dict.fromkeys(
        (kind for kind in network_probes.TYPES if kind.startswith("cgroup_") or kind == "sock_ops"),
        "it needs CONFIG_CGROUP_BPF, a cgroup2 mount that can be written, and CAP_NET_ADMIN",
    ),
    "lsm_cgroup": "it needs what lsm and cgroup_skb need, Linux 6.0",
    "struct_ops": "it needs a kernel with BTF and CONFIG_BPF_JIT",
}
_NEEDS = {name: kind.needs for name, kind in kinds.KINDS.items()}
_MOUNT_HINTS = {
    "tracefs": "sudo mount -t tracefs tracefs /sys/kernel/tracing",
    "bpf": "sudo mount -t bpf bpf /sys/fs/bpf",
    "securityfs": "sudo mount -t securityfs securityfs /sys/kernel/security",
}


def checks(library: Library) -> list[dict[str, Any]]:
    """All checks as the protocol has them; none of them leaves anything behind."""
    with library.printed():
        found = [
            _row("libbpf", True, library.version),
            _btf(),
            _tracefs(),
            _bpffs(),
            _lockdown(),
            _jit(),
            _statistics(),
            *_capabilities(),
            *(_program(library, kind, hint) for kind, hint in _PROGRAMS.items()),
            *(_map(kind, hint) for kind, hint in map_probes.NEEDS.items()),
        ]
    return found


def _row(name: str, ok: bool, detail: str, hint: str = "") -> dict[str, Any]:
    return {"name": name, "ok": ok, "detail": detail, "hint": "" if ok else hint}


def _btf() -> dict[str, Any]:
    try:
        size = os.stat("/sys/kernel/btf/vmlinux").st_size
    except OSError as error:
        return _row(
            "BTF", False, str(error), "boot a kernel with CONFIG_DEBUG_INFO_BTF; distributions' kernels have it"
        )
    return _row("BTF", True, f"/sys/kernel/btf/vmlinux, {size:,} bytes")


def _tracefs() -> dict[str, Any]:
    problem = tracefs.ensure_tracing()
    path = tracefs.tracing()
    if path is None:
        return _row("tracefs", False, problem or "cannot be read", _MOUNT_HINTS["tracefs"])
    return _row("tracefs", True, path)


def _bpffs() -> dict[str, Any]:
    problem = "" if tracefs.is_mounted("bpf") else tracefs.mount("bpf")
    return _row("bpffs", not problem, problem or tracefs.MOUNTS["bpf"], _MOUNT_HINTS["bpf"])


def _lockdown() -> dict[str, Any]:
    path = f"{tracefs.MOUNTS['securityfs']}/lockdown"
    problem = "" if tracefs.is_mounted("securityfs") else tracefs.mount("securityfs")
    try:
        with open(path) as text:
            words = text.read().split()
    except OSError as error:
        return _row("lockdown", True, f"unknown: {problem or error.strerror}")
    mode = next((word.strip("[]") for word in words if word.startswith("[")), "unknown")
    hint = "turn Secure Boot or lockdown=confidentiality off: it forbids reading kernel memory"
    return _row("lockdown", mode != "confidentiality", mode, hint)


def _jit() -> dict[str, Any]:
    try:
        with open("/proc/sys/net/core/bpf_jit_enable") as text:
            enabled = int(text.read()) > 0
    except OSError as error:
        return _row("JIT", True, f"unknown: {error.strerror}")
    return _row(
        "JIT",
        enabled,
        "on" if enabled else "off: programs run several times slower",
        "sudo sysctl net.core.bpf_jit_enable=1",
    )


def _statistics() -> dict[str, Any]:
    try:
        os.close(bpf.enable_stats())
    except OSError as error:
        return _row(
            "BPF statistics", False, str(error), "needs CAP_SYS_ADMIN and Linux 5.8; without: no costs, no --max-cpu"
        )
    return _row("BPF statistics", True, "can be switched on")


def _capabilities() -> Iterator[dict[str, Any]]:
    have = privileges.effective()
    for name, (_, purpose) in privileges.NEEDED.items():
        ok = name in have
        yield _row(f"CAP_{name}", ok, purpose if ok else f"missing: {purpose}", privileges.WAY_OUT)


def _program(library: Library, kind: str, hint: str) -> dict[str, Any]:
    step = "load"
    try:
        fd = probes.load(library, kind)
        try:
            step = "attach"
            with probes.attached(library, kind, fd):
                pass
        finally:
            os.close(fd)
    except OSError as error:
        missing, way_out = privileges.explain(_NEEDS.get(kind, ("BPF", "PERFMON")))
        return _row(f"{kind} programs", False, f"{step}: {missing or error.strerror or error}", way_out or hint)
    return _row(f"{kind} programs", True, "loads" if kind in probes.LOADED_ONLY else "loads and attaches")


def _map(kind: str, hint: str) -> dict[str, Any]:
    try:
        os.close(map_probes.create(kind))
    except OSError as error:
        missing, way_out = privileges.explain(("BPF",))
        return _row(f"{kind} maps", False, missing or error.strerror or str(error), way_out or hint)
    return _row(f"{kind} maps", True, "can be made")
