/* The wall clock of one node of a lab: all daemons see the machine's, moved by the seconds in the file that
   TRUECL_LAB_CLOCK names. (Namespaces of the kernel move CLOCK_BOOTTIME, which must not jump, and not this one.) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t nowhere, *moved;

/* Once, by whoever asks first: tcc knows no constructors. */
static volatile int64_t *find(void)
{
	const char *path = getenv("TRUECL_LAB_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return &nowhere;
	void *page = mmap(NULL, sizeof *moved, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	return page == MAP_FAILED ? &nowhere : page;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
	long failed = syscall(SYS_clock_gettime, clock, at);
	if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		if (!moved)
			moved = find();
		at->tv_sec += *moved;
	}
	return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
	struct timespec now;
	int failed = clock_gettime(CLOCK_REALTIME, &now);
	if (!failed) {
		at->tv_sec = now.tv_sec;
		at->tv_usec = now.tv_nsec / 1000;
	}
	return failed;
}

time_t time(time_t *into)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (into)
		*into = now.tv_sec;
	return now.tv_sec;
}
