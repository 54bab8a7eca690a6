/* The bare system calls: fill a hash of N entries from two files, then read it in batches for each line on stdin.
 *
 * usage: batch ENTRIES KEY_BYTES KEYS_FILE VALUES_FILE [CHUNK]
 * Prints for each reading: nanoseconds, entries, sum of the values (u64).
 * A reading goes into memory that is new each time, since the caller is to keep what was read.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long bpf(int command, union bpf_attr *attr) { return syscall(SYS_bpf, command, attr, sizeof(*attr)); }

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void *memory(size_t size)
{
	void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
		die("mmap");
	return pages;
}

static void *file(const char *path, size_t size)
{
	char *bytes = memory(size);
	int fd = open(path, O_RDONLY);
	for (size_t done = 0; done < size;) {
		ssize_t got = read(fd, bytes + done, size - done);
		if (got <= 0)
			die(path);
		done += got;
	}
	close(fd);
	return bytes;
}

static uint32_t read_all(int map, char *keys, uint32_t key_bytes, char *values, uint32_t chunk)
{
	char token[64];
	uint32_t count = 0;
	union bpf_attr attr = {};
	attr.batch.map_fd = map;
	attr.batch.out_batch = (uint64_t)token;
	for (;;) {
		attr.batch.keys = (uint64_t)(keys + (size_t)count * key_bytes);
		attr.batch.values = (uint64_t)(values + (size_t)count * 8);
		attr.batch.count = chunk;
		long status = bpf(BPF_MAP_LOOKUP_BATCH, &attr);
		if (status && errno != ENOENT)
			die("BPF_MAP_LOOKUP_BATCH");
		count += attr.batch.count;
		if (status)
			return count;
		attr.batch.in_batch = attr.batch.out_batch;
	}
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	uint32_t entries = atoi(argv[1]), key_bytes = atoi(argv[2]), chunk = argc > 5 ? atoi(argv[5]) : 65536;
	size_t room = (size_t)entries + chunk;

	union bpf_attr create = { .map_type = BPF_MAP_TYPE_HASH, .key_size = key_bytes, .value_size = 8, .max_entries = entries };
	int map = bpf(BPF_MAP_CREATE, &create);
	if (map < 0)
		die("BPF_MAP_CREATE");
	union bpf_attr fill = {};
	fill.batch.map_fd = map;
	fill.batch.keys = (uint64_t)file(argv[3], (size_t)entries * key_bytes);
	fill.batch.values = (uint64_t)file(argv[4], (size_t)entries * 8);
	fill.batch.count = entries;
	if (bpf(BPF_MAP_UPDATE_BATCH, &fill))
		die("BPF_MAP_UPDATE_BATCH");

	char line[16];
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		uint64_t began = now_ns();
		char *keys = memory(room * key_bytes);
		char *values = memory(room * 8);
		uint32_t count = read_all(map, keys, key_bytes, values, chunk);
		uint64_t took = now_ns() - began, sum = 0;
		for (uint32_t i = 0; i < count; i++)
			sum += ((uint64_t *)values)[i];
		munmap(keys, room * key_bytes);
		munmap(values, room * 8);
		printf("%llu %u %llu\n", (unsigned long long)took, count, (unsigned long long)sum);
		fflush(stdout);
	}
	return 0;
}
