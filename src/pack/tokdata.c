/* tokdata.c - see tokdata.h: memory, and GGUF's metadata in both directions.
 *
 * Strings are gathered in one buffer as places in it, because it moves while it grows, and
 * become spans when all are there. */
#include "pack/tokdata.h"
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "pack/tokdata_priv.h"

int tokdata_init(tokdata *m, int64_t V, dr_err *e)
{
    *m = (tokdata){ .V = V, .bos = -1, .eos = -1, .unk = -1, .pad = -1, .eot = -1, .eom = -1,
                    .add_bos = -1 };
    buf *all[] = { &m->text, &m->merges, &m->chat, &m->tail, &m->raw };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) buf_init(all[i], TOKD_TEXT_MAX);
    m->tok = mem_zalloc((size_t)V, sizeof *m->tok);
    m->type = mem_zalloc((size_t)V, sizeof *m->type);
    m->score = mem_zalloc((size_t)V, sizeof *m->score);
    return m->tok && m->type && m->score ? DR_OK : err_nomem(e, (size_t)V * 24, "tokens");
}

void tokdata_free(tokdata *m)
{
    buf *all[] = { &m->text, &m->merges, &m->chat, &m->tail, &m->raw };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) buf_free(all[i]);
    mem_free(m->tok);
    mem_free(m->type);
    mem_free(m->score);
    *m = (tokdata){0};
}

tok_place tokd_keep(tokdata *m, const char *p, size_t n)
{
    tok_place at = { m->text.n, n };
    buf_put(&m->text, p, n);
    return at;
}

int tokd_set(tokdata *m, int64_t id, tok_place at, int type, float score, dr_err *e)
{
    if (id < 0 || id >= m->V)
        return err_set(e, DR_EINVAL, "the tokenizer has token %" PRId64 ", but the model's "
                       "vocabulary is %" PRId64, id, m->V);
    if (m->tok[id].n) return err_set(e, DR_EFORMAT, "token %" PRId64 " appears twice", id);
    m->tok[id] = at, m->type[id] = type, m->score[id] = score;
    if (id >= m->n) m->n = id + 1;
    return DR_OK;
}

int tokd_nomem(const tokdata *m, dr_err *e)
{
    bool bad = m->text.bad || m->merges.bad || m->chat.bad || m->tail.bad || m->raw.bad;
    return bad ? err_nomem(e, m->text.n, "tokens") : DR_OK;
}

span *tokd_spans(const tokdata *m, const tok_place *p, int64_t n, dr_err *e)
{
    span *s = mem_zalloc((size_t)n + 1, sizeof *s);
    if (!s) { err_nomem(e, (size_t)n * sizeof *s, "tokens"); return NULL; }
    for (int64_t i = 0; i < n; i++) s[i] = tokd_text(m, p[i]);
    return s;
}

int64_t tokdata_find(const tokdata *m, const char *text)
{
    for (int64_t i = 0; i < m->n; i++)
        if (m->tok[i].n && span_is(tokd_text(m, m->tok[i]), text)) return i;
    return -1;
}

/* ---- into GGUF ---- */

static void put_id(gguf_writer *w, const char *key, int64_t id)
{
    if (id >= 0) gguf_put_u32(w, key, (uint32_t)id);
}

static void put_ids(const tokdata *m, gguf_writer *w)
{
    const struct { const char *key; int64_t id; } ids[] = {
        { "tokenizer.ggml.bos_token_id", m->bos }, { "tokenizer.ggml.eos_token_id", m->eos },
        { "tokenizer.ggml.eot_token_id", m->eot }, { "tokenizer.ggml.eom_token_id", m->eom },
        { "tokenizer.ggml.unknown_token_id", m->unk },
        { "tokenizer.ggml.padding_token_id", m->pad },
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) put_id(w, ids[i].key, ids[i].id);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", m->add_bos < 0 ? m->bos >= 0 : m->add_bos);
    if (m->no_prefix) gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", false);
    if (m->chat.n) gguf_put_str(w, "tokenizer.chat_template", buf_span(&m->chat));
    if (m->raw.n)
        gguf_put_u8s(w, "drover.tokenizer.model", (const uint8_t *)m->raw.p, m->raw.n);
    else if (m->tail.n)
        gguf_put_u8s(w, "drover.tokenizer.model_tail", (const uint8_t *)m->tail.p, m->tail.n);
}

