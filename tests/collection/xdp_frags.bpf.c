#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} bytes SEC(".maps");

/* A packet of several buffers: ctx->data to data_end is the first of them only. */
SEC("xdp.frags")
int measure(struct xdp_md *ctx)
{
	__u64 length = bpf_xdp_get_buff_len(ctx), *total;
	__u32 zero = 0;

	total = bpf_map_lookup_elem(&bytes, &zero);
	if (total && length > 4096)
		__sync_fetch_and_add(total, length);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
