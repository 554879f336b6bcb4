/* notify.c - see notify.h. */
#define _GNU_SOURCE
#include "base/notify.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/os.h"

static struct { int fd; int64_t watchdog_ns; } to = { -1, 0 };

static int64_t watchdog_of(const char *usec, const char *pid)
{
    char *end;
    if (pid && (strtoll(pid, &end, 10) != getpid() || *end)) return 0;
    int64_t us = usec ? strtoll(usec, &end, 10) : 0;
    return us > 0 && us < INT64_MAX / 1000 && !*end ? us * 1000 / 2 : 0;
}

int notify_open(dr_err *e)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    size_t n = path ? strlen(path) : 0;
    int rc = DR_OK, fd;
    to.watchdog_ns = watchdog_of(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
    if (n == 0) return DR_OK;
    if ((*path != '/' && *path != '@') || n < 2 || n >= sizeof a.sun_path)
        rc = err_set(e, DR_EINVAL, "NOTIFY_SOCKET is \"%.120s\": a path or @name is wanted", path);
    memcpy(a.sun_path, path, n < sizeof a.sun_path ? n : 0);
    if (*path == '@') a.sun_path[0] = 0;        /* of Linux' own names, which are no files */
    if (!rc) {
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n))) {
            rc = err_set(e, DR_EIO, "NOTIFY_SOCKET %.120s: %s", path, strerror(errno));
            if (fd >= 0) close(fd);
        } else {
            to.fd = fd;
        }
    }
    unsetenv("NOTIFY_SOCKET"), unsetenv("WATCHDOG_USEC"), unsetenv("WATCHDOG_PID");
    return rc;
}

void notify_send(const char *what)
{
    if (to.fd >= 0) (void)!send(to.fd, what, strlen(what), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void notify_reloading(void)
{
    char s[80];
    snprintf(s, sizeof s, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(os_now_ns() / 1000));
    notify_send(s);
}

int64_t notify_watchdog_ns(void) { return to.fd >= 0 ? to.watchdog_ns : 0; }

void notify_close(void)
{
    if (to.fd >= 0) close(to.fd);
    to.fd = -1;
}
