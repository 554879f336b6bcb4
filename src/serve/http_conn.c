/* http_conn.c - one connection's requests, from libmicrohttpd's callbacks. See http_priv.h for the states. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "base/mem.h"
#include "base/os.h"
#include "serve/http_priv.h"

enum { OUT_CAP = 256 << 20, READER_BLOCK = 4096 };

static http_conn *conn_of(struct MHD_Connection *mc)
{
    const union MHD_ConnectionInfo *i = mhd.get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return i ? i->socket_context : NULL;
}

/* ---- suspending */

static void suspend(http_conn *c)
{
    c->suspended = true;
    mhd.suspend_connection(c->mc);
}

static void resume(http_conn *c)
{
    if (!c->suspended) return;
    c->suspended = false;
    mhd.resume_connection(c->mc);
}

static void source_close(http_conn *c)
{
    if (!c->open) return;
    c->open = false;
    if (c->reply.source->close) c->reply.source->close(c->reply.src);
}

/* ---- the reply */

/* Ask the source for bytes, until it gave some or has none. */
static void fill(http_conn *c)
{
    for (int i = 0; i < 4 && c->open && c->out_at == c->out.n; i++) {
        http_state st = c->reply.source->fill(c->reply.src, &c->reply, &c->out);
        if (st == HTTP_END) {
            c->out_end = true;
            source_close(c);
        }
        if (st == HTTP_WAIT) return;
    }
}

static ssize_t reader(void *arg, uint64_t pos, char *p, size_t max)
{
    http_conn *c = arg;
    (void)pos;
    if (c->gone || c->cut) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (c->out_at == c->out.n) {
        buf_reset(&c->out);
        c->out_at = 0;
        fill(c);
    }
    if (c->out.bad) return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t left = c->out.n - c->out_at, n = left < max ? left : max;
    if (n) {
        memcpy(p, c->out.p + c->out_at, n);
        c->out_at += n, c->n_out += n;
        c->written = os_now_ns();
        return (ssize_t)n;
    }
    if (c->out_end) return MHD_CONTENT_READER_END_OF_STREAM;
    suspend(c);
    return 0;
}

static bool head(struct MHD_Response *r, const char *name, const char *value)
{
    return mhd.add_response_header(r, name, value) == MHD_YES;
}

