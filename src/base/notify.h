/* notify.h - telling the service manager: one datagram to $NOTIFY_SOCKET. spec: sd_notify(3), systemd 252.
 * Nothing happens where nobody listens. Threads: one at a time. */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H
#include <stdint.h>
#include "base/err.h"

/* Opens the socket, which then works in a sandbox too; no socket is asked for: DR_OK, and nothing is sent. Takes
 * the variables out of the environment, so that no other program answers. */
int notify_open(dr_err *e);
/* "READY=1", several separated by a newline. Never waits. */
void notify_send(const char *what);
/* RELOADING=1 with the time that the manager compares. */
void notify_reloading(void);
/* How often the manager wants to hear WATCHDOG=1, in ns: half of its limit; 0: not at all. */
int64_t notify_watchdog_ns(void);
void notify_close(void);
#endif
