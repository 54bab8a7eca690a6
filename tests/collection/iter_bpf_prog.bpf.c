struct row {
    u32 id;
    u32 type;
    char name[16];
};

SEC("iter/bpf_prog")
int loaded(struct bpf_iter__bpf_prog *ctx)
{
    struct bpf_prog *prog = ctx->prog;

    if (!prog)
        return 0;
    struct row row = {.id = prog->aux->id, .type = prog->type};
    bpf_probe_read_kernel_str(row.name, sizeof(row.name), prog->aux->name);
    ROW(ctx, row);
    return 0;
}

SEC("syscall")
int another(void *ctx)
{
    return 0;
}
