"""What there is to know of each map kind: how its entries are read, and why those of some cannot be."""

from __future__ import annotations

from typing import NamedTuple

TYPE_NAMES = dict(
    enumerate(
        "unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace cgroup_array lru_hash "
        "lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap cpumap xskmap sockhash cgroup_storage "
        "reuseport_sockarray percpu_cgroup_storage queue stack sk_storage devmap_hash struct_ops ringbuf inode_storage "
        "task_storage bloom_filter user_ringbuf cgrp_storage arena".split()
    )
)
PER_CPU = frozenset({"percpu_hash", "percpu_array", "lru_percpu_hash", "percpu_cgroup_storage"})
ARRAYS = frozenset({"array", "percpu_array"})
# Their keys are descriptors of what owns the value; the kernel gives no next key, so the owners are gone through.
BY_OWNER = frozenset({"task_storage", "sk_storage", "cgrp_storage"})
KEYLESS = frozenset({"queue", "stack", "bloom_filter"})
# A value is looked up as a socket's cookie, if it has the room for one.
_SOCKETS = frozenset({"sockmap", "sockhash", "reuseport_sockarray"})
# Batches of these end in EINTR at an index that holds nothing (before 6.15), or hand out none at all.
_WALKED = frozenset(
    "stack_trace array_of_maps hash_of_maps prog_array devmap devmap_hash cpumap cgroup_storage percpu_cgroup_storage "
    "struct_ops".split()
)
_BATCHED = frozenset("hash percpu_hash lru_hash lru_percpu_hash lpm_trie".split()) | ARRAYS
NODE_BYTES = 64  # of an entry beside key and value, where nothing closer is known
_OWNERS = 1024  # values of tasks, sockets, inodes and cgroups have no bound: so many are assumed


class Reading(NamedTuple):
    """How a map's entries are read, or why not.

    `way` is "batch", "walk", "head" (only the next one to come out), "owners", or "" where they cannot be read; then
    `why` and `hint` say so.
    """

    way: str
    why: str = ""
    hint: str = ""


_STREAM = Reading("", "it carries events, not entries; reading such streams is not offered yet")
_UNREADABLE = {
    "bloom_filter": Reading("", "a bloom filter cannot be listed, only asked", "Ask it: .contains([...])."),
    "inode_storage": Reading(
        "", "the kernel lists no inodes: its values are looked up, file by file", 'Ask for one: .lookup("/etc/hosts").'
    ),
    "arena": Reading("", "an arena is memory without entries", "Read a part of it: .read(offset, size_bytes)."),
    "ringbuf": _STREAM,
    "user_ringbuf": _STREAM,
    "perf_event_array": _STREAM,
    "xskmap": Reading("", "the kernel does not hand out the AF_XDP sockets in it"),
    "cgroup_array": Reading("", "the kernel does not hand out the cgroups in it"),
}
OFFERED = frozenset(TYPE_NAMES.values()) - {"unspec"}
# What a map of that kind must have that is not nothing; libbpf and the kernel see to the others of those named.
ALL_SIZES = ("key_size", "value_size", "max_entries")
SIZES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ringbuf", "user_ringbuf", "arena"), ("max_entries",)),
    **dict.fromkeys(KEYLESS, ("value_size", "max_entries")),
    **dict.fromkeys(BY_OWNER | {"perf_event_array", "struct_ops", "inode_storage"}, ()),
    **dict.fromkeys(("cgroup_storage", "percpu_cgroup_storage"), ()),
}


def reading(type_name: str, value_size: int) -> Reading:
    """Tell how entries of such a map are read."""
    if type_name in _BATCHED:
        return Reading("batch")
    if type_name in ("queue", "stack"):
        return Reading("head")
    if type_name in BY_OWNER:
        return Reading("owners")
    if type_name in _SOCKETS:
        if value_size == 8:
            return Reading("walk")
        return Reading(
            "",
            f"the kernel shows a socket as its cookie, 8 bytes, and its values have {value_size}",
            "Declare it with __type(value, __u64).",
        )
    if type_name in _WALKED:
        return Reading("walk")
    return _UNREADABLE.get(type_name, Reading("", f"maps of kind {type_name} are not known here"))


def memory_bytes(type_name: str, key_size: int, value_size: int, max_entries: int, possible_cpus: int) -> int:
    """Kernel memory a map can come to take; per-CPU maps count every possible CPU.

    Source: the ``map_mem_usage`` operations of the kernel's map kinds.
    """
    key, value = (key_size + 7) // 8 * 8, (value_size + 7) // 8 * 8
    per_cpu = type_name in PER_CPU
    if type_name in ARRAYS:
        return max_entries * (value * possible_cpus + 8 if per_cpu else value)
    if type_name in ("ringbuf", "user_ringbuf"):
        return max_entries  # here a number of bytes
    if type_name == "arena":
        return max_entries * 4096  # here a number of pages
    if type_name == "bloom_filter":
        # With n hash functions n * 7 / 5 bits an entry, rounded up to a power of two; n is at most 15.
        return 1 << max(max_entries * 21 // 8 - 1, 0).bit_length()
    if type_name in ("queue", "stack"):
        return (max_entries + 1) * value_size
    if type_name in BY_OWNER or type_name == "inode_storage":
        return _OWNERS * (NODE_BYTES + value)
    if type_name in ("cgroup_storage", "percpu_cgroup_storage"):
        return _OWNERS * (NODE_BYTES + key + value * (possible_cpus if per_cpu else 1))
    if type_name not in ("hash", "percpu_hash", "lru_hash", "lru_percpu_hash", "hash_of_maps"):
        return max_entries * (NODE_BYTES + key + value)
    buckets = 1 << max(max_entries - 1, 0).bit_length()
    element = 48 + key + (8 + value * possible_cpus if per_cpu else value)
    # A hash that is no LRU keeps one spare element a CPU.
    spare = 0 if type_name.startswith("lru") or per_cpu else possible_cpus
    return buckets * 16 + (max_entries + spare) * element
