#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ebpf_magic.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, __u32);
	__type(value, __u64);
} squares SEC(".maps");

struct row {
	__u32 key;
	__u64 value;
};

/* Only what is wanted leaves the kernel: the even keys. */
SEC("iter/bpf_map_elem")
int dump(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *key = ctx->key;
	__u64 *value = ctx->value;

	if (!key || !value || *key & 1)
		return 0;
	struct row row = { .key = *key, .value = *value };
	ROW(ctx, row);
	return 0;
}

SEC("syscall")
int fill(void *ctx)
{
	for (__u32 i = 0; i < 1000; i++) {
		__u32 key = i;
		__u64 value = (__u64)i * i;
		bpf_map_update_elem(&squares, &key, &value, BPF_ANY);
	}
	return 0;
}
