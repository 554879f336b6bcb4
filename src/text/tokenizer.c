/* tokenizer.c - open, look up, decode. See tokenizer.h; encoding is in encode.c. */
#include "text/tokenizer.h"
#include <dirent.h>
#include "base/mem.h"
#include "base/os.h"
#include "text/tok_priv.h"
#include "text/utf8.h"

tokenizer *tok_new(dr_err *e)
{
    tokenizer *t = mem_zalloc(1, sizeof *t);
    if (!t) {
        err_nomem(e, sizeof *t, "a tokenizer");
        return NULL;
    }
    t->unk = t->bos = t->eos = -1;
    for (int b = 0; b < 256; b++) t->byte_id[b] = -1;
    return t;
}

void tok_free(tokenizer *t)
{
    if (!t) return;
    vocab_free(&t->v);
    merges_free(&t->m);
    added_free(&t->raw);
    added_free(&t->norm);
    for (int i = 0; i < t->n_pres; i++) split_re_free(t->pres[i].re);
    for (int i = 0; i < t->n_owned; i++) mem_free(t->owned[i]);
    mem_free(t->owned);
    mem_free(t->shown_mem);
    mem_free(t->eog);
    mem_free(t->chat_named);
    mem_free(t);
}

int tok_keep(tokenizer *t, span s, span *out, dr_err *e)
{
    char **owned = mem_realloc(t->owned, ((size_t)t->n_owned + 1) * sizeof *owned);
    if (!owned) return err_nomem(e, sizeof *owned, "a tokenizer");
    t->owned = owned;
    char *p = mem_strndup(s.p, s.n);
    if (!p) return err_nomem(e, s.n, "a tokenizer");
    t->owned[t->n_owned++] = p;
    *out = (span){ p, s.n };
    return 0;
}

int tok_add_re(tokenizer *t, const char *regex, cut_kind cut, dr_err *e)
{
    if (t->n_pres == TOK_STEPS)
        return err_set(e, DR_EUNSUPPORTED, "over %d pre-tokenisers", TOK_STEPS);
    pre_step *s = &t->pres[t->n_pres];
    *s = (pre_step){ .kind = PRE_RE, .cut = cut };
    if (!strcmp(regex, split_llama3_regex)) s->kind = PRE_LLAMA3, s->digits = 3;
    else if (!strcmp(regex, split_qwen2_regex)) s->kind = PRE_LLAMA3, s->digits = 1;
    else if (!(s->re = split_re_new(span_of(regex), e)))
        return e && e->code ? e->code : DR_ENOMEM;
    t->n_pres++;
    return 0;
}

/* Tokens as they are written out: marks become spaces, byte tokens bytes. Only where that
 * differs from what is searched for. */
static int make_shown(tokenizer *t, dr_err *e)
{
    vocab *v = &t->v;
    t->shown_at = v->at, t->shown_len = v->len, t->shown = v->bytes;
    if (t->bytes) return 0;
    size_t n = (size_t)v->n, bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += v->len[i];
    uint32_t *at = mem_alloc(n * 8 + bytes);
    if (!at) return err_nomem(e, n * 8 + bytes, "vocabulary");
    uint32_t *len = at + n;
    uint8_t *base = (uint8_t *)(len + n), *out = base;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = v->bytes + v->at[i];
        size_t k = v->len[i];
        at[i] = (uint32_t)(out - base);
        bool exact = v->type[i] == TT_CONTROL || v->type[i] == TT_UNKNOWN;
        for (size_t j = 0; j < k; j++) {
            if (!exact && k - j >= 3 && !memcmp(p + j, TOK_MARK, 3)) *out++ = ' ', j += 2;
            else *out++ = p[j];
        }
        len[i] = (uint32_t)(out - base) - at[i];
    }
    for (int b = 0; b < 256; b++) {
        int32_t id = t->byte_id[b];
        if (id < 0 || v->type[id] != TT_BYTE) continue;
        base[at[id]] = (uint8_t)b, len[id] = 1;
    }
    t->shown_mem = at;
    t->shown_at = at, t->shown_len = len, t->shown = base;
    return 0;
}

