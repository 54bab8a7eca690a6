HASH(asked, s32, u64);

SEC("ksyscall/getpgid")
int BPF_KSYSCALL(on_call, pid_t pid)
{
    COUNT(asked, pid);
    return 0;
}
