/* test_http.c - serve/http.h over real sockets: routes, keys, limits, streams, clients that leave, that are
 * slow, that send nonsense; the end. Run it under BUILD=asan and BUILD=tsan too. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/os.h"
#include "serve/http.h"

enum { REPLY_MAX = 8 << 20, WAIT_MS = 5000 };

/* ---- the routes under test */

static atomic_int closes, fills, pings, release, jobs_in;
static atomic_long filled;

static void echo(const http_req *r, http_reply *o)
{
    const char *q = http_query(r, "q"), *x = http_header(r, "X-Any");
    o->type = "text/plain";
    buf_printf(&o->body, "%s %s [%s] q=%s x=%s tenant=%d %s\n", r->method, r->path, r->rest, q ? q : "-",
               x ? x : "-", r->tenant, r->tenant_name);
    buf_put(&o->body, r->body.p, r->body.n);
}

static void json(const http_req *r, http_reply *o)
{
    dr_err e = {0};
    json_t *v = http_json(r, &e);
    if (v) http_put_json(o, 200, v);
    else http_error(o, HTTP_OPENAI, http_status(e.code), NULL, NULL, "messages", "%s", e.msg);
}

static void fails(const http_req *r, http_reply *o)
{
    http_error(o, *r->rest == 'a' ? HTTP_ANTHROPIC : *r->rest == 'o' ? HTTP_OLLAMA : HTTP_OPENAI, 429, NULL, NULL,
               NULL, "no \xff room");
    http_head(o, "Retry-After", "%d\r\nX-Bad: 1", 7);
}

static void slow(const http_req *r, http_reply *o)
{
    atomic_fetch_add(&jobs_in, 1);
    while (!atomic_load(&release)) usleep(1000);
    echo(r, o);
}

/* A source whose bytes another thread makes: n lines, pause_us apart. */
typedef struct {
    pthread_t maker;
    pthread_mutex_t lock;
    http_conn *conn;
    int n, made, taken, pause_us, status;
    bool stop;
} lines;

static void *make(void *arg)
{
    lines *s = arg;
    for (bool on = true; on;) {
        usleep((useconds_t)s->pause_us);
        pthread_mutex_lock(&s->lock);
        s->made++;
        on = s->made < s->n && !s->stop;
        pthread_mutex_unlock(&s->lock);
        http_wake(s->conn);
    }
    return NULL;
}

static http_state lines_fill(void *src, http_reply *o, buf *out)
{
    lines *s = src;
    atomic_fetch_add(&fills, 1);
    pthread_mutex_lock(&s->lock);
    bool any = s->taken < s->made;
    if (any) buf_printf(out, "line %d\n", s->taken++);
    bool end = s->taken == s->n;
    pthread_mutex_unlock(&s->lock);
    if (s->status) o->status = s->status;
    return end ? HTTP_END : any ? HTTP_MORE : HTTP_WAIT;
}

static void lines_ping(void *src, buf *out)
{
    (void)src;
    atomic_fetch_add(&pings, 1);
    buf_puts(out, "ping\n");
}

static void lines_close(void *src)
{
    lines *s = src;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->maker, NULL);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
    atomic_fetch_add(&closes, 1);
}

static const http_source LINES = { lines_fill, lines_ping, lines_close };

static void stream(const http_req *r, http_reply *o)
{
    const char *n = http_query(r, "n"), *us = http_query(r, "us"), *st = http_query(r, "status");
    lines *s = mem_zalloc(1, sizeof *s);
    s->n = n ? (int)strtol(n, NULL, 10) : 3;
    s->pause_us = us ? (int)strtol(us, NULL, 10) : 1000;
    s->status = st ? (int)strtol(st, NULL, 10) : 0;
    s->conn = r->conn;
    pthread_mutex_init(&s->lock, NULL);
    o->type = "text/event-stream";
    o->source = &LINES, o->src = s;
    if (pthread_create(&s->maker, NULL, make, s)) abort();
}

/* Bytes without end, as fast as they are taken. */
static http_state endless_fill(void *src, http_reply *o, buf *out)
{
    static const char page[65536] = "x";
    (void)src, (void)o;
    buf_put(out, page, sizeof page);
    atomic_fetch_add(&filled, (long)sizeof page);
    return HTTP_MORE;
}
/* Never anything. */
static http_state never_fill(void *src, http_reply *o, buf *out)
{
    (void)src, (void)o, (void)out;
    return HTTP_WAIT;
}
static void count_close(void *src) { (void)src, atomic_fetch_add(&closes, 1); }
static const http_source ENDLESS = { endless_fill, NULL, count_close }, NEVER = { never_fill, NULL, count_close };
static void endless(const http_req *r, http_reply *o) { (void)r, o->source = &ENDLESS; }
static void never(const http_req *r, http_reply *o) { (void)r, o->source = &NEVER; }