/* The ids of single bytes: "<0x41>" among characters, the byte itself among bytes. */
static void find_bytes(tokenizer *t)
{
    vocab *v = &t->v;
    if (t->bytes) {
        for (int b = 0; b < 256; b++) {
            uint8_t c = (uint8_t)b;
            t->byte_id[b] = vocab_find(v, &c, 1);
        }
        return;
    }
    for (int32_t id = 0; id < v->n; id++) {
        if (v->type[id] != TT_BYTE || v->len[id] != 6) continue;
        static const char hex[] = "0123456789ABCDEF";
        const char *p = (const char *)v->bytes + v->at[id];
        const char *a = strchr(hex, p[3]), *b = strchr(hex, p[4]);
        if (!memcmp(p, "<0x", 3) && p[5] == '>' && p[3] && p[4] && a && b)
            t->byte_id[(a - hex) << 4 | (b - hex)] = id;
    }
}

static void find_glue(tokenizer *t)
{
    for (int32_t id = 0; id < t->v.n; id++) {
        const uint8_t *p = t->v.bytes + t->v.at[id];
        for (size_t j = 1; j + 2 < t->v.len[id]; j++)
            if (!memcmp(p + j, TOK_MARK, 3)) t->glue[p[j - 1]] = true;
    }
}

static int find_ends(tokenizer *t, dr_err *e)
{
    static const char *const known[] = {         /* what ends a reply in the models we know */
        "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|endoftext|>", "</s>",
        "<end_of_turn>", "<|eot|>", "<|eom|>", "<|end|>", "<EOT>", "<|end_of_turn|>"
    };
    if (!t->eog) t->eog = mem_zalloc((size_t)t->v.n_ids / 8 + 1, 1);
    if (!t->eog) return err_nomem(e, (size_t)t->v.n_ids / 8 + 1, "a tokenizer");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        int32_t id = added_find(&t->raw, span_of(known[i]));
        if (id >= 0 && t->v.type[id] == TT_CONTROL) t->eog[id >> 3] |= (uint8_t)(1 << (id & 7));
    }
    if (t->eos >= 0) t->eog[t->eos >> 3] |= (uint8_t)(1 << (t->eos & 7));
    return 0;
}

int tok_finish(tokenizer *t, const char *model_name, const char *pre_name, dr_err *e)
{
    added_sort(&t->raw);
    added_sort(&t->norm);
    find_bytes(t);
    if (!t->bytes) find_glue(t);
    t->all_bytes = t->bytes;
    for (int b = 0; b < 256; b++) t->all_bytes &= t->byte_id[b] >= 0;
    int rc = make_shown(t, e);
    if (!rc && t->bytes) rc = merges_bytes(&t->m, t->byte_id, e);
    if (!rc) rc = find_ends(t, e);
    snprintf(t->kind, sizeof t->kind, "%s%s%s%s", model_name, *pre_name ? ", " : "", pre_name,
             *pre_name ? " splitter" : "");
    return rc;
}

int32_t tok_count(const tokenizer *t) { return t->v.n_ids; }
int32_t tok_bos(const tokenizer *t) { return t->bos; }
bool tok_wants_bos(const tokenizer *t) { return t->wants_bos && t->bos >= 0; }
int32_t tok_eos(const tokenizer *t) { return t->eos; }
const char *tok_kind(const tokenizer *t) { return t->kind; }
span tok_chat_template(const tokenizer *t)
{
    return t->chat_template.n ? t->chat_template : span_of("");
}

span tok_chat_template_named(const tokenizer *t, const char *name)
{
    if (!strcmp(name, "default")) return tok_chat_template(t);
    for (int i = t->n_chat_named; i-- > 0;)
        if (span_is(t->chat_named[i].name, name)) return t->chat_named[i].text;
    return span_of("");
}

