/* api_metrics.c - GET /metrics: what Prometheus reads, and the page's live view. A figure that vLLM gives
 * under some name and that means the same here has that name; the others are drover_*, process_*.
 *
 * To add a figure: a row. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "serve/serve.h"

#define BODY_MAX ((size_t)16 << 20)
enum { MODELS_MAX = 256 };

/* ---- values, by where they are */

typedef enum { INT, INT64, U64, SIZE, DOUBLE, RATIO, HIST } value_kind;
typedef struct {
    const char *name, *type, *help;
    value_kind kind;
    size_t at, of;              /* of: RATIO: what INT64 `at` is a share of */
    const char *label;          /* one more, or NULL; rows of one name follow one another */
} figure;

#define E(f) offsetof(engine_stats, f)
static const figure ENGINE[] = {
    { "vllm:num_requests_running", "gauge", "requests that are being answered", INT, E(running) },
    { "vllm:num_requests_waiting", "gauge", "requests that wait for their turn", INT, E(waiting) },
    { "vllm:kv_cache_usage_perc", "gauge", "share of the positions that running requests hold; 1 is all", RATIO,
      E(kv_used), E(kv_positions) },
    { "vllm:num_preemptions_total", "counter", "requests that gave their memory to others", U64, E(preempted) },
    { "vllm:prompt_tokens_total", "counter", "tokens of prompts", U64, E(prompt_tokens) },
    { "vllm:generation_tokens_total", "counter", "tokens made", U64, E(gen_tokens) },
    { "vllm:prefix_cache_queries_total", "counter", "tokens of prompts looked up among kept prefixes", U64,
      E(prefix_queries) },
    { "vllm:prefix_cache_hits_total", "counter", "and found there", U64, E(prefix_hits) },
    { "vllm:spec_decode_num_draft_tokens_total", "counter", "tokens guessed and evaluated ahead", U64, E(drafted) },
    { "vllm:spec_decode_num_accepted_tokens_total", "counter", "and come true", U64, E(accepted) },
    { "vllm:request_success_total", "counter", "replies, by why they ended", U64, E(finished[ENGINE_STOP]), 0,
      "finished_reason=\"stop\"" },
    { "vllm:request_success_total", NULL, NULL, U64, E(finished[ENGINE_LENGTH]), 0, "finished_reason=\"length\"" },
    { "vllm:request_success_total", NULL, NULL, U64, E(finished[ENGINE_CONTEXT]), 0, "finished_reason=\"context\"" },
    { "vllm:request_success_total", NULL, NULL, U64, E(finished[ENGINE_CANCELLED]), 0, "finished_reason=\"abort\"" },
    { "vllm:request_success_total", NULL, NULL, U64, E(finished[ENGINE_DEADLINE]), 0,
      "finished_reason=\"deadline\"" },
    { "vllm:time_to_first_token_seconds", "histogram", "from a request to its first token", HIST, E(first_token) },
    { "vllm:inter_token_latency_seconds", "histogram", "between two tokens of a reply", HIST, E(per_token) },
    { "vllm:e2e_request_latency_seconds", "histogram", "from a request to the end of its reply", HIST, E(whole) },
    { "vllm:request_queue_time_seconds", "histogram", "for which a request waited for its turn", HIST, E(queue) },
    { "drover_requests_total", "counter", "requests that were taken", U64, E(requests) },
    { "drover_requests_refused_total", "counter", "requests refused because too many waited", U64, E(refused) },
    { "drover_requests_failed_total", "counter", "requests that ended by an error", U64, E(failed) },
    { "drover_steps_total", "counter", "forward passes", U64, E(steps) },
    { "drover_cached_tokens_total", "counter", "tokens of prompts that were not evaluated again", U64,
      E(cached_tokens) },
    { "drover_kv_positions", "gauge", "positions that there are", INT64, E(kv_positions) },
    { "drover_kv_positions_used", "gauge", "held by running requests", INT64, E(kv_used) },
    { "drover_kv_positions_cached", "gauge", "held by kept prefixes alone", INT64, E(kv_cached) },
    { "drover_tokens_per_second", "gauge", "tokens made, of the last seconds", DOUBLE, E(tok_s) },
    { "drover_prompt_tokens_per_second", "gauge", "tokens of prompts evaluated, of the last seconds", DOUBLE,
      E(prompt_tok_s) },
    { "drover_engine_bytes", "gauge", "private memory of the cache and its workspace", SIZE, E(bytes) },
    { .name = NULL }
};
#undef E

