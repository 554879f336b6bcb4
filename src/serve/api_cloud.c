/* api_cloud.c - see cloud.h. /invocations takes a body of any of OpenAI's requests and asks the route it belongs to;
 * predict takes many: {"instances": […], "parameters": {…}} gives {"predictions": […]}, each instance a request
 * with what parameters say beside. They run at once. */
#define _GNU_SOURCE
#include <dirent.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "serve/cloud.h"
#include "serve/serve.h"

enum { INSTANCES_MAX = 256, ROUTES = 3, OUT_MAX = 64 << 20, PIECE = 48 << 10 };

/* ---- one request, by what is in it */

static const struct { const char *field, *path; } kinds[] = {
    { "messages", "/v1/chat/completions" }, { "prompt", "/v1/completions" }, { "input", "/v1/embeddings" },
};

static const http_route *route_of(const json_t *body)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!json_object_get(body, kinds[i].field)) continue;
        for (const http_route *r = openai_routes; r->method; r++)
            if (!strcmp(r->path, kinds[i].path) && !strcmp(r->method, "POST")) return r;
    }
    return NULL;
}

static void no_kind(http_reply *o, const char *where)
{
    http_error(o, HTTP_OPENAI, 400, NULL, NULL, NULL, "%s has none of \"messages\" (a chat), \"prompt\" (a completion) "
               "and \"input\" (an embedding)", where);
}

static void hand_on(const http_req *r, const http_route *to, span body, http_reply *o)
{
    http_req sub = *r;
    sub.path = to->path, sub.rest = "", sub.body = body;
    to->handle(&sub, o);
}

/* ---- many at once */

typedef struct { http_reply reply; buf out; bool done; } part;
typedef struct { part *part; int n; buf all; size_t sent; } many;

/* Everything that the parts have by now. */
static bool all_done(many *m)
{
    bool all = true;
    for (int i = 0; i < m->n; i++) {
        part *p = &m->part[i];
        while (!p->done) {
            http_state s = p->reply.source->fill(p->reply.src, &p->reply, &p->out);
            if (s == HTTP_WAIT) break;
            p->done = s == HTTP_END || p->out.bad;
        }
        all &= p->done;
    }
    return all;
}

static span text_of(const part *p)
{
    const buf *b = p->reply.source ? &p->out : &p->reply.body;
    return (span){ b->p ? b->p : "", b->n };
}

/* The whole reply into m->all. One part fails: all do, with its reason. */
static void put_all(many *m, http_reply *reply)
{
    buf *b = &m->all;
    const part *bad = NULL;
    buf_init(b, (size_t)m->n * OUT_MAX);
    for (int i = 0; i < m->n && !bad; i++)
        if (m->part[i].reply.status != 200 || m->part[i].out.bad) bad = &m->part[i];
    if (bad) {
        reply->status = bad->reply.status == 200 ? 500 : bad->reply.status;
        memcpy(reply->head, bad->reply.head, sizeof reply->head);       /* Retry-After */
        reply->n_head = bad->reply.n_head;
        buf_put(b, text_of(bad).p, text_of(bad).n);
        return;
    }
    buf_puts(b, "{\"predictions\":[");
    for (int i = 0; i < m->n; i++) {
        span t = text_of(&m->part[i]);
        while (t.n && (t.p[t.n - 1] == '\n' || t.p[t.n - 1] == ' ')) t.n--;
        if (i) buf_putc(b, ',');
        buf_put(b, t.p, t.n);
        buf_free(&m->part[i].out);
    }
    buf_puts(b, "]}");
    if (b->bad) reply->status = 500;
}

static http_state fill(void *src, http_reply *reply, buf *out)
{
    many *m = src;
    if (!m->all.n && !m->all.bad) {
        if (!all_done(m)) return HTTP_WAIT;
        put_all(m, reply);
    }
    size_t n = m->all.n - m->sent;
    if (m->all.bad) return HTTP_END;
    if (n > PIECE) n = PIECE;
    buf_put(out, m->all.p + m->sent, n);
    m->sent += n;
    return m->sent == m->all.n ? HTTP_END : HTTP_MORE;
}

