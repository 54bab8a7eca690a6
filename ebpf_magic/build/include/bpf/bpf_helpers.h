/* SPDX-License-Identifier: Apache-2.0 */
/* What programs of today take from libbpf's header of this name, where the one installed is older. */
#include_next <bpf/bpf_helpers.h>

/* Since libbpf 1.2. */
#ifndef bpf_ksym_exists
#define bpf_ksym_exists(sym) (!!(sym))
#endif

/* Since libbpf 1.3: loops whose end the verifier knows, by iterators that the kernel has since 6.4. */
#ifndef bpf_for_each
#define bpf_for_each(type, cur, args...) EM_ITERATE(type, ((cur) = bpf_iter_##type##_next(&em_it_)), ##args)
#endif
#ifndef bpf_for
#define bpf_for(i, start, end)                                                                                         \
	EM_ITERATE(num, ({                                                                                             \
			   int *em_next_ = bpf_iter_num_next(&em_it_);                                                 \
			   em_next_ && ((i) = *em_next_, (i) >= (start) && (i) < (end));                               \
		   }),                                                                                                 \
		   (start), (end))
#endif
#ifndef bpf_repeat
#define bpf_repeat(n) EM_ITERATE(num, bpf_iter_num_next(&em_it_), 0, (n))
#endif

#ifndef EM_ITERATE
struct bpf_iter_num;
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym __weak;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym __weak;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym __weak;
/* clang makes no BTF of a function that only cleanup() names: it is named once more. */
#define EM_ITERATE(type, step, args...)                                                                                \
	for (struct bpf_iter_##type em_it_ __attribute__((aligned(8), cleanup(bpf_iter_##type##_destroy))),            \
	     *em_once_ __attribute__((unused)) = (bpf_iter_##type##_new(&em_it_, ##args),                              \
						  (void)bpf_iter_##type##_destroy, (void *)0);                         \
	     step;)
#endif
