/* http.c - the server: its socket, its loop, its end. See http.h, and http_priv.h for a request's way.
 *
 * The loop waits on one epoll set: libmicrohttpd's own epoll set (external mode: it runs when we call it), an
 * eventfd that other threads and signals write to, and the sockets of suspended connections, for the client
 * that leaves. All of libmicrohttpd runs in the loop's thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/os.h"
#include "serve/http_priv.h"

enum { EVENTS = 64, TICK_MS = 100, LOOK_NS = 250000000, FILES_BESIDE = 64, PEM_MAX = 1 << 20 };

/* ---- the socket */

static int listen_on(http *h, int family, const struct sockaddr *a, socklen_t n, dr_err *e)
{
    int on = 1, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return err_set(e, DR_EIO, "cannot make a socket: %s", strerror(errno));
    if (family != AF_UNIX) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, 26 /* IPV6_V6ONLY */, &(int){0}, sizeof on);
    if (bind(fd, a, n) || listen(fd, 1024)) {
        int err = errno;
        close(fd);
        if (family == AF_UNIX)
            return err_set(e, DR_EIO, "cannot listen on %s: %s", h->o.unix_path, strerror(err));
        return err_set(e, DR_EIO, "cannot listen on %s, port %d: %s", h->o.address, h->o.port,
                       strerror(err));
    }
    h->listen = fd;
    return DR_OK;
}

static int listen_unix(http *h, dr_err *e)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct stat st;
    if (strlen(h->o.unix_path) >= sizeof a.sun_path)
        return err_set(e, DR_EINVAL, "the socket's path %s is longer than %zu bytes", h->o.unix_path,
                       sizeof a.sun_path - 1);
    memcpy(a.sun_path, h->o.unix_path, strlen(h->o.unix_path));
    /* what a process that was killed left behind: nobody answers */
    if (!lstat(a.sun_path, &st) && S_ISSOCK(st.st_mode)) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool dead = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) && errno == ECONNREFUSED;
        if (fd >= 0) close(fd);
        if (dead) unlink(a.sun_path);
    }
    int rc = listen_on(h, AF_UNIX, (struct sockaddr *)&a, sizeof a, e);
    if (rc == DR_OK && !(h->unix_path = mem_strdup(a.sun_path))) rc = err_nomem(e, 100, "path");
    return rc;
}

static int listen_inet(http *h, dr_err *e)
{
    struct addrinfo hint = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *list = NULL;
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    char port[8], host[64];
    snprintf(port, sizeof port, "%d", h->o.port);
    int rc = getaddrinfo(h->o.address, port, &hint, &list);
    if (rc) return err_set(e, DR_EINVAL, "no address for %s: %s", h->o.address, gai_strerror(rc));
    rc = listen_on(h, list->ai_family, list->ai_addr, list->ai_addrlen, e);
    freeaddrinfo(list);
    if (rc == DR_OK && !getsockname(h->listen, (struct sockaddr *)&at, &n) &&
        !getnameinfo((struct sockaddr *)&at, n, host, sizeof host, port, sizeof port,
                     NI_NUMERICHOST | NI_NUMERICSERV)) {
        h->port = (int)strtol(port, NULL, 10);
        h->loopback = !strncmp(host, "127.", 4) || !strcmp(host, "::1");
    }
    return rc;
}

/* ---- begin and end */

static void defaults(http_opt *o)
{
    if (!o->address) o->address = "127.0.0.1";
    if (!o->max_body) o->max_body = 16 << 20;
    if (!o->max_body_all) o->max_body_all = 256 << 20;
    if (!o->max_header) o->max_header = 32 << 10;
    if (!o->max_conns) o->max_conns = 16384;
    if (!o->idle_s) o->idle_s = 120;
    if (!o->body_s) o->body_s = 30;
    if (!o->ping_s) o->ping_s = 15;
    if (!o->workers) o->workers = 2;
    if (!o->max_jobs) o->max_jobs = 256;
}

/* Each connection is a file; as many as the system gives. */
static void files(http *h)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r)) return;
    rlim_t want = (rlim_t)h->o.max_conns + FILES_BESIDE;
    if (r.rlim_cur < want && r.rlim_cur != RLIM_INFINITY) {
        r.rlim_cur = r.rlim_max == RLIM_INFINITY || r.rlim_max > want ? want : r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
        getrlimit(RLIMIT_NOFILE, &r);
    }
    if (r.rlim_cur < want && r.rlim_cur > 2 * FILES_BESIDE)
        h->o.max_conns = (int)(r.rlim_cur - FILES_BESIDE);
}

