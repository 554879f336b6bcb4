/* sandbox.c - see sandbox.h. Landlock has no library: three calls, and what their structs hold grows from
 * version to version; what this kernel's does not know is not asked for.
 * spec: Linux, Documentation/userspace-api/landlock.rst. */
#define _GNU_SOURCE
#include "serve/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/dl.h"


/* ---- files */

/* The kernel's numbers, for headers that are older than it. */
enum { LL_CREATE = 444, LL_ADD = 445, LL_RESTRICT = 446, LL_RULE_PATH = 1, LL_RULE_PORT = 2,
       LL_TCP_BIND = 1, LL_TCP_CONNECT = 2, LL_SCOPE_ABSTRACT = 1, LL_SCOPE_SIGNAL = 2 };
typedef struct { uint64_t fs, net, scoped; } ll_rules;
typedef struct { uint64_t allowed; int32_t fd; } __attribute__((packed)) ll_path;
typedef struct { uint64_t allowed, port; } ll_port;

enum {
    FS_EXECUTE = 1 << 0, FS_WRITE_FILE = 1 << 1, FS_READ_FILE = 1 << 2, FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4, FS_REMOVE_FILE = 1 << 5, FS_MAKE_CHAR = 1 << 6, FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8, FS_MAKE_SOCK = 1 << 9, FS_MAKE_FIFO = 1 << 10, FS_MAKE_BLOCK = 1 << 11,
    FS_MAKE_SYM = 1 << 12, FS_REFER = 1 << 13, FS_TRUNCATE = 1 << 14, FS_IOCTL = 1 << 15,
    FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL
};
static const uint64_t rights[] = {
    [SANDBOX_READ] = FS_READ_FILE | FS_READ_DIR,
    [SANDBOX_WRITE] = FS_READ_FILE | FS_READ_DIR | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE |
                      FS_MAKE_DIR | FS_MAKE_REG | FS_REFER | FS_TRUNCATE,
    [SANDBOX_SOCKET] = FS_MAKE_SOCK | FS_REMOVE_FILE,
};

/* What any program of this kind reads: libraries and their settings, names of addresses, the time's zone,
 * what the kernel tells. Of /proc its own part alone. */
static const sandbox_path system_paths[] = {
    { "/lib", SANDBOX_READ }, { "/lib64", SANDBOX_READ }, { "/usr/lib", SANDBOX_READ },
    { "/usr/lib64", SANDBOX_READ }, { "/usr/local/lib", SANDBOX_READ }, { "/usr/share/zoneinfo", SANDBOX_READ },
    { "/etc/ld.so.cache", SANDBOX_READ }, { "/etc/localtime", SANDBOX_READ }, { "/etc/hosts", SANDBOX_READ },
    { "/etc/host.conf", SANDBOX_READ }, { "/etc/nsswitch.conf", SANDBOX_READ }, { "/etc/resolv.conf", SANDBOX_READ },
    { "/etc/gai.conf", SANDBOX_READ }, { "/etc/gnutls", SANDBOX_READ }, { "/etc/crypto-policies", SANDBOX_READ },
    { "/proc/self", SANDBOX_READ }, { "/proc/meminfo", SANDBOX_READ }, { "/proc/cpuinfo", SANDBOX_READ },
    { "/sys/devices/system", SANDBOX_READ }, { "/sys/fs/cgroup", SANDBOX_READ },
    { "/sys/kernel/mm/transparent_hugepage", SANDBOX_READ }, { "/dev/urandom", SANDBOX_READ },
    { "/dev/null", SANDBOX_WRITE },
};

static int add_path(int set, const sandbox_path *p, uint64_t handled, dr_err *e)
{
    int fd = open(p->path, O_PATH | O_CLOEXEC);
    struct stat st;
    if (fd < 0) return DR_OK;
    ll_path rule = { rights[p->right] & handled, fd };
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) rule.allowed &= FS_OF_FILES;
    long rc = rule.allowed ? syscall(LL_ADD, set, LL_RULE_PATH, &rule, 0) : 0;
    int why = errno;
    close(fd);
    return rc ? err_set(e, DR_EIO, "the sandbox cannot hold %.200s: %s", p->path, strerror(why)) : DR_OK;
}

static int add_all(int set, const ll_rules *r, const sandbox_path *p, int n, int port, dr_err *e)
{
    int rc = DR_OK;
    for (size_t i = 0; i < sizeof system_paths / sizeof *system_paths && !rc; i++)
        rc = add_path(set, &system_paths[i], r->fs, e);
    for (int i = 0; i < n && !rc; i++) rc = add_path(set, &p[i], r->fs, e);
    ll_port bind = { LL_TCP_BIND, (uint64_t)port };
    if (!rc && r->net && syscall(LL_ADD, set, LL_RULE_PORT, &bind, 0))
        rc = err_set(e, DR_EIO, "the sandbox cannot hold port %d: %s", port, strerror(errno));
    if (!rc && syscall(LL_RESTRICT, set, 0))
        rc = err_set(e, DR_EIO, "the sandbox of files was refused: %s", strerror(errno));
    return rc;
}

