/* sandbox.h - this process gives rights up, for good: which files it may open (Landlock), which calls of the
 * system it may make (seccomp, by libseccomp, loaded when asked for). What is open already stays usable.
 *
 * Nothing is weakened silently: what the kernel or the machine does not have is an error. Linux alone.
 * Threads: sandbox_files binds the calling thread and those that it starts afterwards, so it comes first;
 * sandbox_calls binds all. */
#ifndef SERVE_SANDBOX_H
#define SERVE_SANDBOX_H
#include "base/err.h"

typedef enum {
    SANDBOX_READ,               /* read files, list folders */
    SANDBOX_WRITE,              /* that, and make, change and remove them */
    SANDBOX_SOCKET              /* make and remove sockets of the file system */
} sandbox_right;
/* What lies under a folder, or a file. One that is not there is left out. */
typedef struct { const char *path; sandbox_right right; } sandbox_path;

/* Afterwards only those, and what a program needs of the system's own (libraries, time zones, what the kernel
 * tells about this process and the machine). TCP: `port` may be listened on (0: one that the system picks), and
 * nobody is called, where the kernel knows of that (6.7); sandbox_calls forbids it anyway. */
int sandbox_files(const sandbox_path *p, int n, int port, dr_err *e);
/* Afterwards only what a server needs that has its listening sockets: no new sockets, no connections to others,
 * no programs, no processes, no signals to others. Such a call fails with EPERM, any other that is not known
 * with ENOSYS, as if the kernel were older. */
int sandbox_calls(dr_err *e);
#endif
