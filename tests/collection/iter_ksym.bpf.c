SEC("iter/ksym")
int symbols(struct bpf_iter__ksym *ctx)
{
    struct kallsym_iter *found = ctx->ksym;

    if (found)
        BPF_SEQ_PRINTF(ctx->meta->seq, "%c %s\n", found->type, found->name);
    return 0;
}