static void quiet(void *arg, const char *fmt, va_list ap) { (void)arg, (void)fmt, (void)ap; }

static int daemon_start(http *h, dr_err *e)
{
    buf cert = { .cap_max = PEM_MAX }, key = { .cap_max = PEM_MAX };
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    int rc = DR_OK;
    struct MHD_OptionItem tls[4] = { { MHD_OPTION_END, 0, NULL } };
    if (h->o.cert || h->o.key) {
        if (!h->o.cert || !h->o.key)
            rc = err_set(e, DR_EINVAL, "TLS wants a certificate and its key: only one was given");
        else if (mhd.is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
            rc = err_set(e, DR_EUNSUPPORTED, "this libmicrohttpd was built without TLS");
        if (rc == DR_OK) rc = os_read(&cert, h->o.cert, e);
        if (rc == DR_OK) rc = os_read(&key, h->o.key, e);
        flags |= MHD_USE_TLS;
        tls[0] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_CERT, 0, buf_str(&cert) };
        tls[1] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_KEY, 0, buf_str(&key) };
        static char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
        tls[2] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0, priorities };
        tls[3] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
    }
    if (rc == DR_OK) {
        h->d = mhd.start_daemon(flags, 0, NULL, NULL, conn_access, h, MHD_OPTION_EXTERNAL_LOGGER, quiet, NULL,
            MHD_OPTION_LISTEN_SOCKET, h->listen, MHD_OPTION_NOTIFY_COMPLETED, conn_completed, h,
            MHD_OPTION_NOTIFY_CONNECTION, conn_notify, h, MHD_OPTION_URI_LOG_CALLBACK, conn_uri, h,
            /* beside the head, room for the answer's; one above the limit makes an idle one leave */
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, h->o.max_header + (16 << 10),
            MHD_OPTION_CONNECTION_LIMIT, (unsigned)h->o.max_conns + 16,
            MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)h->o.max_conns_per_ip,
            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)h->o.idle_s, MHD_OPTION_STRICT_FOR_CLIENT, 1,
            MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
        if (!h->d && h->o.cert)
            rc = err_set(e, DR_EINVAL, "TLS cannot start: is %s the certificate of the key %s, both PEM?",
                         h->o.cert, h->o.key);
        else if (!h->d) rc = err_set(e, DR_EIO, "libmicrohttpd cannot start");
    }
    if (key.p) memset(key.p, 0, key.n);
    buf_free(&cert);
    buf_free(&key);
    return rc;
}

static int watch(http *h, int fd, void *what, dr_err *e)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = what };
    if (!epoll_ctl(h->poll, EPOLL_CTL_ADD, fd, &ev)) return DR_OK;
    return err_set(e, DR_EIO, "cannot watch a socket: %s", strerror(errno));
}

static int start(http *h, dr_err *e)
{
    files(h);
    int rc = keys_load(h, e);
    h->poll = epoll_create1(EPOLL_CLOEXEC);
    h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rc == DR_OK && (h->poll < 0 || h->wake < 0))
        rc = err_set(e, DR_EIO, "cannot make an epoll set: %s", strerror(errno));
    if (rc == DR_OK) rc = h->o.unix_path ? listen_unix(h, e) : listen_inet(h, e);
    if (rc == DR_OK) rc = daemon_start(h, e);
    if (rc != DR_OK) return rc;
    const union MHD_DaemonInfo *i = mhd.get_daemon_info(h->d, MHD_DAEMON_INFO_EPOLL_FD);
    h->mhd_fd = i ? i->epoll_fd : -1;
    if (h->mhd_fd < 0) return err_set(e, DR_EUNSUPPORTED, "this libmicrohttpd was built without epoll");
    rc = watch(h, h->mhd_fd, &h->mhd_fd, e);
    if (rc == DR_OK) rc = watch(h, h->wake, &h->wake, e);
    return rc == DR_OK ? work_start(h, e) : rc;
}

http *http_new(const http_opt *o, dr_err *e)
{
    if (mhd_load(e) != DR_OK) return NULL;
    http *h = mem_zalloc(1, sizeof *h);
    if (!h) return err_nomem(e, sizeof *h, "the server"), NULL;
    h->o = *o;
    defaults(&h->o);
    h->poll = h->wake = h->mhd_fd = h->listen = -1;
    h->n_tenants = 1;
    h->tenant_weight[0] = 1;
    pthread_mutex_init(&h->lock, NULL);
    pthread_mutex_init(&h->tenant_lock, NULL);
    pthread_mutex_init(&h->stat_lock, NULL);
    pthread_cond_init(&h->work, NULL);
    if (start(h, e) == DR_OK) return h;
    http_free(h);
    return NULL;
}