#define H(f) offsetof(http_stats, f)
static const figure HTTP[] = {
    { "drover_http_connections_total", "counter", "connections taken", U64, H(connections) },
    { "drover_http_connections", "gauge", "connections open now", INT, H(open) },
    { "drover_http_streams", "gauge", "replies that are being written", INT, H(streams) },
    { "drover_http_jobs", "gauge", "requests that wait for a worker, or have one", INT, H(jobs) },
    { "drover_http_requests_total", "counter", "requests, by their status", U64, H(by_status[1]), 0, "status=\"1xx\"" },
    { "drover_http_requests_total", NULL, NULL, U64, H(by_status[2]), 0, "status=\"2xx\"" },
    { "drover_http_requests_total", NULL, NULL, U64, H(by_status[3]), 0, "status=\"3xx\"" },
    { "drover_http_requests_total", NULL, NULL, U64, H(by_status[4]), 0, "status=\"4xx\"" },
    { "drover_http_requests_total", NULL, NULL, U64, H(by_status[5]), 0, "status=\"5xx\"" },
    { "drover_http_refused_total", "counter", "connections and requests over a limit", U64, H(refused) },
    { "drover_http_in_bytes_total", "counter", "bytes of requests' bodies", U64, H(bytes_in) },
    { "drover_http_out_bytes_total", "counter", "bytes of replies' bodies", U64, H(bytes_out) },
    { .name = NULL }
};
#undef H

#define S(f) offsetof(os_self, f)
static const figure SELF[] = {
    { "process_resident_memory_bytes", "gauge", "memory of the process, mapped files included", SIZE, S(resident) },
    { "process_cpu_seconds_total", "counter", "time on the cores", DOUBLE, S(cpu_s) },
    { "process_open_fds", "gauge", "open descriptors", INT, S(files) },
    { "process_start_time_seconds", "gauge", "when it began, since 1970", DOUBLE, S(start_s) },
    { .name = NULL }
};
#undef S

/* ---- writing */

static void head(buf *out, const figure *f)
{
    if (f->type) buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
}

static void number(buf *out, double v)
{
    if (isinf(v)) buf_puts(out, v > 0 ? "+Inf" : "-Inf");
    else buf_printf(out, "%.17g", v);
}

static void labels(buf *out, const char *a, const char *b)
{
    if (!*a && !*b) return;
    buf_printf(out, "{%s%s%s}", a, *a && *b ? "," : "", b);
}

static void put_hist(buf *out, const figure *f, const engine_hist *h, const char *of_model)
{
    for (int i = 0; i < ENGINE_BUCKETS; i++) {
        buf_printf(out, "%s_bucket{%s%sle=\"", f->name, of_model, *of_model ? "," : "");
        if (isinf(engine_bound(i))) buf_puts(out, "+Inf");
        else buf_printf(out, "%.6g", engine_bound(i));
        buf_printf(out, "\"} %llu\n", (unsigned long long)h->count[i]);
    }
    buf_printf(out, "%s_sum", f->name);
    labels(out, of_model, "");
    buf_printf(out, " %.9g\n%s_count", h->sum, f->name);
    labels(out, of_model, "");
    buf_printf(out, " %llu\n", (unsigned long long)h->count[ENGINE_BUCKETS - 1]);
}

