ARRAY(opened, u64);

SEC("cgroup/dev")
int on_device(struct bpf_cgroup_dev_ctx *ctx)
{
    if (ctx->major == 1 && ctx->minor == 7)
        COUNT(opened, 0);
    return 1;
}