void http_free(http *h)
{
    if (!h) return;
    work_stop(h);
    if (h->d) mhd.stop_daemon(h->d);            // the loop has resumed all; closes the listening socket
    else if (h->listen >= 0) close(h->listen);
    if (h->poll >= 0) close(h->poll);
    if (h->wake >= 0) close(h->wake);
    if (h->unix_path) unlink(h->unix_path);
    mem_free(h->unix_path);
    keys_free(&h->keys);
    pthread_mutex_destroy(&h->lock);
    pthread_mutex_destroy(&h->tenant_lock);
    pthread_mutex_destroy(&h->stat_lock);
    pthread_cond_destroy(&h->work);
    mem_free(h);
}

int http_port(const http *h) { return h->port; }

void http_stop(http *h, int grace_s)
{
    uint64_t one = 1;
    atomic_store(&h->stop, grace_s < 0 ? 1 : grace_s + 1);
    if (write(h->wake, &one, sizeof one) < 0) return;   // full: it will wake all the same
}

void http_stats_get(http *h, http_stats *out)
{
    pthread_mutex_lock(&h->stat_lock);
    *out = h->stats;
    pthread_mutex_unlock(&h->stat_lock);
    pthread_mutex_lock(&h->lock);
    out->jobs = h->n_jobs;
    pthread_mutex_unlock(&h->lock);
}

/* ---- the loop */

static void woken(http *h)
{
    for (;;) {
        pthread_mutex_lock(&h->lock);
        http_conn *c = h->woken;
        bool done = false;
        if (c) {
            h->woken = c->next_woken;
            c->woken = false;
            done = c->job_done;
            c->job_done = false;
        }
        pthread_mutex_unlock(&h->lock);
        if (!c) return;
        conn_woken(c, done);
    }
}

/* true: all is done. */
static bool drained(http *h, int64_t now)
{
    int stop = atomic_exchange(&h->stop, 0);
    if (stop) {
        h->drain_until = now + (int64_t)(stop - 1) * 1000000000;
        if (!h->draining) mhd.quiesce_daemon(h->d);
        h->draining = true;
        return false;
    }
    if (!h->draining) return false;
    if (!h->quiet) {            // libmicrohttpd has run since, and took the socket out of its set
        close(h->listen);
        h->listen = -1;
        h->quiet = true;
    }
    for (http_conn *c = h->conns, *next; c; c = next) {
        next = c->next;
        if (c->state == CONN_IDLE || now >= h->drain_until) conn_cut(c);
    }
    return !h->n_conns;
}

static void count_open(http *h)
{
    int streams = 0;
    for (const http_conn *c = h->conns; c; c = c->next) streams += c->open;
    pthread_mutex_lock(&h->stat_lock);
    h->stats.open = h->n_conns;
    h->stats.streams = streams;
    pthread_mutex_unlock(&h->stat_lock);
}

int http_run(http *h, void (*tick)(void *arg), void *arg, dr_err *e)
{
    struct epoll_event ev[EVENTS];
    for (;;) {
        MHD_UNSIGNED_LONG_LONG ms = TICK_MS;
        if (mhd.get_timeout(h->d, &ms) != MHD_YES || ms > TICK_MS) ms = TICK_MS;
        int n = epoll_wait(h->poll, ev, EVENTS, (int)ms);
        if (n < 0 && errno != EINTR)
            return err_set(e, DR_EIO, "cannot wait for requests: %s", strerror(errno));
        for (int i = 0; i < n; i++) {
            uint64_t count;
            if (ev[i].data.ptr == &h->wake) {
                if (read(h->wake, &count, sizeof count) < 0) continue;
            } else if (ev[i].data.ptr != &h->mhd_fd) {
                conn_left(ev[i].data.ptr);
            }
        }
        woken(h);
        if (mhd.run(h->d) != MHD_YES) return err_set(e, DR_EIO, "libmicrohttpd failed");
        int64_t now = os_now_ns();
        if (drained(h, now)) return DR_OK;
        if (now - h->last_tick >= (int64_t)TICK_MS * 1000000) {
            h->last_tick = now;
            count_open(h);
            if (tick) tick(arg);
        }
        if (now - h->last_look >= LOOK_NS) {
            h->last_look = now;
            conn_look(h, now);
            work_look(h);
        }
    }
}