static void close_all(void *src)
{
    many *m = src;
    for (int i = 0; i < m->n; i++) {
        part *p = &m->part[i];
        if (p->reply.source && p->reply.source->close) p->reply.source->close(p->reply.src);
        buf_free(&p->reply.body), buf_free(&p->out);
    }
    buf_free(&m->all);
    mem_free(m->part);
    mem_free(m);
}

static const http_source source = { .fill = fill, .close = close_all };

/* Instance i as a request of its own; false: the reply says why not. */
static bool ask(const http_req *r, many *m, json_t *x, const json_t *parameters, http_reply *o)
{
    char where[48];
    snprintf(where, sizeof where, "instance %d", m->n);
    if (!json_is_object(x)) {
        http_error(o, HTTP_OPENAI, 400, NULL, NULL, "instances", "%s is no object", where);
        return false;
    }
    json_object_del(x, "@requestFormat");       /* what some of Vertex' clients write; the fields say it */
    if (parameters) json_object_update_missing(x, (json_t *)(uintptr_t)parameters);
    const http_route *to = route_of(x);
    if (!to) return no_kind(o, where), false;
    if (json_is_true(json_object_get(x, "stream"))) {
        http_error(o, HTTP_OPENAI, 400, NULL, NULL, "stream", "%s asks for a stream, which a prediction is not", where);
        return false;
    }
    size_t n = json_dumpb(x, NULL, 0, JSON_COMPACT);
    char *text = mem_alloc(n);
    if (text) json_dumpb(x, text, n, JSON_COMPACT);
    part *p = &m->part[m->n];
    p->reply = (http_reply){ .status = 200, .type = "application/json" };
    buf_init(&p->reply.body, OUT_MAX);
    buf_init(&p->out, OUT_MAX);
    if (!text) {
        http_error(o, HTTP_OPENAI, 500, NULL, NULL, NULL, "no memory for %s", where);
        return false;
    }
    m->n++;
    hand_on(r, to, (span){ text, n }, &p->reply);   /* which has read it when it returns */
    mem_free(text);
    p->done = !p->reply.source;
    return true;
}

static void predict(const http_req *r, json_t *body, http_reply *o)
{
    json_t *x = json_object_get(body, "instances"), *parameters = json_object_get(body, "parameters");
    const char *key;
    json_t *value;
    json_object_foreach(body, key, value) {
        if (!strcmp(key, "instances") || !strcmp(key, "parameters")) continue;
        http_error(o, HTTP_OPENAI, 400, NULL, NULL, key, "\"%.100s\" is no field of a prediction: instances and "
                   "parameters are", key);
        return;
    }
    if (!json_is_array(x) || json_array_size(x) < 1 || json_array_size(x) > INSTANCES_MAX ||
        (parameters && !json_is_object(parameters) && !json_is_null(parameters))) {
        http_error(o, HTTP_OPENAI, 400, NULL, NULL, "instances", "instances are 1 to %d objects in an array, "
                   "parameters an object", INSTANCES_MAX);
        return;
    }
    many *m = mem_zalloc(1, sizeof *m);
    if (m) m->part = mem_zalloc(json_array_size(x), sizeof *m->part);
    if (!m || !m->part) {
        mem_free(m);
        http_error(o, HTTP_OPENAI, 500, NULL, NULL, NULL, "no memory for %zu instances", json_array_size(x));
        return;
    }
    for (size_t i = 0; i < json_array_size(x); i++)
        if (!ask(r, m, json_array_get(x, i), json_is_object(parameters) ? parameters : NULL, o)) {
            close_all(m);
            return;
        }
    o->source = &source, o->src = m;
}

static void post_invocations(const http_req *r, http_reply *o)
{
    dr_err e = {0};
    json_t *body = http_json(r, &e);
    if (!body) {
        http_error(o, HTTP_OPENAI, http_status(e.code), NULL, NULL, NULL, "%s", e.msg);
        return;
    }
    const http_route *to = route_of(body);
    if (json_object_get(body, "instances")) predict(r, body, o);
    else if (to) hand_on(r, to, r->body, o);
    else no_kind(o, "the body");
    json_decref(body);
}

/* ---- the environment */

http_route cloud_routes[ROUTES + 1] = {
    { "POST", "/invocations", HTTP_OPENAI, 0, post_invocations },
};

