/* Packets parsed header by header with the headers that user space has, and counted by what becomes of them. */
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct record {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDP_REDIRECT + 1);
	__type(key, __u32);
	__type(value, struct record);
} counters SEC(".maps");

struct cursor {
	void *at;
	void *end;
};

static __always_inline int udp_port(struct cursor *cursor)
{
	struct ethhdr *eth = cursor->at;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp;

	if ((void *)(eth + 1) > cursor->end || eth->h_proto != bpf_htons(ETH_P_IP))
		return -1;
	if ((void *)(ip + 1) > cursor->end || ip->protocol != IPPROTO_UDP)
		return -1;
	udp = (void *)ip + ip->ihl * 4;
	if ((void *)(udp + 1) > cursor->end)
		return -1;
	return bpf_ntohs(udp->dest);
}

SEC("xdp")
int count_by_verdict(struct xdp_md *ctx)
{
	struct cursor cursor = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
	__u32 verdict = udp_port(&cursor) == 40123 ? XDP_DROP : XDP_PASS;
	struct record *record = bpf_map_lookup_elem(&counters, &verdict);

	if (!record)
		return XDP_ABORTED;
	record->packets++;
	record->bytes += ctx->data_end - ctx->data;
	return verdict;
}

char LICENSE[] SEC("license") = "GPL";
