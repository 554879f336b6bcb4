/* tok_json.c - Hugging Face's tokenizer.json with a BPE model. The vocabulary and the merges are
 * walked where they stand; what describes the steps is small and goes through the JSON library.
 * A step, option or model that is not known is refused by name, never skipped; truncation and
 * padding are left out because they belong to a call, as they do in transformers. */
#include "base/mem.h"
#include "text/jwalk.h"
#include "text/tok_json.h"

typedef struct {
    span added, normalizer, pre, post, decoder, model;
    span vocab, merges, unk;
    uint64_t n_vocab;
} parts;

static int find_parts(span file, parts *q, dr_err *e)
{
    static const char *const known[] = { "version", "truncation", "padding", "added_tokens",
        "normalizer", "pre_tokenizer", "post_processor", "decoder", "model" };
    span *const to[] = { NULL, NULL, NULL, &q->added, &q->normalizer, &q->pre, &q->post,
                         &q->decoder, &q->model };
    jw w;
    buf key = { .cap_max = file.n + 1 };
    size_t n = 0;
    int rc, more;
    jw_init(&w, file, e);
    rc = jw_open(&w, '{');
    while (!rc && (more = jw_next(&w, '}', &key, &n)) != 0) {
        span raw = { "", 0 };
        rc = more < 0 ? more : jw_skip(&w, &raw);
        size_t i = 0, k = sizeof known / sizeof *known;
        while (i < k && !span_is(buf_span(&key), known[i])) i++;
        if (!rc && i == k)
            rc = err_set(e, DR_EUNSUPPORTED, "tokenizer.json: \"%.60s\" is not known here",
                         buf_str(&key));
        else if (!rc && to[i] && to[i]->n)
            rc = err_set(e, DR_EFORMAT, "tokenizer.json: \"%s\" is given twice", known[i]);
        else if (!rc && to[i]) *to[i] = raw;
    }
    if (!rc) rc = jw_end(&w);
    buf_free(&key);
    if (!rc && !q->model.n) rc = err_set(e, DR_EFORMAT, "tokenizer.json has no \"model\"");
    return rc;
}

static bool is_word(span raw, const char *s) { return span_is(raw, s); }

/* Options of the BPE model that change what it does. */
static int model_option(tokenizer *t, const char *key, span raw, parts *q, dr_err *e)
{
    struct { const char *name; bool *to; } flags[] = {
        { "fuse_unk", &t->fuse_unk }, { "byte_fallback", &t->byte_fallback },
        { "ignore_merges", &t->whole }
    };
    static const char *const empty[] = { "dropout", "continuing_subword_prefix",
                                         "end_of_word_suffix" };
    bool none = is_word(raw, "null");
    if (!strcmp(key, "type")) {
        if (is_word(raw, "\"BPE\"")) return 0;
        return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: model " SPAN_FMT " is not supported; "
                       "BPE is", SPAN_ARG(raw));
    }
    if (!strcmp(key, "vocab")) { q->vocab = raw; return 0; }
    if (!strcmp(key, "merges")) { q->merges = raw; return 0; }
    if (!strcmp(key, "unk_token")) { if (!none) q->unk = raw; return 0; }
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(key, flags[i].name)) continue;
        *flags[i].to = is_word(raw, "true");
        if (none || *flags[i].to || is_word(raw, "false")) return 0;
        return err_set(e, DR_EFORMAT, "tokenizer.json: model.%s is not true or false", key);
    }
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(key, empty[i])) continue;
        if (none || is_word(raw, "\"\"") || is_word(raw, "0") || is_word(raw, "0.0")) return 0;
        return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: model.%s = " SPAN_FMT " is not "
                       "supported", key, SPAN_ARG(raw));
    }
    return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: model.%.60s is not known here", key);
}

static int read_model(tokenizer *t, parts *q, dr_err *e)
{
    jw w;
    buf key = { .cap_max = q->model.n + 1 };
    size_t n = 0;
    int more, rc;
    jw_init(&w, q->model, e);
    rc = jw_open(&w, '{');
    while (!rc && (more = jw_next(&w, '}', &key, &n)) != 0) {
        span raw = { "", 0 };
        rc = more < 0 ? more : jw_skip(&w, &raw);
        if (!rc) rc = model_option(t, buf_str(&key), raw, q, e);
    }
    buf_free(&key);
    if (!rc && (!q->vocab.n || !q->merges.n))
        rc = err_set(e, DR_EFORMAT, "tokenizer.json: the model has no vocab or no merges");
    return rc;
}

