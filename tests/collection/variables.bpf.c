struct totals {
    u64 calls;
    u32 flags : 4;
    char last[16];
};
const volatile u32 step = 1;
const volatile char wanted[16] = "nobody";
volatile u32 factor = 1;
u32 neighbour;
struct totals totals;
u64 apart[3] SEC(".data.apart");

SEC("tracepoint/syscalls/sys_enter_openat")
int on_open(void *ctx)
{
    char comm[16] = {};
    COMM(comm);
    for (int i = 0; i < 16; i++)
        if (comm[i] != wanted[i])
            return 0;
    __sync_fetch_and_add(&neighbour, 1);
    __sync_fetch_and_add(&totals.calls, step * factor);
    __sync_fetch_and_add(&apart[1], 1);
    totals.flags = 9;
    __builtin_memcpy(totals.last, comm, 16);
    return 0;
}
