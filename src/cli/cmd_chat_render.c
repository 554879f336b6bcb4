/* cmd_chat_render.c - drover chat-render: what a chat template makes of a conversation. */
#include <stdio.h>
#include <string.h>
#include "base/os.h"
#include "cli/cache.h"
#include "cli/cmd.h"
#include "text/chat.h"
#include "text/jinja.h"
#include "text/jwalk.h"
#include "text/tokenizer.h"

enum { INPUT_MAX = 256 << 20, VARS = 64, NAME_LEN = 64 };

typedef struct { const char *file, *input; int64_t now; bool json, openai, ids; } args;

static const opt opts[] = {
    { 'f', "template-file", OPT_STR, offsetof(args, file), "F", "the template is in F" },
    { 'i', "json-input", OPT_STR, offsetof(args, input), "F",
      "the template's variables, an object (messages, tools, add_generation_prompt, …), or a list "
      "of such; without it, standard input" },
    { 0, "openai", OPT_FLAG, offsetof(args, openai), NULL,
      "arguments of tool calls that are JSON text become objects, as in a chat" },
    { 0, "now", OPT_INT64, offsetof(args, now), "N", "the time for strftime_now, seconds since 1970",
      0, 253402300799.0 },
    { 0, "ids", OPT_FLAG, offsetof(args, ids), NULL,
      "the token ids that a chat would have, with MODEL; with --json, beside the text" },
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL,
      "text, and the byte ranges of it that came in with variables; of a list, a list" },
    OPT_END
};

typedef struct {
    const args *a;
    const jinja *t;
    const tokenizer *tok;         /* NULL: none */
    json_t *all;                  /* --json with a list */
} work;

/* [[from, to], …]: bytes that came in with variables. */
static json_t *ranges(const buf *mark)
{
    json_t *list = json_array();
    for (size_t i = 0, to; i < mark->n; i = to) {
        for (to = i + 1; to < mark->n && mark->p[to] == mark->p[i]; to++) {}
        if (mark->p[i])
            json_array_append_new(list, json_pack("[I, I]", (json_int_t)i, (json_int_t)to));
    }
    return list;
}

/* bos_token and eos_token are the program's words, also when they come in as JSON. */
static int own_token(jinja_var *v, buf *text, dr_err *e)
{
    jw at;
    if (strcmp(v->name, "bos_token") && strcmp(v->name, "eos_token")) return DR_OK;
    if (!v->text.n || *v->text.p != '"') return DR_OK;
    if (text->p) return err_set(e, DR_EINVAL, "%s is given twice", v->name);
    jw_init(&at, v->text, e);
    text->cap_max = v->text.n + 1;
    int rc = jw_string(&at, text);
    v->kind = JINJA_OWN, v->text = text->n ? buf_span(text) : span_of("");
    return rc;
}

/* One conversation: the members of the object are the variables. */
static int render(work *w, span object, jinja_out *out, dr_err *e)
{
    jinja_var v[VARS];
    char names[VARS][NAME_LEN];
    int n = 0, rc, more;
    buf key = { .cap_max = object.n + 1 }, token[2] = { 0 };
    size_t count = 0;
    jw at;
    for (int i = 0; w->tok && i < 2; i++) {
        int32_t id = i ? tok_eos(w->tok) : tok_bos(w->tok);
        v[n++] = (jinja_var){ i ? "eos_token" : "bos_token", JINJA_OWN, NULL,
                              id >= 0 ? tok_text(w->tok, id) : span_of(""), false, false };
    }
    jw_init(&at, object, e);
    rc = jw_open(&at, '{');
    while (!rc && (more = jw_next(&at, '}', &key, &count)) != 0) {
        span raw;
        rc = more < 0 ? more : jw_skip(&at, &raw);
        if (rc) break;
        if (n == VARS || key.n >= NAME_LEN)
            rc = err_set(e, DR_EINVAL, "more than %d variables, or a name of %d characters", VARS,
                         NAME_LEN);
        else {
            bool messages = span_is(buf_span(&key), "messages");
            snprintf(names[n], sizeof names[n], "%s", buf_str(&key));
            v[n] = (jinja_var){ names[n], JINJA_JSON, NULL, raw, messages,
                                messages && w->a->openai };
            rc = own_token(&v[n], &token[!strcmp(names[n], "eos_token")], e);
            n++;
        }
    }
    jinja_opt o = { .now = w->a->now };
    if (!rc) rc = jinja_render(w->t, v, n, &o, out, e);
    buf_free(&key);
    buf_free(&token[0]);
    buf_free(&token[1]);
    return rc;
}

