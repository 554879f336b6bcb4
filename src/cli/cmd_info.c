/* cmd_info.c - drover info: what a model is, and what running it takes. */
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "cli/cache.h"
#include "cli/model_arg.h"
#include "cli/progress.h"
#include "gen/beside.h"
#include "gen/ngram.h"
#include "gen/spec.h"
#include "text/chat.h"

typedef struct {
    dev_args dev;
    lora_args lora;
    int64_t ctx;
    int batch, kv;
    bool json, tensors, meta;
} args;

static const opt opts[] = {
    { 'c', "ctx", OPT_INT64, offsetof(args, ctx), "N",
      "count memory for a context of N positions (default: the model's, at most 8192)",
      1, HP_MAX_CTX },
    { 'b', "batch", OPT_INT, offsetof(args, batch), "N", "and N sequences at once (default 1)",
      1, 4096 },
    { 0, "kv-type", OPT_CHOICE, offsetof(args, kv), KV_CHOICES, "cache type (default f16)" },
    { 0, "tensors", OPT_FLAG, offsetof(args, tensors), NULL, "list every tensor" },
    { 0, "meta", OPT_FLAG, offsetof(args, meta), NULL, "list every metadata entry" },
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
    { .kind = OPT_SUB, .at = offsetof(args, lora), .sub = lora_opts },
    { .kind = OPT_SUB, .at = offsetof(args, dev), .sub = dev_opts },
    OPT_END
};

enum { MAX_TYPES = 48 };
typedef struct { int type; int64_t n, weights; size_t bytes; } histo;

typedef struct {
    const args *a;
    tensors *ts;
    model *m;                    /* NULL: it does not run; why says so */
    dr_err why, tok_why, chat_why;
    tokenizer *tok;
    chat_kind kind;
    histo type[MAX_TYPES];
    int n_types;
    int64_t n_weights;
    plan p;
    model_pages pages;           /* when they are known: what of the files is in memory */
    bool pages_known;
    size_t program, total, free; /* private now; private at the end; available */
    int n_ctx, max_ctx;
} about;

static void count_types(about *x)
{
    for (int64_t i = 0; i < tensors_count(x->ts); i++) {
        const tensor *t = tensors_at(x->ts, i);
        int at = 0;
        while (at < x->n_types && x->type[at].type != t->type) at++;
        if (at == MAX_TYPES) continue;
        if (at == x->n_types) x->type[x->n_types++] = (histo){ .type = t->type };
        int64_t n = 1;
        for (int d = 0; d < t->n_dims; d++) n *= t->dim[d];
        x->type[at].n++, x->type[at].weights += n, x->type[at].bytes += t->bytes;
        x->n_weights += n;
    }
}

/* Everything private that a session with these options will hold: what this process holds
 * after opening the model and its tokenizer, and what a session adds. */
static void budget(about *x)
{
    const hparams *h = &x->m->h;
    /* logits for a token of each sequence, and for what is guessed of one */
    plan_opt o = { .n_seqs = x->a->batch, .n_rows = SESSION_ROWS_DEFAULT,
                   .n_out = x->a->batch + SPEC_MAX_DEFAULT, .kv = kv_choice(x->a->kv) };
    o.n_ctx = x->a->ctx ? (int)x->a->ctx
                        : h->n_ctx < SESSION_CTX_DEFAULT ? h->n_ctx : SESSION_CTX_DEFAULT;
    if (o.n_rows > o.n_ctx) o.n_rows = o.n_ctx;
    if (o.n_rows < o.n_seqs) o.n_rows = o.n_seqs;
    plan_make(&x->p, x->m, &o);
    x->pages_known = model_pages_of(x->m, &x->pages);
    x->program = os_private_bytes() + ngram_bytes(o.n_ctx);
    x->total = x->program + x->p.kv + x->p.workspace + x->p.scratch + x->p.gathered;
    x->free = os_free_memory();
    x->n_ctx = o.n_ctx;
    x->max_ctx = plan_max_ctx(x->m, o, x->free);
}

static int look(about *x, const char *path, dr_err *e)
{
    const dev_opt d = dev_args_opt(&x->a->dev);
    x->ts = tensors_open(path, e);
    if (!x->ts) return e->code;
    count_types(x);
    const gguf *g = tensors_gguf(x->ts);
    x->tok = g ? tok_from_gguf(g, &x->tok_why) : beside_tokenizer_at(path, &x->tok_why);
    if (x->tok) chat_detect(x->tok, &x->kind, &x->chat_why);
    tensors *again = tensors_open(path, &x->why);      /* the model takes its own */
    if (again) x->m = model_describe(again, &d, &x->why);
    int rc = x->m ? kv_type_check(kv_choice(x->a->kv), x->m->h.hs, e) : DR_OK;
    if (x->m && !rc) rc = lora_args_apply(&x->a->lora, x->m, e);
    if (x->m && !rc) budget(x);
    return rc;
}

