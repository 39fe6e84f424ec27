/*
 * Loaded before libc into the kernel of a --vm node (LD_PRELOAD): docs/decisions/0007-xstate-of-large-processors.md
 *
 * The kernel hands its processes' floating point registers over by ptrace, in a buffer of 2696 bytes. Linux takes
 * them only if the buffer has the processor's whole size (11008 bytes with AMX), and fails with EFAULT otherwise. So
 * what the buffer lacks is filled with what the registers hold at that moment.
 *
 * No header is included: tcc alone compiles it.
 */
enum { PEEKTEXT = 1, PEEKUSER = 3, GETREGSET = 0x4204, SETREGSET = 0x4205, XSTATE = 0x202, SYS_ptrace = 101 };

struct iovec {
	unsigned char *base;
	unsigned long length;
};

extern long syscall(long number, ...);

static unsigned char whole[65536];

static long set_xstate(long pid, const struct iovec *given)
{
	struct iovec full = { whole, sizeof(whole) };
	unsigned long i;
	long result = syscall(SYS_ptrace, GETREGSET, pid, XSTATE, &full);

	if (result < 0)
		return result;
	for (i = 0; i < given->length && i < full.length; i++)
		whole[i] = given->base[i];
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
