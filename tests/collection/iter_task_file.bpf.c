#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

/* The libbpf way: text, a line for each open file of the process that is asked for. */
const volatile __u32 wanted_flags = 02000; /* O_APPEND */

SEC("iter/task_file")
int appending(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;

	if (!task || !file || !(file->f_flags & wanted_flags))
		return 0;
	BPF_SEQ_PRINTF(ctx->meta->seq, "%d %d %ld\n", task->tgid, ctx->fd, file->f_inode->i_ino);
	return 0;
}
