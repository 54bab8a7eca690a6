LRU_HASH(seeks, u32, u64, 1024);

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_lseek(struct trace_event_raw_sys_enter *ctx)
{
	u32 place = ctx->args[1] & 0xffff;

	if (ctx->args[1] >> 16 == 0xe004)
		COUNT(seeks, place);
	return 0;
}
