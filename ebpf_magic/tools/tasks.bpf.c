/* Every thread, as `ebpf_magic.tasks` gives it. */
struct row {
	u32 pid;
	u32 tid;
	u32 ppid;
	char comm[16];
	char state[1];
	bool is_kernel;
	u32 uid;
	u64 cgroup_id;
	u64 start_ns;
	u64 run_ns;
	u64 user_ns;
	u64 system_ns;
	s64 rss_pages;
};

#define PF_KTHREAD 0x00200000
#define FILE_PAGES 0
#define ANON_PAGES 1
#define SHMEM_PAGES 3
/* TASK_REPORT and TASK_IDLE of include/linux/sched.h; the letters are those of fs/proc/array.c. */
#define STATES_SHOWN 0x7f
#define STATE_IDLE 0x402

/* Before 2f064a59a11f ("sched: Change task_struct::state"), v5.14, the field is "state". */
struct task_struct___new {
	unsigned int __state;
} __attribute__((preserve_access_index));
struct task_struct___old {
	volatile long state;
} __attribute__((preserve_access_index));

/* Before f1a7941243c1 ("mm: convert mm's rss stats into percpu_counter"), v6.2, they are one struct. */
struct mm_struct___new {
	struct percpu_counter rss_stat[4];
} __attribute__((preserve_access_index));
struct mm_rss_stat___old {
	atomic_long_t count[4];
} __attribute__((preserve_access_index));
struct mm_struct___old {
	struct mm_rss_stat___old rss_stat;
} __attribute__((preserve_access_index));

static __always_inline char state_of(struct task_struct *task)
{
	struct task_struct___new *now = (void *)task;
	struct task_struct___old *then = (void *)task;
	u32 state = bpf_core_field_exists(now->__state) ? now->__state : then->state;

	if (state == STATE_IDLE)
		return 'I';
	state = (state | task->exit_state) & STATES_SHOWN;
	if (state & 0x40)
		return 'P';
	if (state & 0x20)
		return 'Z';
	if (state & 0x10)
		return 'X';
	if (state & 0x08)
		return 't';
	if (state & 0x04)
		return 'T';
	if (state & 0x02)
		return 'D';
	return state & 0x01 ? 'S' : 'R';
}

static __always_inline s64 rss_pages(struct mm_struct *mm)
{
	struct mm_struct___new *now = (void *)mm;
	struct mm_struct___old *then = (void *)mm;

	/* By a helper: the verifier of those kernels takes an array of atomic_long_t for no member that can be read. */
	if (bpf_core_field_exists(then->rss_stat.count))
		return BPF_CORE_READ(then, rss_stat.count[FILE_PAGES].counter) +
		       BPF_CORE_READ(then, rss_stat.count[ANON_PAGES].counter) +
		       BPF_CORE_READ(then, rss_stat.count[SHMEM_PAGES].counter);
	return now->rss_stat[FILE_PAGES].count + now->rss_stat[ANON_PAGES].count + now->rss_stat[SHMEM_PAGES].count;
}

SEC("iter/task")
int tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct mm_struct *mm;
	struct row row;

	if (!task)
		return 0;
	__builtin_memset(&row, 0, sizeof(row));
	row.pid = task->tgid;
	row.tid = task->pid;
	row.ppid = task->real_parent->tgid;
	bpf_probe_read_kernel_str(row.comm, sizeof(row.comm), task->comm);
	row.state[0] = state_of(task);
	row.is_kernel = task->flags & PF_KTHREAD;
	row.uid = task->real_cred->uid.val;
	row.cgroup_id = task->cgroups->dfl_cgrp->kn->id;
	row.start_ns = task->start_boottime;
	row.run_ns = task->se.sum_exec_runtime;
	row.user_ns = task->utime;
	row.system_ns = task->stime;
	mm = task->mm;
	if (mm && !row.is_kernel)
		row.rss_pages = rss_pages(mm);
	ROW(ctx, row);
	return 0;
}
