/* cmd_run.c - drover run: answer a prompt, or chat in the terminal. */
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/os.h"
#include "cli/cache.h"
#include "cli/line.h"
#include "cli/model_arg.h"
#include "cli/sample_args.h"
#include "cli/talk.h"
#include "format/json.h"
#include "gen/beside.h"
#include "gen/generate.h"

typedef struct {
    dev_args dev;
    lora_args lora;
    sample_args sample;
    const char *system, *template, *template_file, *template_kwargs, *file;
    const char *grammar[3];      /* as grammar_kind counts */
    opt_list stop;
    int64_t ctx;
    int n, kv, full, samples;
    int spec, draft_max, draft_min;
    const char *draft;
    bool json, raw, special, ignore_eos, quiet, no_history;
} args;

enum { PROMPT_MAX = 256 << 20, TEMPLATE_MAX = 4 << 20, KWARGS_MAX = 16 << 20 };

static const opt opts[] = {
    { 'n', "tokens", OPT_INT, offsetof(args, n), "N", "end after N tokens; 0: no limit (0)",
      0, HP_MAX_CTX },
    { 'f', "file", OPT_STR, offsetof(args, file), "FILE", "the prompt is in FILE; - is stdin" },
    { 0, "system", OPT_STR, offsetof(args, system), "TEXT", "system prompt" },
    { 0, "raw", OPT_FLAG, offsetof(args, raw), NULL, "the prompt as it is, without chat format" },
    { 0, "special", OPT_FLAG, offsetof(args, special), NULL,
      "with --raw: control tokens written in the prompt count as such" },
    { 0, "template", OPT_STR, offsetof(args, template), "NAME",
      "chat format: llama3, llama3-meta, llama2, chatml, mistral, …; jinja: run the model's own "
      "template (the model's own)" },
    { 0, "chat-template", OPT_STR, offsetof(args, template), "NAME", "the same as --template",
      .hidden = true },
    { 0, "chat-template-file", OPT_STR, offsetof(args, template_file), "FILE",
      "run the chat template in FILE" },
    { 0, "template-kwargs", OPT_STR, offsetof(args, template_kwargs), "JSON",
      "variables for the template: {\"enable_thinking\": false}" },
    { 0, "stop", OPT_LIST, offsetof(args, stop), "TEXT",
      "the reply ends before TEXT; may be given again" },
    { 0, "json-schema", OPT_STR, offsetof(args, grammar[GRAMMAR_SCHEMA]), "FILE",
      "the reply is JSON of the schema in FILE, or that FILE itself is" },
    { 0, "grammar", OPT_STR, offsetof(args, grammar[GRAMMAR_GBNF]), "FILE",
      "the reply is a text of the grammar (GBNF) in FILE, or that FILE is" },
    { 0, "regex", OPT_STR, offsetof(args, grammar[GRAMMAR_REGEX]), "REGEX",
      "the whole reply matches this regular expression" },
    { 'c', "ctx", OPT_INT64, offsetof(args, ctx), "N",
      "positions of context (the model's, at most 8192)", 1, HP_MAX_CTX },
    { 0, "context-full", OPT_CHOICE, offsetof(args, full), "stop|shift",
      "stop, or drop the oldest part, say so and go on (stop)" },
    { 0, "kv-type", OPT_CHOICE, offsetof(args, kv), KV_CHOICES, "cache type (f16)" },
    { 0, "spec", OPT_CHOICE, offsetof(args, spec), "auto|none|ngram|draft",
      "evaluate guesses of the next tokens ahead, from the text so far or from --draft; the reply "
      "is the same (auto)" },
    { 0, "draft", OPT_STR, offsetof(args, draft), "MODEL",
      "a smaller model of the same vocabulary that guesses" },
    { 0, "model-draft", OPT_STR, offsetof(args, draft), "MODEL", "the same as --draft",
      .hidden = true },
    { 0, "draft-max", OPT_INT, offsetof(args, draft_max), "N", "at most N guesses at a time (15)",
      1, SPEC_MAX },
    { 0, "draft-min", OPT_INT, offsetof(args, draft_min), "N",
      "at least N where any can be made; 0: what pays (0)", 0, SPEC_MAX },
    { 0, "samples", OPT_INT, offsetof(args, samples), "N", "N replies to the prompt (1)", 1, 4096 },
    { 0, "ignore-eos", OPT_FLAG, offsetof(args, ignore_eos), NULL, "go on where the model ends" },
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
    { 'q', "quiet", OPT_FLAG, offsetof(args, quiet), NULL, "no line about speed" },
    { 0, "no-history", OPT_FLAG, offsetof(args, no_history), NULL, "keep no history of the chat" },
    { .kind = OPT_SUB, .at = offsetof(args, lora), .sub = lora_opts },
    { .kind = OPT_SUB, .at = offsetof(args, dev), .sub = dev_opts },
    { .kind = OPT_SUB, .at = offsetof(args, sample), .sub = sample_opts },
    OPT_END
};

