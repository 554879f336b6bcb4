/* drover.c - the public functions of include/drover.h over the engine. Nothing is computed here. */
#include "drover.h"
#include <string.h>
#include "base/mem.h"
#include "gen/generate.h"
#include "text/chat.h"

struct dr_model {
    model *m;
    tokenizer *t;
    bool has_chat;
    chat_opt chat;
    chat_template *template;        /* what chat.template is, when the model's own is run */
    dr_err no_chat;                 /* why has_chat is false */
    bool used;                      /* a session was opened: its workspace knows the adapters */
};

struct dr_session {
    session *s;
    spec *spec;                     /* NULL: none */
    dr_model *m;
    vtrie *vocabulary;              /* the last constraint, kept for the next reply */
    grammar *grammar;
    matcher *constraint;
    int kind;
    char *text;
};

const char *dr_version(void) { return DR_VERSION; }
void dr_free(void *p) { mem_free(p); }

dr_model *dr_model_open(const char *path, const dr_model_opt *opt, dr_err *e)
{
    dev_opt o = {0};
    const char *numa = opt && opt->numa ? opt->numa : "off";
    if (opt)
        o = (dev_opt){ .device = opt->device, .n_threads = opt->n_threads,
                       .cpu_level = opt->cpu_level, .copy = opt->copy };
    if (opt && opt->beside) o.use = opt->beside->m->d;
    if (!strcmp(numa, "distribute")) o.numa = NUMA_DISTRIBUTE;
    else if (!strcmp(numa, "isolate")) o.numa = NUMA_ISOLATE;
    else if (strcmp(numa, "off")) {
        err_set(e, DR_EINVAL, "numa \"%.40s\"; off, distribute and isolate are known", numa);
        return NULL;
    }
    dr_model *m = mem_zalloc(1, sizeof *m);
    if (!m) {
        err_nomem(e, sizeof *m, "model");
        return NULL;
    }
    m->m = model_open(path, &o, e);
    const gguf *g = m->m ? tensors_gguf(m->m->ts) : NULL;
    if (m->m) m->t = g ? tok_from_gguf(g, e) : tok_open(path, e);
    if (!m->t) {
        dr_model_close(m);
        return NULL;
    }
    int rc = chat_detect(m->t, &m->chat.kind, &m->no_chat);
    if (!rc && m->chat.kind == CHAT_JINJA) {
        m->chat.template = m->template = chat_template_open(m->t, (span){ "", 0 }, &m->no_chat);
        if (!m->template) rc = m->no_chat.code;
    }
    m->has_chat = rc == DR_OK;
    return m;
}

void dr_model_close(dr_model *m)
{
    if (!m) return;
    chat_template_free(m->template);
    tok_free(m->t);
    model_close(m->m);
    mem_free(m);
}

int dr_model_lora(dr_model *m, const char *path, float scale, dr_err *e)
{
    if (m->used)
        return err_set(e, DR_EINVAL, "adapters are added before the model's first session");
    if (!(scale - scale == 0)) return err_set(e, DR_EINVAL, "an adapter's scale of %g", (double)scale);
    return model_add_lora(m->m, &(lora_ref){ path, scale }, e);
}

const char *dr_model_warnings(const dr_model *m) { return buf_str(&m->m->warnings); }
int dr_model_memory_now(const dr_model *m, dr_model_memory *out, dr_err *e)
{
    model_pages p;
    if (!model_pages_of(m->m, &p))
        return err_set(e, DR_EUNSUPPORTED, "the system does not say what is in memory");
    *out = (dr_model_memory){ p.mapped, p.cached, p.copied, p.copied ? p.copied_huge : p.cached_huge };
    return DR_OK;
}

int dr_model_vocab(const dr_model *m) { return m->m->h.V; }
int dr_model_context(const dr_model *m) { return m->m->h.n_ctx; }

static int hand_over(ids *v, int rc, int32_t **p, int *n, dr_err *e)
{
    if (!rc && v->n > INT32_MAX)
        rc = err_set(e, DR_EINVAL, "%lld tokens are too many", (long long)v->n);
    if (!rc && !v->p && !(v->p = mem_alloc(sizeof *v->p))) rc = err_nomem(e, 4, "token ids");
    if (rc) {
        ids_free(v);
        return rc;
    }
    *p = v->p, *n = (int)v->n;
    return DR_OK;
}

int dr_tokenize(const dr_model *m, const char *text, size_t n, int flags, int32_t **p, int *n_ids,
                dr_err *e)
{
    ids v = {0};
    int f = (flags & DR_BOS ? TOK_BOS : 0) | (flags & DR_SPECIAL ? TOK_SPECIAL : 0);
    int rc = tok_encode(m->t, (span){ text, n }, f, &v, e);
    return hand_over(&v, rc, p, n_ids, e);
}

