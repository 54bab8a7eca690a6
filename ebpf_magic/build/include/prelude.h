/* SPDX-License-Identifier: Apache-2.0 */
/* What a cell without a single #include is given. */
#include "vmlinux.h"
/*
 * Said again, in a file of a few lines: for the debug information clang looks up the line of each type that a cell uses,
 * and counting the lines of vmlinux.h for that takes a third of compiling a small cell.
 */
typedef signed char __s8;
typedef unsigned char __u8;
typedef short int __s16;
typedef short unsigned int __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long int __s64;
typedef long long unsigned int __u64;
typedef __s8 s8;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "ebpf_magic.h"