int tokdata_put_gguf(const tokdata *m, gguf_writer *w, dr_err *e)
{
    enum { NAME = 24 };
    int rc = tokd_nomem(m, e);
    if (rc != DR_OK) return rc;
    int64_t n_merges = (int64_t)(m->merges.n / sizeof(tok_place));
    size_t V = (size_t)m->V;
    span *tok = tokd_spans(m, m->tok, m->V, e);
    span *merge = tokd_spans(m, (const tok_place *)(void *)m->merges.p, n_merges, e);
    int32_t *type = mem_alloc(V * sizeof *type);
    float *score = mem_alloc(V * sizeof *score);
    char (*pad)[NAME] = mem_alloc(V * sizeof *pad);
    if (tok && merge && type && score && pad) {
        for (size_t i = 0; i < V; i++) {
            type[i] = m->type[i], score[i] = m->score[i];
            if (m->tok[i].n) continue;
            snprintf(pad[i], NAME, "[PAD%zu]", i);
            tok[i] = span_of(pad[i]), type[i] = TOKD_UNUSED;
            score[i] = m->kind == TOKD_SPM ? -10000 : 0;
        }
        gguf_put_str(w, "tokenizer.ggml.model", span_of(m->kind == TOKD_SPM ? "llama" : "gpt2"));
        gguf_put_str(w, "tokenizer.ggml.pre", span_of(m->kind == TOKD_SPM ? "default" : m->pre));
        gguf_put_strs(w, "tokenizer.ggml.tokens", tok, V);
        gguf_put_i32s(w, "tokenizer.ggml.token_type", type, V);
        if (m->kind == TOKD_SPM) gguf_put_f32s(w, "tokenizer.ggml.scores", score, V);
        if (m->kind == TOKD_BPE)             /* of bytes alone: an empty list, not none */
            gguf_put_strs(w, "tokenizer.ggml.merges", merge, (uint64_t)n_merges);
        put_ids(m, w);
    } else {
        rc = err_nomem(e, V * 64, "tokens");
    }
    mem_free(tok);
    mem_free(merge);
    mem_free(type);
    mem_free(score);
    mem_free(pad);
    return rc;
}

/* ---- out of GGUF ---- */

static const gguf_kv *array(const gguf *g, const char *key, gguf_type elem)
{
    const gguf_kv *k = gguf_find(g, key);
    return k && k->type == GGUF_ARRAY && k->elem == elem ? k : NULL;
}

/* "[PAD32000]": what fills rows of the embedding that no token has. */
static bool is_filler(span s, int64_t id, int type)
{
    char name[32];
    snprintf(name, sizeof name, "[PAD%" PRId64 "]", id);
    return type == TOKD_UNUSED && span_is(s, name);
}

