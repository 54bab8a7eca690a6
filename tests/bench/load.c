/* libbpf alone: open an object and load it, for each line on stdin.
 *
 * usage: load OBJECT
 * Prints for each loading: nanoseconds, maps, programs.
 */
#include <bpf/libbpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t now_ns(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

int main(int argc, char **argv)
{
	static char bytes[16 << 20];
	FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
	size_t size = file ? fread(bytes, 1, sizeof(bytes), file) : 0;
	if (!size) {
		perror("read the object");
		return 1;
	}
	while (getchar() != EOF) {
		uint64_t began = now_ns();
		struct bpf_object *object = bpf_object__open_mem(bytes, size, NULL);
		if (!object || bpf_object__load(object)) {
			perror("load the object");
			return 1;
		}
		uint64_t took = now_ns() - began;
		int maps = 0, programs = 0;
		struct bpf_map *map;
		struct bpf_program *program;
		bpf_object__for_each_map(map, object) maps++;
		bpf_object__for_each_program(program, object) programs++;
		bpf_object__close(object);
		printf("%llu %d %d\n", (unsigned long long)took, maps, programs);
		fflush(stdout);
	}
	return 0;
}