/* Walk vocab: count and measure (v NULL), or put the words in. */
static int walk_vocab(tokenizer *t, span words, uint64_t *n_out, uint64_t *max_id, bool fill,
                      dr_err *e)
{
    jw w;
    buf key = { .cap_max = words.n + 1 };
    size_t n = 0;
    int more, rc;
    jw_init(&w, words, e);
    rc = jw_open(&w, '{');
    while (!rc && (more = jw_next(&w, '}', &key, &n)) != 0) {
        uint64_t id = 0;
        rc = more < 0 ? more : jw_uint(&w, TOK_MAX_IDS - 1, &id);
        if (rc) break;
        if (id > *max_id) *max_id = id;
        if (!fill) continue;
        size_t k = key.n;
        int type = TT_NORMAL;
        /* In place: bytes never take more room than their letters. */
        if (t->bytes && !tok_unbyte(key.p, key.n, (uint8_t *)key.p, &k))
            type = TT_UNUSED, k = key.n;
        if (t->byte_fallback && k == 6 && !memcmp(key.p, "<0x", 3) && key.p[5] == '>')
            type = TT_BYTE;
        if (!vocab_set(&t->v, (int32_t)id, buf_str(&key), k, type))
            rc = err_set(e, DR_EFORMAT, "tokenizer.json: two tokens have the id %d", (int)id);
    }
    *n_out = n;
    buf_free(&key);
    return rc;
}

