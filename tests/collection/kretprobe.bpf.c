struct answer {
    u32 pid;
    s32 returned;
};
HASH(opens, struct answer, u64);

SEC("kretprobe/do_sys_openat2")
int BPF_KRETPROBE(on_return, long returned)
{
    struct answer answer = { .pid = PID(), .returned = returned };
    COUNT(opens, answer);
    return 0;
}
