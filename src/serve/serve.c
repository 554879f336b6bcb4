/* serve.c - see serve.h. Beside the APIs it has what operators ask for: is it alive, ready, which version. */
#include "serve/serve.h"
#include <signal.h>
#include <string.h>
#include "base/os.h"
#include "serve/web.h"

enum { GRACE_S = 30 };

/* A line for each API: the order does not matter. */
static const http_route *const ROUTES[] = {
    serve_routes,
    web_routes,
    NULL
};

static struct {
    serve *s;
    volatile sig_atomic_t stops, reload, grace_s;
} now;

void serve_stop(void)
{
    now.stops = now.stops + 1;
    if (now.s) http_stop(now.s->http, now.stops > 1 ? 0 : now.grace_s);
}

void serve_reload(void) { now.reload = 1; }

/* ---- routes */

static bool ready(serve *s) { return !atomic_load(&s->draining); }

static void get_health(const http_req *r, http_reply *o)
{
    (void)r;
    http_put_json(o, 200, json_pack("{s:s}", "status", "ok"));
}

static void get_ready(const http_req *r, http_reply *o)
{
    serve *s = r->arg;
    if (ready(s)) http_put_json(o, 200, json_pack("{s:s}", "status", "ready"));
    else http_error(o, HTTP_PLAIN, 503, NULL, NULL, NULL, "%s",
                    atomic_load(&s->draining) ? "the server is about to end" : "the model is being opened");
}

static void get_version(const http_req *r, http_reply *o)
{
    serve *s = r->arg;
    http_put_json(o, 200, json_pack("{s:s}", "version", s->version));
}

const http_route serve_routes[] = {
    { "GET", "/health", HTTP_PLAIN, HTTP_OPEN | HTTP_INLINE, get_health },
    { "GET", "/ready", HTTP_PLAIN, HTTP_OPEN | HTTP_INLINE, get_ready },
    { "GET", "/ping", HTTP_PLAIN, HTTP_OPEN | HTTP_INLINE, get_ready },
    { "GET", "/version", HTTP_PLAIN, HTTP_INLINE, get_version },
    { NULL }
};

/* ---- the whole */

static bool is_loopback(const char *a)
{
    return !strncmp(a, "127.", 4) || !strcmp(a, "::1") || !strcmp(a, "localhost");
}

static void tick(void *arg)
{
    serve *s = arg;
    if (now.stops) atomic_store(&s->draining, true);
    if (now.reload) {
        dr_err e = {0};
        now.reload = 0;
        http_reload(s->http, &e);
    }
}

int serve_run(const serve_opt *o, dr_err *e)
{
    serve s = { .version = DR_VERSION, .started_ns = os_now_ns() };
    http_opt h = o->http;
    bool keys = (h.keys && *h.keys) || h.key_file;
    if (!h.address) h.address = "127.0.0.1";
    if (!h.unix_path && !is_loopback(h.address) && !keys && !o->public_without_key)
        return err_set(e, DR_EINVAL, "%s can be reached by others, and no key is asked for: --api-key or "
                       "--api-key-file wanted, or --public-without-key", h.address);
    h.routes = ROUTES;
    h.arg = &s;
    s.http = http_new(&h, e);
    if (!s.http) return e->code;
    now.grace_s = o->grace_s ? o->grace_s : GRACE_S;
    now.s = &s;
    if (o->ready) o->ready(o->arg, &s);
    int rc = http_run(s.http, tick, &s, e);
    now.s = NULL;
    http_free(s.http);
    return rc;
}
