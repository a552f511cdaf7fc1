// SPDX-License-Identifier: Apache-2.0
/*
 * The loops that C programs write over libbpf: what Python is measured against. Every function takes
 * a map's descriptor, works through all that it is given, and returns a sum or a count, so that no
 * work is optimised away; -1 means that a call failed. Built and called by peer_c.py.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

static uint64_t first_word(const char *value, unsigned value_size)
{
	uint64_t word = 0;

	memcpy(&word, value, value_size < 8 ? value_size : 8);
	return word;
}

int64_t c_lookup(int fd, const char *keys, unsigned key_size, unsigned value_size, unsigned n)
{
	char value[value_size];
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		if (!bpf_map_lookup_elem(fd, keys + (size_t)i * key_size, value))
			sum += first_word(value, value_size);
	return sum & INT64_MAX;
}

int64_t c_update(int fd, const char *keys, unsigned key_size, const char *value, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (bpf_map_update_elem(fd, keys + (size_t)i * key_size, value, BPF_ANY))
			return -1;
	return n;
}

int64_t c_delete(int fd, const char *keys, unsigned key_size, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (bpf_map_delete_elem(fd, keys + (size_t)i * key_size))
			return -1;
	return n;
}

/* Key after key, as bpf_map_get_next_key(3) is used. */
int64_t c_walk(int fd, unsigned key_size, unsigned value_size)
{
	char key[key_size], value[value_size];
	uint64_t sum = 0;
	int err;

	for (err = bpf_map_get_next_key(fd, NULL, key); !err; err = bpf_map_get_next_key(fd, key, key))
		if (!bpf_map_lookup_elem(fd, key, value))
			sum += first_word(value, value_size);
	return sum & INT64_MAX;
}

/* The whole map in batches, taken out of it or not; returns how many elements there were. */
int64_t c_batches(int fd, char *keys, char *values, unsigned key_size, unsigned chunk, int take)
{
	char cursor[key_size < 4 ? 4 : key_size];
	int64_t total = 0;
	void *in = NULL;

	for (;;) {
		__u32 count = chunk;
		int err = take ? bpf_map_lookup_and_delete_batch(fd, in, cursor, keys, values, &count, NULL)
			       : bpf_map_lookup_batch(fd, in, cursor, keys, values, &count, NULL);

		if (err && errno != ENOENT)
			return -1;
		total += count;
		if (err)
			return total;
		in = cursor;
	}
}

/* The sum of all 8-byte words of the values: of per-CPU counters the totals of all CPUs. */
int64_t c_sum(int fd, char *keys, char *values, unsigned key_size, unsigned value_size, unsigned chunk)
{
	char cursor[key_size < 4 ? 4 : key_size];
	uint64_t sum = 0;
	void *in = NULL;

	for (;;) {
		__u32 count = chunk;
		int err = bpf_map_lookup_batch(fd, in, cursor, keys, values, &count, NULL);

		if (err && errno != ENOENT)
			return -1;
		for (size_t i = 0; i < (size_t)count * value_size / 8; i++)
			sum += ((const uint64_t *)values)[i];
		if (err)
			return sum & INT64_MAX;
		in = cursor;
	}
}

int64_t c_take(int fd, const char *keys, unsigned key_size, unsigned value_size, unsigned n)
{
	char value[value_size];
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++) {
		if (bpf_map_lookup_and_delete_elem(fd, keys + (size_t)i * key_size, value))
			return -1;
		sum += first_word(value, value_size);
	}
	return sum & INT64_MAX;
}

int64_t c_delete_batch(int fd, const char *keys, unsigned n)
{
	__u32 count = n;

	return bpf_map_delete_batch(fd, keys, &count, NULL) ? -1 : count;
}

int64_t c_update_batch(int fd, const char *keys, const char *values, unsigned n)
{
	__u32 count = n;

	return bpf_map_update_batch(fd, keys, values, &count, NULL) ? -1 : count;
}

static struct ring_buffer *ring;
static uint64_t ring_sum;
static int64_t ring_count;
static int64_t *ring_delays;

static int add_record(void *context, void *data, size_t size)
{
	(void)context;
	(void)size;
	ring_sum += *(const uint64_t *)data;
	ring_count++;
	return 0;
}

static int note_delay(void *context, void *data, size_t size)
{
	struct timespec now;

	(void)context;
	(void)size;
	clock_gettime(CLOCK_MONOTONIC, &now);
	ring_delays[ring_count++] = now.tv_sec * 1000000000LL + now.tv_nsec - *(const int64_t *)data;
	return 0;
}

int64_t c_ring_open(int fd, int delays)
{
	ring = ring_buffer__new(fd, delays ? note_delay : add_record, NULL, NULL);
	return ring ? 0 : -1;
}

int64_t c_ring_close(void)
{
	ring_buffer__free(ring);
	ring = NULL;
	return 0;
}

/* All that is there; returns how many records those were. */
int64_t c_ring_consume(void)
{
	ring_count = 0;
	return ring_buffer__consume(ring) < 0 ? -1 : ring_count;
}

/* The nanoseconds that n records took from the time in them to their callback. */
int64_t c_ring_delays(int64_t *delays, unsigned n)
{
	ring_delays = delays;
	ring_count = 0;
	while (ring_count < n)
		if (ring_buffer__poll(ring, -1) < 0)
			return -1;
	return ring_count;
}

static struct bpf_object *object;

/* Reads an object and, if asked to, relocates and loads all of it; returns how many programs it has. */
int64_t c_object_open(const char *content, uint64_t size, int load)
{
	struct bpf_program *program;
	int64_t count = 0;

	object = bpf_object__open_mem(content, size, NULL);
	if (!object || (load && bpf_object__load(object)))
		return -1;
	bpf_object__for_each_program(program, object)
		count++;
	return count;
}

int64_t c_object_close(void)
{
	bpf_object__close(object);
	object = NULL;
	return 0;
}

/* Reads the types in the file, and returns the id of the struct `name`. */
int64_t c_btf_find(const char *path, const char *name)
{
	struct btf *btf = btf__parse(path, NULL);
	int64_t id = btf ? btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT) : -1;

	btf__free(btf);
	return id;
}
