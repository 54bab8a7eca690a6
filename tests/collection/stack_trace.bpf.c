#define DEPTH 32

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 256);
	__uint(key_size, 4);
	__uint(value_size, DEPTH * 8);
} stacks SEC(".maps");
HASH(seeks, s32, u64);

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_lseek(struct trace_event_raw_sys_enter *ctx)
{
	if (ctx->args[1] >> 16 == 0xe00e)
		COUNT(seeks, bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK));
	return 0;
}
