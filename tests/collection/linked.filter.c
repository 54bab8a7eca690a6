HASH(names, u64, u32);
u32 wanted_calls;

int is_wanted(u32 pid)
{
    u64 comm[2] = {};

    bpf_get_current_comm(comm, sizeof(comm));
    return bpf_map_lookup_elem(&names, &comm[0]) != NULL;
}
