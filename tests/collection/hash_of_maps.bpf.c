#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct seeks {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} even SEC(".maps"), odd SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, __u32);
	__array(values, struct seeks);
} outer SEC(".maps") = { .values = { [0] = &even, [2] = &odd } };

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_lseek(struct trace_event_raw_sys_enter *ctx)
{
	__u32 which = ctx->args[1] & 1 ? 2 : 0, place = ctx->args[1] & 3;
	__u64 one = 1, *count;
	void *inner;

	if (ctx->args[1] >> 16 != 0xe00b)
		return 0;
	inner = bpf_map_lookup_elem(&outer, &which);
	if (!inner)
		return 0;
	count = bpf_map_lookup_elem(inner, &place);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(inner, &place, &one, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