static const http_route TABLE[] = {
    { "GET", "/echo/*", HTTP_OPENAI, 0, echo },     { "POST", "/echo/*", HTTP_OPENAI, 0, echo },
    { "GET", "/echo/whole", HTTP_OPENAI, 0, echo }, { "POST", "/json", HTTP_OPENAI, 0, json },
    { "GET", "/fails/*", HTTP_OPENAI, 0, fails },   { "GET", "/stream", HTTP_OPENAI, 0, stream },
    { "GET", "/endless", HTTP_OPENAI, 0, endless }, { "GET", "/never", HTTP_OPENAI, 0, never },
    { "GET", "/slow", HTTP_OPENAI, 0, slow },       { NULL }
}, OPEN[] = {
    { "GET", "/open", HTTP_PLAIN, HTTP_OPEN | HTTP_INLINE, echo },
    { "GET", "/inline-stream", HTTP_OPENAI, HTTP_INLINE, stream },
    { NULL }
};
static const http_route *const ROUTES[] = { TABLE, OPEN, NULL };

/* ---- a server */

static struct { http *h; pthread_t t; int rc; dr_err e; } sv;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char last_log[4096];
static atomic_int n_log;

static const char *log_text(void)
{
    static char copy[sizeof last_log];
    pthread_mutex_lock(&log_lock);
    memcpy(copy, last_log, sizeof copy);
    pthread_mutex_unlock(&log_lock);
    return copy;
}

static void log_line(void *arg, const char *line)
{
    (void)arg;
    pthread_mutex_lock(&log_lock);
    snprintf(last_log, sizeof last_log, "%s", line);
    pthread_mutex_unlock(&log_lock);
    atomic_fetch_add(&n_log, 1);
}

static void *serve(void *arg)
{
    (void)arg;
    sv.rc = http_run(sv.h, NULL, NULL, &sv.e);
    return NULL;
}

static void begin(http_opt o)
{
    dr_err e = {0};
    o.routes = ROUTES;
    o.log = log_line;
    atomic_store(&closes, 0), atomic_store(&fills, 0), atomic_store(&pings, 0), atomic_store(&release, 0);
    atomic_store(&jobs_in, 0), atomic_store(&filled, 0);
    sv.h = http_new(&o, &e);
    if (!sv.h) fail_msg("%s", e.msg);
    assert_int_equal(pthread_create(&sv.t, NULL, serve, NULL), 0);
}

static void end(void)
{
    atomic_store(&release, 1);
    http_stop(sv.h, 0);
    pthread_join(sv.t, NULL);
    if (sv.rc) fail_msg("%s", sv.e.msg);
    http_free(sv.h);
}

/* ---- a client */

static int dial(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)http_port(sv.h)) };
    inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) fail_msg("connect: %s", strerror(errno));
    return fd;
}

static void put_n(int fd, const void *p, size_t n)
{
    for (const char *s = p; n;) {
        ssize_t k = send(fd, s, n, MSG_NOSIGNAL);
        if (k <= 0) return;             // refused early: the reply tells
        s += k, n -= (size_t)k;
    }
}
static void put(int fd, const char *s) { put_n(fd, s, strlen(s)); }

static bool readable(int fd, int ms)
{
    struct pollfd p = { fd, POLLIN, 0 };
    return poll(&p, 1, ms) > 0;
}

/* Until the server closes, or nothing comes for ms, or `until` was seen. */
static char *get(int fd, const char *until, int ms)
{
    static char *b;
    size_t n = 0;
    if (!b) b = malloc(REPLY_MAX);
    b[0] = 0;
    while (n + 1 < REPLY_MAX && readable(fd, ms)) {
        ssize_t k = recv(fd, b + n, REPLY_MAX - 1 - n, 0);
        if (k <= 0) break;
        n += (size_t)k;
        b[n] = 0;
        if (until && strstr(b, until)) break;
    }
    return b;
}

/* Closed by the server within ms? */
static bool closed(int fd, int ms)
{
    char c[4096];
    for (int64_t end_ns = os_now_ns() + (int64_t)ms * 1000000; os_now_ns() < end_ns;)
        if (readable(fd, 50) && recv(fd, c, sizeof c, 0) <= 0) return true;
    return false;
}

#define CLOSE "Host: localhost\r\nConnection: close\r\n\r\n"
/* One request on a connection of its own, whole reply. */
static char *ask(const char *text)
{
    int fd = dial();
    put(fd, text);
    char *r = get(fd, NULL, WAIT_MS);
    close(fd);
    return r;
}

static void has(const char *reply, const char *want)
{
    if (!strstr(reply, want)) fail_msg("wanted \"%s\", got: %.400s", want, reply);
}
static void has_not(const char *reply, const char *want)
{
    if (strstr(reply, want)) fail_msg("not wanted \"%s\", got: %.400s", want, reply);
}
static void reaches(atomic_int *v, int want, const char *what)
{
    for (int i = 0; i < WAIT_MS && atomic_load(v) < want; i++) usleep(1000);
    if (atomic_load(v) < want) fail_msg("%s: %d, %d wanted", what, atomic_load(v), want);
}

