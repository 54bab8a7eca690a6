#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} streams SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} messages SEC(".maps");

SEC("sockops")
int collect(struct bpf_sock_ops *ctx)
{
	__u32 zero = 0;

	if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && ctx->local_port == 40113)
		bpf_sock_map_update(ctx, &streams, &zero, BPF_ANY);
	return 1;
}

/* A message is as long as its first byte says. */
SEC("sk_skb/stream_parser")
int parse(struct __sk_buff *skb)
{
	__u8 length;

	return bpf_skb_load_bytes(skb, 0, &length, 1) ? 0 : length;
}

SEC("sk_skb/stream_verdict")
int judge(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&messages, &zero);

	if (count)
		__sync_fetch_and_add(count, 1);
	return SK_PASS;
}

char LICENSE[] SEC("license") = "GPL";