int tok_keep_template(tokenizer *t, span name, span text, dr_err *e)
{
    span keep, key;
    int rc = tok_keep(t, text.n ? text : span_of(""), &keep, e);
    if (!rc) rc = tok_keep(t, name.n ? name : span_of(""), &key, e);
    if (rc) return rc;
    if (!name.n || span_is(name, "default")) {
        t->chat_template = keep;
        return 0;
    }
    size_t n = (size_t)t->n_chat_named + 1;
    void *p = mem_realloc(t->chat_named, n * sizeof *t->chat_named);
    if (!p) return err_nomem(e, n * sizeof *t->chat_named, "chat templates");
    t->chat_named = p;
    t->chat_named[n - 1].name = key, t->chat_named[n - 1].text = keep;
    t->n_chat_named = (int)n;
    return 0;
}

bool tok_is_eog(const tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->v.n_ids && t->eog[id >> 3] >> (id & 7) & 1;
}

bool tok_is_control(const tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->v.n_ids &&
           (t->v.type[id] == TT_CONTROL || t->v.type[id] == TT_UNKNOWN || t->v.type[id] == TT_NONE);
}

int32_t tok_find(const tokenizer *t, span text)
{
    int32_t id = added_find(&t->raw, text);
    if (id < 0) id = added_find(&t->norm, text);
    if (id < 0) id = vocab_find(&t->v, text.p, text.n);
    return id < t->v.n_ids ? id : -1;
}

span tok_text(const tokenizer *t, int32_t id)
{
    if (id < 0 || id >= t->v.n_ids) return (span){ "", 0 };
    return (span){ (const char *)t->shown + t->shown_at[id], t->shown_len[id] };
}

int tok_decode_one(const tokenizer *t, int32_t id, bool special, buf *out, dr_err *e)
{
    if (id < 0 || id >= t->v.n_ids)
        return err_set(e, DR_EINVAL, "token id %d is outside 0..%d", id, t->v.n_ids - 1);
    if (!special && tok_is_control(t, id)) return 0;
    span s = tok_text(t, id);
    buf_put(out, s.p, s.n);
    return out->bad ? err_nomem(e, out->n + s.n, "text") : 0;
}

int tok_decode(const tokenizer *t, const int32_t *id, int64_t n, bool special, buf *out, dr_err *e)
{
    bool first = t->drop_space;
    for (int64_t i = 0; i < n; i++) {
        size_t at = out->n;
        int rc = tok_decode_one(t, id[i], special, out, e);
        if (rc) return rc;
        if (!first || out->n == at) continue;
        first = false;
        if (out->p[at] != ' ') continue;
        memmove(out->p + at, out->p + at + 1, out->n - at);
        out->n--;
    }
    return 0;
}

int tok_stream_put(const tokenizer *t, tok_stream *s, int32_t id, bool special, buf *out,
                   dr_err *e)
{
    size_t at = out->n;
    buf_put(out, s->held, (size_t)s->n_held);
    int rc = out->bad ? err_nomem(e, 4, "text") : 0;
    size_t own = out->n;
    if (!rc) rc = tok_decode_one(t, id, special, out, e);
    if (rc) {
        if (out->n > at) out->n = at;
        return rc;
    }
    if (!s->started && t->drop_space && out->n > own && out->p[own] == ' ') {
        memmove(out->p + own, out->p + own + 1, out->n - own);
        out->n--;
        s->started = true;
    }
    if (out->n > own) s->started = true;
    int keep = utf8_unfinished((const uint8_t *)out->p + at, out->n - at);
    s->n_held = keep;
    if (keep) memcpy(s->held, out->p + out->n - keep, (size_t)keep);
    out->n -= (size_t)keep;
    if (out->p) out->p[out->n] = 0;
    return 0;
}

void tok_stream_end(tok_stream *s, buf *out)
{
    buf_put(out, s->held, (size_t)s->n_held);
    *s = (tok_stream){0};
}

static bool looks_like_tiktoken(span f)
{
    size_t i = 0, n = f.n < 4096 ? f.n : 4096;
    while (i < n && (f.p[i] == '+' || f.p[i] == '/' || f.p[i] == '=' ||
                     ((f.p[i] | 32) >= 'a' && (f.p[i] | 32) <= 'z') ||
                     (f.p[i] >= '0' && f.p[i] <= '9'))) i++;
    return i && i + 1 < n && f.p[i] == ' ' && f.p[i + 1] >= '0' && f.p[i + 1] <= '9';
}

