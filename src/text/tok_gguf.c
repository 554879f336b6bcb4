/* tok_gguf.c - the tokenizer inside a GGUF file: models "gpt2" (byte-level BPE with a list of
 * merges) and "llama" (SentencePiece BPE with scores). */
#include "base/mem.h"
#include "text/tok_priv.h"

/* tokenizer.ggml.pre -> splitter. cf. llama.cpp's llama-vocab.cpp. */
static const struct { const char *name, *regex; bool digits; } pres[] = {
    { "llama3", split_llama3_regex, false },
    { "llama-v3", split_llama3_regex, false },
    { "llama-bpe", split_llama3_regex, false },
    { "qwen2", split_qwen2_regex, false },
    { "gpt-2", split_gpt2_regex, false },
    { "gpt2", split_gpt2_regex, false },
    { "smollm", split_gpt2_regex, true },
    { "tekken", split_tekken_regex, false },
};

int tok_set_pre(tokenizer *t, span name, dr_err *e)
{
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        if (!span_is(name, pres[i].name)) continue;
        if (pres[i].digits)
            t->pres[t->n_pres++] = (pre_step){ .kind = PRE_DIGITS, .cut = CUT_ISOLATED };
        return tok_add_re(t, pres[i].regex, CUT_ISOLATED, e);
    }
    return err_set(e, DR_EUNSUPPORTED, "tokenizer.ggml.pre is \"" SPAN_FMT "\", a pre-tokeniser "
                   "that is not known here", SPAN_ARG(name));
}

/* GPT-2's alphabet: the 188 printable bytes are themselves, the others U+0100 up, in order. */
bool tok_unbyte(const char *text, size_t n, uint8_t *out, size_t *n_out)
{
    static const uint8_t high[68] = {            /* U+0100 + i -> byte */
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
        25, 26, 27, 28, 29, 30, 31, 32, 127, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138,
        139, 140, 141, 142, 143, 144, 145, 146, 147, 148, 149, 150, 151, 152, 153, 154, 155, 156,
        157, 158, 159, 160, 173
    };
    const uint8_t *p = (const uint8_t *)text;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = p[i];
        if (c > 0x20 && c < 0x7f) { out[k++] = (uint8_t)c; continue; }
        if (c < 0xc2 || c > 0xc5 || i + 1 >= n || (p[i + 1] & 0xc0) != 0x80) return false;
        c = (c & 31) << 6 | (p[++i] & 63);
        if (c >= 0x100 && c < 0x100 + sizeof high) out[k++] = high[c - 0x100];
        else if (c >= 0xa1 && c <= 0xff && c != 0xad) out[k++] = (uint8_t)c;
        else return false;
    }
    *n_out = k;
    return true;
}

/* An array of the file: strings, or numbers of one width. */
static int get_array(const gguf *g, const char *key, gguf_type elem, const gguf_kv **kv, dr_err *e)
{
    *kv = gguf_find(g, key);
    if (!*kv) return 0;
    if ((*kv)->type != GGUF_ARRAY || (*kv)->elem != elem)
        return err_set(e, DR_EFORMAT, "%s is not an array of the kind it must be", key);
    return 0;
}

static int read_tokens(tokenizer *t, const gguf *g, dr_err *e)
{
    const gguf_kv *tokens, *types;
    int rc = get_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, e);
    if (!rc) rc = get_array(g, "tokenizer.ggml.token_type", GGUF_I32, &types, e);
    if (rc) return rc;
    if (!tokens) return err_set(e, DR_EFORMAT, "the file has no tokenizer.ggml.tokens");
    if (tokens->n > TOK_MAX_IDS - 64)
        return err_set(e, DR_EUNSUPPORTED, "a vocabulary of %llu tokens",
                       (unsigned long long)tokens->n);
    if (types && types->n != tokens->n)
        return err_set(e, DR_EFORMAT, "%llu tokens but %llu types of tokens",
                       (unsigned long long)tokens->n, (unsigned long long)types->n);
    int32_t n = (int32_t)tokens->n;
    rc = vocab_init(&t->v, n + 64, tokens->bytes - 8 * (size_t)n + 256, e);
    if (rc) return rc;
    const uint8_t *at = tokens->at;
    for (int32_t id = 0; id < n; id++) {
        int32_t type = TT_NORMAL;
        if (types) memcpy(&type, types->at + 4 * (size_t)id, 4);
        if (type < TT_NORMAL || type > TT_BYTE)
            return err_set(e, DR_EUNSUPPORTED, "token %d has the unknown type %d", id, type);
        span s = gguf_array_str(&at);
        uint8_t *room = t->v.bytes + t->v.n_bytes;
        size_t k;
        /* A word that is not in the byte alphabet can only be written, never read from text. */
        if (t->bytes && type == TT_NORMAL) {
            if (tok_unbyte(s.p, s.n, room, &k)) s = (span){ (char *)room, k };
            else type = TT_UNUSED;
        }
        size_t before = t->v.n_bytes;
        if (s.p == (char *)room) {
            t->v.at[id] = (uint32_t)before, t->v.len[id] = (uint32_t)s.n;
            t->v.type[id] = (uint8_t)type, t->v.n_bytes += s.n, t->v.n = id + 1;
        } else if (!vocab_set(&t->v, id, s.p, s.n, type)) {
            return err_set(e, DR_EFORMAT, "token %d does not fit", id);
        }
        int flags = type == TT_CONTROL || type == TT_UNKNOWN ? AT_SPECIAL : 0;
        if ((flags || type == TT_USER) && s.n &&
            (rc = added_put(&t->raw, vocab_text(&t->v, id), id, flags, e))) return rc;
    }
    t->v.n_ids = n;
    return vocab_index(&t->v, 64, e);
}