typedef struct {
    const command *c;
    args *a;
    model *m;
    tokenizer *tok;
    session *s;
    model *draft_model;
    spec *spec;                  /* NULL: none */
    vtrie *vocabulary;           /* these three with a constraint only */
    grammar *grammar;
    matcher *constraint;
    chat_opt chat;
    chat_template *template;
    json_t *kwargs;
    bool has_chat;
    dr_err chat_why;             /* why not */
    char *kept[256];             /* strings that /set gave, borrowed by the options */
    int n_kept;
} runner;

static void runner_free(runner *r)
{
    spec_free(r->spec);
    model_close(r->draft_model);
    session_free(r->s);
    matcher_free(r->constraint);
    grammar_free(r->grammar);
    vtrie_free(r->vocabulary);
    chat_template_free(r->template);
    json_decref(r->kwargs);
    tok_free(r->tok);
    model_close(r->m);
    for (int i = 0; i < r->n_kept; i++) mem_free(r->kept[i]);
}

/* The template that is to be run, and its variables. */
static int runner_template(runner *r, dr_err *e)
{
    buf text = { .cap_max = TEMPLATE_MAX };
    const char *k = r->a->template_kwargs;
    int rc = DR_OK;
    if (k && !(r->kwargs = json_read(k, strlen(k), KWARGS_MAX, "--template-kwargs", e))) rc = e->code;
    if (rc == DR_OK && k && !json_is_object(r->kwargs))
        rc = err_set(e, DR_EINVAL, "--template-kwargs wants a JSON object");
    if (rc == DR_OK && r->a->template_file) rc = os_read(&text, r->a->template_file, e);
    if (rc == DR_OK && r->a->template_file && !text.n)
        rc = err_set(e, DR_EFORMAT, "%s is empty", r->a->template_file);
    if (rc == DR_OK && !(r->template = chat_template_open(r->tok, buf_span(&text), e))) rc = e->code;
    if (rc != DR_OK && r->a->template_file) err_wrap(e, rc, "%s", r->a->template_file);
    r->chat.template = r->template, r->chat.kwargs = r->kwargs;
    buf_free(&text);
    return rc;
}

static int runner_open(runner *r, const char *arg, dr_err *e)
{
    r->m = model_arg_open(r->c, arg, &r->a->dev, e);
    if (!r->m) return e->code;
    int bad = lora_args_apply(&r->a->lora, r->m, e);
    if (bad) return bad;
    r->tok = beside_tokenizer(r->m, e);
    if (!r->tok) return e->code;
    bool run = r->a->template_file || r->a->template_kwargs;
    if (run && r->a->template && strcmp(r->a->template, chat_name(CHAT_JINJA)))
        return err_set(e, DR_EINVAL, "--template %s is a format of drover's own: --chat-template-file "
                       "and --template-kwargs have no place in it", r->a->template);
    int rc = run         ? (r->chat.kind = CHAT_JINJA, DR_OK)
           : r->a->template ? chat_by_name(r->a->template, &r->chat.kind, &r->chat_why)
                            : chat_detect(r->tok, &r->chat.kind, &r->chat_why);
    if (rc == DR_OK && r->chat.kind == CHAT_JINJA) rc = runner_template(r, &r->chat_why);
    r->has_chat = rc == DR_OK;
    if (!r->has_chat && (run || r->a->template)) return err_set(e, rc, "%s", r->chat_why.msg);
    return DR_OK;
}