/* The file beside `path` (or in it, if it is a folder), mapped; false: there is none. */
static bool beside(os_file *f, const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    size_t n = os_is_dir(path) ? strlen(path) : slash ? (size_t)(slash - path) : 0;
    char other[4096];
    dr_err quiet = {0};
    if (n + strlen(name) + 2 > sizeof other) return false;
    snprintf(other, sizeof other, "%.*s%s%s", (int)n, path, n || slash ? "/" : "", name);
    return os_exists(other) && !os_is_dir(other) && !os_map(f, other, &quiet);
}

static int read_neighbours(tokenizer *t, const char *path, dr_err *e)
{
    os_file f = {0};
    int rc = 0;
    if (beside(&f, path, "tokenizer_config.json")) {
        rc = tok_read_config(t, (span){ (const char *)f.p, f.n }, e);
        os_unmap(&f);
        if (rc) return err_wrap(e, rc, "tokenizer_config.json beside %s", path);
    }
    f = (os_file){0};
    if (beside(&f, path, "chat_template.jinja")) {
        rc = tok_keep_template(t, span_of(""), (span){ (const char *)f.p, f.n }, e);
        os_unmap(&f);
    }
    return rc;
}

tokenizer *tok_from_bytes(span f, dr_err *e)
{
    size_t i = 0;
    while (i < f.n && strchr(" \t\r\n", f.p[i]) && f.p[i]) i++;
    if (f.n >= 4 && !memcmp(f.p, "GGUF", 4)) {
        gguf g = {0};
        if (gguf_parse(&g, f.p, f.n, e)) return NULL;
        tokenizer *t = tok_from_gguf(&g, e);
        gguf_free(&g);
        return t;
    }
    if (i < f.n && f.p[i] == '{') return tok_from_json(f, e);
    if (f.n > 8 && !memcmp(f.p, "version ", 8)) {
        err_set(e, DR_EFORMAT, "this is a Git LFS pointer, not the file itself: fetch it with "
                "`git lfs pull`");
        return NULL;
    }
    if (looks_like_tiktoken(f)) return tok_from_tiktoken(f, e);
    if (f.n && f.p[0] == '\n') return tok_from_spm(f, e);
    err_set(e, DR_EFORMAT, "not a tokenizer: neither GGUF, tokenizer.json, tiktoken text nor a "
            "SentencePiece model");
    return NULL;
}

/* The tokenizer's file inside a folder: tokenizer.json, tokenizer.model or the one GGUF file. */
static int in_folder(const char *path, os_file *f, dr_err *e)
{
    if (beside(f, path, "tokenizer.json") || beside(f, path, "tokenizer.model")) return 0;
    DIR *d = opendir(path);
    char name[256] = "";
    int n = 0;
    for (struct dirent *x; d && (x = readdir(d));) {
        size_t k = strlen(x->d_name);
        if (k < 6 || k >= sizeof name || strcmp(x->d_name + k - 5, ".gguf")) continue;
        if (!n++ || strcmp(x->d_name, name) < 0) memcpy(name, x->d_name, k + 1);
    }
    if (d) closedir(d);
    if (n && beside(f, path, name)) return 0;
    return err_set(e, DR_EIO, "%s holds no tokenizer.json, tokenizer.model or GGUF file", path);
}

tokenizer *tok_open(const char *path, dr_err *e)
{
    os_file f = {0};
    tokenizer *t = NULL;
    if (os_is_dir(path) ? in_folder(path, &f, e) : os_map(&f, path, e)) return NULL;
    dr_err own = {0};
    t = tok_from_bytes((span){ (const char *)f.p, f.n }, &own);
    bool is_gguf = f.n >= 4 && !memcmp(f.p, "GGUF", 4);
    os_unmap(&f);
    if (!t) {
        if (own.code) err_set(e, own.code, "%s: %s", path, own.msg);
    } else if (!is_gguf && read_neighbours(t, path, e)) {
        tok_free(t);
        t = NULL;
    }
    return t;
}