static int read_merges(tokenizer *t, const gguf *g, dr_err *e)
{
    const gguf_kv *kv;
    int rc = get_array(g, "tokenizer.ggml.merges", GGUF_STRING, &kv, e);
    if (rc) return rc;
    if (!kv) return err_set(e, DR_EFORMAT, "the file has no tokenizer.ggml.merges");
    if (kv->n >= 1u << 22)
        return err_set(e, DR_EUNSUPPORTED, "%llu merges", (unsigned long long)kv->n);
    merge_reader r;
    const uint8_t *at = kv->at;
    rc = merge_begin(&r, t, (uint32_t)kv->n, kv->bytes, false, e);
    for (uint64_t i = 0; i < kv->n && !rc; i++) {
        span s = gguf_array_str(&at);
        const char *sp = s.n ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
        size_t left = sp ? (size_t)(sp - s.p) : s.n;
        span right = sp ? (span){ sp + 1, s.n - left - 1 } : (span){ "", 0 };
        rc = merge_put(&r, (span){ s.p, left }, right, e);
    }
    return merge_end(&r, rc, e);
}

typedef struct { float score; int32_t id; } scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score ? 1 : x->id < y->id ? -1 : x->id > y->id;
}

int tok_rank_scores(tokenizer *t, const float *score, dr_err *e)
{
    size_t n = (size_t)t->v.n_ids;
    scored *s = mem_alloc(n * sizeof *s);
    t->m.prio = mem_zalloc(n, sizeof *t->m.prio);
    if (!s || !t->m.prio) {
        mem_free(s);
        return err_nomem(e, n * sizeof *s, "scores");
    }
    for (size_t i = 0; i < n; i++)               /* a NaN would not sort */
        s[i] = (scored){ score[i] == score[i] ? score[i] : 0, (int32_t)i };
    qsort(s, n, sizeof *s, by_score);
    uint32_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        if (i && s[i].score != s[i - 1].score) rank = (uint32_t)i;
        t->m.prio[s[i].id] = rank;
    }
    mem_free(s);
    return 0;
}

static int read_scores(tokenizer *t, const gguf *g, dr_err *e)
{
    const gguf_kv *kv;
    int rc = get_array(g, "tokenizer.ggml.scores", GGUF_F32, &kv, e);
    if (rc) return rc;
    size_t n = (size_t)t->v.n_ids;
    if (!kv || kv->n != n) return err_set(e, DR_EFORMAT, "tokenizer.ggml.scores is missing or not "
                                          "one number for each token");
    float *score = mem_alloc(n * sizeof *score);
    if (!score) return err_nomem(e, n * sizeof *score, "scores");
    memcpy(score, kv->at, n * sizeof *score);
    rc = tok_rank_scores(t, score, e);
    mem_free(score);
    if (!rc) rc = merges_init(&t->m, (uint32_t)n * 2, e);
    if (!rc) rc = merges_from_splits(&t->m, &t->v, true, kv->bytes * 2 + 4096, e);
    return rc;
}

static int get_id(const tokenizer *t, const gguf *g, const char *key, int32_t *id, dr_err *e)
{
    uint64_t v;
    if (!gguf_get_u64(g, key, &v)) return 0;
    if (v >= (uint64_t)t->v.n_ids)
        return err_set(e, DR_EFORMAT, "%s is %llu, but there are %d tokens", key,
                       (unsigned long long)v, t->v.n_ids);
    *id = (int32_t)v;
    return 0;
}