int sandbox_files(const sandbox_path *p, int n, int port, dr_err *e)
{
    long version = syscall(LL_CREATE, NULL, 0, 1);
    if (version < 1)
        return err_set(e, DR_EUNSUPPORTED, "this kernel has no Landlock, or it is switched off (%s): no sandbox of "
                       "files", strerror(errno));
    ll_rules r = { .fs = (1 << 13) - 1 };
    size_t size = sizeof r.fs;
    if (version >= 2) r.fs |= FS_REFER;
    if (version >= 3) r.fs |= FS_TRUNCATE;
    if (version >= 4) r.net = LL_TCP_BIND | LL_TCP_CONNECT, size = 2 * sizeof r.fs;
    if (version >= 5) r.fs |= FS_IOCTL;
    if (version >= 6) r.scoped = LL_SCOPE_ABSTRACT | LL_SCOPE_SIGNAL, size = sizeof r;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_set(e, DR_EIO, "the sandbox was refused: %s", strerror(errno));
    int set = (int)syscall(LL_CREATE, &r, size, 0);
    if (set < 0) return err_set(e, DR_EIO, "the sandbox of files was refused: %s", strerror(errno));
    int rc = add_all(set, &r, p, n, port, e);
    close(set);
    return rc;
}

/* ---- calls of the system */

static struct {
    __typeof__(&seccomp_init) init;
    __typeof__(&seccomp_release) release;
    __typeof__(&seccomp_load) load;
    __typeof__(&seccomp_attr_set) attr_set;
    __typeof__(&seccomp_rule_add_array) add;
    __typeof__(&seccomp_syscall_resolve_name) resolve;
} lib;

static int load_lib(dr_err *e)
{
    static const char *const so[] = { "libseccomp.so.2", NULL };
    const dl_sym syms[] = {
        { "seccomp_init", &lib.init }, { "seccomp_release", &lib.release }, { "seccomp_load", &lib.load },
        { "seccomp_attr_set", &lib.attr_set }, { "seccomp_rule_add_array", &lib.add },
        { "seccomp_syscall_resolve_name", &lib.resolve }, { NULL, NULL }
    };
    return lib.load ? DR_OK : dl_load(so, "libseccomp2", syms, e);
}

static const char *const allowed[] = {
    /* files: which, Landlock says */
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "close", "close_range", "lseek",
    "open", "openat", "openat2", "stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs", "access",
    "faccessat", "faccessat2", "readlink", "readlinkat", "getdents64", "getcwd", "unlink", "unlinkat", "rmdir",
    "rename", "renameat", "renameat2", "mkdir", "mkdirat", "truncate", "ftruncate", "fsync", "fdatasync", "fallocate",
    "fadvise64", "sync_file_range", "flock", "fcntl", "ioctl", "dup", "dup2", "dup3", "sendfile", "umask",
    /* memory */
    "mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "msync", "mincore", "mlock", "munlock", "membarrier",
    "get_mempolicy", "set_mempolicy", "mbind",
    /* waiting, and sockets that there are or that come by accept */
    "poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
    "eventfd2", "pipe2", "accept", "accept4", "recvfrom", "recvmsg", "sendto", "sendmsg", "sendmmsg", "shutdown",
    "getsockname", "getpeername", "getsockopt", "setsockopt",
    /* threads of this process */
    "futex", "futex_waitv", "sched_yield", "sched_getaffinity", "sched_setaffinity", "getcpu", "set_robust_list",
    "get_robust_list", "rseq", "set_tid_address", "exit", "exit_group", "gettid", "getpid", "getppid", "tgkill",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigsuspend", "rt_sigpending",
    "sigaltstack", "restart_syscall", "prctl",
    /* time, numbers, limits */
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "getrandom",
    "getrusage", "times", "sysinfo", "uname", "getrlimit", "prlimit64", "getuid", "geteuid", "getgid", "getegid",
};
static const char *const forbidden[] = {        /* with EPERM, so that who tries it hears why */
    "execve", "execveat", "fork", "vfork", "socket", "socketpair", "connect", "bind", "listen", "kill", "tkill",
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "mount", "umount2", "chroot",
    "setuid", "setgid", "setresuid", "setresgid", "setgroups", "chmod", "fchmod", "fchmodat", "chown", "fchown",
    "fchownat", "link", "linkat", "symlink", "symlinkat", "mknod", "mknodat", "bpf", "perf_event_open", "keyctl",
    "unshare", "setns", "init_module", "finit_module", "kexec_load", "reboot", "io_uring_setup", "userfaultfd",
};

/* Names that this processor or this libseccomp does not know are left out. */
static int add_names(scmp_filter_ctx f, uint32_t action, const char *const *name, size_t n)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        int nr = lib.resolve(name[i]);
        if (nr != __NR_SCMP_ERROR && nr >= 0) rc = lib.add(f, action, nr, 0, NULL);
    }
    return rc;
}

static int fill(scmp_filter_ctx f)
{
    /* no thread: a process. clone3, whose flags lie in memory, is not known, and the C library takes clone */
    struct scmp_arg_cmp thread = { 0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD };
    struct scmp_arg_cmp process = { 0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0 };
    int clone_nr = lib.resolve("clone");
    int rc = lib.attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
    if (!rc) rc = add_names(f, SCMP_ACT_ALLOW, allowed, sizeof allowed / sizeof *allowed);
    if (!rc) rc = add_names(f, SCMP_ACT_ERRNO(EPERM), forbidden, sizeof forbidden / sizeof *forbidden);
    if (!rc) rc = lib.add(f, SCMP_ACT_ALLOW, clone_nr, 1, &thread);
    if (!rc) rc = lib.add(f, SCMP_ACT_ERRNO(EPERM), clone_nr, 1, &process);
    return rc ? rc : lib.load(f);
}

int sandbox_calls(dr_err *e)
{
    int rc = load_lib(e);
    if (rc) return rc;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_set(e, DR_EIO, "the sandbox was refused: %s", strerror(errno));
    scmp_filter_ctx f = lib.init(SCMP_ACT_ERRNO(ENOSYS));
    if (!f) return err_nomem(e, 0, "the sandbox of calls");
    rc = fill(f);
    lib.release(f);
    return rc ? err_set(e, DR_EIO, "the sandbox of calls was refused: %s", strerror(-rc)) : DR_OK;
}
