HASH(one_of_mine, u32, u64, 100);
ARRAY(two_of_mine, u64, 7);

struct row {
    u32 id;
    u32 max_entries;
    char name[16];
};

SEC("iter/bpf_map")
int held(struct bpf_iter__bpf_map *ctx)
{
    struct bpf_map *map = ctx->map;

    if (!map)
        return 0;
    struct row row = {.id = map->id, .max_entries = map->max_entries};
    bpf_probe_read_kernel_str(row.name, sizeof(row.name), map->name);
    ROW(ctx, row);
    return 0;
}

SEC("syscall")
int use(void *ctx)
{
    COUNT(one_of_mine, 1);
    ADD(two_of_mine, 0, 1);
    return 0;
}
