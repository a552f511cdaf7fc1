// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Exact counting in a hash map that several CPUs write at once.
 */
#ifndef RAWBPF_COUNT_H
#define RAWBPF_COUNT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

/*
 * Add one to the count_t that `map` has under `key`. Returns 0, or the error of the insertion
 * (-E2BIG: the map is full), and then nothing was counted.
 */
static __always_inline long count_one(void *map, const void *key)
{
	const count_t one = 1;
	count_t *count;
	long error;

	count = bpf_map_lookup_elem(map, key);
	if (!count) {
		/*
		 * Never BPF_ANY: two CPUs that both found nothing would both write 1. With
		 * BPF_NOEXIST the second one fails with -EEXIST and adds to the first one's element.
		 */
		error = bpf_map_update_elem(map, key, &one, BPF_NOEXIST);
		if (!error)
			return 0;
		count = bpf_map_lookup_elem(map, key);
		if (!count)
			return error;
	}
	__sync_fetch_and_add(count, 1);
	return 0;
}

#endif
