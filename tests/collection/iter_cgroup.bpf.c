struct row {
    u64 id;
    u32 level;
};

SEC("iter/cgroup")
int groups(struct bpf_iter__cgroup *ctx)
{
    struct cgroup *group = ctx->cgroup;

    if (!group)
        return 0;
    struct row row = {.id = group->kn->id, .level = group->level};
    ROW(ctx, row);
    return 0;
}