int dr_detokenize(const dr_model *m, const int32_t *p, int n_ids, int flags, char **text,
                  size_t *n_text, dr_err *e)
{
    buf b;
    buf_init(&b, (size_t)1 << 32);
    buf_puts(&b, "");
    int rc = tok_decode(m->t, p, n_ids, flags & DR_SPECIAL, &b, e);
    if (!rc && b.bad) rc = err_nomem(e, b.n, "text");
    if (rc) {
        buf_free(&b);
        return rc;
    }
    *text = b.p;
    if (n_text) *n_text = b.n;
    return DR_OK;
}

int dr_chat_tokens(const dr_model *m, const dr_chat_message *msg, int n_msg, int32_t **p,
                   int *n_ids, dr_err *e)
{
    if (!m->has_chat) return err_set(e, m->no_chat.code, "%s", m->no_chat.msg);
    if (n_msg < 1 || n_msg > 1 << 20) return err_set(e, DR_EINVAL, "%d messages", n_msg);
    chat_msg *c = mem_zalloc((size_t)n_msg, sizeof *c);
    if (!c) return err_nomem(e, (size_t)n_msg * sizeof *c, "messages");
    for (int i = 0; i < n_msg; i++) c[i].role = msg[i].role, c[i].content = msg[i].content;
    ids v = {0};
    int rc = chat_encode(m->t, &m->chat, c, n_msg, &v, e);
    mem_free(c);
    return hand_over(&v, rc, p, n_ids, e);
}

/* What the options ask for. */
static int spec_of(const dr_model *m, const dr_session_opt *opt, spec_opt *o, dr_err *e)
{
    static const char *const name[] = { "none", "ngram", "draft" };     /* as spec_kind counts */
    const dr_model *d = opt ? opt->draft : NULL;
    *o = (spec_opt){ d ? SPEC_DRAFT : SPEC_NGRAM, opt ? opt->draft_max : 0, 0, d ? d->m : NULL };
    if (opt && opt->spec) {
        int k = 0;
        while (k < 3 && strcmp(opt->spec, name[k])) k++;
        if (k == 3)
            return err_set(e, DR_EINVAL, "speculation \"%.20s\"; none, ngram and draft are known",
                           opt->spec);
        o->kind = (spec_kind)k;
    }
    if (o->max < 0 || o->max > SPEC_MAX)
        return err_set(e, DR_EINVAL, "drafts of %d tokens; 1 to %d are possible", o->max, SPEC_MAX);
    if (o->kind != SPEC_DRAFT) return DR_OK;
    if (!d) return err_set(e, DR_EINVAL, "speculation \"draft\" wants a draft model");
    return spec_vocabulary(m->t, d->t, e);
}

dr_session *dr_session_new(dr_model *m, const dr_session_opt *opt, dr_err *e)
{
    session_opt o = {0};
    if (opt) o.n_ctx = opt->n_ctx;
    if (opt && opt->kv_type) {
        int t = kv_type_by_name(opt->kv_type);
        if (t < 0) {
            err_set(e, DR_EINVAL, "cache type \"%.20s\"; f16, bf16, f32, q8_0 and q4_0 are known",
                    opt->kv_type);
            return NULL;
        }
        o.kv = (kv_type)t, o.kv_set = true;
    }
    spec_opt ahead;
    if (spec_of(m, opt, &ahead, e)) return NULL;
    o.n_logits = spec_rows(&ahead);
    dr_session *s = mem_zalloc(1, sizeof *s);
    if (!s) {
        err_nomem(e, sizeof *s, "session");
        return NULL;
    }
    s->m = m;
    s->s = session_new(m->m, &o, e);
    m->used |= s->s != NULL;
    if (s->s && ahead.kind != SPEC_NONE) s->spec = spec_new(&ahead, m->m, session_ctx(s->s), e);
    if (s->s && (s->spec || ahead.kind == SPEC_NONE)) {
        if (ahead.kind == SPEC_DRAFT) opt->draft->used = true;
        return s;
    }
    session_free(s->s);
    mem_free(s);
    return NULL;
}

static void forget_constraint(dr_session *s)
{
    matcher_free(s->constraint);
    grammar_free(s->grammar);
    mem_free(s->text);
    s->constraint = NULL, s->grammar = NULL, s->text = NULL;
}

