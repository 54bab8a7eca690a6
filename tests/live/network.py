"""What tests of the network and of cgroups share: interfaces and commands where the host under test is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rights
from objects import compile_object

SOCKMAP = """
struct { __uint(type, BPF_MAP_TYPE_SOCKMAP); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }
    sockets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }
    counts SEC(".maps");
SEC("sk_msg") int probe(struct sk_msg_md *msg)
{
    __u32 key = msg->size;
    return bpf_map_lookup_elem(&counts, &key) || bpf_msg_redirect_map(msg, &sockets, 0, 0) ? SK_PASS : SK_DROP;
}
"""


def as_root(command: str) -> str:
    """Run a shell command where the host under test is, with its agent's rights."""
    if not rights.IN_VM:
        return rights.output("sh", "-c", command)
    said: list[str] = []
    rights.guest().sh(command, on_output=said.append)
    return "".join(said)


@contextmanager
def wire(name: str) -> Iterator[None]:
    """Have a pair of interfaces, `name`0 and `name`1, while the block runs."""
    as_root(f"ip link add {name}0 type veth peer name {name}1 && ip link set {name}0 up && ip link set {name}1 up")
    try:
        yield
    finally:
        as_root(f"ip link del {name}0 2>/dev/null || true")


def returning(section: str, value: int) -> bytes:
    return compile_object(f'SEC("{section}") int probe(void *ctx) {{ return {value}; }}')


def cgroup_root() -> str:
    return as_root("grep -m1 ' cgroup2 ' /proc/mounts").split()[1]


def filters(interface: str) -> str:
    """All classic filters of an interface, and its clsact qdisc."""
    found = as_root(f"tc qdisc show dev {interface} clsact; tc filter show dev {interface} ingress; "
                    f"tc filter show dev {interface} egress")  # fmt: skip
    return found.strip()


CONGESTION = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
SEC("struct_ops/ssthresh") __u32 BPF_PROG(ssthresh, struct sock *sk) { return 2; }
SEC("struct_ops/undo_cwnd") __u32 BPF_PROG(undo_cwnd, struct sock *sk) { return 2; }
SEC("struct_ops/cong_avoid") void BPF_PROG(cong_avoid, struct sock *sk, __u32 ack, __u32 acked) { }
SEC("{section}") struct tcp_congestion_ops em_test = { {functions} .name = "{name}" };
char LICENSE[] SEC("license") = "GPL";
"""
FUNCTIONS = ".ssthresh = (void *)ssthresh, .undo_cwnd = (void *)undo_cwnd, .cong_avoid = (void *)cong_avoid,"


def congestion(section: str = ".struct_ops", functions: str = FUNCTIONS, name: str = "em_test") -> str:
    """A cell with a TCP congestion control."""
    return CONGESTION.replace("{section}", section).replace("{functions}", functions).replace("{name}", name)


def known_congestion_controls() -> list[str]:
    return as_root("cat /proc/sys/net/ipv4/tcp_available_congestion_control").split()
