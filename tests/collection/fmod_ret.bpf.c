struct name {
    char comm[16];
};
HASH(refused, struct name, u64);

SEC("fmod_ret/security_task_getpgid")
int BPF_PROG(on_call, struct task_struct *task, int so_far)
{
    struct name name = {};
    COMM(name.comm);
    if (so_far || bpf_strncmp(name.comm, sizeof(name.comm), "em-fmod_ret"))
        return so_far;
    COUNT(refused, name);
    return -1; /* EPERM */
}