static int number(const char *name, const char *s, int *port, dr_err *e)
{
    char *end;
    long n = strtol(s, &end, 10);
    if (*end || end == s || n < 1 || n > 65535)
        return err_set(e, DR_EINVAL, "%s is \"%.100s\": a port, 1 to 65535, is wanted", name, s);
    *port = (int)n;
    return DR_OK;
}

static int add_route(const char *method, const char *name, int flags, void (*handle)(const http_req *, http_reply *),
                     dr_err *e)
{
    const char *path = getenv(name);
    if (!path || !*path) return DR_OK;
    if (*path != '/' || strpbrk(path, "*?# "))
        return err_set(e, DR_EINVAL, "%s is \"%.200s\": a path is wanted", name, path);
    http_route *r = cloud_routes;
    while (r->method) r++;
    DR_ASSERT(r < cloud_routes + ROUTES);
    *r = (http_route){ method, path, flags & HTTP_OPEN ? HTTP_PLAIN : HTTP_OPENAI, flags, handle };
    return DR_OK;
}

int cloud_model_in(const char *folder, char *path, size_t n, dr_err *e)
{
    static const char *const whole[] = { "config.json", "params.json" };
    char found[256] = "";
    int k = 0;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        k = snprintf(path, n, "%s/%s", folder, whole[i]);
        if (k < 0 || (size_t)k >= n) return err_set(e, DR_EINVAL, "the folder's name is too long");
        if (!os_exists(path)) continue;
        path[strlen(folder)] = 0;
        return DR_OK;
    }
    DIR *d = opendir(folder);
    k = 0;
    for (struct dirent *x; d && (x = readdir(d));) {
        size_t len = strlen(x->d_name);
        const char *of = strstr(x->d_name, "-of-");
        bool first = !of || (of - x->d_name >= 6 && !memcmp(of - 6, "-00001", 6));
        if (len <= 5 || strcmp(x->d_name + len - 5, ".gguf") || !first) continue;
        k++;
        snprintf(found, sizeof found, "%s", x->d_name);
    }
    if (d) closedir(d);
    path[0] = 0;
    if (k != 1) return err_set(e, DR_ENOTFOUND, "%.200s holds %s: one GGUF file, or a model's folder with config.json "
                               "or params.json, is wanted", folder, k ? "several GGUF files" : "no model");
    return snprintf(path, n, "%s/%s", folder, found) < (int)n ? DR_OK : err_set(e, DR_EINVAL, "the path is too long");
}

static int vertex(cloud *c, bool has_model, dr_err *e)
{
    const char *from = getenv("AIP_STORAGE_URI");
    c->platform = "Vertex AI";
    int rc = number("AIP_HTTP_PORT", getenv("AIP_HTTP_PORT"), &c->port, e);
    if (!rc) rc = add_route("GET", "AIP_HEALTH_ROUTE", HTTP_OPEN | HTTP_INLINE, serve_get_ready, e);
    if (!rc) rc = add_route("POST", "AIP_PREDICT_ROUTE", 0, post_invocations, e);
    if (rc || has_model || !from || !*from) return rc;
    if (!strncmp(from, "gs://", 5))
        return err_set(e, DR_EUNSUPPORTED, "AIP_STORAGE_URI is %.200s, which is not fetched: put the model into the "
                       "image and name it as MODEL", from);
    return cloud_model_in(from, c->model, sizeof c->model, e);
}

int cloud_read(cloud *c, bool has_model, dr_err *e)
{
    const char *port = getenv("SAGEMAKER_BIND_TO_PORT"), *folder = getenv("SM_MODEL_DIR");
    *c = (cloud){ .port = 8080 };
    if (getenv("AIP_HTTP_PORT")) return vertex(c, has_model, e);
    if (!folder || !*folder) folder = "/opt/ml/model";
    bool mine = !has_model && os_is_dir(folder);
    if (!mine && !port) return DR_OK;
    c->platform = "SageMaker";
    int rc = port ? number("SAGEMAKER_BIND_TO_PORT", port, &c->port, e) : DR_OK;
    return rc || !mine ? rc : cloud_model_in(folder, c->model, sizeof c->model, e);
}
