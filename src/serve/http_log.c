/* http_log.c - one line of JSON for each request, and the counts. Never a key, a query or a body. */
#include <string.h>
#include <time.h>
#include "base/os.h"
#include "serve/http_priv.h"

/* A line is written at once, or not, where it is not longer than PIPE_BUF: the path's beginning is enough. */
enum { LINE_MAX_BYTES = 16384, PATH_BYTES = 300 };

static void count(http_conn *c, int status)
{
    http *h = c->h;
    pthread_mutex_lock(&h->stat_lock);
    h->stats.requests++;
    h->stats.by_status[status / 100 < 6 ? status / 100 : 5]++;
    if (status == 429 || status == 503) h->stats.refused++;
    h->stats.bytes_in += c->n_in;
    h->stats.bytes_out += c->n_out;
    pthread_mutex_unlock(&h->stat_lock);
}

void log_request(http_conn *c, int status)
{
    http *h = c->h;
    count(c, status);
    if (!h->o.log) return;
    char when[40];
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    size_t k = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + k, sizeof when - k, ".%03ldZ", t.tv_nsec / 1000000);
    int64_t now = os_now_ns();
    json_t *path = json_stringn(buf_str(&c->path), c->path.n < PATH_BYTES ? c->path.n : PATH_BYTES);
    json_t *o = json_pack("{s:s, s:I, s:s, s:s, s:s, s:o, s:i, s:I, s:I, s:f, s:f}", "time", when, "request",
                          (json_int_t)c->req.number, "client", c->addr, "key", c->req.tenant_name, "method",
                          c->method, "path", path ? path : json_null(), "status", status, "in",
                          (json_int_t)c->n_in, "out", (json_int_t)c->n_out, "head_ms",
                          c->head_at ? (double)(c->head_at - c->begun) / 1e6 : 0.0, "ms",
                          (double)(now - c->begun) / 1e6);
    buf line = { .cap_max = LINE_MAX_BYTES };
    if (o && reply_json(&line, o)) h->o.log(h->o.log_arg, buf_str(&line));
    buf_free(&line);
    json_decref(o);
}
