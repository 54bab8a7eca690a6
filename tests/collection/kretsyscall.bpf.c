struct answer {
    u32 pid;
    s32 returned;
};
HASH(calls, struct answer, u64);

SEC("kretsyscall/getpgid")
int BPF_KRETPROBE(on_return, long returned)
{
    struct answer answer = { .pid = PID(), .returned = returned };
    COUNT(calls, answer);
    return 0;
}
