/* A program array that is full when it is loaded: which programs it holds stands in its declaration. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define STEPS 2

u64 taken[STEPS + 1];

static __always_inline int is_ours(struct trace_event_raw_sys_enter *ctx)
{
	return ctx->args[1] >> 16 == 0xe022;
}

int even(struct trace_event_raw_sys_enter *ctx);
int odd(struct trace_event_raw_sys_enter *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STEPS);
	__uint(key_size, sizeof(u32));
	__array(values, int(void *));
} steps SEC(".maps") = {
	.values = { [0] = (void *)&even, [1] = (void *)&odd },
};

SEC("tracepoint")
int even(struct trace_event_raw_sys_enter *ctx)
{
	__sync_fetch_and_add(&taken[0], 1);
	return 0;
}

SEC("tracepoint")
int odd(struct trace_event_raw_sys_enter *ctx)
{
	__sync_fetch_and_add(&taken[1], 1);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_lseek(struct trace_event_raw_sys_enter *ctx)
{
	if (!is_ours(ctx))
		return 0;
	bpf_tail_call(ctx, &steps, ctx->args[1] & 3);
	__sync_fetch_and_add(&taken[STEPS], 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