static bool get_flag(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

typedef struct { uint64_t n, max_id; size_t bytes; bool fill; } added_walk;

static int one_added(tokenizer *t, const json_t *o, added_walk *a, dr_err *e)
{
    const json_t *content = json_object_get(o, "content"), *jid = json_object_get(o, "id");
    json_int_t id = json_integer_value(jid);
    if (!json_is_string(content) || !json_is_integer(jid) || id < 0 || id >= TOK_MAX_IDS)
        return err_set(e, DR_EFORMAT, "tokenizer.json: an added token without content or id");
    span s = { json_string_value(content), json_string_length(content) };
    a->n++, a->bytes += s.n;
    if ((uint64_t)id > a->max_id) a->max_id = (uint64_t)id;
    if (!a->fill || !s.n) return 0;
    bool special = get_flag(o, "special"), normalized = get_flag(o, "normalized");
    int flags = special * AT_SPECIAL | get_flag(o, "lstrip") * AT_LSTRIP |
                get_flag(o, "rstrip") * AT_RSTRIP | get_flag(o, "single_word") * AT_WORD, rc;
    span kept;
    if (!t->v.type[id]) {
        if (!vocab_set(&t->v, (int32_t)id, s.p, s.n, TT_NORMAL))
            return err_set(e, DR_EFORMAT, "tokenizer.json: added token %d does not fit", (int)id);
    }
    kept = vocab_text(&t->v, (int32_t)id);
    if (!span_eq(kept, s) && (rc = tok_keep(t, s, &kept, e))) return rc;
    if (special) vocab_hide(&t->v, (int32_t)id);
    t->v.type[id] = special ? TT_CONTROL : TT_USER;
    if (normalized && t->n_norms) {
        buf work[2] = { { .cap_max = 1 << 20 }, { .cap_max = 1 << 20 } };
        rc = tok_normalise(t, work, &s, e);
        if (!rc) rc = tok_keep(t, s, &kept, e);
        buf_free(&work[0]);
        buf_free(&work[1]);
        if (rc) return rc;
    }
    return kept.n ? added_put(normalized ? &t->norm : &t->raw, kept, (int32_t)id, flags, e) : 0;
}

static int walk_added(tokenizer *t, span added, added_walk *a, dr_err *e)
{
    jw w;
    size_t n = 0;
    int more, rc;
    if (!added.n || is_word(added, "null")) return 0;
    jw_init(&w, added, e);
    rc = jw_open(&w, '[');
    while (!rc && (more = jw_next(&w, ']', NULL, &n)) != 0) {
        span raw = { "", 0 };
        rc = more < 0 ? more : jw_skip(&w, &raw);
        json_t *o = rc ? NULL : json_read(raw.p, raw.n, 1 << 20, "an added token", e);
        if (!rc) rc = o ? one_added(t, o, a, e) : DR_EFORMAT;
        json_decref(o);
    }
    return rc;
}

static int walk_merges(tokenizer *t, span list, dr_err *e)
{
    jw w;
    buf a = { .cap_max = list.n + 1 }, b = { .cap_max = list.n + 1 };
    size_t n = 0;
    int more, rc;
    uint64_t count = 0;
    jw_init(&w, list, e);
    rc = jw_open(&w, '[');
    while (!rc && (more = jw_next(&w, ']', NULL, &n)) != 0) {
        span raw;
        rc = more < 0 ? more : jw_skip(&w, &raw);
        count = n;
    }
    if (!rc && count >= 1u << 22) rc = err_set(e, DR_EUNSUPPORTED, "%llu merges",
                                               (unsigned long long)count);
    if (rc) return rc;
    merge_reader r;
    rc = merge_begin(&r, t, (uint32_t)count, list.n * 2, true, e);
    jw_init(&w, list, e);
    if (!rc) rc = jw_open(&w, '[');
    n = 0;
    while (!rc && (more = jw_next(&w, ']', NULL, &n)) != 0) {
        span left, right = { "", 0 };
        if (more < 0) { rc = more; break; }
        if (jw_at(&w, '[')) {
            size_t k = 0;
            rc = jw_open(&w, '[');
            if (!rc) rc = jw_next(&w, ']', NULL, &k) == 1 ? jw_string(&w, &a) : DR_EFORMAT;
            if (!rc) rc = jw_next(&w, ']', NULL, &k) == 1 ? jw_string(&w, &b) : DR_EFORMAT;
            if (!rc) rc = jw_next(&w, ']', NULL, &k) == 0 ? 0 : DR_EFORMAT;
            if (rc) err_set(e, rc, "tokenizer.json: merge %zu is not two words", n - 1);
            left = buf_span(&a), right = buf_span(&b);
        } else {
            rc = jw_string(&w, &a);
            const char *sp = a.n ? memchr(a.p, ' ', a.n) : NULL;
            left = (span){ buf_str(&a), sp ? (size_t)(sp - a.p) : a.n };
            if (sp) right = (span){ sp + 1, a.n - left.n - 1 };
        }
        if (!rc) rc = merge_put(&r, left, right, e);
    }
    buf_free(&a);
    buf_free(&b);
    return merge_end(&r, rc, e);
}

static int32_t find_text(const tokenizer *t, span s)
{
    int32_t id = added_find(&t->raw, s);
    if (id < 0) id = added_find(&t->norm, s);
    return id >= 0 ? id : vocab_find(&t->v, s.p, s.n);
}

static int fill(tokenizer *t, const parts *q, dr_err *e)
{
    uint64_t n = 0, max_id = 0, again;
    added_walk a = {0};
    int rc = walk_vocab(t, q->vocab, &n, &max_id, false, e);
    if (!rc) rc = walk_added(t, q->added, &a, e);
    if (rc) return rc;
    if (a.max_id > max_id) max_id = a.max_id;
    if (max_id >= 2 * (n + a.n) + 4096)
        return err_set(e, DR_EFORMAT, "tokenizer.json: token id %llu, but only %llu tokens",
                       (unsigned long long)max_id, (unsigned long long)(n + a.n));
    rc = vocab_init(&t->v, (int32_t)max_id + 1, q->vocab.n + a.bytes, e);
    if (!rc) rc = walk_vocab(t, q->vocab, &again, &max_id, true, e);
    if (rc) return rc;
    t->v.n = t->v.n_ids = (int32_t)max_id + 1;
    if ((rc = vocab_index(&t->v, 0, e)) || (rc = walk_merges(t, q->merges, e))) return rc;
    a.fill = true;
    if ((rc = walk_added(t, q->added, &a, e))) return rc;
    for (uint32_t i = 0; i < t->m.n_slots; i++) {
        uint64_t s = t->m.slot[i];
        if (s && t->v.type[t->m.merged[(s & 0x3fffff) - 1]] == TT_CONTROL)
            return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: a merge makes a control token");
    }
    added_sort(&t->raw);
    added_sort(&t->norm);
    if (!q->unk.n) return 0;
    jw w;
    buf unk = { .cap_max = q->unk.n + 1 };
    jw_init(&w, q->unk, e);
    rc = jw_string(&w, &unk);
    if (!rc) t->unk = find_text(t, buf_span(&unk));
    if (!rc && t->unk < 0)
        rc = err_set(e, DR_EFORMAT, "tokenizer.json: unk_token is no token");
    buf_free(&unk);
    return rc;
}

/* Ends and begins when nothing says them: the names that Llama's family uses. */
static int32_t by_name(const tokenizer *t, const char *const *list)
{
    for (; *list; list++) {
        int32_t id = added_find(&t->raw, span_of(*list));
        if (id >= 0) return id;
    }
    return -1;
}

static int load(tokenizer *t, span file, dr_err *e)
{
    static const char *const bos[] = { "<|begin_of_text|>", "<s>", "<bos>", NULL };
    static const char *const eos[] = { "<|end_of_text|>", "</s>", "<eos>", NULL };
    parts q = {0};
    char pre[40] = "";
    int rc = find_parts(file, &q, e);
    if (!rc) rc = read_model(t, &q, e);
    if (!rc) rc = tokjson_steps(t, q.normalizer, q.pre, q.decoder, e);
    if (!rc) rc = fill(t, &q, e);
    if (!rc) rc = tokjson_post(t, q.post, e);
    if (rc) return rc;
    if (t->bos < 0) t->bos = by_name(t, bos);
    if (t->eos < 0) t->eos = by_name(t, eos);
    bool llama3 = t->n_pres && t->pres[0].kind == PRE_LLAMA3 && t->pres[0].digits == 3;
    if (llama3) snprintf(pre, sizeof pre, "llama3");
    /* Llama 3's first tokenizer.json left the BOS to its callers; the model needs it anyway. */
    if (llama3 && t->bos >= 0 && span_is(vocab_text(&t->v, t->bos), "<|begin_of_text|>"))
        t->wants_bos = true;
    return tok_finish(t, t->bytes ? "byte-level BPE" : "SentencePiece-style BPE", pre, e);
}

tokenizer *tok_from_json(span file, dr_err *e)
{
    tokenizer *t = tok_new(e);
    if (t && load(t, file, e)) {
        tok_free(t);
        return NULL;
    }
    return t;
}
