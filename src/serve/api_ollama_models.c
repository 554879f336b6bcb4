/* api_ollama_models.c - Ollama's models and embeddings.
 *
 *     GET  /api/tags, /api/ps, /api/version
 *     POST /api/show   {model}         -> what is known of it; it is opened for that
 *     POST /api/embed  {model, input}  -> {embeddings}; /api/embeddings {model, prompt} -> {embedding}
 *
 * What fetches, makes and removes models there is not the server's work here: drover get, quantize, rm. */
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "serve/field.h"
#include "serve/oai.h"
#include "serve/ollama.h"
#include "serve/vectors.h"

#define BODY_MAX ((size_t)1 << 30)
enum { MODELS_MAX = 256, CHUNK = 48 << 10 };

/* ---- what a model is */

/* Its weights' usual type and their number. */
static void weights_of(const tensors *ts, const char **type, int64_t *count)
{
    enum { TYPES = 256 };
    int64_t of[TYPES] = {0}, best = -1;
    int which = -1;
    *count = 0;
    for (int64_t i = 0; ts && i < tensors_count(ts); i++) {
        const tensor *t = tensors_at(ts, i);
        int64_t n = 1;
        for (int k = 0; k < t->n_dims; k++) n *= t->dim[k];
        *count += n;
        if (t->type < 0 || t->type >= TYPES) continue;
        of[t->type] += n;
    }
    for (int i = 0; i < TYPES; i++)
        if (of[i] > best && of[i] > 0) best = of[i], which = i;
    *type = ts && which >= 0 ? tensor_type_name(ts, which) : "";
}

static json_t *details(const served *s)
{
    const char *type = "", *form = "";
    char size[32] = "";
    int64_t n = 0;
    if (s) {
        weights_of(s->m->ts, &type, &n);
        form = tensors_gguf(s->m->ts) ? "gguf" : "safetensors";
        snprintf(size, sizeof size, n >= 1000000000 ? "%.1fB" : "%.0fM", (double)n / (n >= 1000000000 ? 1e9 : 1e6));
    }
    const char *family = s ? s->m->h.family : "";
    return json_pack("{s:s, s:s, s:s, s:[s], s:s, s:s}", "parent_model", "", "format", form, "family", family,
                     "families", family, "parameter_size", size, "quantization_level", type);
}

/* Of each row a name, with ":latest" as all have there; adapters by their own. */
typedef struct {
    struct { char *id, *parent; int64_t created; } row[MODELS_MAX];
    int n;
} names;

static void note(void *arg, const models_row *r)
{
    names *a = arg;
    if (a->n == MODELS_MAX) return;
    a->row[a->n].id = mem_strdup(r->id);
    a->row[a->n].parent = r->parent ? mem_strdup(r->parent) : NULL;
    a->row[a->n].created = r->created;
    if (a->row[a->n].id && (!r->parent || a->row[a->n].parent)) a->n++;
}

static void names_free(names *a)
{
    for (int i = 0; i < a->n; i++) mem_free(a->row[i].id), mem_free(a->row[i].parent);
    mem_free(a);
}

/* One model of a list; s NULL: it is not open. */
static json_t *listed(const char *id, int64_t created, const served *s, const models_file *f)
{
    char name[OLLAMA_NAME + 8], at[OLLAMA_TIME];
    snprintf(name, sizeof name, "%.*s:latest", OLLAMA_NAME - 1, id);
    ollama_time(at, created * 1000000000);
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:o}", "name", name, "model", name, "modified_at", at, "size",
                     (json_int_t)f->bytes, "digest", f->digest, "details", details(s));
}

static void list(const http_req *r, http_reply *o, bool open_alone)
{
    serve *all = r->arg;
    names *a = mem_zalloc(1, sizeof *a);
    json_t *rows = json_array();
    if (a) models_each(all->models, note, a);
    for (int i = 0; a && i < a->n; i++) {
        models_file f;
        served *s = models_peek(all->models, a->row[i].id);
        if ((s || !open_alone) && !(open_alone && a->row[i].parent) &&
            models_file_of(all->models, a->row[i].id, &f) == DR_OK) {
            json_t *v = listed(a->row[i].id, a->row[i].created, s, &f);
            if (v && open_alone) {
                json_object_set_new(v, "size_vram", json_integer(0));
                json_object_set_new(v, "context_length", json_integer(engine_ctx(s->eng)));
                json_object_set_new(v, "expires_at", json_string("2318-01-01T00:00:00Z"));
            }
            json_array_append_new(rows, v);
        }
        models_put(all->models, s);
    }
    if (a) names_free(a);
    http_put_json(o, 200, a ? json_pack("{s:o}", "models", rows) : NULL);
}

