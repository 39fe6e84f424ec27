/*
 * Loaded before libc into the kernel of a --vm node (LD_PRELOAD): docs/decisions/0007-xstate-of-large-processors.md
 *
 * The kernel hands its processes' floating point registers over by ptrace, in a buffer of 2696 bytes. Linux takes
 * them only if the buffer has the processor's whole size (11008 bytes with AMX), and fails with EFAULT otherwise. So
 * the buffer is lengthened by what a process has there that never used such registers, which those of a node cannot:
 * it takes a permission (arch_prctl) that only the machine's kernel gives.
 *
 * No header is included: tcc alone compiles it.
 */
enum { PEEKTEXT = 1, PEEKUSER = 3, GETREGSET = 0x4204, SETREGSET = 0x4205, XSTATE = 0x202, SYS_ptrace = 101 };

struct iovec {
	void *base;
	unsigned long length;
};

extern long syscall(long number, ...);
extern void *memcpy(void *target, const void *source, unsigned long length);

static unsigned char whole[65536];
static unsigned long size; /* 0 until it is known */

static long set_xstate(long pid, const struct iovec *given)
{
	struct iovec full = { whole, sizeof(whole) };

	if (!size) {
		if (syscall(SYS_ptrace, GETREGSET, pid, XSTATE, &full) < 0)
			return -1;
		size = full.length;
	}
	memcpy(whole, given->base, given->length < size ? given->length : size);
	full.length = size;
	return syscall(SYS_ptrace, SETREGSET, pid, XSTATE, &full);
}

long ptrace(long request, long pid, long address, void *data)
{
	long word, result;

	if (request == SETREGSET && address == XSTATE)
		return set_xstate(pid, data);
	if (request < PEEKTEXT || request > PEEKUSER)
		return syscall(SYS_ptrace, request, pid, address, data);
	/* The system call stores the word where the C library's function returns it. */
	result = syscall(SYS_ptrace, request, pid, address, &word);
	return result < 0 ? result : word;
}
