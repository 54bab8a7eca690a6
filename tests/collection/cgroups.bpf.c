struct where {
    u64 cgroup AS(cgroup);
};
HASH(opens, struct where, u64);

SEC("tracepoint/syscalls/sys_enter_openat")
int on_open(void *ctx)
{
    char comm[16] = {};
    struct where where = {bpf_get_current_cgroup_id()};
    COMM(comm);
    if (!bpf_strncmp(comm, 16, "workload-file"))
        COUNT(opens, where);
    return 0;
}