/* The matcher of what the options ask for; NULL with *e untouched: nothing. */
static int constraint_of(dr_session *s, const dr_gen_opt *o, matcher **out, dr_err *e)
{
    const char *text[] = { [GRAMMAR_GBNF] = o->grammar, [GRAMMAR_SCHEMA] = o->json_schema,
                           [GRAMMAR_REGEX] = o->regex };
    int kind = -1, n = 0;
    for (int k = 0; k < 3; k++)
        if (text[k]) kind = k, n++;
    *out = NULL;
    if (n == 0) return DR_OK;
    if (n > 1)
        return err_set(e, DR_EINVAL, "one of json_schema, grammar and regex is wanted, not %d", n);
    if (!s->text || s->kind != kind || strcmp(s->text, text[kind])) {
        dr_err own = {0};
        forget_constraint(s);
        if (!s->vocabulary) s->vocabulary = vtrie_new(s->m->t, &own);
        if (s->vocabulary)
            s->grammar = grammar_new((grammar_kind)kind, span_of(text[kind]), s->vocabulary, &own);
        if (s->grammar) s->constraint = matcher_new(s->grammar, &own);
        if (s->constraint && !(s->text = mem_strdup(text[kind])))
            err_nomem(&own, strlen(text[kind]), "the constraint");
        s->kind = kind;
        if (own.code) {
            forget_constraint(s);
            return err_set(e, own.code, "%s", own.msg);
        }
    }
    *out = s->constraint;
    return DR_OK;
}

void dr_session_free(dr_session *s)
{
    if (!s) return;
    forget_constraint(s);
    vtrie_free(s->vocabulary);
    spec_free(s->spec);
    session_free(s->s);
    mem_free(s);
}

int dr_session_length(const dr_session *s) { return session_len(s->s); }
const float *dr_session_logits(const dr_session *s) { return session_logits(s->s); }

int dr_session_sync(dr_session *s, const int32_t *tok, int n, dr_err *e)
{
    return session_sync(s->s, tok, n, NULL, NULL, e);
}

int dr_session_save(const dr_session *s, const char *path, dr_err *e)
{
    return session_save(s->s, path, e);
}

int dr_session_load(dr_session *s, const char *path, dr_err *e)
{
    return session_load(s->s, path, e);
}

static sample_opt model_sampling(const dr_model *m)
{
    sample_opt s = sample_opt_default();
    const json_t *g = tensors_generation(m->m->ts);
    if (g) sample_opt_generation_config(&s, g, NULL);
    return s;
}

dr_gen_opt dr_gen_default(const dr_model *m)
{
    sample_opt s = model_sampling(m);
    return (dr_gen_opt){ .temperature = s.temperature, .top_k = s.top_k, .top_p = s.top_p,
                         .min_p = s.min_p, .typical_p = s.typical_p,
                         .repeat_penalty = s.repeat_penalty, .seed = s.seed };
}

typedef struct { dr_piece_fn *fn; void *arg; const dr_model *m; } relay;

static int relay_piece(void *arg, const gen_piece *p)
{
    const relay *r = arg;
    return r->fn && p->text.n ? r->fn(r->arg, p->text.p, p->text.n) : 0;
}

static bool relay_stop(void *arg, int32_t id)
{
    const relay *r = arg;
    return r->m->has_chat && chat_is_stop(r->m->t, &r->m->chat, id);
}

int dr_generate(dr_session *s, const int32_t *tok, int n, const dr_gen_opt *opt, dr_piece_fn *fn,
                void *arg, dr_gen_stats *stats, dr_err *e)
{
    dr_gen_opt d = opt ? *opt : dr_gen_default(s->m);
    relay r = { fn, arg, s->m };
    gen_opt o = { .sample = model_sampling(s->m), .sample_index = d.sample,
                  .max_tokens = d.max_tokens, .stop = d.stop, .n_stop = d.n_stop,
                  .cancel = d.cancel, .spec = s->spec, .piece = relay_piece, .arg = &r,
                  .is_stop = relay_stop, .is_stop_arg = &r };
    o.sample.temperature = d.temperature;
    o.sample.top_k = d.top_k;
    o.sample.top_p = d.top_p, o.sample.min_p = d.min_p, o.sample.typical_p = d.typical_p;
    o.sample.repeat_penalty = d.repeat_penalty;
    o.sample.seed = d.seed;
    gen_result res;
    int rc = constraint_of(s, &d, &o.constraint, e);
    if (rc) return rc;
    rc = gen_run(s->s, s->m->t, tok, n, &o, &res, e);
    if (stats)
        *stats = (dr_gen_stats){ gen_finish_name(res.finish), res.n_prompt, res.n_reused, res.n_gen,
                                 res.prompt_s, res.gen_s, res.satisfied,
                                 res.n_drafted, res.n_accepted };
    gen_result_free(&res);
    return rc;
}

int dr_chat(dr_session *s, const dr_chat_message *msg, int n_msg, const dr_gen_opt *opt,
            dr_piece_fn *fn, void *arg, dr_gen_stats *stats, dr_err *e)
{
    int32_t *tok;
    int n, rc = dr_chat_tokens(s->m, msg, n_msg, &tok, &n, e);
    if (rc) return rc;
    rc = dr_generate(s, tok, n, opt, fn, arg, stats, e);
    dr_free(tok);
    return rc;
}
