// Every shape of map that data/ gives a type to, and those it refuses. No includes, so that it builds the same everywhere:
//   clang -target bpf -g -O2 -fdebug-compilation-dir=. -c kinds.bpf.c -o kinds.bpf.o && llvm-strip -g kinds.bpf.o
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define TAG(text) __attribute__((btf_decl_tag(text)))
#define MAP(name, map_type, entries, key_t, value_t) \
    struct { int (*type)[map_type]; int (*max_entries)[entries]; key_t *key; value_t *value; } name SEC(".maps")

enum state { RUNNING, SLEEPING, STOPPED = 4, ZOMBIE = -1 };
enum wide { SMALL = 1, HUGE = 0x1234567890ULL };
typedef const enum state state_t;

struct who { u32 pid; char comm[16]; };
struct inner { u16 low; s16 high; };
struct everything {
    u8 a_u8; s8 a_s8; u16 a_u16; s16 a_s16; u32 a_u32; s32 a_s32; u64 a_u64; s64 a_s64;
    _Bool flag; char letter; state_t state; enum wide wide;
    struct inner in; struct { u32 anon_a; union { u32 one_way; }; };
    u32 numbers[3]; u8 grid[2][2]; char names[2][8]; struct inner many[2]; u64 long_array[65]; u64 none[0];
    float single; double twice; void *pointer;
};
struct __attribute__((packed)) tight { u8 head; u64 body; u16 tail; };
struct padded { u8 head; u64 body; };
struct bits { u32 whole; u32 three : 3; u32 five : 5; };
struct either { u32 tag; union { u32 number; float real; } as; };
struct sized { struct who who; __int128 big; };
struct by_who { struct who key; u32 bucket; };
struct by_pid { u32 key; u32 bucket; };
struct numbers { u64 calls; s32 least; double mean; u32 small; char comm[16]; enum state state; _Bool seen; };
struct only { u64 inode; };
typedef char comm_t[16];
typedef u64 four_t[4];

MAP(plain, 1, 1024, u32, u64);
MAP(by_struct, 1, 64, struct who, u64);
MAP(all_kinds, 1, 64, u64, struct everything);
MAP(packed, 2, 8, u32, struct tight);
MAP(padding, 1, 8, struct padded, u8);
MAP(per_cpu, 5, 8, struct who, struct numbers);
MAP(per_cpu_small, 6, 4, u32, u32);
MAP(states, 1, 8, state_t, enum wide);
MAP(one_field, 1, 8, struct only, struct only);
MAP(names, 1, 8, comm_t, s64);
MAP(vectors, 1, 8, u16, four_t);
MAP(with_bits, 1, 8, u32, struct bits);
MAP(with_union, 1, 8, u32, struct either);
MAP(with_int128, 1, 8, u32, struct sized);
struct { int (*type)[1]; int (*max_entries)[16]; int (*key_size)[6]; int (*value_size)[10]; } sizes SEC(".maps");
struct { int (*type)[27]; int (*max_entries)[4096]; } ring SEC(".maps");
MAP(latency, 6, 976, u32, u64) TAG("ebpf_magic.kind:hist") TAG("ebpf_magic.unit:ns");
MAP(latency_by_who, 1, 4096, struct by_who, u64) TAG("ebpf_magic.kind:hist_by") TAG("ebpf_magic.unit:us");
MAP(latency_by_pid, 1, 4096, struct by_pid, u64) TAG("ebpf_magic.kind:hist_by");

u64 first_global = 7;
static volatile u32 hidden = 9;
struct inner second_global = {1, 2};
u64 zeroed[4];
const volatile u32 limit = 3;

char LICENSE[] SEC("license") = "GPL";

static u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;

SEC("tracepoint/first")
int on_first(void *ctx)
{
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    u64 *count = bpf_map_lookup_elem(&plain, &pid);
    if (count)
        *count += 1;
    return 0;
}

SEC("tracepoint/both")
int on_one(void *ctx)
{
    return hidden + limit;
}

SEC("tracepoint/both")
int on_other(void *ctx)
{
    first_global += second_global.low;
    zeroed[1] += 1;
    return bpf_get_current_pid_tgid() & 1;
}
