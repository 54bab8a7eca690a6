#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "ebpf_magic.h"

ARRAY(seen, u64);

SEC("netfilter")
int look(struct bpf_nf_ctx *ctx)
{
    struct sk_buff *skb = ctx->skb;
    struct iphdr ip = {};
    struct udphdr udp = {};
    unsigned char *head = BPF_CORE_READ(skb, head);
    u16 at = BPF_CORE_READ(skb, network_header);

    bpf_probe_read_kernel(&ip, sizeof(ip), head + at);
    bpf_probe_read_kernel(&udp, sizeof(udp), head + at + sizeof(ip));
    if (ip.protocol != IPPROTO_UDP || udp.dest != __builtin_bswap16(40104))
        return 1; /* NF_ACCEPT */
    COUNT(seen, 0);
    return 0; /* NF_DROP */
}

char LICENSE[] SEC("license") = "GPL";
