enum turn { EVEN, ODD };
enum wide { SMALL = 1, HUGE = 0x1234567890 };
struct bits {
    u32 round : 3;
    s32 below : 5;
    u32 : 6;
    enum turn turn : 2;
    u32 across : 16;
};
struct shapes {
    struct {
        u16 calls;
        s8 least;
    } inner;
    __int128 big;
    union {
        u32 number;
        struct {
            u16 low, high;
        };
    } as;
    enum wide wide;
    bool seen;
    u8 grid[2][2];
    void *task;
    char text[8];
};
HASH(by_bits, struct bits, u64);
ARRAY(last, struct shapes);

SEC("tracepoint/syscalls/sys_enter_openat")
int on_open(void *ctx)
{
    char comm[16] = {};
    u32 zero = 0;
    struct shapes *shapes = bpf_map_lookup_elem(&last, &zero);
    COMM(comm);
    if (!shapes || bpf_strncmp(comm, 16, "workload-file"))
        return 0;
    u32 call = shapes->inner.calls++;
    struct bits key = {.round = call % 5, .below = -(int)(call % 5), .turn = call & 1, .across = 0x8001};
    shapes->inner.least = -7;
    shapes->big -= ((__int128)1 << 100) + 1;
    shapes->as.number = 0x00020001;
    shapes->wide = HUGE;
    shapes->seen = true;
    shapes->grid[1][0] = 9;
    shapes->task = (void *)bpf_get_current_task();
    __builtin_memcpy(shapes->text, "caf\xc3\xa9", 6);
    COUNT(by_bits, key);
    return 0;
}