static const char *container_name(const tensors *ts)
{
    static const char *const name[] = { [CONTAINER_GGUF] = "GGUF",
        [CONTAINER_SAFETENSORS] = "safetensors", [CONTAINER_META] = "Meta .pth" };
    return tensors_is_bin(ts) ? "PyTorch .bin" : name[tensors_container(ts)];
}

/* The value of a metadata key as text, or "". */
static void meta_text(const gguf *g, const char *key, char *s, size_t n)
{
    span v = { "", 0 };
    if (g) gguf_get_str(g, key, &v);
    snprintf(s, n, SPAN_FMT, SPAN_ARG(v));
    for (char *p = s; *p; p++) if ((unsigned char)*p < ' ') *p = ' ';
}

static const char *rope_text(const rope_spec *r, char *s, size_t n)
{
    if (r->kind == ROPE_LLAMA3)
        snprintf(s, n, "theta %.10g, llama3 scaling by %g from %g", r->theta, r->factor,
                 r->orig_ctx);
    else if (r->kind == ROPE_LINEAR)
        snprintf(s, n, "theta %.10g, linear scaling by %g", r->theta, r->factor);
    else
        snprintf(s, n, "theta %.10g%s", r->theta,
                 r->kind == ROPE_FACTORS ? ", factors from the file" : "");
    return s;
}

static void print_memory(const about *x)
{
    char s[SIZE_TEXT], huge[SIZE_TEXT];
    printf("\nmemory for %d sequence%s of %d positions\n", x->a->batch,
           x->a->batch == 1 ? "" : "s", x->n_ctx);
    printf("  mapped         %s (%zu bytes: the file's, shared, given back under pressure)\n",
           size_text(s, (double)x->p.mapped), x->p.mapped);
    if (x->pages_known)
        printf("    page cache   %s of it, %s in huge pages\n", size_text(s, (double)x->pages.cached),
               size_text(huge, (double)x->pages.cached_huge));
    printf("  private        %s (%zu bytes)\n", size_text(s, (double)x->total), x->total);
    printf("    keys, values %s (%s)\n", size_text(s, (double)x->p.kv), kv_types[kv_choice(x->a->kv)].name);
    printf("    workspace    %s\n", size_text(s, (double)x->p.workspace + (double)x->p.scratch));
    if (x->p.adapters)
        printf("    adapters     %s (in the rest)\n", size_text(s, (double)x->p.adapters));
    if (x->p.gathered)
        printf("    weights      %s (%s)\n", size_text(s, (double)x->p.gathered),
               x->m->copy.bytes ? "copied" : "put together from the shards");
    printf("    the rest     %s (program, tokenizer, tables)\n", size_text(s, (double)x->program));
    printf("  read a token   %s of weights\n", size_text(s, (double)x->p.per_token));
    if (!x->free) return;
    printf("  free now       %s: ", size_text(s, (double)x->free));
    if (x->total <= x->free) printf("this fits");
    else printf("%s are missing", size_text(s, (double)(x->total - x->free)));
    if (x->max_ctx) printf("; up to %d positions would fit\n", x->max_ctx);
    else printf("; no context fits\n");
}

static void print_types(const about *x)
{
    char s[SIZE_TEXT];
    printf("tensors          %" PRId64 ", %.2f million weights\n", tensors_count(x->ts),
           (double)x->n_weights / 1e6);
    for (int i = 0; i < x->n_types; i++)
        printf("  %-14s %" PRId64 " tensors, %s\n", tensor_type_name(x->ts, x->type[i].type),
               x->type[i].n, size_text(s, (double)x->type[i].bytes));
}