static int encode(const work *w, const jinja_out *out, ids *v, dr_err *e)
{
    return chat_encode_marked(w->tok, buf_span(&out->text), (const uint8_t *)out->mark.p, v, e);
}

static json_t *answer(const work *w, int rc, const jinja_out *out, dr_err *e)
{
    ids v = { 0 };
    if (!rc && w->a->ids) rc = encode(w, out, &v, e);
    if (rc) return json_pack("{s:s, s:i}", "error", e->msg, "code", rc);
    json_t *o = json_pack("{s:o, s:o}", "text", cmd_json_text(out->text.p, out->text.n), "input",
                          ranges(&out->mark));
    json_t *list = o && w->a->ids ? json_array() : NULL;
    for (int64_t i = 0; list && i < v.n; i++) json_array_append_new(list, json_integer(v.p[i]));
    if (list) json_object_set_new(o, "ids", list);
    ids_free(&v);
    return o;
}

static int print_ids(const work *w, const jinja_out *out, dr_err *e)
{
    ids v = { 0 };
    int rc = encode(w, out, &v, e);
    for (int64_t i = 0; !rc && i < v.n; i++) printf(i ? " %d" : "%d", v.p[i]);
    if (!rc) putchar('\n');
    ids_free(&v);
    return rc;
}

static int list(work *w, jw *at)
{
    size_t count = 0;
    int rc = jw_open(at, '['), more;
    w->all = json_array();
    while (!rc && (more = jw_next(at, ']', NULL, &count)) != 0) {
        span raw;
        jinja_out out = {0};
        dr_err why = {0};
        rc = more < 0 ? more : jw_skip(at, &raw);
        if (rc) break;
        int how = render(w, raw, &out, &why);
        json_array_append_new(w->all, answer(w, how, &out, &why));
        jinja_out_free(&out);
    }
    return rc;
}

static int run(const command *c, int argc, char **argv)
{
    args a = {0};
    dr_err e = {0};
    int n = cmd_parse(c, &a, argc, argv), status = 0;
    buf path = { .cap_max = CACHE_PATH_MAX }, text = { .cap_max = INPUT_MAX };
    buf input = { .cap_max = INPUT_MAX };
    work w = { .a = &a };
    tokenizer *tok = NULL;
    jinja *t = NULL;
    jinja_out out = {0};
    jw at;
    if (!n && !a.file) return cmd_misuse(c, "a MODEL or --template-file is wanted");
    if (!n && a.ids) return cmd_misuse(c, "--ids wants a MODEL");
    int rc = n ? model_resolve(argv[0], &path, &e) : 0;
    if (!rc && n && !(tok = tok_open(buf_str(&path), &e))) rc = e.code;
    if (!rc && a.file) rc = os_read(&text, a.file, &e);
    span s = a.file ? buf_span(&text) : !rc ? tok_chat_template(tok) : span_of("");
    if (!rc && !a.file && !s.n) rc = err_set(&e, DR_EUNSUPPORTED, "this model has no chat template");
    if (!rc && !(t = jinja_parse(s, &e))) rc = e.code;
    if (!rc) rc = os_read(&input, a.input ? a.input : "-", &e);
    w.t = t, w.tok = tok;
    jw_init(&at, buf_span(&input), &e);
    if (!rc && jw_at(&at, '[')) {
        rc = list(&w, &at);
        if (!rc) status = cmd_json(c, w.all);
        else json_decref(w.all);
    } else if (!rc) {
        rc = render(&w, buf_span(&input), &out, &e);
        if (!rc && a.json) status = cmd_json(c, answer(&w, rc, &out, &e));
        else if (!rc && a.ids) rc = print_ids(&w, &out, &e);
        else if (!rc) fwrite(buf_str(&out.text), 1, out.text.n, stdout);
    }
    jinja_out_free(&out);
    jinja_free(t);
    tok_free(tok);
    buf_free(&path);
    buf_free(&text);
    buf_free(&input);
    return rc ? cmd_fail(c, &e) : status ? status : cmd_done(c);
}

const command cmd_chat_render = {
    .name = "chat-render", .group = GROUP_PLUMBING,
    .synopsis = "[options] [MODEL]",
    .summary = "what a chat template makes of a conversation",
    .details = "The template is MODEL's own or the one of --template-file; MODEL also gives bos_token and\n"
               "eos_token. Every member of the JSON object is a variable of the template.",
    .max_args = 1, .opts = opts, .run = run,
};
