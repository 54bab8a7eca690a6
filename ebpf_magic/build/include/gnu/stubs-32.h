/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C library's headers, <string.h> say, ask for this list of functions that a 32-bit system lacks, for BPF is no
 * architecture of theirs; it lies in a package that hardly anybody has. In the kernel there is none of them anyhow.
 */