static void get_tags(const http_req *r, http_reply *o) { list(r, o, false); }
static void get_ps(const http_req *r, http_reply *o) { list(r, o, true); }

static void get_version(const http_req *r, http_reply *o)
{
    serve *s = r->arg;
    http_put_json(o, 200, json_pack("{s:s}", "version", s->version));
}

/* ---- show */

typedef struct {
    const char *model, *prompt;
    const json_t *input, *options;
    bool verbose, truncate;
    int dimensions;
} asked;
#define AT(f) offsetof(asked, f)

enum { SHOW = 1, EMBED = 2, EMBED_ONE = 4, PULL = 8 };
static const field FIELDS[] = {
    { "model", FIELD_TEXT, AT(model), .of = ~0u },
    { "name", FIELD_TEXT, AT(model), .of = SHOW | PULL },
    { "verbose", FIELD_BOOL, AT(verbose), .of = SHOW },
    { "system", FIELD_REFUSED, .of = SHOW }, { "template", FIELD_REFUSED, .of = SHOW },
    { "options", FIELD_OBJECT, AT(options), .of = SHOW | EMBED | EMBED_ONE },
    { "input", FIELD_ANY, AT(input), .of = EMBED, .must = true },
    { "prompt", FIELD_TEXT, AT(prompt), .of = EMBED_ONE, .must = true },
    { "truncate", FIELD_BOOL, AT(truncate), .of = EMBED },
    { "dimensions", FIELD_INT, AT(dimensions), 0, 1 << 24, .of = EMBED },
    { "keep_alive", FIELD_UNUSED, .of = EMBED | EMBED_ONE },
    { "stream", FIELD_UNUSED, .of = PULL }, { "insecure", FIELD_UNUSED, .of = PULL },
    { .name = NULL }
};

static json_t *begin(const http_req *r, http_reply *o, unsigned api, asked *a)
{
    const char *param;
    dr_err e = {0};
    json_t *doc = http_json(r, &e);
    if (doc && fields_read_of(FIELDS, api, doc, a, "", &param, &e) == DR_OK) {
        if (a->model && *a->model) return doc;
        err_set(&e, DR_EINVAL, "model is missing");
    }
    http_error(o, HTTP_OLLAMA, http_status(e.code), NULL, NULL, NULL, "%s", e.msg);
    json_decref(doc);
    return NULL;
}

/* The numbers that GGUF files keep, by their names there. */
static json_t *model_info(const served *s)
{
    const hparams *h = &s->m->h;
    const char *type;
    int64_t n;
    weights_of(s->m->ts, &type, &n);
    const struct { const char *key; int64_t v; } rows[] = {
        { "block_count", h->L }, { "context_length", h->n_ctx }, { "embedding_length", h->C },
        { "feed_forward_length", h->F }, { "attention.head_count", h->nh }, { "attention.head_count_kv", h->nkv },
        { "attention.key_length", h->hs }, { "vocab_size", h->V },
    };
    json_t *v = json_pack("{s:s, s:I}", "general.architecture", h->family, "general.parameter_count", (json_int_t)n);
    for (size_t i = 0; v && i < sizeof rows / sizeof *rows; i++) {
        char key[80];
        snprintf(key, sizeof key, "%s.%s", h->family, rows[i].key);
        json_object_set_new(v, key, json_integer((json_int_t)rows[i].v));
    }
    return v;
}

static void put_parameters(buf *b, const sample_opt *o)
{
    buf_printf(b, "temperature %g", (double)o->temperature);
    if (o->top_k > 0) buf_printf(b, "\ntop_k %d", o->top_k);
    if (o->top_p < 1) buf_printf(b, "\ntop_p %g", (double)o->top_p);
    if (o->min_p > 0) buf_printf(b, "\nmin_p %g", (double)o->min_p);
    if (o->repeat_penalty < 1 || o->repeat_penalty > 1) buf_printf(b, "\nrepeat_penalty %g", (double)o->repeat_penalty);
}

