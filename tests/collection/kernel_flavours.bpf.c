/* One program for kernels whose structs differ: local flavours of a struct, and questions that the loader answers. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

extern int LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_EM_NO_SUCH_SETTING __kconfig __weak;

struct task_struct___before_5_14 {
	volatile long state;
} __attribute__((preserve_access_index));
struct task_struct___since_5_14 {
	unsigned int __state;
} __attribute__((preserve_access_index));
struct em_no_such_struct___here {
	int member;
} __attribute__((preserve_access_index));

struct answers {
	u64 running, other;
	bool has_old_name, has_new_name, has_no_such;
	u32 version;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct answers);
} answers SEC(".maps");

static __always_inline long state_of(void *task)
{
	struct task_struct___since_5_14 *since = task;

	if (bpf_core_field_exists(since->__state))
		return BPF_CORE_READ(since, __state);
	return BPF_CORE_READ((struct task_struct___before_5_14 *)task, state);
}

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_lseek(struct trace_event_raw_sys_enter *ctx)
{
	struct answers *found;
	u32 zero = 0;

	if (ctx->args[1] >> 16 != 0xe021)
		return 0;
	found = bpf_map_lookup_elem(&answers, &zero);
	if (!found)
		return 0;
	if (state_of((void *)bpf_get_current_task()) == 0)
		__sync_fetch_and_add(&found->running, 1);
	else
		__sync_fetch_and_add(&found->other, 1);
	found->has_old_name = bpf_core_field_exists(((struct task_struct___before_5_14 *)0)->state);
	found->has_new_name = bpf_core_field_exists(((struct task_struct___since_5_14 *)0)->__state);
	found->has_no_such = bpf_core_type_exists(struct em_no_such_struct___here) || CONFIG_EM_NO_SUCH_SETTING;
	found->version = LINUX_KERNEL_VERSION;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