static int gguf_tokens(tokdata *m, const gguf *g, dr_err *e)
{
    const gguf_kv *tokens = array(g, "tokenizer.ggml.tokens", GGUF_STRING);
    const gguf_kv *types = array(g, "tokenizer.ggml.token_type", GGUF_I32);
    const gguf_kv *scores = array(g, "tokenizer.ggml.scores", GGUF_F32);
    if (!tokens) return err_set(e, DR_EFORMAT, "the file has no tokenizer.ggml.tokens");
    if ((types && types->n != tokens->n) || (scores && scores->n != tokens->n))
        return err_set(e, DR_EFORMAT, "%" PRIu64 " tokens, but their types or scores are of "
                       "another number", tokens->n);
    const uint8_t *at = tokens->at;
    int rc = DR_OK;
    for (uint64_t i = 0; rc == DR_OK && i < tokens->n; i++) {
        span s = gguf_array_str(&at);
        int32_t type = TOKD_NORMAL;
        float score = 0;
        if (types) memcpy(&type, types->at + 4 * i, 4);
        if (scores) memcpy(&score, scores->at + 4 * i, 4);
        if (type < TOKD_NORMAL || type > TOKD_BYTE)
            rc = err_set(e, DR_EFORMAT, "token %" PRIu64 " is of the unknown type %d", i, type);
        else if (s.n && !is_filler(s, (int64_t)i, type))
            rc = tokd_set(m, (int64_t)i, tokd_keep(m, s.p, s.n), type, score, e);
    }
    return rc;
}

static void gguf_bytes(const gguf *g, const char *key, buf *to)
{
    const gguf_kv *k = array(g, key, GGUF_U8);
    if (k) buf_put(to, k->at, k->bytes);
}

static void gguf_ids(tokdata *m, const gguf *g)
{
    const struct { const char *key; int64_t *to; } ids[] = {
        { "tokenizer.ggml.bos_token_id", &m->bos }, { "tokenizer.ggml.eos_token_id", &m->eos },
        { "tokenizer.ggml.eot_token_id", &m->eot }, { "tokenizer.ggml.eom_token_id", &m->eom },
        { "tokenizer.ggml.unknown_token_id", &m->unk },
        { "tokenizer.ggml.padding_token_id", &m->pad },
    };
    uint64_t v;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (gguf_get_u64(g, ids[i].key, &v) && v < (uint64_t)m->n) *ids[i].to = (int64_t)v;
    bool b;
    span s;
    if (gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &b)) m->add_bos = b;
    if (gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &b)) m->no_prefix = !b;
    if (gguf_get_str(g, "tokenizer.chat_template", &s)) buf_put(&m->chat, s.p, s.n);
    gguf_bytes(g, "drover.tokenizer.model", &m->raw);
    gguf_bytes(g, "drover.tokenizer.model_tail", &m->tail);
}

int tokdata_from_gguf(tokdata *m, const gguf *g, dr_err *e)
{
    span model, pre;
    if (!gguf_get_str(g, "tokenizer.ggml.model", &model) || span_is(model, "none")) return DR_OK;
    m->kind = span_is(model, "llama") ? TOKD_SPM : TOKD_BPE;
    if (m->kind == TOKD_BPE && !span_is(model, "gpt2"))
        return err_set(e, DR_EUNSUPPORTED, "a tokenizer of the kind \"" SPAN_FMT "\"; gpt2 and "
                       "llama are known", SPAN_ARG(model));
    int rc = gguf_tokens(m, g, e);
    if (rc != DR_OK) return rc;
    gguf_ids(m, g);
    if (m->kind == TOKD_SPM) return tokd_nomem(m, e);
    const gguf_kv *merges = array(g, "tokenizer.ggml.merges", GGUF_STRING);
    if (!merges || !gguf_get_str(g, "tokenizer.ggml.pre", &pre) || pre.n >= sizeof m->pre)
        return err_set(e, DR_EFORMAT, "the file's tokenizer has no merges or no pre-tokeniser");
    snprintf(m->pre, sizeof m->pre, SPAN_FMT, SPAN_ARG(pre));
    m->whole = span_is(pre, "llama-bpe") || span_is(pre, "llama3") || span_is(pre, "llama-v3") ||
               span_is(pre, "tekken");
    const uint8_t *at = merges->at;
    for (uint64_t i = 0; i < merges->n; i++) {
        span s = gguf_array_str(&at);
        tok_place p = tokd_keep(m, s.p, s.n);
        buf_put(&m->merges, &p, sizeof p);
    }
    return tokd_nomem(m, e);
}
