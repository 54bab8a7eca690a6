HASH(calls, u32, u64);

SEC("kretprobe.multi/security_task_get[ps]*id")
int on_call(void *ctx)
{
    COUNT(calls, PID());
    return 0;
}
