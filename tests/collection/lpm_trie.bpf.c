#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct address {
	__u32 prefixlen;
	__u8 data[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16);
	__type(key, struct address);
	__type(value, __u64);
} routes SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_lseek(struct trace_event_raw_sys_enter *ctx)
{
	/* 10.x.y.1, by the place that is sought. */
	struct address address = { 32, { 10, ctx->args[1] >> 8, ctx->args[1], 1 } };
	__u64 *count;

	if (ctx->args[1] >> 16 != 0xe006)
		return 0;
	count = bpf_map_lookup_elem(&routes, &address);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
