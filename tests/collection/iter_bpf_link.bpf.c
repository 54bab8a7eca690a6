struct row {
    u32 id;
    u32 type;
    u32 program;
};

SEC("iter/bpf_link")
int links(struct bpf_iter__bpf_link *ctx)
{
    struct bpf_link *link = ctx->link;

    if (!link)
        return 0;
    struct row row = {.id = link->id, .type = link->type};
    if (link->prog)
        row.program = link->prog->aux->id;
    ROW(ctx, row);
    return 0;
}
