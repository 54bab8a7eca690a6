PERCPU_ARRAY(seeks, u64, 4);

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_lseek(struct trace_event_raw_sys_enter *ctx)
{
	u32 index = ctx->args[1] & 3;

	if (ctx->args[1] >> 16 == 0xe002)
		COUNT(seeks, index);
	return 0;
}
