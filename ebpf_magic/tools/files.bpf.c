/* Every open file of every process, as `ebpf_magic.files` gives it. */
struct row {
	u32 pid;
	u32 fd;
	u64 inode;
	u64 pos;
	u32 device AS(dev);
	u32 mode;
	u32 flags;
	char path[256];
};

SEC("iter/task_file")
int files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct inode *inode;
	struct row row;

	if (!task || !file)
		return 0;
	__builtin_memset(&row, 0, sizeof(row));
	inode = file->f_inode;
	row.pid = task->tgid;
	row.fd = ctx->fd;
	row.inode = inode->i_ino;
	row.device = inode->i_sb->s_dev;
	row.mode = inode->i_mode;
	row.pos = file->f_pos;
	row.flags = file->f_flags;
	if (bpf_d_path(&file->f_path, row.path, sizeof(row.path)) < 0) {
		/* Longer than there is room for: its last part, marked. */
		__builtin_memset(row.path, 0, sizeof(row.path));
		row.path[0] = row.path[1] = row.path[2] = '.';
		row.path[3] = '/';
		bpf_probe_read_kernel_str(row.path + 4, sizeof(row.path) - 4, file->f_path.dentry->d_name.name);
	}
	ROW(ctx, row);
	return 0;
}