/* The constraint that was asked for: a schema or grammar is the file of that name, or the text. */
static int runner_constraint(runner *r, dr_err *e)
{
    int kind = -1, n = 0;
    for (int k = 0; k < 3; k++)
        if (r->a->grammar[k]) kind = k, n++;
    if (n == 0) return DR_OK;
    if (n > 1)
        return err_set(e, DR_EINVAL, "one of --json-schema, --grammar and --regex is wanted, not %d",
                       n);
    const char *given = r->a->grammar[kind];
    buf text = { .cap_max = PROMPT_MAX };
    int rc = DR_OK;
    if (kind != GRAMMAR_REGEX && os_exists(given)) rc = os_read(&text, given, e);
    else buf_puts(&text, given);
    if (rc == DR_OK) r->vocabulary = vtrie_new(r->tok, e);
    dr_err own = {0};
    if (r->vocabulary) r->grammar = grammar_new((grammar_kind)kind, buf_span(&text), r->vocabulary, &own);
    if (r->grammar) r->constraint = matcher_new(r->grammar, &own);
    if (own.code == DR_EFORMAT && kind != GRAMMAR_REGEX && !strpbrk(given, "{\n:") && !os_exists(given))
        err_set(e, own.code, "%.400s (and there is no file %.60s)", own.msg, given);
    else if (own.code) err_set(e, own.code, "%s", own.msg);
    buf_free(&text);
    return r->constraint ? DR_OK : rc ? rc : own.code ? own.code : DR_ENOMEM;
}

/* What guesses: auto is the draft model when there is one, else the text so far. */
static int runner_spec(const runner *r, spec_opt *o, dr_err *e)
{
    const args *a = r->a;
    static const spec_kind kind[] = { SPEC_NGRAM, SPEC_NONE, SPEC_NGRAM, SPEC_DRAFT };
    *o = (spec_opt){ kind[a->spec], a->draft_max, a->draft_min, NULL };
    if (a->spec == 0 && a->draft) o->kind = SPEC_DRAFT;
    if (o->kind == SPEC_DRAFT && !a->draft)
        return err_set(e, DR_EINVAL, "--spec draft wants a draft model: --draft MODEL");
    if (o->kind == SPEC_NGRAM && a->draft)
        return err_set(e, DR_EINVAL, "--draft gives a draft model and --spec ngram uses none");
    return DR_OK;
}

static int runner_session(runner *r, dr_err *e)
{
    spec_opt ahead;
    int rc = runner_spec(r, &ahead, e);
    if (rc) return rc;
    session_opt o = { .n_ctx = (int)r->a->ctx, .n_logits = spec_rows(&ahead), .kv_set = true,
                      .kv = kv_choice(r->a->kv) };
    if (r->a->ctx > r->m->h.n_ctx)
        cmd_warn(r->c, "the model was trained for %d positions, %lld are asked for", r->m->h.n_ctx,
                 (long long)r->a->ctx);
    r->s = session_new(r->m, &o, e);
    if (r->s && ahead.kind == SPEC_DRAFT) {
        ahead.draft = r->draft_model = model_arg_open_beside(r->c, r->a->draft, r->m, e);
        tokenizer *t = r->draft_model ? beside_tokenizer(r->draft_model, e) : NULL;
        rc = t ? spec_vocabulary(r->tok, t, e) : e->code;
        tok_free(t);
        if (rc) return err_wrap(e, rc, "--draft %s", r->a->draft);
    }
    if (r->s && ahead.kind != SPEC_NONE) r->spec = spec_new(&ahead, r->m, session_ctx(r->s), e);
    return r->s && (r->spec || ahead.kind == SPEC_NONE) ? DR_OK : e->code;
}

static bool format_stop(void *arg, int32_t id)
{
    runner *r = arg;
    return chat_is_stop(r->tok, &r->chat, id);
}

static void on_shift(void *arg, int n)
{
    runner *r = arg;
    fprintf(stderr, "\n[the context is full: the oldest %d tokens are dropped]\n", n);
    (void)r;
}

static void gen_options(runner *r, const sample_set *set, gen_opt *o)
{
    *o = (gen_opt){
        .sample = set->opt, .max_tokens = r->a->n, .stop = r->a->stop.v, .n_stop = r->a->stop.n,
        .ignore_eos = r->a->ignore_eos, .shift = r->a->full == 1, .cancel = &interrupted,
        .shifted = on_shift, .arg = r, .constraint = r->constraint, .spec = r->spec,
    };
    if (r->has_chat && !r->a->raw) o->is_stop = format_stop, o->is_stop_arg = r;
}

/* ---- one prompt */

