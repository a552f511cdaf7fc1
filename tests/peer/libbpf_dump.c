// SPDX-License-Identifier: Apache-2.0
/*
 * What libbpf makes of an object file, as JSON on stdout:
 *
 *	libbpf_dump relocate OBJECT [BTF]	maps, their first values, and relocated instructions
 *	libbpf_dump load OBJECT			which programs this kernel takes: 0 or the error's number
 *	libbpf_dump sections NAME ...		program type and expected attach type by a section's name
 *
 * BTF: a file to relocate against in place of the running kernel's types. Without privileges the first
 * works as well, and nothing reaches the kernel: libbpf makes every call of bpf(2) through libc's
 * syscall(), which this program defines itself and answers with descriptors of empty files. libbpf
 * then believes in a kernel that has every feature. Instructions are taken where libbpf calls back before
 * it loads a program, so that a program counts whether or not what it attaches to exists here.
 *
 * In the instructions the descriptor of a map is replaced by the map's place in "maps". A failure to
 * open is {"error": text}; one to relocate is the program's "error". Built and called by libbpf.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <bpf/libbpf.h>

#define FAKE_MAGIC 0x656b61666c6c6163ULL
#define FAKE_AT (1LL << 40) /* behind the memory of an arena, which libbpf maps and fills */
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Stands in a fake map's file: descriptors are duplicated, so their numbers say nothing. */
struct fake {
	uint64_t magic;
	union bpf_attr attr; /* of MAP_CREATE; zeros for what is no map */
};

/* A value that was written into a map before programs ran. */
struct update {
	struct update *next;
	int fd;
	uint32_t key;
	uint32_t size;
	unsigned char value[];
};

/* The instructions of a program as libbpf would have loaded them, and what it says about their functions and lines. */
struct capture {
	struct capture *next;
	size_t count, functions_size, lines_size;
	struct bpf_insn *insns;
	void *functions, *lines;
	char name[];
};

static bool is_faking;
static struct update *updates;
static struct capture *captures;
static char last_words[1024];

