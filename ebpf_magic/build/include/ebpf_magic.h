/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The short names of ebpf_magic. They are there in a cell without a single #include; a cell with its own gets them by
 * #include "ebpf_magic.h", after vmlinux.h where it uses that. Lines that begin with two stars are what `%%ebpf?` shows.
 *
 * All code stands in macros, not in functions, so that every instruction carries a line of the cell. Keys come last or as
 * __VA_ARGS__, since the commas of a compound literal or of {.a = 1, .b = 2} part the arguments of a macro.
 */
#ifndef EBPF_MAGIC_H
#define EBPF_MAGIC_H

#ifndef __VMLINUX_H__
#include <linux/bpf.h>
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
#endif
#include <bpf/bpf_helpers.h>

#define EM_BUCKETS 976

/* The one entry of a HIST: read in one copy, where an entry for each bucket takes 976. */
struct em_buckets {
	__u64 counts[EM_BUCKETS];
};

/* What a map could not take. `full`: updates it refused; `unseen`: ELAPSED_NS() without a START(). */
struct em_missed {
	__u64 full;
	__u64 unseen;
};

/* Numbers and not enumerators: they are the same in every kernel, and <linux/types.h> alone does not have them. */
#define EM_HASH 1
#define EM_ARRAY 2
#define EM_PERCPU_HASH 5
#define EM_PERCPU_ARRAY 6
#define EM_LRU_HASH 9
#define EM_NOEXIST 1

#define EM_SECOND(first, second, ...) second
#define EM_OR(standard, ...) EM_SECOND(0, ##__VA_ARGS__, standard)
#define EM_TAG(text) __attribute__((btf_decl_tag("ebpf_magic." text)))
#define EM_MISSED(name) struct em_missed name##__missed SEC(".data.em")
#define EM_MAP(kind, name, K, V, n)                                                                                    \
	struct {                                                                                                       \
		__uint(type, kind);                                                                                    \
		__type(key, K);                                                                                        \
		__type(value, V);                                                                                      \
		__uint(max_entries, n);                                                                                \
	} name SEC(".maps")

/** HASH(name, K, V[, max_entries]): a hash from K to V; 10,240 entries unless said */
#define HASH(name, K, V, ...) EM_MISSED(name); EM_MAP(EM_HASH, name, K, V, EM_OR(10240, ##__VA_ARGS__))
/** LRU_HASH(name, K, V[, max_entries]): a hash that drops what was not used for long when it is full */
#define LRU_HASH(name, K, V, ...) EM_MISSED(name); EM_MAP(EM_LRU_HASH, name, K, V, EM_OR(10240, ##__VA_ARGS__))
/** ARRAY(name, V[, n]): an array of n values, keys 0 to n - 1; one unless said */
#define ARRAY(name, V, ...) EM_MISSED(name); EM_MAP(EM_ARRAY, name, __u32, V, EM_OR(1, ##__VA_ARGS__))
/** PERCPU_HASH(name, K, V[, max_entries]): a hash with a value of its own on each CPU */
#define PERCPU_HASH(name, K, V, ...) EM_MISSED(name); EM_MAP(EM_PERCPU_HASH, name, K, V, EM_OR(10240, ##__VA_ARGS__))
/** PERCPU_ARRAY(name, V[, n]): an array with values of its own on each CPU */
#define PERCPU_ARRAY(name, V, ...) EM_MISSED(name); EM_MAP(EM_PERCPU_ARRAY, name, __u32, V, EM_OR(1, ##__VA_ARGS__))

/** AS(form): behind a member, a variable or a typedef: show it as ipv4, ipv6, mac, port, be, dev, inode, cgroup or hex */
#define AS(form) EM_TAG("show:" #form)
/** KEY_AS(form): behind a map: show its plain key so; port and be are numbers in network byte order */
#define KEY_AS(form) EM_TAG("key:" #form)
/** VALUE_AS(form): behind a map: show its plain value so */
#define VALUE_AS(form) EM_TAG("value:" #form)

/** COUNT(map, key): add 1 to the map's value at key */
#define COUNT(map, ...)                                                                                                \
	({                                                                                                             \
		typeof(*(map).key) em_key_ = __VA_ARGS__;                                                              \
		EM_ADD(map, em_key_, 1);                                                                               \
	})
