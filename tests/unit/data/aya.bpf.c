/*
 * What Rust's aya makes: maps as structs of numbers in the section `maps` (aya-ebpf's bpf_map_def), and no BTF.
 *
 * clang -target bpf -O2 -c aya.bpf.c -o aya.bpf.o
 * clang -target bpf -O2 -g -c aya.bpf.c -o aya_btf.bpf.o && llvm-strip -g aya_btf.bpf.o
 */
typedef unsigned int u32;
typedef unsigned long long u64;

struct bpf_map_def {
	u32 type, key_size, value_size, max_entries, map_flags, id, pinning;
};

#define SEC(name) __attribute__((section(name), used))
SEC("maps") struct bpf_map_def COUNTS = { 1, 4, 8, 1024, 0, 0, 0 };
SEC("maps") struct bpf_map_def TOTAL = { 2, 4, 8, 1, 0, 0, 0 };
SEC("maps") struct bpf_map_def PINNED = { 1, 4, 8, 16, 1, 0, 1 };
SEC("license") char LICENSE[] = "Dual MIT/GPL";

static void *(*lookup)(void *, const void *) = (void *)1;
static long (*update)(void *, const void *, const void *, u64) = (void *)2;
static u64 (*pid_tgid)(void) = (void *)14;

SEC("tracepoint/syscalls/sys_enter_getppid") int count(void *ctx)
{
	u32 pid = pid_tgid() >> 32, zero = 0;
	u64 one = 1, *value = lookup(&COUNTS, &pid);

	if (value)
		__sync_fetch_and_add(value, 1);
	else
		update(&COUNTS, &pid, &one, 0);
	value = lookup(&TOTAL, &zero);
	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}
