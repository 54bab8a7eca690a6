#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ebpf_magic.h"

HASH(calls, u32, u64);

/* A congestion control that leaves the window alone. */
SEC("struct_ops/count_init")
void BPF_PROG(count_init, struct sock *sk)
{
    COUNT(calls, 1);
}

SEC("struct_ops/count_ssthresh")
__u32 BPF_PROG(count_ssthresh, struct sock *sk)
{
    return 10;
}

SEC("struct_ops/count_cong_avoid")
void BPF_PROG(count_cong_avoid, struct sock *sk, __u32 ack, __u32 acked)
{
}

SEC("struct_ops/count_undo_cwnd")
__u32 BPF_PROG(count_undo_cwnd, struct sock *sk)
{
    return 10;
}

SEC(".struct_ops.link")
struct tcp_congestion_ops em_count = {
    .init = (void *)count_init,
    .ssthresh = (void *)count_ssthresh,
    .cong_avoid = (void *)count_cong_avoid,
    .undo_cwnd = (void *)count_undo_cwnd,
    .flags = 1, /* TCP_CONG_NON_RESTRICTED: for every user */
    .name = "em_count",
};

char LICENSE[] SEC("license") = "GPL";
