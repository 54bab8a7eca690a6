"""Every program and map in the kernel, and which processes hold them."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator
from typing import Any

from . import bpf, maps
from .fault import from_errno

_PROGRAM_TYPES = dict(
    enumerate(
        "unspec socket_filter kprobe sched_cls sched_act tracepoint xdp perf_event cgroup_skb cgroup_sock lwt_in "
        "lwt_out lwt_xmit sock_ops sk_skb cgroup_device sk_msg raw_tracepoint cgroup_sock_addr lwt_seg6local "
        "lirc_mode2 sk_reuseport flow_dissector cgroup_sysctl raw_tracepoint_writable cgroup_sockopt tracing "
        "struct_ops ext lsm sk_lookup syscall netfilter".split()
    )
)
_IDS = {"prog_id": "program", "map_id": "map"}


def everything() -> dict[str, Any]:
    """Programs and maps as the protocol has them; raises `Fault` without the right to list them."""
    owners = _owners()
    try:
        programs = [_program(number, fd, owners) for number, fd in _each(bpf.PROG_GET_NEXT_ID, bpf.PROG_GET_FD_BY_ID)]
        held = [_map(number, fd, owners) for number, fd in _each(bpf.MAP_GET_NEXT_ID, bpf.MAP_GET_FD_BY_ID)]
    except OSError as error:
        raise from_errno("host", "list the kernel's programs and maps", error.errno or 0, ("SYS_ADMIN",)) from error
    return {"programs": programs, "maps": held}


def _each(next_command: int, open_command: int) -> Iterator[tuple[int, int]]:
    """Ids and descriptors (closed when the next is asked for) of all objects of a kind."""
    number: int | None = 0
    while (number := bpf.next_id(next_command, number or 0)) is not None:
        fd = bpf.fd_by_id(open_command, number)
        if fd is not None:
            try:
                yield number, fd
            finally:
                os.close(fd)


def _program(number: int, fd: int, owners: dict[tuple[str, int], set[tuple[int, str]]]) -> dict[str, Any]:
    info = bpf.prog_info(fd)
    return {
        "id": number,
        "name": info.name.decode(errors="replace"),
        "type": _PROGRAM_TYPES.get(info.type, str(info.type)),
        "uid": info.created_by_uid,
        "loaded_s": info.load_time / 1e9,
        "run_time_ns": info.run_time_ns,
        "run_cnt": info.run_cnt,
        "missed_runs": info.recursion_misses,
        "tag": bytes(info.tag).hex(),
        "xlated_bytes": info.xlated_prog_len,
        "jited_bytes": info.jited_prog_len,
        "map_ids": bpf.prog_map_ids(fd),
        "pids": sorted(owners["program", number]),
    }


def _map(number: int, fd: int, owners: dict[tuple[str, int], set[tuple[int, str]]]) -> dict[str, Any]:
    info = maps.info(fd)
    return {
        "id": number,
        "name": info.name,
        "type": info.type_name,
        "key_size": info.key_size,
        "value_size": info.value_size,
        "max_entries": info.max_entries,
        "memory_bytes": bpf.memlock_bytes(fd),
        "pids": sorted(owners["map", number]),
    }


def _owners() -> dict[tuple[str, int], set[tuple[int, str]]]:
    """("program" or "map", id) -> processes (pid, comm) that hold it, by itself or by a link to it."""
    result: dict[tuple[str, int], set[tuple[int, str]]] = collections.defaultdict(set)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as text:
                owner = (int(pid), text.read().strip())
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("anon_inode:bpf"):
                    for what in _held(pid, fd):
                        result[what].add(owner)
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
    return result


def _held(pid: str, fd: str) -> Iterator[tuple[str, int]]:
    with open(f"/proc/{pid}/fdinfo/{fd}") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key in _IDS:
                yield _IDS[key], int(value)
