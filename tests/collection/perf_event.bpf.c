struct place {
    u32 pid;
    u64 page;
};
HASH(faults, struct place, u64, 65536);

SEC("perf_event")
int on_fault(struct bpf_perf_event_data *ctx)
{
    struct place place = {};
    place.pid = PID();
    place.page = ctx->addr >> 12;
    COUNT(faults, place);
    return 0;
}
