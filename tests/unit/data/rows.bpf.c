// Iterators that write rows and text, as ebpf_magic.h's ROW leaves them. No includes, as in kinds.bpf.c, and built as it is.
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
static long (*seq_write)(void *seq, const void *data, u32 len) = (void *)127;
static long (*seq_printf)(void *seq, const char *fmt, u32 size, const void *data, u32 len) = (void *)126;
#define ROW(ctx, ...) ({ \
    static typeof(__VA_ARGS__) *em_row __attribute__((section(".em.rows"), used)); \
    (int)seq_write(*(void **)(ctx), &(__VA_ARGS__), sizeof(__VA_ARGS__)); })

enum state { RUNNING, SLEEPING };
struct row { u32 pid; enum state state; char comm[8]; };
struct number { u64 value; };
typedef struct { u32 low, high; } pair_t;

SEC("iter/task") int tasks(void *ctx) { struct row row = {.pid = 1}; ROW(ctx, row); return 0; }
SEC("iter/task") int twice(void *ctx) { struct row row = {.pid = 1}; ROW(ctx, row); ROW(ctx, row); return 0; }
SEC("iter/task") int two_types(void *ctx) { pair_t a = {1, 2}; u64 b = 1; ROW(ctx, a); ROW(ctx, b); return 0; }
SEC("iter/task") int plain(void *ctx) { u64 number = 7; ROW(ctx, number); return 0; }
SEC("iter/task") int text(void *ctx) { return seq_printf(*(void **)ctx, "x", 2, 0, 0); }
static __attribute__((noinline)) int give(void *ctx) { struct number one = {1}; return ROW(ctx, one); }
SEC("iter/task") int by_call(void *ctx) { return give(ctx); }
static inline __attribute__((always_inline)) int put(void *ctx) { struct number one = {2}; return ROW(ctx, one); }
SEC("iter/task") int inlined(void *ctx) { return put(ctx); }
char LICENSE[] SEC("license") = "GPL";