static void post_show(const http_req *r, http_reply *o)
{
    asked a = {0};
    char name[OLLAMA_NAME], at[OLLAMA_TIME];
    json_t *doc = begin(r, o, SHOW, &a);
    served *s = doc ? answer_model(r, o, HTTP_OLLAMA, ollama_name(a.model, name, sizeof name), NULL) : NULL;
    if (s) {
        span t = tok_chat_template(s->tok);
        buf p = { .cap_max = 1024 };
        put_parameters(&p, &s->sample);
        ollama_time(at, s->created * 1000000000);
        json_t *v = json_pack("{s:s, s:s, s:s#, s:s, s:o, s:o, s:[s]}", "modified_at", at, "parameters", buf_str(&p),
                              "template", t.n ? t.p : "", (int)t.n, "modelfile", "", "details", details(s),
                              "model_info", model_info(s), "capabilities", "completion");
        json_t *can = json_object_get(v, "capabilities");
        if (can && !s->no_chat.code) json_array_append_new(can, json_string("tools"));
        if (can) json_array_append_new(can, json_string("embedding"));
        http_put_json(o, 200, v);
        buf_free(&p);
        answer_let_go(r, s);
    }
    json_decref(doc);
}

/* What is served is there already; nothing else is fetched. */
static void post_pull(const http_req *r, http_reply *o)
{
    serve *all = r->arg;
    asked a = {0};
    models_file f;
    char name[OLLAMA_NAME];
    json_t *doc = begin(r, o, PULL, &a);
    if (doc && models_file_of(all->models, ollama_name(a.model, name, sizeof name), &f) == DR_OK)
        http_put_json(o, 200, json_pack("{s:s}", "status", "success"));
    else if (doc)
        http_error(o, HTTP_OLLAMA, 404, NULL, NULL, NULL, "there is no model \"%.100s\" here: drover get fetches, "
                   "drover serve MODEL… serves", name);
    json_decref(doc);
}

static void refuse(const http_req *r, http_reply *o)
{
    http_error(o, HTTP_OLLAMA, 501, NULL, NULL, NULL, "%.100s is not offered here: models are made and removed by "
               "drover's other commands", r->path);
}

/* ---- embeddings */

typedef struct {
    vectors v;
    models *ms;
    char *model;
    bool one, over;             /* one: /api/embeddings */
    buf *out;                   /* (n,) each vector's text */
    buf body;
    size_t sent;
    int64_t begun_ns, load_ns;
} embed;

static void put(void *arg, int at, const float *x, int n)
{
    embed *p = arg;
    buf *b = &p->out[at];
    buf_putc(b, '[');
    for (int i = 0; i < n; i++) {
        if (i) buf_putc(b, ',');
        js_float(b, x[i]);
    }
    buf_putc(b, ']');
}

static void whole(embed *p)
{
    buf *b = &p->body;
    if (p->one) {
        buf_puts(b, "{\"embedding\":");
    } else {
        buf_puts(b, "{\"model\":");
        js_put(b, p->model);
        buf_puts(b, ",\"embeddings\":[");
    }
    for (int i = 0; i < p->v.n; i++) {
        if (i) buf_putc(b, ',');
        buf_put(b, p->out[i].p, p->out[i].n);
        if (p->out[i].bad) b->bad = true;
        buf_free(&p->out[i]);
    }
    if (p->one) buf_putc(b, '}');
    else buf_printf(b, "],\"total_duration\":%lld,\"load_duration\":%lld,\"prompt_eval_count\":%lld}",
                    (long long)(os_now_ns() - p->begun_ns), (long long)p->load_ns, (long long)p->v.tokens);
}

static http_state fill(void *src, http_reply *o, buf *out)
{
    embed *p = src;
    if (!p->over) {
        if (!vectors_step(&p->v)) return HTTP_WAIT;
        p->over = true;
        if (!p->v.code) whole(p);
        if (p->v.code || p->body.bad) {
            answer_error(o, out, HTTP_OLLAMA, p->v.code ? p->v.code : DR_ENOMEM,
                         p->v.code ? p->v.why : "there is no memory for the reply");
            return HTTP_END;
        }
    }
    size_t n = p->body.n - p->sent;
    if (n > CHUNK) n = CHUNK;
    buf_put(out, p->body.p + p->sent, n);
    p->sent += n;
    return p->sent < p->body.n ? HTTP_MORE : HTTP_END;
}

static void embed_close(void *src)
{
    embed *p = src;
    served *s = p->v.s;
    for (int i = 0; p->out && i < p->v.n; i++) buf_free(&p->out[i]);
    vectors_end(&p->v);
    if (s) models_put(p->ms, s);
    buf_free(&p->body);
    mem_free(p->out);
    mem_free(p->model);
    mem_free(p);
}

static const http_source SOURCE = { fill, NULL, embed_close };

