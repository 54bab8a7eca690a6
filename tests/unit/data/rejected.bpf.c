HASH(counts, u32, u64);
static __noinline int helper(u32 *key)
{
	u64 *value = bpf_map_lookup_elem(&counts, key);
	return *value;
}
SEC("raw_tp/sys_enter")
int good(void *ctx)
{
	COUNT(counts, PID());
	return 0;
}
SEC("raw_tp/sys_enter")
int bad(void *ctx)
{
	u32 pid = PID();
	u64 *count = bpf_map_lookup_elem(&counts, &pid);
	*count += 1;
	return 0;
}
SEC("raw_tp/sys_enter")
int calls(void *ctx)
{
	u32 pid = PID();
	return helper(&pid);
}
