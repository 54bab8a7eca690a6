// What kinds.bpf.c has not: bit fields, unions, wide integers and enums, forms, variables. With clang 15 or later, since
// earlier ones have no enum64:
//   python -m ziglang cc -target bpfel-freestanding -g -O2 -fdebug-compilation-dir=. -c types.bpf.c -o types.bpf.o && llvm-strip -g types.bpf.o
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u64 __be64;
typedef u32 __kernel_dev_t;
typedef __kernel_dev_t dev_t;

#define SEC(name) __attribute__((section(name), used))
#define TAG(text) __attribute__((btf_decl_tag(text)))
#define AS(form) TAG("ebpf_magic.show:" #form)
#define MAP(name, map_type, entries, key_t, value_t) \
    struct { int (*type)[map_type]; int (*max_entries)[entries]; key_t *key; value_t *value; } name SEC(".maps")

enum level { LOW, HIGH = 5 };
enum wide { SMALL = 1, HUGE = 0x1234567890ULL };
enum signed_wide { DEEP = -0x1234567890LL, NONE = 0 };
struct in_addr { __be32 s_addr; };
struct in6_addr { union { u8 u6_addr8[16]; __be16 u6_addr16[8]; __be32 u6_addr32[4]; } in6_u; };
typedef u32 address_t AS(ipv4);
struct opaque;

struct bits {
    u32 three : 3; s32 five : 5; u32 : 7; u32 most : 17;
    u64 low : 4; s64 long_one : 59; _Bool flag : 1;
    enum level level : 4; s32 last : 28;
};
struct __attribute__((packed)) tight_bits { u8 head : 3; u64 across : 62; s64 behind : 7; __int128 huge : 90; };
struct either {
    u32 tag;
    union { u32 number; float real; char text[4]; struct { u16 low; u16 high; } halves; } as;
    union { u32 one_way; u8 other_way[4]; };
};
struct wide_ones { __int128 negative; unsigned __int128 large; enum wide wide; enum signed_wide below; };
struct network {
    struct in_addr by_type; u32 source AS(ipv4); u8 octets[4] AS(ipv4); address_t by_typedef; u32 two[2] AS(ipv4);
    struct in6_addr six; u8 raw_six[16] AS(ipv6); u8 h_source[6]; u8 mac[6] AS(mac);
    __be16 sport; u16 dport AS(port); __be32 seq; __be32 daddr; __be64 cookie;
    dev_t dev; u64 ino AS(inode); u64 cgroup AS(cgroup); u64 flags AS(hex);
};
struct odd { struct opaque *forward; void (*call)(int); void *nothing; };
struct timer { u64 : 64; u64 : 64; };

MAP(with_bits, 1, 8, struct bits, struct bits);
MAP(tight, 1, 8, u32, struct tight_bits);
MAP(with_union, 1, 8, struct either, struct either);
MAP(union_alone, 1, 8, u32, union { u64 whole; u8 part; });
MAP(wide_ones, 1, 8, unsigned __int128, struct wide_ones);
MAP(per_cpu_wide, 5, 8, u32, struct wide_ones);
MAP(per_cpu_union, 5, 8, u32, struct either);
MAP(network, 1, 8, struct in_addr, struct network);
MAP(per_cpu_network, 5, 8, u32, struct network);
MAP(tagged, 1, 8, u32, u64) TAG("ebpf_magic.key:ipv4") TAG("ebpf_magic.value:cgroup");
MAP(odd, 1, 8, u32, struct odd);
MAP(timers, 1, 8, u32, struct timer);
struct by_address { u32 key; u32 bucket; };
MAP(latency, 1, 8, struct by_address, u64) TAG("ebpf_magic.kind:hist_by") TAG("ebpf_magic.key:ipv4");

const volatile u32 limit = 3;
const u32 folded[2] = {1, 2};
u64 counters[100];
struct in_addr server AS(ipv4) = {0x0100007f};
volatile u32 custom SEC(".data.mine") = 4;

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp")
int on_event(u64 *ctx)
{
    counters[ctx[0] & 63] += limit + folded[ctx[1] & 1] + server.s_addr + custom;
    return 0;
}