static void die(const char *what)
{
	fprintf(stderr, "libbpf_dump: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *allocate(size_t size)
{
	void *memory = calloc(1, size);

	if (!memory)
		die("calloc");
	return memory;
}

/* The kernel that libbpf talks to -------------------------------------------------------------- */

static int fake_fd(const union bpf_attr *attr, size_t size)
{
	int fd = memfd_create("libbpf_dump", MFD_CLOEXEC);
	struct fake fake = { .magic = FAKE_MAGIC };

	memcpy(&fake.attr, attr, size < sizeof(fake.attr) ? size : sizeof(fake.attr));
	if (fd < 0 || pwrite(fd, &fake, sizeof(fake), FAKE_AT) != sizeof(fake))
		die("memfd_create");
	return fd;
}

static bool read_fake(int fd, struct fake *fake)
{
	return pread(fd, fake, sizeof(*fake), FAKE_AT) == sizeof(*fake) && fake->magic == FAKE_MAGIC;
}

static void note_update(const union bpf_attr *attr)
{
	struct update *update, **end = &updates;
	struct fake fake;

	/* Probes for features write as well, but only maps of the object are looked for later. */
	if (!read_fake(attr->map_fd, &fake) || fake.attr.key_size != sizeof(update->key))
		return;
	update = allocate(sizeof(*update) + fake.attr.value_size);
	update->fd = attr->map_fd;
	update->size = fake.attr.value_size;
	memcpy(&update->key, (void *)(uintptr_t)attr->key, sizeof(update->key));
	memcpy(update->value, (void *)(uintptr_t)attr->value, fake.attr.value_size);
	while (*end)
		end = &(*end)->next;
	*end = update;
}

static void *copy(const void *memory, size_t size)
{
	return memcpy(allocate(size + 1), memory, size);
}

/* Probes for features load programs as well: what was captured last is known by its instructions. */
static void note_load(const union bpf_attr *attr)
{
	size_t size = attr->insn_cnt * sizeof(struct bpf_insn);
	struct capture *code = captures;

	if (!code || code->count != attr->insn_cnt || memcmp(code->insns, (void *)(uintptr_t)attr->insns, size))
		return;
	code->functions_size = attr->func_info_cnt * attr->func_info_rec_size;
	code->functions = copy((void *)(uintptr_t)attr->func_info, code->functions_size);
	code->lines_size = attr->line_info_cnt * attr->line_info_rec_size;
	code->lines = copy((void *)(uintptr_t)attr->line_info, code->lines_size);
}

static long refuse(int number)
{
	errno = number;
	return -1;
}

static long fake_bpf(int cmd, union bpf_attr *attr, unsigned int size)
{
	long (*real)(long, ...) = dlsym(RTLD_NEXT, "syscall");
	struct fake fake;

	switch (cmd) {
	case BPF_MAP_CREATE:
		return fake_fd(attr, size);
	case BPF_PROG_LOAD:
		note_load(attr);
		return fake_fd(attr, 0);
	case BPF_BTF_LOAD:
		return fake_fd(attr, 0);
	case BPF_MAP_UPDATE_ELEM:
		note_update(attr);
		return 0;
	case BPF_MAP_FREEZE:
	case BPF_PROG_BIND_MAP:
	case BPF_OBJ_PIN:
		return 0;
	case BPF_OBJ_GET:
		return refuse(ENOENT);
	case BPF_LINK_CREATE: /* so is a kernel recognised that has links of perf events */
		return refuse(EBADF);
	case BPF_OBJ_GET_INFO_BY_FD:
		if (read_fake(attr->info.bpf_fd, &fake))
			return 0;
		return real(__NR_bpf, cmd, attr, size);
	case BPF_BTF_GET_NEXT_ID: /* the types of modules are this machine's, as those of vmlinux */
	case BPF_BTF_GET_FD_BY_ID:
		return real(__NR_bpf, cmd, attr, size);
	default:
		return refuse(EINVAL);
	}
}

long syscall(long number, ...)
{
	long (*real)(long, ...) = dlsym(RTLD_NEXT, "syscall");
	long a[6];
	va_list list;

	va_start(list, number);
	for (size_t i = 0; i < ARRAY_SIZE(a); i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (is_faking && number == __NR_bpf)
		return fake_bpf(a[0], (union bpf_attr *)a[1], a[2]);
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* JSON ----------------------------------------------------------------------------------------- */

static void print_text(const char *text)
{
	if (!text) {
		printf("null");
		return;
	}
	putchar('"');
	for (; *text; text++) {
		unsigned char c = *text;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void print_hex(const void *memory, size_t size)
{
	const unsigned char *byte = memory;

	putchar('"');
	for (size_t i = 0; i < size; i++)
		printf("%02x", byte[i]);
	putchar('"');
}

/* libbpf ---------------------------------------------------------------------------------------- */

/* Keeps the warnings since the last reset(), which say more than the number that is returned. */
static int keep_words(enum libbpf_print_level level, const char *format, va_list args)
{
	size_t used = strlen(last_words);

	if (level == LIBBPF_WARN)
		vsnprintf(last_words + used, sizeof(last_words) - used, format, args);
	return 0;
}

static void reset(void)
{
	while (updates) {
		struct update *update = updates;

		updates = update->next;
		free(update);
	}
	while (captures) {
		struct capture *capture = captures;

		captures = capture->next;
		free(capture->insns);
		free(capture->functions);
		free(capture->lines);
		free(capture);
	}
	last_words[0] = 0;
}

static struct bpf_object *open_object(const char *path, const char *btf)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "o", .btf_custom_path = btf);
	struct bpf_object *object;
	struct bpf_map *map;

	reset();
	object = bpf_object__open_file(path, &opts);
	if (object)
		bpf_object__for_each_map(map, object)
			bpf_map__set_pin_path(map, NULL);
	return object;
}

/* Called between relocation and PROG_LOAD. */
static int capture(struct bpf_program *program, struct bpf_prog_load_opts *opts, long cookie)
{
	const char *name = bpf_program__name(program);
	struct capture *capture = allocate(sizeof(*capture) + strlen(name) + 1);

	(void)opts;
	(void)cookie;
	strcpy(capture->name, name);
	capture->count = bpf_program__insn_cnt(program);
	capture->insns = copy(bpf_program__insns(program), capture->count * sizeof(*capture->insns));
	capture->next = captures;
	captures = capture;
	return 0;
}

/* Has libbpf call capture() for every program; the type of one in an unknown section does not matter. */
static void register_sections(struct bpf_object *object)
{
	LIBBPF_OPTS(libbpf_prog_handler_opts, opts, .prog_prepare_load_fn = capture);
	struct bpf_program *program;

	bpf_object__for_each_program(program, object) {
		enum bpf_prog_type type = bpf_program__type(program);

		if (libbpf_register_prog_handler(bpf_program__section_name(program),
						 type ? type : BPF_PROG_TYPE_SOCKET_FILTER,
						 bpf_program__expected_attach_type(program), &opts) < 0)
			die("libbpf_register_prog_handler");
	}
}

/* Loads the program called `only`, or all. */
static int load(struct bpf_object *object, const char *only)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, object)
		bpf_program__set_autoload(program, !only || !strcmp(bpf_program__name(program), only));
	return bpf_object__load(object);
}

static const char *name_of_fd(struct bpf_object *object, int fd)
{
	struct bpf_program *program;
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
		if (bpf_map__fd(map) == fd)
			return bpf_map__name(map);
	bpf_object__for_each_program(program, object)
		if (bpf_program__fd(program) == fd)
			return bpf_program__name(program);
	return NULL;
}

static int place_of_map(struct bpf_object *object, int fd)
{
	struct bpf_map *map;
	int place = 0;

	bpf_object__for_each_map(map, object) {
		if (bpf_map__fd(map) == fd)
			return place;
		place++;
	}
	return -1;
}

/* The relocated instructions of a program in an object that was loaded. */
static void print_code(struct bpf_object *object, const struct bpf_program *program)
{
	struct capture *code = captures;

	while (code && strcmp(code->name, bpf_program__name(program)))
		code = code->next;
	if (!code) {
		printf("null");
		return;
	}
	for (size_t i = 0; i < code->count; i++) {
		struct bpf_insn *insn = &code->insns[i];

		if (insn->code != (BPF_LD | BPF_IMM | BPF_DW))
			continue;
		if (insn->src_reg == BPF_PSEUDO_MAP_FD || insn->src_reg == BPF_PSEUDO_MAP_VALUE)
			insn->imm = place_of_map(object, insn->imm);
		i++;
	}
	print_hex(code->insns, code->count * sizeof(*code->insns));
	printf(", \"functions\": ");
	print_hex(code->functions, code->functions_size);
	printf(", \"lines\": ");
	print_hex(code->lines, code->lines_size);
}

static void print_numbers(struct bpf_map *map)
{
	printf("\"map_type\": %u, \"key_size\": %u, \"value_size\": %u, \"max_entries\": %u, ",
	       bpf_map__type(map), bpf_map__key_size(map), bpf_map__value_size(map), bpf_map__max_entries(map));
	printf("\"map_flags\": %u, \"map_extra\": %llu, \"numa_node\": %u, ", bpf_map__map_flags(map),
	       (unsigned long long)bpf_map__map_extra(map), bpf_map__numa_node(map));
	printf("\"key_type_id\": %u, \"value_type_id\": %u", bpf_map__btf_key_type_id(map),
	       bpf_map__btf_value_type_id(map));
}

static void print_map(struct bpf_map *map, bool is_pinned)
{
	printf("{\"name\": ");
	print_text(bpf_map__name(map));
	printf(", \"is_internal\": %s, \"is_pinned\": %s, ", bpf_map__is_internal(map) ? "true" : "false",
	       is_pinned ? "true" : "false");
	print_numbers(map);
	printf(", \"inner\": ");
	if (bpf_map__inner_map(map)) {
		putchar('{');
		print_numbers(bpf_map__inner_map(map));
		putchar('}');
	} else {
		printf("null");
	}
	putchar('}');
}

/* What the kernel was asked for, by the name of each map. */
static void print_created(struct bpf_object *object)
{
	const char *separator = "";
	struct bpf_map *map;
	struct fake fake;

	putchar('{');
	bpf_object__for_each_map(map, object) {
		if (!read_fake(bpf_map__fd(map), &fake))
			continue;
		printf("%s", separator);
		separator = ", ";
		print_text(bpf_map__name(map));
		printf(": {\"map_type\": %u, \"key_size\": %u, \"value_size\": %u, \"max_entries\": %u, ", fake.attr.map_type,
		       fake.attr.key_size, fake.attr.value_size, fake.attr.max_entries);
		printf("\"map_flags\": %u, \"map_extra\": %llu, \"numa_node\": %u}", fake.attr.map_flags,
		       (unsigned long long)fake.attr.map_extra, fake.attr.numa_node);
	}
	putchar('}');
}

/* What was written into maps: bytes into those of data sections, references into the others. */
static void print_updates(struct bpf_object *object)
{
	const char *separator = "";
	struct bpf_map *map;

	putchar('[');
	bpf_object__for_each_map(map, object) {
		for (struct update *update = updates; update; update = update->next) {
			int fd;

			if (update->fd != bpf_map__fd(map))
				continue;
			printf("%s{\"map\": ", separator);
			print_text(bpf_map__name(map));
			printf(", \"key\": %u, ", update->key);
			if (bpf_map__is_internal(map)) {
				printf("\"value\": ");
				print_hex(update->value, update->size);
			} else {
				memcpy(&fd, update->value, sizeof(fd));
				printf("\"name\": ");
				print_text(name_of_fd(object, fd));
			}
			putchar('}');
			separator = ", ";
		}
	}
	putchar(']');
}

static void print_program(const struct bpf_program *program)
{
	printf("{\"name\": ");
	print_text(bpf_program__name(program));
	printf(", \"section\": ");
	print_text(bpf_program__section_name(program));
	printf(", \"prog_type\": %u, \"expected_attach_type\": %u, \"autoload\": %s, ", bpf_program__type(program),
	       bpf_program__expected_attach_type(program), bpf_program__autoload(program) ? "true" : "false");
}

static int print_open_error(void)
{
	printf("{\"error\": ");
	print_text(last_words);
	printf("}\n");
	return 0;
}

static int relocate(const char *path, const char *btf)
{
	struct bpf_object *as_written, *all, *one;
	const char *separator = "";
	struct bpf_program *program;
	struct bpf_map *map;
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "o");
	bool is_whole;

	reset();
	as_written = bpf_object__open_file(path, &opts);
	if (!as_written)
		return print_open_error();
	printf("{\"maps\": [");
	bpf_object__for_each_map(map, as_written) {
		printf("%s", separator);
		print_map(map, bpf_map__pin_path(map));
		separator = ", ";
	}

	register_sections(as_written);
	is_faking = true;
	all = open_object(path, btf);
	if (!all)
		die("an object that opened does not open again");
	is_whole = !load(all, NULL);
	/* One that cannot be relocated stops the rest, so that each is then tried on its own. */
	printf("], \"is_whole\": %s, ", is_whole ? "true" : "false");
	if (is_whole) {
		printf("\"created\": ");
		print_created(all);
		printf(", \"updates\": ");
		print_updates(all);
		printf(", ");
	}
	printf("\"error\": ");
	print_text(is_whole ? NULL : last_words);
	printf(", \"programs\": [");
	separator = "";
	bpf_object__for_each_program(program, as_written) {
		printf("%s", separator);
		separator = ", ";
		print_program(program);
		if (is_whole) {
			printf("\"error\": null, \"code\": ");
			print_code(all, program);
			putchar('}');
			continue;
		}
		one = open_object(path, btf);
		if (load(one, bpf_program__name(program))) {
			printf("\"code\": null, \"error\": ");
			print_text(last_words);
		} else {
			printf("\"error\": null, \"code\": ");
			print_code(one, program);
		}
		putchar('}');
		bpf_object__close(one);
	}
	printf("]}\n");
	bpf_object__close(all);
	bpf_object__close(as_written);
	reset();
	return 0;
}

static int load_each(const char *path)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	struct bpf_object *all, *one;
	const char *separator = "";
	struct bpf_program *program;
	bool is_whole;

	/* Before Linux 5.11 maps and programs count as locked memory. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	all = open_object(path, NULL);
	if (!all)
		return print_open_error();
	is_whole = !load(all, NULL);
	printf("{\"programs\": {");
	bpf_object__for_each_program(program, all) {
		printf("%s", separator);
		separator = ", ";
		print_text(bpf_program__name(program));
		if (is_whole) {
			printf(": 0");
			continue;
		}
		one = open_object(path, NULL);
		printf(": %d", -load(one, bpf_program__name(program)));
		bpf_object__close(one);
	}
	printf("}}\n");
	bpf_object__close(all);
	reset();
	return 0;
}

static int sections(int count, char **names)
{
	const char *separator = "";

	putchar('{');
	for (int i = 0; i < count; i++) {
		enum bpf_attach_type attach_type;
		enum bpf_prog_type prog_type;

		printf("%s", separator);
		separator = ", ";
		print_text(names[i]);
		if (libbpf_prog_type_by_name(names[i], &prog_type, &attach_type))
			printf(": null");
		else
			printf(": [%u, %u]", prog_type, attach_type);
	}
	printf("}\n");
	return 0;
}

int main(int argc, char **argv)
{
	libbpf_set_print(keep_words);
	if (argc >= 3 && argc <= 4 && !strcmp(argv[1], "relocate"))
		return relocate(argv[2], argv[3]);
	if (argc == 3 && !strcmp(argv[1], "load"))
		return load_each(argv[2]);
	if (argc >= 2 && !strcmp(argv[1], "sections"))
		return sections(argc - 2, argv + 2);
	fprintf(stderr, "usage: libbpf_dump relocate OBJECT [BTF] | load OBJECT | sections NAME ...\n");
	return 2;
}