/* ---- routes and replies */

static void routes(void **state)
{
    (void)state;
    begin((http_opt){0});
    has(ask("GET /echo/a%20b?q=1&q=2 HTTP/1.1\r\nx-any: yes\r\n" CLOSE), "GET /echo/a b [a b] q=1 x=yes tenant=0");
    has(ask("GET /echo/whole HTTP/1.1\r\n" CLOSE), "GET /echo/whole [] ");
    has(ask("POST /echo/x HTTP/1.1\r\nContent-Length: 5\r\n" CLOSE "hello"), "\nhello");
    has(ask("POST /echo/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" CLOSE "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        "\nabcde");
    has(ask("GET /nowhere HTTP/1.1\r\n" CLOSE), "HTTP/1.1 404");
    has(ask("GET /echo/ HTTP/1.1\r\n" CLOSE), "HTTP/1.1 404");
    char *r = ask("DELETE /echo/x HTTP/1.1\r\n" CLOSE);
    has(r, "HTTP/1.1 405"), has(r, "Allow: GET, POST\r\n"), has(r, "\"code\":\"method_not_allowed\"");
    r = ask("HEAD /open HTTP/1.1\r\n" CLOSE);
    has(r, "HTTP/1.1 200"), has(r, "Content-Length: "), has_not(r, "GET /open");
    has(log_text(), "\"method\":\"HEAD\",\"path\":\"/open\",\"status\":200");
    r = ask("GET /echo/%00x HTTP/1.1\r\n" CLOSE);
    has_not(r, "HTTP/1.1 200");
    end();
}

static void errors(void **state)
{
    (void)state;
    begin((http_opt){0});
    char *r = ask("GET /fails/n HTTP/1.1\r\n" CLOSE);
    has(r, "HTTP/1.1 429"), has(r, "Retry-After: 7"), has_not(r, "\nX-Bad");
    has(r, "{\"error\":{\"message\":\"no ? room\",\"type\":\"rate_limit_error\",\"param\":null,"
           "\"code\":\"rate_limit_exceeded\"}}");
    has(ask("GET /fails/a HTTP/1.1\r\n" CLOSE),
        "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"no ? room\"}}");
    has(ask("GET /fails/o HTTP/1.1\r\n" CLOSE), "{\"error\":\"no ? room\"}");
    has(ask("POST /json HTTP/1.1\r\nContent-Length: 7\r\n" CLOSE "{\"a\":1}"), "\r\n\r\n{\"a\":1}");
    static const char *const bad[] = { "", "{", "[1]", "{\"a\":1,\"a\":2}", "{\"a\":\"\xff\"}", "{}x", "nul" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char s[200];
        snprintf(s, sizeof s, "POST /json HTTP/1.1\r\nContent-Length: %zu\r\n" CLOSE "%s", strlen(bad[i]), bad[i]);
        r = ask(s);
        has(r, "HTTP/1.1 400"), has(r, "\"param\":\"messages\"");
    }
    end();
}

static void keep_alive(void **state)
{
    (void)state;
    begin((http_opt){0});
    int fd = dial();
    for (int i = 0; i < 50; i++) {
        put(fd, "GET /echo/k HTTP/1.1\r\nHost: localhost\r\n\r\n");
        has(get(fd, "tenant=0 \n", WAIT_MS), "HTTP/1.1 200");
    }
    /* several at once, streamed ones between: answered in order */
    put(fd, "GET /echo/1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /stream?n=2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            "GET /open HTTP/1.1\r\nHost: localhost\r\n\r\nGET /echo/2 HTTP/1.1\r\n" CLOSE);
    char *r = get(fd, NULL, WAIT_MS);
    const char *a = strstr(r, "/echo/1"), *b = strstr(r, "line 1"), *c = strstr(r, "/open"), *d = strstr(r, "/echo/2");
    assert_true(a && b && c && d && a < b && b < c && c < d);
    close(fd);
    /* HTTP/1.0 knows no chunks: the end is the connection's */
    r = ask("GET /stream?n=3 HTTP/1.0\r\n\r\n");
    has(r, "line 0\nline 1\nline 2\n"), has_not(r, "chunked");
    end();
}

/* ---- keys */

static void keys(void **state)
{
    (void)state;
    static const char *const list[] = { "alice:alice-key-1:2.5", "alice:alice-key-2", "bob:bob-key-123", NULL };
    begin((http_opt){ .keys = list });
    assert_int_equal(http_tenants(sv.h), 3);
    assert_true(http_tenant_weight(sv.h, 1) == 1 && http_tenant_weight(sv.h, 2) == 1);
    char *r = ask("GET /echo/x HTTP/1.1\r\n" CLOSE);
    has(r, "HTTP/1.1 401"), has(r, "WWW-Authenticate: Bearer"), has(r, "invalid_api_key");
    has(ask("GET /nowhere HTTP/1.1\r\n" CLOSE), "HTTP/1.1 401");
    has(ask("GET /stream HTTP/1.1\r\n" CLOSE), "HTTP/1.1 401");
    has(ask("GET /open HTTP/1.1\r\n" CLOSE), "HTTP/1.1 200");
    has(ask("GET /echo/x HTTP/1.1\r\nAuthorization: Bearer bob-key-123\r\n" CLOSE), "tenant=2 bob");
    has(ask("GET /echo/x HTTP/1.1\r\nX-API-Key: alice-key-1\r\n" CLOSE), "tenant=1 alice");
    has(ask("GET /echo/x HTTP/1.1\r\nauthorization: bearer  alice-key-2 \r\n" CLOSE), "tenant=1 alice");
    static const char *const wrong[] = { "bob-key-12", "bob-key-1234", "Bob-key-123", "", "bob", "bob:bob-key-123" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char s[200];
        snprintf(s, sizeof s, "GET /echo/x HTTP/1.1\r\nAuthorization: Bearer %s\r\n" CLOSE, wrong[i]);
        has(ask(s), "HTTP/1.1 401");
    }
    has(ask("GET /echo/x HTTP/1.1\r\nAuthorization: Basic bob-key-123\r\n" CLOSE), "HTTP/1.1 401");
    has_not(log_text(), "bob-key");
    end();
}

static void key_file(void **state)
{
    (void)state;
    char path[] = "/tmp/drover-keys-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    dr_err e = {0};
    static const char good[] = "# who\r\n one:first-key-1:3 # remark\n\nsecond-key-2\n";
    assert_int_equal(os_write(path, good, sizeof good - 1, &e), DR_OK);
    begin((http_opt){ .key_file = path });
    has(ask("GET /echo/x HTTP/1.1\r\nX-Api-Key: first-key-1\r\n" CLOSE), "tenant=1 one");
    assert_true(http_tenant_weight(sv.h, 1) == 3);
    has(ask("GET /echo/x HTTP/1.1\r\nX-Api-Key: second-key-2\r\n" CLOSE), "tenant=2 key2");
    end();
    static const char *const bad[] = { "", "# none\n", "a:short\n", ":no-name-key\n", "a:some-key-1:x\n", "a:some-key-1:0\n",
                                       "a:some-key-1:-1\n", "a:some-key-1:inf\n", "a:some key 12\n" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        http_opt o = { .key_file = path, .routes = ROUTES };
        assert_int_equal(os_write(path, bad[i], strlen(bad[i]), &e), DR_OK);
        e = (dr_err){0};
        assert_null(http_new(&o, &e));
        assert_true(e.code && *e.msg && !strstr(e.msg, "some"));
    }
    close(fd);
    unlink(path);
}

/* ---- limits */

static void bodies(void **state)
{
    (void)state;
    begin((http_opt){ .max_body = 1000, .max_body_all = 1500 });
    static char big[300000];
    memset(big, 'b', sizeof big);
    /* its length said, and sent in full: the reply is seen */
    int fd = dial();
    put(fd, "POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3500\r\n\r\n");
    put_n(fd, big, 3500);
    char *r = get(fd, "}}", WAIT_MS);
    has(r, "HTTP/1.1 413"), has(r, "3500 bytes: 1000 are allowed");
    /* and the connection can be used again */
    put(fd, "GET /open HTTP/1.1\r\n" CLOSE);
    has(get(fd, NULL, WAIT_MS), "HTTP/1.1 200");
    close(fd);
    /* far too large: not waited for */
    fd = dial();
    put(fd, "POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n");
    has(get(fd, NULL, WAIT_MS), "HTTP/1.1 413");
    close(fd);
    /* asked before it is sent */
    fd = dial();
    put(fd, "POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\nExpect: 100-continue\r\n\r\n");
    r = get(fd, NULL, WAIT_MS);
    has(r, "HTTP/1.1 413"), has_not(r, "100 Continue");
    close(fd);
    /* in chunks, their sum not known before */
    fd = dial();
    put(fd, "POST /echo/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" CLOSE);
    for (int i = 0; i < 3; i++) put(fd, "190\r\n"), put_n(fd, big, 400), put(fd, "\r\n");
    put(fd, "0\r\n\r\n");
    has(get(fd, NULL, WAIT_MS), "HTTP/1.1 413");
    close(fd);
    /* all together */
    int a = dial(), b = dial();
    put(a, "POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"), put_n(a, big, 900);
    usleep(100000);
    put(b, "POST /echo/x HTTP/1.1\r\nContent-Length: 900\r\n" CLOSE), put_n(b, big, 900);
    r = get(b, NULL, WAIT_MS);
    has(r, "HTTP/1.1 503"), has(r, "Retry-After: 1");
    put_n(a, big, 100);
    has(get(a, "bbb", WAIT_MS), "HTTP/1.1 200");
    close(a), close(b);
    usleep(50000);
    has(ask("POST /echo/x HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n" CLOSE "ab"), "HTTP/1.1 415");
    snprintf(big, sizeof big, "POST /echo/x HTTP/1.1\r\nContent-Length: 1000\r\n" CLOSE "%01000d", 7);
    has(ask(big), "HTTP/1.1 200");
    end();
}

static void heads(void **state)
{
    (void)state;
    begin((http_opt){ .max_header = 4096 });
    static char s[200000];
    snprintf(s, sizeof s, "GET /open HTTP/1.1\r\nX: %05000d\r\n" CLOSE, 1);
    has(ask(s), "HTTP/1.1 431");
    snprintf(s, sizeof s, "GET /open HTTP/1.1\r\nX: %0100000d\r\n" CLOSE, 1);
    has(ask(s), "HTTP/1.1 431");
    snprintf(s, sizeof s, "GET /%0100000d HTTP/1.1\r\n" CLOSE, 1);
    has(ask(s), "HTTP/1.1 414");
    snprintf(s, sizeof s, "GET /%03000d HTTP/1.1\r\n" CLOSE, 1);
    has(ask(s), "HTTP/1.1 414");
    has(ask("GET /open HTTP/1.1\r\nConnection: close\r\n\r\n"), "HTTP/1.1 400");     // no Host
    end();
}

/* Heads cut short and broken at every byte: the server lives, and answers the next. */
static void nonsense(void **state)
{
    (void)state;
    static const char good[] = "POST /json?q=%41 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\nX-A: \"b\"\r\n\r\n{\"a\": 1}";
    static const char *const bad[] = {
        "\r\n\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "GET / HTTP/1.1\r\n: x\r\n\r\n",
        "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1x\r\n\r\n",
        "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /json HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST /json HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "GET /open HTTP/1.1\r\nHost: localhost\r\n folded: 1\r\nX\r\n\r\n", "GET http://x/open HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /open HTTP/1.1\r\nHo", "GE",
    };
    begin((http_opt){0});
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int fd = dial();
        put(fd, bad[i]);
        shutdown(fd, SHUT_WR);
        has_not(get(fd, NULL, WAIT_MS), "HTTP/1.1 200");
        assert_true(closed(fd, 10));
        close(fd);
    }
    for (size_t k = 0; k < sizeof good - 1; k += 3) {
        int fd = dial();
        put_n(fd, good, k);
        close(fd);
    }
    for (size_t k = 0; k < sizeof good - 1; k++)
        for (int bit = 0; bit < 8; bit += 3) {
            char s[sizeof good];
            memcpy(s, good, sizeof good);
            s[k] = (char)(s[k] ^ 1 << bit);
            int fd = dial();
            put_n(fd, s, sizeof good - 1);
            close(fd);
        }
    has(ask("GET /open HTTP/1.1\r\n" CLOSE), "HTTP/1.1 200");
    end();
}

/* ---- streams */

static void streams(void **state)
{
    (void)state;
    begin((http_opt){0});
    char *r = ask("GET /stream?n=40&us=500 HTTP/1.1\r\n" CLOSE);
    has(r, "HTTP/1.1 200"), has(r, "Content-Type: text/event-stream"), has(r, "X-Accel-Buffering: no");
    has(r, "line 39\n");
    reaches(&closes, 1, "closes");
    usleep(50000);
    size_t live = mem_live_bytes();
    /* the whole at once: it has a length, and the status that the source set */
    r = ask("GET /stream?n=1&us=20000&status=418 HTTP/1.1\r\n" CLOSE);
    has(r, "HTTP/1.1 418"), has(r, "Content-Length: 7\r\n"), has(r, "line 0\n");
    has(ask("GET /inline-stream?n=5 HTTP/1.1\r\n" CLOSE), "line 4\n");
    reaches(&closes, 3, "closes");
    /* many at once, each whole and in order */
    enum { N = 30 };
    int fd[N];
    for (int i = 0; i < N; i++) fd[i] = dial(), put(fd[i], "GET /stream?n=20&us=3000 HTTP/1.1\r\n" CLOSE);
    for (int i = 0; i < N; i++) {
        char *at = get(fd[i], NULL, WAIT_MS), line[20];
        for (int k = 0; k < 20; k++) {
            snprintf(line, sizeof line, "line %d\n", k);
            at = strstr(at, line);
            assert_non_null(at);
        }
        close(fd[i]);
    }
    reaches(&closes, 3 + N, "closes");
    for (int i = 0; i < WAIT_MS && mem_live_bytes() != live; i++) usleep(1000);
    if (mem_live_bytes() != live) fail_msg("%zd bytes were kept", (ssize_t)(mem_live_bytes() - live));
    end();
}

static void ping(void **state)
{
    (void)state;
    begin((http_opt){ .ping_s = 1 });
    char *r = ask("GET /stream?n=2&us=1600000 HTTP/1.1\r\n" CLOSE);
    has(r, "line 0\n"), has(r, "ping\n"), has(r, "line 1\n");
    assert_true(strstr(r, "line 0\n") < strstr(r, "ping\n"));       // none before the head
    assert_in_range(atomic_load(&pings), 1, 2);
    end();
}

/* A client that leaves is noticed at once, wherever its request is. */
static void leaves(void **state)
{
    (void)state;
    static const struct { const char *path, *until; bool reset; } at[] = {
        { "/never", NULL, false }, { "/never", NULL, true },
        { "/stream?n=1000&us=2000", "line 1", false }, { "/stream?n=1000&us=2000", "line 1", true },
        { "/endless", "x", false }, { "/endless", "x", true },
    };
    begin((http_opt){0});
    for (int i = 0; i < (int)(sizeof at / sizeof *at); i++) {
        char s[200];
        int fd = dial();
        snprintf(s, sizeof s, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", at[i].path);
        put(fd, s);
        int seen = atomic_load(&closes);
        if (at[i].until) has(get(fd, at[i].until, WAIT_MS), "HTTP/1.1 200");
        else usleep(100000);
        assert_int_equal(atomic_load(&closes), seen);
        struct linger l = { 1, 0 };
        if (at[i].reset) setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
        int64_t t = os_now_ns();
        close(fd);
        reaches(&closes, seen + 1, at[i].path);
        if (os_now_ns() - t > 1000000000) fail_msg("%s: noticed after %.3f s", at[i].path, (double)(os_now_ns() - t) / 1e9);
    }
    /* while a worker has it: the handler's source is closed, unwritten */
    int fd = dial();
    put(fd, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
    reaches(&jobs_in, 1, "jobs");
    int logged = atomic_load(&n_log);
    close(fd);
    usleep(50000);
    assert_int_equal(atomic_load(&n_log), logged);
    atomic_store(&release, 1);
    reaches(&n_log, logged + 1, "log");
    has(log_text(), "\"status\":499");
    end();
}

/* A reader that takes nothing stops its own source; others go on. */
static void slow_reader(void **state)
{
    (void)state;
    begin((http_opt){ .idle_s = 2 });
    int fd = dial(), small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    size_t live = mem_live_bytes();
    put(fd, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n");
    usleep(300000);
    long was = atomic_load(&filled);
    usleep(300000);
    assert_true(atomic_load(&filled) == was && was > 0 && was < 16 << 20);
    assert_true(mem_live_bytes() - live < 1 << 20);
    has(ask("GET /stream?n=5 HTTP/1.1\r\n" CLOSE), "line 4");
    int seen = atomic_load(&closes);
    reaches(&closes, seen + 1, "closes");                           // idle_s: it has left
    close(fd);
    end();
}

/* ---- connections */

static void timeouts(void **state)
{
    (void)state;
    begin((http_opt){ .body_s = 1, .idle_s = 3 });
    int idle = dial(), head = dial(), body = dial(), drip = dial();
    put(head, "GET /open HTTP/1.1\r\nHost");
    put(body, "POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc");
    put(drip, "POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
    int64_t t = os_now_ns();
    for (int i = 0; i < 40 && !readable(drip, 0); i++) put(drip, "."), usleep(100000);
    assert_in_range((os_now_ns() - t) / 1000000, 900, 3500);        // a byte now and then does not help
    assert_true(closed(head, 500) && closed(body, 500));
    assert_true(closed(idle, 4000));
    close(idle), close(head), close(body), close(drip);
    end();
}

static void crowd(void **state)
{
    (void)state;
    enum { MAX = 50 };
    int fd[MAX];
    begin((http_opt){ .max_conns = MAX });
    for (int i = 0; i < MAX; i++) fd[i] = dial(), usleep(2000);
    for (int i = 0; i < 5; i++) has(ask("GET /open HTTP/1.1\r\n" CLOSE), "HTTP/1.1 200");
    assert_true(closed(fd[0], WAIT_MS));                            // the longest idle made room
    for (int i = 0; i < MAX; i++) close(fd[i]);
    end();
}

/* Many that do nothing cost little, and keep nobody out. */
static void idle_many(void **state)
{
    (void)state;
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    int n = r.rlim_cur > 21000 ? 10000 : (int)r.rlim_cur / 2 - 200;
    if (n < 100) { print_message("skip idle connections: too few files\n"); return; }
    begin((http_opt){ .max_conns = n + 100 });
    int *fd = malloc((size_t)n * sizeof *fd);
    size_t before = os_private_bytes();
    for (int i = 0; i < n; i++) fd[i] = dial();
    int64_t t = os_now_ns();
    has(ask("GET /open HTTP/1.1\r\n" CLOSE), "HTTP/1.1 200");
    double s = (double)(os_now_ns() - t) / 1e9;
    size_t each = (os_private_bytes() - before) / (size_t)n;
    print_message("%d idle connections: %zu bytes each, an answer in %.1f ms\n", n, each, s * 1e3);
#ifdef __SANITIZE_THREAD__
    each = 0;                   // most of it is the sanitizer's
#endif
    if (each > 16384) fail_msg("an idle connection costs %zu bytes", each);
    for (int i = 0; i < n; i++) close(fd[i]);
    free(fd);
    end();
}

static void full_queue(void **state)
{
    (void)state;
    begin((http_opt){ .workers = 1, .max_jobs = 2 });
    int fd[3];
    for (int i = 0; i < 3; i++) {
        fd[i] = dial();
        put(fd[i], "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
        if (!i) reaches(&jobs_in, 1, "jobs");
    }
    usleep(100000);
    char *r = ask("GET /slow HTTP/1.1\r\n" CLOSE);
    has(r, "HTTP/1.1 429"), has(r, "Retry-After: ");
    has(ask("GET /open HTTP/1.1\r\n" CLOSE), "HTTP/1.1 200");       // under any load
    atomic_store(&release, 1);
    for (int i = 0; i < 3; i++) has(get(fd[i], "tenant", WAIT_MS), "HTTP/1.1 200"), close(fd[i]);
    end();
}

/* All workers wait for something: others come, and what is quick is answered. */
static void stuck(void **state)
{
    (void)state;
    enum { N = 6 };
    int fd[N];
    begin((http_opt){0});
    for (int i = 0; i < N; i++) fd[i] = dial(), put(fd[i], "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
    has(ask("GET /echo/x HTTP/1.1\r\n" CLOSE), "HTTP/1.1 200");
    atomic_store(&release, 1);
    for (int i = 0; i < N; i++) has(get(fd[i], "tenant", WAIT_MS), "HTTP/1.1 200"), close(fd[i]);
    end();
}

/* The nth allocation fails while requests come: an error or a closed connection, nothing kept, and it serves on. */
static void no_memory(void **state)
{
    (void)state;
    static const char *const t[] = {
        "GET /echo/x?a=b HTTP/1.1\r\nOrigin: http://localhost\r\n" CLOSE, "GET /nowhere HTTP/1.1\r\n" CLOSE,
        "POST /json HTTP/1.1\r\nContent-Length: 20\r\n" CLOSE "{\"a\": [1, 2, 3, {}]}",
        "GET /fails/n HTTP/1.1\r\n" CLOSE, "POST /echo/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" CLOSE "1\r\na\r\n0\r\n\r\n",
    };
    begin((http_opt){0});
    ask(t[0]);
    usleep(50000);
    size_t live = mem_live_bytes();
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        for (long k = 0, good = 0; good < 3; k++) {
            assert_true(k < 1000);
            mem_fail_after(k);
            char *r = ask(t[i]);
            mem_fail_after(-1);
            if (*r && !strstr(r, "HTTP/1.1 ")) fail_msg("%.100s", r);
            good = strstr(r, i == 1 ? "HTTP/1.1 404" : i == 3 ? "no ? room" : "HTTP/1.1 200") ? good + 1 : 0;
        }
    for (int i = 0; i < WAIT_MS && mem_live_bytes() != live; i++) usleep(1000);
    if (mem_live_bytes() != live) fail_msg("%zd bytes were kept", (ssize_t)(mem_live_bytes() - live));
    end();
}

static void cors(void **state)
{
    (void)state;
    static const char *const from[] = { "https://a.example", NULL }, *const list[] = { "k:some-key-1", NULL };
    begin((http_opt){ .origins = from, .keys = list });
    char *r = ask("OPTIONS /json HTTP/1.1\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n"
                  "Access-Control-Request-Headers: authorization, x-b\r\n" CLOSE);
    has(r, "HTTP/1.1 204"), has(r, "Access-Control-Allow-Origin: https://a.example\r\n");
    has(r, "Access-Control-Allow-Headers: authorization, x-b\r\n"), has(r, "Vary: Origin");
    r = ask("OPTIONS /json HTTP/1.1\r\nOrigin: https://b.example\r\nAccess-Control-Request-Method: POST\r\n" CLOSE);
    has_not(r, "Access-Control"), has_not(r, "HTTP/1.1 204");
    r = ask("GET /echo/x HTTP/1.1\r\nOrigin: https://a.example\r\nX-Api-Key: some-key-1\r\n" CLOSE);
    has(r, "HTTP/1.1 200"), has(r, "Access-Control-Allow-Origin: https://a.example\r\n");
    has(ask("GET /echo/x HTTP/1.1\r\nOrigin: https://a.example\r\n" CLOSE), "Access-Control-Allow-Origin");
    end();
}

/* What a browser sends for somebody else's page. */
static void others_pages(void **state)
{
    (void)state;
    static const struct { const char *host, *origin; int status; } t[] = {
        { "localhost:1", NULL, 200 }, { "127.0.0.1:80", NULL, 200 }, { "[::1]:8080", NULL, 200 }, { "a.localhost", NULL, 200 },
        { "box.local:80", NULL, 200 }, { "named.example:80", NULL, 200 }, { "evil.example:80", NULL, 403 },
        { "127.0.0.1.evil.example", NULL, 403 }, { "localhost.evil.example", NULL, 403 }, { "[evil]", NULL, 403 },
        { "local", NULL, 403 }, { ".local", NULL, 403 },
        { "localhost:1", "http://localhost:1", 200 }, { "localhost:1", "https://LOCALHOST:1", 200 },
        { "localhost:1", "http://localhost:2", 403 }, { "localhost:1", "null", 403 },
        { "localhost:1", "https://evil.example", 403 }, { "evil.example", "http://evil.example", 403 },
        { "localhost:1", "https://good.example", 200 },
    };
    static const char *const good[] = { "https://good.example", NULL }, *const names[] = { "Named.Example", NULL };
    begin((http_opt){ .origins = good, .names = names });
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char s[400], want[40];
        snprintf(s, sizeof s, "GET /echo/x HTTP/1.1\r\nHost: %s\r\n%s%s%sConnection: close\r\n\r\n", t[i].host,
                 t[i].origin ? "Origin: " : "", t[i].origin ? t[i].origin : "", t[i].origin ? "\r\n" : "");
        snprintf(want, sizeof want, "HTTP/1.1 %d", t[i].status);
        has(ask(s), want);
    }
    has(ask("GET /open HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"), "HTTP/1.1 200");
    end();
    static const char *const keys[] = { "k:some-key-1", NULL };
    begin((http_opt){ .keys = keys });          // who has the key may call it anything
    has(ask("GET /echo/x HTTP/1.1\r\nHost: my.example\r\nX-Api-Key: some-key-1\r\nConnection: close\r\n\r\n"),
        "HTTP/1.1 200");
    end();
}

/* ---- the end */

static void drain(void **state)
{
    (void)state;
    begin((http_opt){0});
    int idle = dial(), fd = dial();
    usleep(20000);
    put(fd, "GET /stream?n=20&us=50000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    has(get(fd, "line 0", WAIT_MS), "HTTP/1.1 200");
    http_stop(sv.h, 30);
    assert_true(closed(idle, WAIT_MS));
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)http_port(sv.h)) };
    inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
    int late = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_not_equal(connect(late, (struct sockaddr *)&a, sizeof a), 0);
    has(get(fd, NULL, WAIT_MS), "line 19\n");
    pthread_join(sv.t, NULL);
    assert_int_equal(sv.rc, DR_OK);
    http_free(sv.h);
    close(idle), close(fd), close(late);
    /* what does not end in time is ended */
    begin((http_opt){0});
    fd = dial();
    put(fd, "GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n");
    usleep(50000);
    int64_t t = os_now_ns();
    http_stop(sv.h, 1);
    pthread_join(sv.t, NULL);
    assert_in_range((os_now_ns() - t) / 1000000, 800, 2500);
    assert_int_equal(atomic_load(&closes), 1);
    http_free(sv.h);
    close(fd);
}

static void unix_socket(void **state)
{
    (void)state;
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/drover-test-%d.sock", (int)getpid());
    for (int i = 0; i < 2; i++) {
        begin((http_opt){ .unix_path = a.sun_path });
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
        put(fd, "GET /stream HTTP/1.1\r\n" CLOSE);
        has(get(fd, NULL, WAIT_MS), "line 2");
        close(fd);
        http_opt second = { .unix_path = a.sun_path, .routes = ROUTES };
        dr_err e = {0};
        assert_null(http_new(&second, &e));                         // somebody listens there
        has(log_text(), "\"client\":\"unix\"");
        end();
        assert_false(os_exists(a.sun_path));
        /* left behind by one that was killed */
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
        close(fd);
    }
    unlink(a.sun_path);
}

static void refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "n:k", NULL };
    const http_opt o[] = {
        { .address = "no.such.host.invalid" }, { .keys = bad }, { .key_file = "/nonexistent" }, { .cert = "/nonexistent" },
        { .cert = "/dev/null", .key = "/dev/null" }, { .unix_path = "/nonexistent/x" }, { .address = "192.0.2.1" },
    };
    for (size_t i = 0; i < sizeof o / sizeof *o; i++) {
        http_opt w = o[i];
        dr_err e = {0};
        w.routes = ROUTES;
        assert_null(http_new(&w, &e));
        assert_true(e.code < 0 && *e.msg);
    }
}

/* usage: test_http [PATTERN]     the tests whose names match */
int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    json_set_alloc_funcs(mem_alloc, mem_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes), cmocka_unit_test(errors), cmocka_unit_test(keep_alive), cmocka_unit_test(keys),
        cmocka_unit_test(key_file), cmocka_unit_test(bodies), cmocka_unit_test(heads), cmocka_unit_test(nonsense),
        cmocka_unit_test(streams), cmocka_unit_test(ping), cmocka_unit_test(leaves), cmocka_unit_test(slow_reader),
        cmocka_unit_test(timeouts), cmocka_unit_test(crowd), cmocka_unit_test(idle_many), cmocka_unit_test(full_queue),
        cmocka_unit_test(stuck), cmocka_unit_test(no_memory), cmocka_unit_test(cors), cmocka_unit_test(others_pages), cmocka_unit_test(drain), cmocka_unit_test(unix_socket), cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
