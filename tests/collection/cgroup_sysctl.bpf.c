ARRAY(reads, u64);

SEC("cgroup/sysctl")
int on_sysctl(struct bpf_sysctl *ctx)
{
    char name[32] = {};

    bpf_sysctl_get_name(ctx, name, sizeof(name), 0);
    /* net/core/optmem_max */
    if (!ctx->write && name[0] == 'n' && name[4] == 'c' && name[9] == 'o' && name[18] == 'x')
        COUNT(reads, 0);
    return 1;
}