static int encode(runner *r, const char *prompt, size_t n, ids *out, dr_err *e)
{
    chat_msg m[2];
    int k = 0;
    if (r->a->raw)
        return tok_encode(r->tok, (span){ prompt, n }, TOK_BOS | (r->a->special ? TOK_SPECIAL : 0),
                          out, e);
    if (!r->has_chat)
        return err_set(e, DR_EUNSUPPORTED, "%s; --raw continues a text, --template NAME chooses a "
                       "format", r->chat_why.msg);
    if (r->a->system) m[k++] = (chat_msg){ .role = "system", .content = r->a->system };
    m[k++] = (chat_msg){ .role = "user", .content = prompt };
    return chat_encode(r->tok, &r->chat, m, k, out, e);
}

typedef struct { runner *r; json_t *probs; bool print, clean; } sink;

static json_t *prob_json(const tokenizer *t, int32_t id, float p)
{
    span s = id >= 0 && id < tok_count(t) ? tok_text(t, id) : (span){ "", 0 };
    return json_pack("{s:i, s:o, s:f}", "id", (int)id, "token", cmd_json_text(s.p, s.n), "logprob",
                     (double)p);
}

static int on_piece(void *arg, const gen_piece *p)
{
    sink *k = arg;
    if (k->print && p->text.n) {
        if (k->clean) talk_clean(stdout, p->text);
        else fwrite(p->text.p, 1, p->text.n, stdout);
        if (fflush(stdout)) return 1;
    }
    if (k->probs && p->pick) {
        json_t *one = prob_json(k->r->tok, p->id, p->pick->logprob);
        if (p->pick->n_top) {
            json_t *top = json_array();
            for (int i = 0; i < p->pick->n_top; i++)
                json_array_append_new(top, prob_json(k->r->tok, p->pick->top[i].id,
                                                     p->pick->top[i].logprob));
            json_object_set_new(one, "top", top);
        }
        json_array_append_new(k->probs, one);
    }
    return 0;
}

static void shift_said(void *arg, int n) { on_shift(((sink *)arg)->r, n); }

/* One reply as JSON; NULL: no memory. */
static json_t *reply_json(const gen_result *g, json_t *probs, bool constrained)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < g->tokens.n; i++)
        json_array_append_new(list, json_integer(g->tokens.p[i]));
    json_t *o = json_pack("{s:o, s:o, s:s}", "text", cmd_json_text(g->text.p, g->text.n), "ids",
                          list, "finish", gen_finish_name(g->finish));
    if (o && probs) json_object_set(o, "logprobs", probs);
    if (o && constrained) {
        json_object_set_new(o, "constraint", json_string(g->satisfied ? "satisfied" : "cut"));
        json_object_set_new(o, "forced", json_integer(g->n_forced));
    }
    return o;
}

static int add_figures(json_t *o, const runner *r, const gen_result *g, uint64_t seed)
{
    int fresh = g->n_prompt - g->n_reused;
    json_t *more = json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:I, s:i}",
        "prompt_tokens", g->n_prompt, "tokens", g->n_gen, "prompt_s", g->prompt_s, "reply_s",
        g->gen_s, "prompt_tok_s", g->prompt_s > 0 ? fresh / g->prompt_s : 0.0, "reply_tok_s",
        g->gen_s > 0 ? g->n_gen / g->gen_s : 0.0, "seed", (json_int_t)seed, "ctx",
        session_ctx(r->s));
    int rc = more ? json_object_update(o, more) : -1;
    if (r->spec) {
        json_object_set_new(o, "drafted", json_integer(g->n_drafted));
        json_object_set_new(o, "accepted", json_integer(g->n_accepted));
    }
    if (g->n_shifts) json_object_set_new(o, "shifts", json_integer(g->n_shifts));
    json_decref(more);
    return rc;
}

/* Sample number i. *doc (with --json) gets the reply: the first is the object, all of several
 * are in its "samples". */