static void print(const about *x)
{
    const gguf *g = tensors_gguf(x->ts);
    char s[256], size[SIZE_TEXT];
    meta_text(g, "general.name", s, sizeof s);
    printf("file             %s (%s, %s)\n", tensors_path(x->ts), container_name(x->ts),
           size_text(size, (double)tensors_mapped_bytes(x->ts)));
    if (*s) printf("name             %s\n", s);
    int copies, shards = tensors_meta_shards(x->ts, &copies);
    if (shards > 1) printf("shards           %d, model-parallel\n", shards);
    if (x->m) {
        const hparams *h = &x->m->h;
        printf("architecture     %s%s\n", h->family, h->tied ? ", head tied to the embedding" : "");
        printf("shape            %d layers, width %d, %d heads of %d (%d for keys and values), "
               "feed-forward %d, vocabulary %d\n", h->L, h->C, h->nh, h->hs, h->nkv, h->F, h->V);
        printf("context          %d positions", h->n_ctx);
        if (h->window) printf(", sliding window of %d", h->window);
        printf("\nrope             %s\n", rope_text(&h->rope, s, sizeof s));
    } else {
        meta_text(g, "general.architecture", s, sizeof s);
        if (*s) printf("architecture     %s\n", s);
    }
    print_types(x);
    if (x->tok)
        printf("tokenizer        %s, %d tokens%s\n", tok_kind(x->tok), (int)tok_count(x->tok),
               tok_wants_bos(x->tok) ? ", texts begin with BOS" : "");
    else
        printf("tokenizer        none: %s\n", x->tok_why.msg);
    if (x->tok)
        printf("prompt format    %s%s\n", x->chat_why.code ? "" : chat_name(x->kind),
               x->chat_why.code ? x->chat_why.msg : "");
    if (x->m) print_memory(x);
}

static json_t *shape_json(const hparams *h)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "layers", h->L, "width", h->C,
                     "heads", h->nh, "kv_heads", h->nkv, "head_size", h->hs, "feed_forward", h->F,
                     "vocabulary", h->V, "context", h->n_ctx);
}

static json_t *memory_json(const about *x)
{
    const plan *p = &x->p;
    json_t *o = json_pack("{s:i, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:i}",
        "ctx", x->n_ctx, "batch", x->a->batch, "kv_type", kv_types[kv_choice(x->a->kv)].name,
        "mapped", (json_int_t)p->mapped, "weights", (json_int_t)p->weights,
        "per_token", (json_int_t)p->per_token, "kv", (json_int_t)p->kv,
        "workspace", (json_int_t)p->workspace, "scratch", (json_int_t)p->scratch,
        "gathered", (json_int_t)p->gathered, "adapters", (json_int_t)p->adapters,
        "program", (json_int_t)x->program, "private", (json_int_t)x->total,
        "free", (json_int_t)x->free, "fits", !x->free || x->total <= x->free,
        "max_ctx", x->max_ctx);
    if (o && x->pages_known) {
        json_object_set_new(o, "cached", json_integer((json_int_t)x->pages.cached));
        json_object_set_new(o, "cached_huge", json_integer((json_int_t)x->pages.cached_huge));
    }
    return o;
}

static json_t *tensors_json(const about *x)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < tensors_count(x->ts); i++) {
        const tensor *t = tensors_at(x->ts, i);
        json_t *dim = json_array();
        for (int d = 0; d < t->n_dims; d++) json_array_append_new(dim, json_integer(t->dim[d]));
        json_array_append_new(list, json_pack("{s:o, s:s, s:o, s:I}", "name",
            json_stringn_nocheck(t->name.p, t->name.n), "type", tensor_type_name(x->ts, t->type),
            "shape", dim, "bytes", (json_int_t)t->bytes));
    }
    return list;
}

static const char *const container_key[] = { [CONTAINER_GGUF] = "gguf",
    [CONTAINER_SAFETENSORS] = "safetensors", [CONTAINER_META] = "meta" };

static json_t *to_json(const about *x)
{
    const gguf *g = tensors_gguf(x->ts);
    char s[256];
    json_t *types = json_object(), *o;
    for (int i = 0; i < x->n_types; i++)
        json_object_set_new(types, tensor_type_name(x->ts, x->type[i].type),
            json_pack("{s:I, s:I, s:I}", "tensors", (json_int_t)x->type[i].n, "weights",
                      (json_int_t)x->type[i].weights, "bytes", (json_int_t)x->type[i].bytes));
    o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:o}", "path", tensors_path(x->ts), "container",
                  tensors_is_bin(x->ts) ? "pytorch" : container_key[tensors_container(x->ts)], "bytes", (json_int_t)tensors_mapped_bytes(x->ts),
                  "tensors", (json_int_t)tensors_count(x->ts), "parameters",
                  (json_int_t)x->n_weights, "types", types);
    meta_text(g, "general.name", s, sizeof s);
    if (*s) json_object_set_new(o, "name", json_string(s));
    if (x->m) {
        json_object_set_new(o, "architecture", json_string(x->m->h.family));
        json_object_set_new(o, "shape", shape_json(&x->m->h));
        json_object_set_new(o, "tied", json_boolean(x->m->h.tied));
        json_object_set_new(o, "rope", json_string(rope_text(&x->m->h.rope, s, sizeof s)));
        json_object_set_new(o, "memory", memory_json(x));
    } else {
        json_object_set_new(o, "error", json_string(x->why.msg));
    }
    if (x->tok) {
        json_object_set_new(o, "tokenizer", json_string(tok_kind(x->tok)));
        json_object_set_new(o, "tokens", json_integer(tok_count(x->tok)));
        json_object_set_new(o, "prompt_format",
                            x->chat_why.code ? json_null() : json_string(chat_name(x->kind)));
    }
    if (x->a->tensors) json_object_set_new(o, "tensor_list", tensors_json(x));
    return o;
}