static bool heads(http_conn *c, struct MHD_Response *r)
{
    char number[24];
    http_reply *o = &c->reply;
    snprintf(number, sizeof number, "%llu", (unsigned long long)c->req.number);
    bool ok = head(r, "X-Request-Id", number) && head(r, "X-Content-Type-Options", "nosniff");
    if (o->type && o->status != 204) ok = ok && head(r, "Content-Type", o->type);
    if (o->type && !strncmp(o->type, "text/event-stream", 17))
        ok = ok && head(r, "Cache-Control", "no-cache") && head(r, "X-Accel-Buffering", "no");
    if (*c->origin)
        ok = ok && head(r, "Access-Control-Allow-Origin", c->origin) && head(r, "Vary", "Origin") &&
             head(r, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
    if (c->h->draining) ok = ok && head(r, "Connection", "close");
    for (int i = 0; i < o->n_head; i++) ok = ok && head(r, o->head[i].name, o->head[i].value);
    return ok;
}

static enum MHD_Result reply_queue(http_conn *c)
{
    http_reply *o = &c->reply;
    struct MHD_Response *r;
    if (c->open) {
        r = mhd.create_response_from_callback(MHD_SIZE_UNKNOWN, READER_BLOCK, reader, c, NULL);
    } else {
        static char none[1];
        buf *b = &o->body;
        if (b->bad) {
            buf_reset(b);
            http_error(o, c->style, 500, NULL, NULL, NULL, "there is no memory for the reply");
        }
        c->n_out = b->n;
        r = b->n ? mhd.create_response_from_buffer_with_free_callback_cls(b->n, b->p, mem_free, b->p) :
                   mhd.create_response_from_buffer_with_free_callback_cls(0, none, NULL, NULL);
        if (r && b->n) *b = (buf){ .cap_max = b->cap_max };      // the response owns it
    }
    if (!r) return MHD_NO;
    c->state = CONN_STREAM;
    c->head_at = c->written = os_now_ns();
    enum MHD_Result ok = heads(c, r) ? mhd.queue_response(c->mc, (unsigned)o->status, r) : MHD_NO;
    mhd.destroy_response(r);
    return ok;
}

/* Bytes may have come for a reply that waits for them. */
static void pump(http_conn *c)
{
    if (c->out_at == c->out.n) {
        buf_reset(&c->out);
        c->out_at = 0;
    }
    fill(c);
    if (c->out_at == c->out.n && !c->out_end && !c->out.bad) return;
    if (c->state == CONN_FILL) {
        if (c->out_end || c->out.bad) {         // all of it at once: its length can be said
            source_close(c);
            buf_free(&c->reply.body);
            c->reply.body = c->out;
            c->out = (buf){ .cap_max = OUT_CAP };
            c->out_end = true;
        }
        c->state = CONN_REPLY;
    }
    resume(c);
}

void conn_woken(http_conn *c, bool job_done)
{
    if (job_done) {
        c->open = c->reply.source != NULL;
        if (c->gone || c->cut) {
            source_close(c);
            c->state = CONN_REPLY;
            resume(c);
        } else if (c->open) {
            c->state = CONN_FILL;
            pump(c);
        } else {
            c->state = CONN_REPLY;
            resume(c);
        }
    } else if (c->state == CONN_FILL || (c->state == CONN_STREAM && c->suspended)) {
        pump(c);
    }
}

void conn_left(http_conn *c)
{
    c->half = true;             // what it sent before may be unread
    if (c->state < CONN_JOB) return;
    c->gone = true;
    if (c->state != CONN_FILL && c->state != CONN_STREAM) return;
    source_close(c);
    resume(c);
}

void conn_cut(http_conn *c)
{
    if (c->cut) return;
    c->cut = true;
    shutdown(c->fd, SHUT_RDWR);
    if (c->state == CONN_FILL || c->state == CONN_STREAM) {
        source_close(c);
        resume(c);
    }
}

/* ---- the request */

/* The reply instead of the route's. The body, if one comes, is read and thrown away: a client that still
 * sends would not see the reply. */
static void refuse(http_conn *c, int status, const char *type, const char *code, const char *fmt, ...)
    DR_PRINTF(5, 6);
static void refuse(http_conn *c, int status, const char *type, const char *code, const char *fmt, ...)
{
    char s[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    c->route = NULL;
    http_error(&c->reply, c->style, status, type, code, NULL, "%s", s);
    c->h->body_bytes -= c->held;
    c->held = 0;
    buf_free(&c->body);
}

const char *http_header(const http_req *r, const char *name)
{
    return mhd.lookup_connection_value(r->conn->mc, MHD_HEADER_KIND, name);
}

const char *http_query(const http_req *r, const char *name)
{
    return mhd.lookup_connection_value(r->conn->mc, MHD_GET_ARGUMENT_KIND, name);
}

/* What the browser's rule for other origins needs. true: this was a question before the request. */
static bool cors(http_conn *c)
{
    const char *from = http_header(&c->req, "Origin"), *want;
    if (!from || strlen(from) >= sizeof c->origin) return false;
    if (origin_allowed(c->h, from, NULL)) snprintf(c->origin, sizeof c->origin, "%s", from);
    if (!*c->origin || strcmp(c->method, "OPTIONS") ||
        !http_header(&c->req, "Access-Control-Request-Method"))
        return false;
    c->reply.status = 204;
    http_head(&c->reply, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    want = http_header(&c->req, "Access-Control-Request-Headers");
    http_head(&c->reply, "Access-Control-Allow-Headers", "%s",
              want && strlen(want) < 150 ? want : "Authorization, Content-Type, X-Api-Key");
    http_head(&c->reply, "Access-Control-Max-Age", "600");
    return true;
}

static uint64_t content_length(const http_req *r)
{
    const char *s = http_header(r, "Content-Length");
    return s ? strtoull(s, NULL, 10) : 0;       // libmicrohttpd has refused what is no number
}

static void find_route(http_conn *c)
{
    http *h = c->h;
    int status = 0;
    char allow[64];
    const http_route *t = route_find(h, c->method, buf_str(&c->path), &c->req.rest, &status, allow,
                                     sizeof allow);
    if (t) c->style = t->style;
    if (!t || !(t->flags & HTTP_OPEN)) {
        const char *from = http_header(&c->req, "Origin"), *host = http_header(&c->req, "Host");
        if (!host_allowed(h, host)) {
            refuse(c, 403, NULL, "host_not_allowed", "this server is not called %.100s: --name allows it", host);
            return;
        }
        if (!origin_allowed(h, from, host)) {
            refuse(c, 403, NULL, "origin_not_allowed", "pages of %.100s may not ask: --cors allows it", from);
            return;
        }
        int tenant = keys_check(h, c->mc);
        if (tenant < 0) {
            refuse(c, 401, NULL, "invalid_api_key", "a valid key is wanted: Authorization: Bearer KEY, "
                   "or x-api-key: KEY");
            http_head(&c->reply, "WWW-Authenticate", "Bearer");
            return;
        }
        c->req.tenant = tenant;
        c->req.tenant_name = h->tenant_name[tenant];
    }
    if (!t && status == 405) {
        refuse(c, 405, NULL, NULL, "%s takes %s, not %s", buf_str(&c->path), allow, c->method);
        http_head(&c->reply, "Allow", "%s", allow);
    } else if (!t) {
        refuse(c, 404, NULL, NULL, "there is no %s here", buf_str(&c->path));
    }
    c->route = c->reply.status == 200 ? t : NULL;
}

static enum MHD_Result request_begin(http_conn *c, const char *url, const char *method)
{
    http *h = c->h;
    const union MHD_ConnectionInfo *i =
        mhd.get_connection_info(c->mc, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    c->active = true;
    h->n_active++;
    c->state = CONN_BODY;
    c->begun = os_now_ns();
    snprintf(c->method, sizeof c->method, "%s", method);
    buf_init(&c->path, HTTP_PATH_MAX);
    buf_puts(&c->path, url);
    bool no_path = c->path.bad;
    if (no_path) buf_free(&c->path);
    buf_init(&c->body, h->o.max_body);
    buf_init(&c->out, OUT_CAP);
    c->req = (http_req){ .method = c->method, .path = buf_str(&c->path), .rest = "", .tenant_name = "",
                         .number = ++h->number, .conn = c, .arg = h->o.arg };
    c->style = route_style(h, buf_str(&c->path));
    c->reply = (http_reply){ .status = 200, .type = "application/json", .body.cap_max = OUT_CAP };
    uint64_t want = content_length(&c->req);
    const char *coding = http_header(&c->req, "Content-Encoding");
    if (h->draining) {
        refuse(c, 503, NULL, NULL, "the server is about to end");
        http_head(&c->reply, "Retry-After", "5");
    } else if (i && i->header_size > h->o.max_header) {
        refuse(c, 431, NULL, NULL, "the request's head has %zu bytes: %zu are allowed", i->header_size,
               h->o.max_header);
    } else if (no_path && strlen(url) < HTTP_PATH_MAX) {
        refuse(c, 503, NULL, NULL, "there is no memory for the request");
    } else if (no_path) {
        refuse(c, 414, NULL, NULL, "the path is longer than %d bytes", HTTP_PATH_MAX);
    } else if (!cors(c)) {
        find_route(c);
        if (c->route && want > h->o.max_body)
            refuse(c, 413, NULL, NULL, "the body has %llu bytes: %zu are allowed",
                   (unsigned long long)want, h->o.max_body);
        else if (c->route && coding && strcasecmp(coding, "identity"))
            refuse(c, 415, NULL, NULL, "Content-Encoding: %.40s is not understood: send the body as it is",
                   coding);
    }
    /* who asks before sending gets the answer now; and who would send for minutes, though it may be
     * too busy sending to see it */
    bool now = http_header(&c->req, "Expect") != NULL || want / 4 > h->o.max_body;
    return !c->route && now && want ? reply_queue(c) : MHD_YES;
}

static void request_body(http_conn *c, const char *data, size_t n)
{
    http *h = c->h;
    c->n_in += n;
    if (!c->route) return;
    if (h->body_bytes + n > h->o.max_body_all) {
        refuse(c, 503, NULL, NULL, "the bodies of all requests together have more than %zu bytes: try later",
               h->o.max_body_all);
        http_head(&c->reply, "Retry-After", "1");
        return;
    }
    h->body_bytes += n, c->held += n;
    buf_put(&c->body, data, n);
    if (c->body.bad && c->n_in > h->o.max_body)
        refuse(c, 413, NULL, NULL, "the body has more than the %zu bytes that are allowed", h->o.max_body);
    else if (c->body.bad)
        refuse(c, 503, NULL, NULL, "there is no memory for the body");
}

static enum MHD_Result request_complete(http_conn *c)
{
    if (!c->route) return reply_queue(c);
    c->req.body = (span){ buf_str(&c->body), c->body.n };
    if (c->route->flags & HTTP_INLINE) {
        c->route->handle(&c->req, &c->reply);
        c->open = c->reply.source != NULL;
        if (!c->open) return reply_queue(c);
        c->state = CONN_FILL;
        suspend(c);
        pump(c);
        return MHD_YES;
    }
    if (c->half) return MHD_NO;
    if (!work_push(c->h, c)) {
        refuse(c, 429, NULL, NULL, "too many requests wait: try later");
        http_head(&c->reply, "Retry-After", "1");
        return reply_queue(c);
    }
    c->state = CONN_JOB;
    suspend(c);
    return MHD_YES;
}

enum MHD_Result conn_access(void *arg, struct MHD_Connection *mc, const char *url, const char *method,
                            const char *version, const char *data, size_t *n, void **con)
{
    http_conn *c = conn_of(mc);
    (void)arg, (void)version;
    if (!c || c->cut) return MHD_NO;
    if (!*con) {
        *con = c;
        return request_begin(c, url, method);
    }
    if (*n) {
        request_body(c, data, *n);
        *n = 0;
        return MHD_YES;
    }
    if (c->gone) return MHD_NO;
    if (c->state == CONN_BODY) return request_complete(c);
    return c->state == CONN_REPLY ? reply_queue(c) : MHD_NO;
}

void *conn_uri(void *arg, const char *uri, struct MHD_Connection *mc)
{
    http_conn *c = conn_of(mc);
    (void)arg, (void)uri;
    if (c && c->state == CONN_IDLE) {
        c->state = CONN_HEAD;
        c->since = os_now_ns();
    }
    return NULL;                /* what *con is at first */
}

void conn_completed(void *arg, struct MHD_Connection *mc, void **con, enum MHD_RequestTerminationCode why)
{
    http_conn *c = conn_of(mc);
    http *h = arg;
    *con = NULL;
    if (!c || !c->active) return;
    source_close(c);
    log_request(c, c->head_at ? c->reply.status : why == MHD_REQUEST_TERMINATED_COMPLETED_OK ? 200 : 499);
    h->body_bytes -= c->held;
    buf_free(&c->path);
    buf_free(&c->body);
    buf_free(&c->out);
    reply_free(&c->reply);
    h->n_active--;
    c->active = false;
    c->route = NULL, c->held = 0, c->n_in = c->n_out = 0, c->head_at = 0, c->out_at = 0;
    c->out_end = false, *c->origin = 0;
    c->state = CONN_IDLE;
    c->since = os_now_ns();
}

/* ---- connections */

static void address(http_conn *c)
{
    const union MHD_ConnectionInfo *i =
        mhd.get_connection_info(c->mc, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = i ? i->client_addr : NULL;
    snprintf(c->addr, sizeof c->addr, "unix");
    if (a && a->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, c->addr,
                  sizeof c->addr);
    else if (a && a->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, c->addr,
                  sizeof c->addr);
    /* a host that vanished answers no probe, and takes no bytes */
    int on = 1, idle = 30, every = 10, tries = 3, unacked_ms = 60000;
    if (!strcmp(c->addr, "unix")) return;
    setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
    setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked_ms, sizeof unacked_ms);
}

/* One connection too many: that which is idle for longest makes room. */
static void make_room(http *h)
{
    http_conn *old = NULL;
    for (http_conn *c = h->conns; c; c = c->next)
        if (c->state == CONN_IDLE && !c->cut && (!old || c->since < old->since)) old = c;
    if (old) conn_cut(old);
}

void conn_notify(void *arg, struct MHD_Connection *mc, void **socket_context,
                 enum MHD_ConnectionNotificationCode code)
{
    http *h = arg;
    http_conn *c = *socket_context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = c = mem_zalloc(1, sizeof *c);
        if (!c) return;         // its first request is refused
        const union MHD_ConnectionInfo *i =
            mhd.get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
        c->h = h, c->mc = mc, c->fd = i ? i->connect_fd : -1;
        c->since = os_now_ns();
        address(c);
        struct epoll_event ev = { .events = EPOLLRDHUP | EPOLLET, .data.ptr = c };
        c->watched = !epoll_ctl(h->poll, EPOLL_CTL_ADD, c->fd, &ev);
        if (h->n_conns >= h->o.max_conns) make_room(h);
        c->next = h->conns;
        if (c->next) c->next->prev = c;
        h->conns = c;
        h->n_conns++;
        pthread_mutex_lock(&h->stat_lock);
        h->stats.connections++;
        pthread_mutex_unlock(&h->stat_lock);
        return;
    }
    if (!c) return;
    if (c->watched) epoll_ctl(h->poll, EPOLL_CTL_DEL, c->fd, NULL);
    pthread_mutex_lock(&h->lock);               // a wake may have come before the source was closed
    for (http_conn **p = &h->woken; c->woken && *p; p = &(*p)->next_woken)
        if (*p == c) {
            *p = c->next_woken;
            break;
        }
    pthread_mutex_unlock(&h->lock);
    if (c->prev) c->prev->next = c->next;
    else h->conns = c->next;
    if (c->next) c->next->prev = c->prev;
    h->n_conns--;
    *socket_context = NULL;
    mem_free(c);
}

static bool past(int64_t since, int64_t now, int s) { return now - since > (int64_t)s * 1000000000; }

void conn_look(http *h, int64_t now)
{
    for (http_conn *c = h->conns, *next; c; c = next) {
        next = c->next;
        /* libmicrohttpd misses an end that came with the last bytes */
        if (c->state < CONN_JOB &&
            (c->half || past(c->since, now, c->state == CONN_IDLE ? h->o.idle_s : h->o.body_s)))
            conn_cut(c);
        else if (c->state == CONN_STREAM && c->suspended && c->open && c->reply.source->ping &&
                 past(c->written, now, h->o.ping_s)) {
            c->written = now;
            c->reply.source->ping(c->reply.src, &c->out);
            if (c->out.n > c->out_at) resume(c);
        }
    }
}