/* The texts' ids, each cut to the context where the request says so. */
static int texts(const asked *a, const json_t *doc, const served *s, ids **text, int *n, dr_err *e)
{
    const char *name = a->input ? "input" : "prompt";
    int rc = oai_prompts(s, json_object_get(doc, name), name, text, n, e);
    for (int i = 0; rc == DR_OK && a->truncate && i < *n; i++)
        if ((*text)[i].n > engine_ctx(s->eng)) (*text)[i].n = engine_ctx(s->eng);
    return rc;
}

static int embed_begin(embed *p, const http_req *r, const asked *a, const json_t *doc, int adapter, int *retry,
                       dr_err *e)
{
    const char *stop[OLLAMA_STOPS], *param;
    served *s = p->v.s;
    ids *text = NULL;
    int n = 0;
    call_opt_init(&p->v.c, s);
    int rc = ollama_options(a->options, s, &p->v.c, stop, &param, e);
    if (rc == DR_OK && a->dimensions && a->dimensions != s->m->h.C)
        rc = err_set(e, DR_EUNSUPPORTED, "dimensions is %d; this model's vectors have %d and mean nothing when cut",
                     a->dimensions, s->m->h.C);
    if (rc == DR_OK) rc = texts(a, doc, s, &text, &n, e);
    if (rc != DR_OK) return rc;
    p->out = mem_zalloc((size_t)n, sizeof *p->out);
    if (!(p->model = mem_strdup(a->model)) || !p->out) {
        oai_prompts_free(text, n);
        return err_nomem(e, (size_t)n * sizeof *p->out, "embeddings");
    }
    for (int i = 0; i < n; i++) buf_init(&p->out[i], BODY_MAX);
    p->v.c.req.task = ENGINE_EMBED_MEAN;
    p->v.c.req.stop = NULL, p->v.c.req.n_stop = 0;
    p->v.c.req.adapter = adapter, p->v.c.req.tenant = r->tenant;
    p->v.c.req.wake = answer_wake, p->v.c.req.arg = r->conn;
    p->v.put = put, p->v.arg = p;
    return vectors_begin(&p->v, text, n, retry, &param, e);
}

static void post_embed_as(const http_req *r, http_reply *o, unsigned api)
{
    serve *all = r->arg;
    asked a = {0};
    char name[OLLAMA_NAME];
    dr_err e = {0};
    int retry = 0, adapter = 0;
    int64_t begun = os_now_ns();
    json_t *doc = begin(r, o, api, &a);
    served *s = doc ? answer_model(r, o, HTTP_OLLAMA, ollama_name(a.model, name, sizeof name), &adapter) : NULL;
    embed *p = s ? mem_zalloc(1, sizeof *p) : NULL;
    if (s && !p) {
        http_error(o, HTTP_OLLAMA, 503, NULL, NULL, NULL, "there is no memory for the reply");
        answer_let_go(r, s);
    } else if (p) {
        p->ms = all->models, p->v.s = s, p->one = api == EMBED_ONE;
        p->begun_ns = begun, p->load_ns = os_now_ns() - begun;
        buf_init(&p->body, BODY_MAX);
        int rc = embed_begin(p, r, &a, doc, adapter, &retry, &e);
        if (rc == DR_EBUSY) http_head(o, "Retry-After", "%d", retry > 0 ? retry : 1);
        if (rc == DR_OK) {
            o->source = &SOURCE, o->src = p;
        } else {
            http_error(o, HTTP_OLLAMA, http_status(rc), NULL, NULL, NULL, "%s", e.msg);
            embed_close(p);
        }
    }
    json_decref(doc);
}

static void post_embed(const http_req *r, http_reply *o) { post_embed_as(r, o, EMBED); }
static void post_embeddings(const http_req *r, http_reply *o) { post_embed_as(r, o, EMBED_ONE); }

const http_route ollama_model_routes[] = {
    { "GET", "/api/tags", HTTP_OLLAMA, 0, get_tags },
    { "GET", "/api/ps", HTTP_OLLAMA, 0, get_ps },
    { "GET", "/api/version", HTTP_OLLAMA, HTTP_INLINE, get_version },
    { "POST", "/api/show", HTTP_OLLAMA, 0, post_show },
    { "POST", "/api/embed", HTTP_OLLAMA, 0, post_embed },
    { "POST", "/api/embeddings", HTTP_OLLAMA, 0, post_embeddings },
    { "POST", "/api/pull", HTTP_OLLAMA, 0, post_pull },
    { "POST", "/api/push", HTTP_OLLAMA, 0, refuse },
    { "POST", "/api/create", HTTP_OLLAMA, 0, refuse },
    { "POST", "/api/copy", HTTP_OLLAMA, 0, refuse },
    { "DELETE", "/api/delete", HTTP_OLLAMA, 0, refuse },
    { .method = NULL }
};