static void print_tensors(const tensors *ts)
{
    printf("\n");
    for (int64_t i = 0; i < tensors_count(ts); i++) {
        const tensor *t = tensors_at(ts, i);
        printf("%-8s ", tensor_type_name(ts, t->type));
        for (int d = 0; d < t->n_dims; d++) printf("%s%" PRId64, d ? "x" : "", t->dim[d]);
        printf("\t" SPAN_FMT "\n", SPAN_ARG(t->name));
    }
}

/* A scalar or a short string; arrays by their length. */
static void print_value(const gguf *g, const gguf_kv *kv)
{
    char key[256];
    uint64_t u;
    double f;
    bool b;
    snprintf(key, sizeof key, SPAN_FMT, SPAN_ARG(kv->key));
    if (kv->type == GGUF_ARRAY) printf("%" PRIu64 " entries\n", kv->n);
    else if (kv->type == GGUF_STRING) {
        size_t n = kv->str.n < 200 ? kv->str.n : 200;
        for (size_t i = 0; i < n; i++)
            putchar((unsigned char)kv->str.p[i] < ' ' ? ' ' : kv->str.p[i]);
        printf("%s\n", kv->str.n > 200 ? " …" : "");
    } else if (gguf_get_bool(g, key, &b)) printf("%s\n", b ? "true" : "false");
    else if (gguf_get_u64(g, key, &u)) printf("%" PRIu64 "\n", u);
    else if (gguf_get_f64(g, key, &f)) printf("%.9g\n", f);
    else printf("?\n");
}

static void print_meta(const tensors *ts)
{
    const gguf *g = tensors_gguf(ts);
    printf("\n");
    for (uint64_t i = 0; g && i < g->n_kv; i++) {
        printf("%-40.*s ", SPAN_ARG(g->kv[i].key));
        print_value(g, &g->kv[i]);
    }
    const json_t *c = tensors_meta_params(ts) ? tensors_meta_params(ts) : tensors_config(ts);
    if (!g && c) {
        json_dumpf(c, stdout, JSON_INDENT(2));
        printf("\n");
    }
}

static int run(const command *c, int argc, char **argv)
{
    args a = { .batch = 1 };
    about x = { .a = &a };
    dr_err e = {0};
    buf path = { .cap_max = CACHE_PATH_MAX };
    cmd_parse(c, &a, argc, argv);
    int rc = model_resolve(argv[0], &path, &e);
    if (rc == DR_OK) rc = look(&x, buf_str(&path), &e);
    if (rc != DR_OK) {
        rc = cmd_fail(c, &e);
    } else {
        if (x.m) model_arg_warn(c, x.m);
        if (x.m && a.dev.verbose) model_arg_places(x.m);
        if (a.json) rc = cmd_json(c, to_json(&x));
        else print(&x);
        if (a.tensors && !a.json) print_tensors(x.ts);
        if (a.meta && !a.json) print_meta(x.ts);
        if (!a.json) rc = cmd_done(c);
        if (!x.m && !a.json) rc = cmd_fail(c, &x.why);       /* it was shown; it does not run */
        if (!x.m && a.json) rc = 1;
    }
    tok_free(x.tok);
    model_close(x.m);
    tensors_close(x.ts);
    buf_free(&path);
    return rc;
}

const command cmd_info = {
    .name = "info", .group = GROUP_FILES, .synopsis = "[options] MODEL",
    .summary = "what a model is, and the bytes that running it takes",
    .details =
        "Architecture, shape, tensor types, tokenizer and prompt format, as the file says; then the\n"
        "memory for a context and a batch, to the byte: what is mapped from the file, and what is\n"
        "private once the context is full. A model that does not run is shown as far as it can be\n"
        "read, and the status is 1.",
    .min_args = 1, .max_args = 1, .opts = opts, .run = run,
};
