struct event {
    u32 pid;
    char name[16];
};
HASH(audits, struct event, u64);

SEC("usdt/python3:python:audit")
int BPF_USDT(on_audit, const char *name)
{
    struct event event = { .pid = PID() };
    bpf_probe_read_user_str(event.name, sizeof(event.name), name);
    COUNT(audits, event);
    return 0;
}
