#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define LEVEL 4711 /* no protocol's: the kernel itself never sees it */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} set SEC(".maps");

SEC("cgroup/setsockopt")
int on_set(struct bpf_sockopt *ctx)
{
	__u64 one = 1, *count;
	__u32 name = ctx->optname;

	if (ctx->level != LEVEL)
		return 1;
	count = bpf_map_lookup_elem(&set, &name);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&set, &name, &one, BPF_ANY);
	ctx->optlen = -1; /* done: past the kernel's own handler */
	return 1;
}

SEC("cgroup/getsockopt")
int on_get(struct bpf_sockopt *ctx)
{
	__u8 *value = ctx->optval;

	if (ctx->level != LEVEL)
		return 1;
	if (value + 1 > (__u8 *)ctx->optval_end)
		return 0;
	value[0] = ctx->optname + 1;
	ctx->optlen = 1;
	barrier(); /* or clang stores both at once, which the verifier takes for no field of the context */
	ctx->retval = 0;
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