static int reply(runner *r, const ids *prompt, const sample_set *set, int i, json_t **doc,
                 dr_err *e)
{
    gen_result g = {0};
    gen_opt o;
    sink k = { r, r->a->json && set->opt.logprobs ? json_array() : NULL, !r->a->json, isatty(1) };
    gen_options(r, set, &o);
    o.sample_index = (uint64_t)i, o.piece = on_piece, o.shifted = shift_said, o.arg = &k;
    int rc = gen_run(r->s, r->tok, prompt->p, (int)prompt->n, &o, &g, e);
    bool stopped = rc == DR_ECANCEL;
    if (stopped) rc = DR_OK, g.finish = GEN_CANCEL, *e = (dr_err){0};
    if (rc == DR_OK && r->a->json) {
        json_t *one = reply_json(&g, k.probs, r->constraint != NULL);
        if (one && i == 0) {
            *doc = json_copy(one);
            if (*doc && add_figures(*doc, r, &g, set->opt.seed)) json_decref(*doc), *doc = NULL;
            if (*doc && r->a->samples > 1) json_object_set_new(*doc, "samples", json_array());
        }
        if (*doc && r->a->samples > 1)
            json_array_append(json_object_get(*doc, "samples"), one);
        if (!one || !*doc) rc = err_nomem(e, g.text.n, "the JSON answer");
        json_decref(one);
    } else if (rc == DR_OK) {
        if (!g.text.n || g.text.p[g.text.n - 1] != '\n') putchar('\n');
        talk_stats st = { gen_finish_name(g.finish), g.n_prompt, g.n_reused, g.n_gen, g.prompt_s,
                          g.gen_s, g.n_drafted, g.n_accepted };
        fflush(stdout);
        if (!r->a->quiet) talk_speed(stderr, &st);
    }
    json_decref(k.probs);
    gen_result_free(&g);
    return rc;
}

static int one_shot(runner *r, const char *prompt, size_t n, dr_err *e)
{
    ids v = {0};
    sample_set set = {0};
    json_t *doc = NULL;
    int rc = encode(r, prompt, n, &v, e);
    if (rc == DR_OK && v.n == 0) rc = err_set(e, DR_EINVAL, "the prompt is empty");
    if (rc == DR_OK) rc = sample_args_apply(&r->a->sample, r->tok, r->m->h.V, &set, e);
    if (rc == DR_OK) rc = runner_session(r, e);
    if (rc == DR_OK && v.n > session_ctx(r->s))
        rc = err_set(e, DR_EINVAL, "the prompt has %lld tokens, the context %d positions: --ctx %lld "
                     "or more is wanted", (long long)v.n, session_ctx(r->s), (long long)v.n + 256);
    interrupt_catch();
    for (int i = 0; rc == DR_OK && i < r->a->samples && !interrupted; i++) {
        if (i && !r->a->json) printf("\n");
        rc = reply(r, &v, &set, i, &doc, e);
    }
    int status = rc == DR_OK ? 0 : cmd_fail(r->c, e);
    if (rc == DR_OK && r->a->json) status = cmd_json(r->c, doc), doc = NULL;
    else if (rc == DR_OK) status = cmd_done(r->c);
    if (status == 0 && interrupted) status = 1;
    json_decref(doc);
    sample_set_free(&set);
    ids_free(&v);
    return status;
}

/* ---- chat */

typedef struct { void (*piece)(void *to, span text); void *to; } stream;

static int stream_piece(void *arg, const gen_piece *p)
{
    stream *s = arg;
    s->piece(s->to, p->text);
    return 0;
}

/* Tokens before the first user text: what a shift of the context keeps. */
static int front(const runner *r, const chat_msg *m)
{
    ids a = {0}, b = {0};
    int n = 0, k = 0;
    chat_msg x[2];
    if (!strcmp(m[0].role, "system")) x[n++] = m[0];
    x[n++] = (chat_msg){ .role = "user", .content = "a" };
    if (chat_encode(r->tok, &r->chat, x, n, &a, NULL) == DR_OK) {
        x[n - 1].content = "b";
        if (chat_encode(r->tok, &r->chat, x, n, &b, NULL) == DR_OK)
            while (k < a.n && k < b.n && a.p[k] == b.p[k]) k++;
    }
    ids_free(&a);
    ids_free(&b);
    return k;
}

/* The prompt's ids; with shift, without the oldest exchanges when they do not fit. */
static int encode_chat(runner *r, const chat_msg *m, int n, ids *out, dr_err *e)
{
    int sys = !strcmp(m[0].role, "system"), first = sys, room = session_ctx(r->s);
    chat_msg *x = mem_alloc((size_t)n * sizeof *x);
    if (!x) return err_nomem(e, (size_t)n * sizeof *x, "the conversation");
    int rc;
    for (;;) {
        int k = 0;
        if (sys) x[k++] = m[0];
        for (int i = first; i < n; i++) x[k++] = m[i];
        out->n = 0;
        rc = chat_encode(r->tok, &r->chat, x, k, out, e);
        if (rc != DR_OK || out->n <= room) break;
        int next = first + 1;                     /* an exchange starts with a user's turn */
        while (next < n && strcmp(m[next].role, "user")) next++;
        if (r->a->full != 1 || next >= n) {
            rc = err_set(e, DR_EINVAL, "the conversation has %lld tokens, the context %d positions",
                         (long long)out->n, room);
            break;
        }
        first = next;
        room = session_ctx(r->s) * 3 / 4;         /* then leave room for an answer as well */
    }
    if (rc == DR_OK && first > sys)
        fprintf(stderr, "[the oldest %d messages no longer fit: the model does not see them]\n",
                first - sys);
    mem_free(x);
    return rc;
}