static void put(buf *out, const figure *f, const void *from, const char *of_model)
{
    const char *at = (const char *)from + f->at;
    if (f->kind == HIST) {
        put_hist(out, f, (const engine_hist *)(const void *)at, of_model);
        return;
    }
    buf_puts(out, f->name);
    labels(out, of_model, f->label ? f->label : "");
    buf_putc(out, ' ');
    int64_t of;
    switch (f->kind) {
    case INT: buf_printf(out, "%d", *(const int *)(const void *)at); break;
    case INT64: buf_printf(out, "%lld", (long long)*(const int64_t *)(const void *)at); break;
    case U64: buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)(const void *)at); break;
    case SIZE: buf_printf(out, "%zu", *(const size_t *)(const void *)at); break;
    case DOUBLE: number(out, *(const double *)(const void *)at); break;
    case RATIO:
        of = *(const int64_t *)(const void *)((const char *)from + f->of);
        number(out, of ? (double)*(const int64_t *)(const void *)at / (double)of : 0);
        break;
    case HIST: break;
    }
    buf_putc(out, '\n');
}

/* ---- all models */

typedef struct {
    int n;
    bool open[MODELS_MAX];
    char *id[MODELS_MAX], *label[MODELS_MAX];
    engine_stats *st;
} all_models;

/* model_name="…", escaped as Prometheus wants it. */
static char *label_of(const char *id)
{
    buf b = { .cap_max = 4096 };
    buf_puts(&b, "model_name=\"");
    for (const char *p = id; *p; p++) {
        if (*p == '"' || *p == '\\') buf_putc(&b, '\\');
        if (*p == '\n') buf_puts(&b, "\\n");
        else buf_putc(&b, *p);
    }
    buf_putc(&b, '"');
    char *s = b.bad ? NULL : mem_strdup(b.p);
    buf_free(&b);
    return s;
}

static void note(void *arg, const models_row *row)
{
    all_models *a = arg;
    if (row->parent || a->n == MODELS_MAX) return;
    a->open[a->n] = row->open;
    a->id[a->n] = mem_strdup(row->id), a->label[a->n] = label_of(row->id);
    if (a->id[a->n] && a->label[a->n]) a->n++;
    else mem_free(a->id[a->n]), mem_free(a->label[a->n]);
}

static void put_engines(buf *out, models *ms, all_models *a)
{
    for (int i = 0; i < a->n; i++) {
        served *s = models_peek(ms, a->id[i]);
        a->open[i] = s != NULL;
        if (s) engine_stats_get(s->eng, &a->st[i]);
        models_put(ms, s);
    }
    for (const figure *f = ENGINE; f->name; f++) {
        head(out, f);
        for (int i = 0; i < a->n; i++)
            if (a->open[i]) put(out, f, &a->st[i], a->label[i]);
    }
    buf_puts(out, "# HELP drover_model_open whether the model is open\n# TYPE drover_model_open gauge\n");
    for (int i = 0; i < a->n; i++) buf_printf(out, "drover_model_open{%s} %d\n", a->label[i], a->open[i]);
}

static void get_metrics(const http_req *r, http_reply *o)
{
    serve *s = r->arg;
    all_models a = {0};
    http_stats h;
    os_self self;
    buf out = { .cap_max = BODY_MAX };
    models_each(s->models, note, &a);
    a.st = mem_alloc((size_t)(a.n + 1) * sizeof *a.st);
    if (a.st) put_engines(&out, s->models, &a);
    http_stats_get(s->http, &h);
    os_self_get(&self);
    for (const figure *f = HTTP; f->name; f++) head(&out, f), put(&out, f, &h, "");
    for (const figure *f = SELF; f->name; f++) head(&out, f), put(&out, f, &self, "");
    buf_printf(&out, "# HELP drover_build_info its version\n# TYPE drover_build_info gauge\n"
               "drover_build_info{version=\"%s\"} 1\n", s->version);
    if (!a.st || out.bad) {
        http_error(o, HTTP_PLAIN, 503, NULL, NULL, NULL, "there is no memory for the figures");
    } else {
        o->type = "text/plain; version=0.0.4; charset=utf-8";
        buf_put(&o->body, out.p, out.n);
    }
    for (int i = 0; i < a.n; i++) mem_free(a.id[i]), mem_free(a.label[i]);
    mem_free(a.st);
    buf_free(&out);
}

const http_route metrics_routes[] = {
    { "GET", "/metrics", HTTP_PLAIN, HTTP_INLINE, get_metrics },
    { .method = NULL }
};