/* tokenizer.chat_template, and tokenizer.chat_template.NAME for others beside it. */
static int read_templates(tokenizer *t, const gguf *g, dr_err *e)
{
    static const char base[] = "tokenizer.chat_template";
    enum { MOST = 64 };
    int rc = 0, n = 0;
    for (uint64_t i = 0; i < g->n_kv && !rc; i++) {
        span k = g->kv[i].key, s;
        char key[128];
        if (k.n < sizeof base - 1 || memcmp(k.p, base, sizeof base - 1) || k.n >= sizeof key) continue;
        if (k.n > sizeof base - 1 && k.p[sizeof base - 1] != '.') continue;
        snprintf(key, sizeof key, "%.*s", (int)k.n, k.p);
        if (!gguf_get_str(g, key, &s) || n++ == MOST) continue;
        size_t cut = k.n > sizeof base - 1 ? sizeof base : k.n;
        rc = tok_keep_template(t, (span){ k.p + cut, k.n - cut }, s, e);
    }
    return rc;
}

static int read_ids(tokenizer *t, const gguf *g, dr_err *e)
{
    static const char *const ends[] = { "tokenizer.ggml.eot_token_id",
                                        "tokenizer.ggml.eom_token_id" };
    int rc = get_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, e);
    if (!rc) rc = get_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, e);
    /* Among bytes nothing is unknown; a byte that has no token is lost, as in the reference, and
     * does not become the control token that this key usually names. */
    if (!rc && !t->bytes) rc = get_id(t, g, "tokenizer.ggml.unknown_token_id", &t->unk, e);
    if (rc) return rc;
    t->eog = mem_zalloc((size_t)t->v.n_ids / 8 + 1, 1);
    if (!t->eog) return err_nomem(e, (size_t)t->v.n_ids / 8 + 1, "a tokenizer");
    for (int i = 0; i < 2; i++) {
        int32_t id = -1;
        if ((rc = get_id(t, g, ends[i], &id, e))) return rc;
        if (id >= 0) t->eog[id >> 3] |= (uint8_t)(1 << (id & 7));
    }
    return read_templates(t, g, e);
}

static int load(tokenizer *t, const gguf *g, dr_err *e)
{
    span model, pre = { "", 0 };
    if (!gguf_get_str(g, "tokenizer.ggml.model", &model))
        return err_set(e, DR_EFORMAT, "the file has no tokenizer (tokenizer.ggml.model)");
    t->bytes = span_is(model, "gpt2");
    if (!t->bytes && !span_is(model, "llama"))
        return err_set(e, DR_EUNSUPPORTED, "tokenizer.ggml.model is \"" SPAN_FMT "\"; gpt2 and "
                       "llama are known", SPAN_ARG(model));
    int rc = read_tokens(t, g, e);
    if (!rc) rc = read_ids(t, g, e);
    if (rc) return rc;
    char name[64] = "";
    if (t->bytes) {
        if (!gguf_get_str(g, "tokenizer.ggml.pre", &pre))
            return err_set(e, DR_EUNSUPPORTED, "the file does not name its pre-tokeniser "
                           "(tokenizer.ggml.pre)");
        if ((rc = tok_set_pre(t, pre, e)) || (rc = read_merges(t, g, e))) return rc;
        snprintf(name, sizeof name, "%.*s", (int)(pre.n > 40 ? 40 : pre.n), pre.p);
        /* Llama 3's converters leave ignore_merges to the reader. */
        t->whole = t->pres[t->n_pres - 1].kind == PRE_LLAMA3 && t->pres[t->n_pres - 1].digits == 3;
        t->whole |= span_is(pre, "tekken");
        t->wants_bos = t->whole;
        gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &t->wants_bos);
    } else {
        t->spm = t->byte_fallback = t->fuse_unk = t->wants_bos = true;
        bool prefix = true;
        gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &prefix);
        gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &t->wants_bos);
        static const norm_step mark = { NORM_REPLACE, { " ", 1 }, { TOK_MARK, 3 } };
        static const norm_step front = { NORM_PREPEND, { TOK_MARK, 3 }, { "", 0 } };
        if (prefix) t->norms[t->n_norms++] = front;
        t->norms[t->n_norms++] = mark;
        t->drop_space = prefix;
        if ((rc = read_scores(t, g, e))) return rc;
    }
    return tok_finish(t, t->bytes ? "byte-level BPE" : "SentencePiece BPE", name, e);
}

tokenizer *tok_from_gguf(const gguf *g, dr_err *e)
{
    tokenizer *t = tok_new(e);
    if (t && load(t, g, e)) {
        tok_free(t);
        return NULL;
    }
    return t;
}
