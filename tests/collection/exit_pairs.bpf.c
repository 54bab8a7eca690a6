/* What a system call was asked and what it answered: arguments kept from its entry to its exit, then sent as an event. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define NAME_LEN 64

struct args {
	const char *name;
	int flags;
};

struct event {
	u32 pid;
	int ret;
	int flags;
	char comm[16];
	char name[NAME_LEN];
};

struct answer {
	u32 pid;
	int ret;
};

const volatile bool failed_only = false;
const volatile int wanted_flags = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, struct args);
} pending SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u32));
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, struct event);
} last SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct answer);
	__type(value, u64);
} answers SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_openat")
int on_enter(struct trace_event_raw_sys_enter *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct args args = { (const char *)ctx->args[1], (int)ctx->args[2] };

	if ((args.flags & wanted_flags) == wanted_flags)
		bpf_map_update_elem(&pending, &tid, &args, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int on_exit(struct trace_event_raw_sys_exit *ctx)
{
	u64 id = bpf_get_current_pid_tgid(), one = 1, *count;
	u32 tid = id;
	struct args *args = bpf_map_lookup_elem(&pending, &tid);
	struct answer answer = { id >> 32, ctx->ret };
	struct event event = {};

	if (!args)
		return 0;
	if (failed_only && ctx->ret >= 0)
		goto done;
	event.pid = id >> 32;
	event.ret = ctx->ret;
	event.flags = args->flags;
	bpf_get_current_comm(&event.comm, sizeof(event.comm));
	bpf_probe_read_user_str(&event.name, sizeof(event.name), args->name);
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	bpf_map_update_elem(&last, &event.pid, &event, BPF_ANY);
	count = bpf_map_lookup_elem(&answers, &answer);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&answers, &answer, &one, BPF_ANY);
done:
	bpf_map_delete_elem(&pending, &tid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
