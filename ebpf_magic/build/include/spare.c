/* SPDX-License-Identifier: Apache-2.0 */
/* What a compiler started ahead compiles: it has read the prelude when it comes here, and waits for the cell. */
#include "/dev/stdin"
