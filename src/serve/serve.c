/* serve.c - see serve.h. Beside the APIs it has what operators ask for: is it alive, ready, which version. */
#include "serve/serve.h"
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include "base/mem.h"
#include "base/notify.h"
#include "base/os.h"
#include "serve/cloud.h"
#include "serve/confine.h"
#include "serve/sandbox.h"
#include "serve/web.h"

enum { GRACE_S = 30, SERVE_MODELS_MAX = 256 };

/* A line for each API: the order of all but the first does not matter. */
static const http_route *const ROUTES[] = {
    cloud_routes,                               // first: a platform names paths itself
    serve_routes,
    web_routes,
    openai_routes,
    text_routes,
    anthropic_routes,
    ollama_routes,
    ollama_model_routes,
    metrics_routes,
    admin_routes,
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

static bool ready(serve *s)
{
    return atomic_load(&s->opened) && !atomic_load(&s->draining) && models_ready(s->models);
}

static void get_health(const http_req *r, http_reply *o)
{
    (void)r;
    http_put_json(o, 200, json_pack("{s:s}", "status", "ok"));
}

void serve_get_ready(const http_req *r, http_reply *o)
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
    { "GET", "/ready", HTTP_PLAIN, HTTP_OPEN | HTTP_INLINE, serve_get_ready },
    { "GET", "/ping", HTTP_PLAIN, HTTP_OPEN | HTTP_INLINE, serve_get_ready },
    { "GET", "/version", HTTP_PLAIN, HTTP_INLINE, get_version },
    { NULL }
};

/* ---- the whole */

static bool is_loopback(const char *a)
{
    return !strncmp(a, "127.", 4) || !strcmp(a, "::1") || !strcmp(a, "localhost");
}

/* Whose share is how large, to the engine of a model that was opened or after the keys were read again. */
static void weigh(void *arg, served *m)
{
    serve *s = arg;
    for (int t = 0, n = http_tenants(s->http); t < n; t++) engine_tenant(m->eng, t, http_tenant_weight(s->http, t));
}

typedef struct { char *id[SERVE_MODELS_MAX]; int n; } id_list;

static void note_open(void *arg, const models_row *row)
{
    id_list *l = arg;
    if (row->open && !row->parent && l->n < SERVE_MODELS_MAX && (l->id[l->n] = mem_strdup(row->id))) l->n++;
}

static void reload(serve *s)
{
    dr_err e = {0};
    id_list l = {0};
    char line[600];
    if (http_reload(s->http, &e) != DR_OK) snprintf(line, sizeof line, "the keys stay as they were: %s", e.msg);
    else snprintf(line, sizeof line, "the keys were read again");
    if (s->log) s->log(s->log_arg, line);
    models_each(s->models, note_open, &l);
    for (int i = 0; i < l.n; i++) {
        served *m = models_peek(s->models, l.id[i]);
        if (m) weigh(s, m);
        models_put(s->models, m);
        mem_free(l.id[i]);
    }
}

/* What the service manager wants to know, when it changes. */
static void tell(serve *s)
{
    static bool said_ready, said_stop;
    static int64_t barked;
    if (!said_ready && ready(s)) said_ready = true, notify_send("READY=1\nSTATUS=Serving.");
    if (!said_stop && now.stops) said_stop = true, notify_send("STOPPING=1\nSTATUS=Finishing what runs.");
    int64_t every = notify_watchdog_ns(), t = every ? os_now_ns() : 0;
    if (every && t - barked >= every) barked = t, notify_send("WATCHDOG=1");
}

static void tick(void *arg)
{
    serve *s = arg;
    if (now.stops && !atomic_exchange(&s->draining, true)) models_drain(s->models);
    if (now.reload) {
        now.reload = 0;
        notify_reloading();
        reload(s);
        notify_send("READY=1");
    }
    tell(s);
    models_tick(s->models);
}

/* The first model is opened while the server already says that it lives; what asks for it waits. */
typedef struct { serve *s; int rc; dr_err e; } opener;

static void *open_first(void *arg)
{
    opener *o = arg;
    o->rc = models_load(o->s->models, NULL, &o->e);
    if (o->rc == DR_OK) atomic_store(&o->s->opened, true);
    else http_stop(o->s->http, 0);
    return NULL;
}

static int run_open(serve *s, const serve_opt *o, dr_err *e)
{
    opener first = { .s = s };
    pthread_t t;
    bool thread = !o->models.lazy;
    if (thread && pthread_create(&t, NULL, open_first, &first)) return err_set(e, DR_ENOMEM, "cannot start a thread");
    if (!thread) atomic_store(&s->opened, true);
    now.grace_s = o->grace_s ? o->grace_s : GRACE_S;
    now.s = s;
    if (now.stops) http_stop(s->http, 0);       // a signal came before there was something to stop
    if (o->ready) o->ready(o->arg, s);
    int rc = http_run(s->http, tick, s, e);
    tell(s);                                    // the end may have come between two ticks
    now.s = NULL;
    if (thread) pthread_join(t, NULL);
    if (first.rc != DR_OK && !now.stops) rc = err_set(e, first.rc, "%s", first.e.msg);
    return rc;
}

static int check_address(const serve_opt *o, dr_err *e)
{
    const http_opt *h = &o->http;
    bool keys = (h->keys && *h->keys) || h->key_file;
    if (h->unix_path || keys || o->public_without_key || !h->address || is_loopback(h->address)) return DR_OK;
    return err_set(e, DR_EINVAL, "%s can be reached by others, and no key is asked for: --api-key-file FILE is "
                   "wanted, or --public-without-key", h->address);
}

int serve_run(const serve_opt *o, dr_err *e)
{
    serve s = { .version = DR_VERSION, .started_ns = os_now_ns(), .log = o->models.log,
                .log_arg = o->models.log_arg };
    http_opt h = o->http;
    models_opt m = o->models;
    int rc = check_address(o, e);
    if (rc != DR_OK) return rc;
    if (m.n > SERVE_MODELS_MAX)
        return err_set(e, DR_EINVAL, "%d models: %d are the most", m.n, SERVE_MODELS_MAX);
    m.lazy = true;                              // open_first opens it
    m.opened = weigh;
    m.opened_arg = &s;
    h.routes = ROUTES;
    h.arg = &s;
    rc = notify_open(e);
    if (rc == DR_OK && !(s.models = models_new(&m, e))) rc = e->code;       // finds the files, opens none
    if (rc == DR_OK && o->sandbox) rc = confine_files(o, e);                // before there are threads
    if (rc == DR_OK && !(s.http = http_new(&h, e))) rc = e->code;
    if (rc == DR_OK && o->sandbox) rc = sandbox_calls(e);                   // it listens by now
    if (rc == DR_OK) rc = run_open(&s, o, e);
    http_free(s.http);                          // its workers use the models
    models_free(s.models);
    notify_close();
    return rc;
}