/** ADD(map, key, n): add n to the map's value at key */
#define ADD(map, ...)                                                                                                  \
	({                                                                                                             \
		EM_PAIR(*(map).key, *(map).value, __VA_ARGS__);                                                        \
		EM_ADD(map, em_pair_.key, em_pair_.number);                                                            \
	})

/** HIST(name, "ns"): a histogram, 16 buckets to a power of two, with the unit of what it measures */
#define HIST(name, unit)                                                                                               \
	EM_MAP(EM_PERCPU_ARRAY, name, __u32, struct em_buckets, 1) EM_TAG("kind:hist") EM_TAG("unit:" unit)
/** HIST_BY(name, K, "ns"[, max_entries]): a histogram for each key; an entry is an occupied bucket of a key, 16,384 unless said */
#define HIST_BY(name, K, unit, ...)                                                                                    \
	EM_MISSED(name);                                                                                               \
	struct name##__key {                                                                                           \
		typeof(K) key;                                                                                         \
		__u32 bucket;                                                                                          \
	};                                                                                                             \
	EM_MAP(EM_HASH, name, struct name##__key, __u64, EM_OR(16384, ##__VA_ARGS__))                                  \
	EM_TAG("kind:hist_by") EM_TAG("unit:" unit)
/** OBSERVE(hist, value): count a value in a histogram */
#define OBSERVE(hist, value)                                                                                           \
	({                                                                                                             \
		__u32 em_zero_ = 0, em_bucket_ = EM_BUCKET(value);                                                     \
		struct em_buckets *em_buckets_ = bpf_map_lookup_elem(&(hist), &em_zero_);                              \
		/* clang knows the bound and would leave out what the verifier wants to see. */                        \
		__asm__ volatile("" : "+r"(em_bucket_));                                                               \
		if (em_buckets_ && em_bucket_ < EM_BUCKETS)                                                            \
			__sync_fetch_and_add(&em_buckets_->counts[em_bucket_], 1);                                     \
	})
/** OBSERVE_BY(hist, key, value): count a value in the key's histogram */
#define OBSERVE_BY(hist, ...)                                                                                          \
	({                                                                                                             \
		EM_PAIR((*(hist).key).key, __u64, __VA_ARGS__);                                                        \
		typeof(*(hist).key) em_key_;                                                                           \
		__builtin_memset(&em_key_, 0, sizeof(em_key_));                                                        \
		em_key_.key = em_pair_.key;                                                                            \
		em_key_.bucket = EM_BUCKET(em_pair_.number);                                                           \
		EM_ADD(hist, em_key_, 1);                                                                              \
	})

/** START(map, key): note the time at key, in a map whose value is u64 */
#define START(map, ...)                                                                                                \
	({                                                                                                             \
		_Static_assert(sizeof(*(map).value) == 8, "START needs a map whose value is u64");                     \
		typeof(*(map).key) em_key_ = __VA_ARGS__;                                                              \
		__u64 em_now_ = bpf_ktime_get_ns();                                                                    \
		if (bpf_map_update_elem(&(map), &em_key_, &em_now_, 0))                                                \
			__sync_fetch_and_add(&map##__missed.full, 1);                                                  \
	})
/** ELAPSED_NS(map, key): nanoseconds since START at key, whose entry it deletes; 0 when there was no START */
#define ELAPSED_NS(map, ...)                                                                                           \
	({                                                                                                             \
		_Static_assert(sizeof(*(map).value) == 8, "ELAPSED_NS needs a map whose value is u64");                \
		typeof(*(map).key) em_key_ = __VA_ARGS__;                                                              \
		__u64 em_elapsed_ = 0, *em_start_ = bpf_map_lookup_elem(&(map), &em_key_);                             \
		/* An array's entries cannot be deleted and begin as 0. */                                             \
		if (em_start_ && *em_start_) {                                                                         \
			em_elapsed_ = bpf_ktime_get_ns() - *em_start_;                                                 \
			em_elapsed_ += !em_elapsed_;                                                                   \
			*em_start_ = 0;                                                                                \
			bpf_map_delete_elem(&(map), &em_key_);                                                         \
		} else {                                                                                               \
			__sync_fetch_and_add(&map##__missed.unseen, 1);                                                \
		}                                                                                                      \
		em_elapsed_;                                                                                           \
	})

/** ROW(ctx, value): write a value, such as a struct in a variable, as one row of what an iterator gives */
#define ROW(ctx, ...)                                                                                                  \
	({                                                                                                             \
		/* From this the notebook knows the type; libbpf passes the section over. */                           \
		static typeof(__VA_ARGS__) *em_row __attribute__((section(".em.rows"), used));                         \
		(int)bpf_seq_write((ctx)->meta->seq, &(__VA_ARGS__), sizeof(__VA_ARGS__));                             \
	})

/** PID(): the process (what the kernel calls tgid) */
#define PID() ((__u32)(bpf_get_current_pid_tgid() >> 32))
/** TID(): the thread (what the kernel calls pid) */
#define TID() ((__u32)bpf_get_current_pid_tgid())
/** COMM(buf): copy the thread's name into buf, a char[16] */
#define COMM(buf) bpf_get_current_comm(&(buf), sizeof(buf))
/** NOW_NS(): nanoseconds since boot, without the time asleep */
#define NOW_NS() bpf_ktime_get_ns()
/** CPU(): the CPU this runs on */
#define CPU() ((__u32)bpf_get_smp_processor_id())

/* A key and a number from the arguments of a macro, as the two members of a struct; a missing or an extra one is an error. */
#define EM_PAIR(K, N, ...)                                                                                             \
	_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic error \"-Wmissing-braces\"")                            \
	_Pragma("GCC diagnostic error \"-Wmissing-field-initializers\"")                                               \
	_Pragma("GCC diagnostic error \"-Wexcess-initializers\"")                                                      \
	struct {                                                                                                       \
		typeof(K) key;                                                                                         \
		typeof(N) number;                                                                                      \
	} em_pair_ = { __VA_ARGS__ };                                                                                  \
	_Pragma("GCC diagnostic pop")

/* Another CPU may add the entry between our lookup and our update: the update then fails and the second lookup finds it. */
#define EM_ADD(map, key_, number_)                                                                                     \
	({                                                                                                             \
		_Static_assert(sizeof(*(map).value) == 4 || sizeof(*(map).value) == 8,                                 \
			       "only a map whose value is a number of 32 or 64 bits can be counted in");              \
		typeof(*(map).value) em_number_ = (number_);                                                           \
		typeof(*(map).value) *em_value_ = bpf_map_lookup_elem(&(map), &(key_));                                \
		if (!em_value_ && bpf_map_update_elem(&(map), &(key_), &em_number_, EM_NOEXIST)) {                     \
			em_value_ = bpf_map_lookup_elem(&(map), &(key_));                                              \
			if (!em_value_)                                                                                \
				__sync_fetch_and_add(&map##__missed.full, 1);                                          \
		}                                                                                                      \
		if (em_value_)                                                                                         \
			__sync_fetch_and_add(em_value_, em_number_);                                                   \
	})

/*
 * The bucket of a value v: v itself below 16; above, with e = floor(log2 v), (e - 3) * 16 plus the four bits after the
 * first. Without a branch, so that the verifier has one path: all bits below the first are set and counted.
 */
#define EM_BUCKET(value_)                                                                                              \
	({                                                                                                             \
		__u64 em_of_ = (value_), em_bits_ = em_of_ | 16;                                                       \
		em_bits_ |= em_bits_ >> 1;                                                                             \
		em_bits_ |= em_bits_ >> 2;                                                                             \
		em_bits_ |= em_bits_ >> 4;                                                                             \
		em_bits_ |= em_bits_ >> 8;                                                                             \
		em_bits_ |= em_bits_ >> 16;                                                                            \
		em_bits_ |= em_bits_ >> 32;                                                                            \
		em_bits_ -= (em_bits_ >> 1) & 0x5555555555555555ULL;                                                   \
		em_bits_ = (em_bits_ & 0x3333333333333333ULL) + ((em_bits_ >> 2) & 0x3333333333333333ULL);             \
		em_bits_ = (em_bits_ + (em_bits_ >> 4)) & 0x0f0f0f0f0f0f0f0fULL;                                       \
		__u64 em_shift_ = ((em_bits_ * 0x0101010101010101ULL) >> 56) - 5; /* floor(log2(v | 16)) - 4 */        \
		(__u32)((em_shift_ << 4) + (em_of_ >> em_shift_));                                                     \
	})

#endif