static int chat_reply(void *arg, const chat_msg *m, int n, int attempt,
                      void (*piece)(void *, span), void *to, talk_stats *st, dr_err *e)
{
    runner *r = arg;
    ids v = {0};
    sample_set set = {0};
    gen_result g = {0};
    gen_opt o;
    stream k = { piece, to };
    interrupt_reset();
    int rc = encode_chat(r, m, n, &v, e);
    if (rc == DR_OK) rc = sample_args_apply(&r->a->sample, r->tok, r->m->h.V, &set, e);
    if (rc == DR_OK) {
        gen_options(r, &set, &o);
        o.sample_index = (uint64_t)attempt, o.piece = stream_piece, o.arg = &k;
        o.keep = o.shift ? front(r, m) : 0;
        rc = gen_run(r->s, r->tok, v.p, (int)v.n, &o, &g, e);
        if (rc == DR_ECANCEL) rc = DR_OK, g.finish = GEN_CANCEL;
        *st = (talk_stats){ gen_finish_name(g.finish), g.n_prompt, g.n_reused, g.n_gen,
                            g.prompt_s, g.gen_s, g.n_drafted, g.n_accepted };
    }
    interrupt_reset();
    gen_result_free(&g);
    sample_set_free(&set);
    ids_free(&v);
    return rc;
}

static int chat_set(void *arg, const char *name, const char *value, dr_err *e)
{
    runner *r = arg;
    sample_args a = r->a->sample;
    sample_set set;
    if (r->n_kept == (int)(sizeof r->kept / sizeof *r->kept))
        return err_set(e, DR_EINVAL, "too many changes");
    char *copy = mem_strdup(value);
    if (!copy) return err_nomem(e, strlen(value), "a setting");
    r->kept[r->n_kept++] = copy;
    int rc = opt_set(sample_opts, &a, name, copy, e);
    if (rc == DR_OK) rc = sample_args_apply(&a, r->tok, r->m->h.V, &set, e);
    if (rc != DR_OK) return rc;
    sample_set_free(&set);
    r->a->sample = a;
    return DR_OK;
}

static void chat_show(void *arg, FILE *f)
{
    runner *r = arg;
    fprintf(f, "sampling: ");
    sample_args_print(f, &r->a->sample);
    fprintf(f, "context: %d of %d positions\n", session_len(r->s), session_ctx(r->s));
}

static int chat(runner *r, dr_err *e)
{
    talk t;
    talk_model tm = { r, chat_reply, chat_set, chat_show };
    buf text = { .cap_max = PROMPT_MAX }, path = { .cap_max = CACHE_PATH_MAX };
    if (!r->has_chat)
        return err_set(e, DR_EUNSUPPORTED, "%s; --template NAME chooses a format",
                       r->chat_why.msg);
    int rc = runner_session(r, e);
    if (rc != DR_OK) return rc;
    if (!r->a->no_history) line_history_path(&path);
    line_editor *l = line_open(path.n ? buf_str(&path) : NULL, e);
    talk_init(&t, &tm, stdout, stderr);
    t.plain = isatty(1), t.quiet = r->a->quiet;
    rc = l ? talk_system(&t, r->a->system, e) : e->code;
    interrupt_catch();
    if (rc == DR_OK)
        fprintf(stderr, "%s, %d positions of context. /help lists commands, Ctrl-D ends.\n",
                chat_name(r->chat.kind), session_ctx(r->s));
    for (bool twice = false, on = rc == DR_OK; on;) {
        line_event ev = line_read(l, &text);
        if (ev == LINE_END) break;
        if (ev == LINE_INTERRUPT) {
            if (twice) break;
            fprintf(stderr, "[Ctrl-C again or Ctrl-D ends]\n");
            twice = true;
            continue;
        }
        twice = false;
        on = talk_text(&t, buf_str(&text));
    }
    talk_free(&t);
    line_close(l);
    buf_free(&text);
    buf_free(&path);
    return rc;
}

