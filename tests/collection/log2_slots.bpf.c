/* Sizes of writes by powers of two: slots in a struct for each process, settings in .rodata, a header beside. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "lookup_or_init.bpf.h"

#define MAX_SLOTS 12

struct hist {
	__u32 slots[MAX_SLOTS];
	char comm[16];
};

const volatile __u64 wanted_offset = 0;
const volatile bool per_thread = false;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, struct hist);
} hists SEC(".maps");

static struct hist zero;

static __always_inline u32 log2_of(u32 value)
{
	u32 result = 0;

#pragma unroll
	for (int shift = 16; shift; shift >>= 1)
		if (value >> shift) {
			value >>= shift;
			result += shift;
		}
	return result;
}

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_lseek(struct trace_event_raw_sys_enter *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 key = per_thread ? id : id >> 32, slot;
	struct hist *hist;

	if (ctx->args[1] >> 16 != wanted_offset)
		return 0;
	hist = lookup_or_init(&hists, &key, &zero);
	if (!hist)
		return 0;
	slot = log2_of(ctx->args[1] & 0xffff);
	if (slot >= MAX_SLOTS)
		slot = MAX_SLOTS - 1;
	__sync_fetch_and_add(&hist->slots[slot], 1);
	bpf_get_current_comm(&hist->comm, sizeof(hist->comm));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
