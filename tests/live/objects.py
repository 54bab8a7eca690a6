"""BPF objects for the live tests: C with plain includes, compiled once each."""

from __future__ import annotations

import functools
import platform
import subprocess
import sysconfig
import time
from collections.abc import Callable

_INCLUDES = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
"""
_COUNT = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u32);
	__type(value, __u64); } counts SEC(".maps");
static int count(void)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 one = 1, *value = bpf_map_lookup_elem(&counts, &pid);
	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(&counts, &pid, &one, BPF_ANY);
	return 0;
}
"""
GETPPID = {"x86_64": 110, "aarch64": 173}[platform.machine()]


@functools.cache
def compile_object(body: str) -> bytes:
    """ELF object of C that needs no includes of its own."""
    triplet = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    command = ["clang", "-target", "bpf", "-O2", "-g", f"-I/usr/include/{triplet}", "-x", "c", "-", "-c", "-o", "-"]
    return subprocess.run(command, input=(_INCLUDES + body).encode(), stdout=subprocess.PIPE, check=True).stdout


def counting(section: str, name: str = "probe", condition: str = "1") -> bytes:
    """An object whose one program counts its hits by process in the hash map `counts`."""
    return compile_object(_COUNT + f'SEC("{section}") int {name}(__u64 *ctx) {{ return {condition} ? count() : 0; }}')


def empty(section: str, name: str = "probe") -> bytes:
    """An object whose one program does nothing."""
    return compile_object(f'SEC("{section}") int {name}(void *ctx) {{ return 0; }}')


def one_map(declaration: str) -> bytes:
    """An object with one map `m` and a program that takes it in."""
    return compile_object(
        f'struct {{ {declaration} }} m SEC(".maps");\n'
        'SEC("syscall") int probe(void *ctx) { __u64 key[8] = {}; return bpf_map_lookup_elem(&m, key) != 0; }'
    )


HASH_U64 = "__uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, {}); __type(key, __u64); __type(value, __u64);"


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Wait for a condition; whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