/* ---- the command */

/* The prompt from the command line, a file or stdin; *chat when there is none. */
static int get_prompt(const args *a, int argc, char **argv, buf *b, bool *is_chat, dr_err *e)
{
    *is_chat = false;
    const char *from = a->file ? a->file : argc > 1 && !strcmp(argv[1], "-") ? "-" : NULL;
    if (!from && argc > 1) {
        buf_puts(b, argv[1]);
        return DR_OK;
    }
    if (!from && isatty(0) && !a->json) {
        *is_chat = true;
        return DR_OK;
    }
    int rc = os_read(b, from ? from : "-", e);
    /* a file's last newline is its own, not the prompt's */
    if (rc == DR_OK && !a->raw && b->n && b->p[b->n - 1] == '\n') b->p[--b->n] = 0;
    if (rc == DR_OK && !a->raw && b->n && memchr(b->p, 0, b->n))
        rc = err_set(e, DR_EINVAL, "the prompt holds a zero byte: it is not text");
    return rc;
}

/* The command line over the model's own values: those first, then the options again. */
static int layer(runner *r, int argc, char **argv, dr_err *e)
{
    bool help;
    int left;
    sample_args own;
    int rc = sample_args_default(&own, r->m->ts, e);
    if (rc != DR_OK) return err_wrap(e, rc, "the model's generation configuration");
    *r->a = (args){ .samples = 1, .sample = own };
    return opt_read(opts, r->a, argc, argv, &left, &help, e);
}

static int run(const command *c, int argc, char **argv)
{
    args a = { .samples = 1, .sample = { .seed = -1 } };
    runner r = { .c = c, .a = &a };
    dr_err e = {0};
    buf prompt = { .cap_max = PROMPT_MAX };
    bool is_chat;
    char **again = mem_alloc(((size_t)argc + 1) * sizeof *again);
    if (!again) return err_nomem(&e, (size_t)argc * sizeof *again, "the options"), cmd_fail(c, &e);
    memcpy(again, argv, (size_t)argc * sizeof *again);
    int n_words = argc;
    argc = cmd_parse(c, &a, argc, argv);
    int rc = get_prompt(&a, argc, argv, &prompt, &is_chat, &e);
    if (rc == DR_OK && a.file && argc > 1)
        rc = err_set(&e, DR_EINVAL, "a PROMPT and --file were given: one of them is wanted");
    if (rc == DR_OK && a.raw && is_chat)
        rc = err_set(&e, DR_EINVAL, "--raw wants a PROMPT: a chat needs the chat format");
    if (rc == DR_OK) rc = runner_open(&r, argv[0], &e);
    if (rc == DR_OK) rc = layer(&r, n_words, again, &e);
    if (rc == DR_OK) rc = runner_constraint(&r, &e);
    int status;
    if (rc == DR_OK && !is_chat) status = one_shot(&r, buf_str(&prompt), prompt.n, &e);
    else if (rc == DR_OK && chat(&r, &e) == DR_OK) status = cmd_done(c);
    else status = cmd_fail(c, &e);
    runner_free(&r);
    mem_free(again);
    buf_free(&prompt);
    return status;
}

const command cmd_run = {
    .name = "run", .group = GROUP_RUN, .synopsis = "[options] MODEL [PROMPT]",
    .summary = "answer a prompt, or chat in the terminal",
    .details =
        "With a PROMPT, or text on stdin, the reply goes to stdout and a line about speed to\n"
        "stderr. Without, in a terminal, it is a chat: /help lists its commands, Ctrl-C stops an\n"
        "answer and not the program, Ctrl-D ends.\n"
        "\n"
        "--json-schema, --grammar and --regex constrain the reply: docs/constrained.md says what\n"
        "they understand. The tokens are those that the model would pick among the allowed ones;\n"
        "near the limit of --tokens or --ctx the text is closed in time, and what cannot fit is\n"
        "refused. A constraint does not tell the model what is wanted: the prompt should.\n"
        "\n"
        "The sampling options start from the model's generation_config.json when it has one;\n"
        "what they are called here is also what /set knows in a chat.",
    .min_args = 1, .max_args = 2, .opts = opts, .run = run,
};
