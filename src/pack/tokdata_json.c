/* tokdata_json.c - see tokdata.h: Hugging Face's tokenizer.json and tokenizer_config.json, read.
 * Byte-level BPE, and BPE over characters with byte fall-back as converters make it of a
 * SentencePiece model. */
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "format/json.h"
#include "pack/tokdata_priv.h"
#include "text/split.h"

json_t *tokd_json_root(span file, bool wide, const char *what, dr_err *e)
{
    size_t most = (size_t)2 << 30, budget = file.n < most / 64 ? 64 * file.n + 4096 : most;
    return wide ? json_read_wide(file.p, file.n, budget, what, e)
                : json_read(file.p, file.n, budget, what, e);
}

/* llama.cpp's name of the splitter, from the steps of pre_tokenizer; NULL: none of the known. */
static const char *pre_name(const json_t *pre)
{
    static const struct { const char *regex, *name; } known[] = {
        { split_llama3_regex, "llama-bpe" }, { split_qwen2_regex, "qwen2" },
        { split_tekken_regex, "tekken" }, { split_gpt2_regex, "gpt-2" },
    };
    const json_t *list = json_object_get(pre, "pretokenizers"), *p;
    size_t i;
    bool digits = false;
    json_array_foreach((json_t *)list, i, p) {
        const char *re = json_string_value(json_object_get(json_object_get(p, "pattern"), "Regex"));
        for (size_t k = 0; re && k < sizeof known / sizeof *known; k++)
            if (!strcmp(re, known[k].regex)) return known[k].name;
        if (re) return NULL;
        const char *type = json_string_value(json_object_get(p, "type"));
        digits |= type && !strcmp(type, "Digits") &&
                  json_is_true(json_object_get(p, "individual_digits"));
    }
    return digits ? "smollm" : "gpt-2";
}

static int read_merges(tokdata *m, const json_t *merges, dr_err *e)
{
    const json_t *j;
    size_t i;
    json_array_foreach((json_t *)merges, i, j) {
        const char *a = json_string_value(json_is_array(j) ? json_array_get(j, 0) : j);
        const char *b = json_string_value(json_array_get(j, 1));
        if (!a || (json_is_array(j) && !b))
            return err_set(e, DR_EFORMAT, "merge %zu is broken", i);
        tok_place at = tokd_keep(m, a, strlen(a));
        if (b) {
            tokd_keep(m, " ", 1);
            tokd_keep(m, b, strlen(b));
        }
        at.n = m->text.n - at.at;
        buf_put(&m->merges, &at, sizeof at);
    }
    return tokd_nomem(m, e);
}

static int read_tokens(tokdata *m, const json_t *root, const json_t *vocab, dr_err *e)
{
    const char *name;
    const json_t *j;
    int rc = DR_OK;
    json_object_foreach((json_t *)vocab, name, j) {
        bool byte = m->kind == TOKD_SPM && strlen(name) == 6 && !strncmp(name, "<0x", 3);
        if (rc == DR_OK && *name)
            rc = tokd_set(m, json_is_integer(j) ? json_integer_value(j) : -1,
                          tokd_keep(m, name, strlen(name)), byte ? TOKD_BYTE : TOKD_NORMAL, 0, e);
    }
    size_t i;
    json_array_foreach((json_t *)json_object_get(root, "added_tokens"), i, j) {
        const char *s = json_string_value(json_object_get(j, "content"));
        int64_t id = json_integer_value(json_object_get(j, "id"));
        if (rc != DR_OK || !s || !*s) continue;
        if (id >= 0 && id < m->V) m->tok[id].n = 0;     // the list overrules the vocabulary
        rc = tokd_set(m, id, tokd_keep(m, s, strlen(s)), json_is_true(json_object_get(j, "special")) ?
                      TOKD_CONTROL : TOKD_USER, 0, e);
    }
    return rc;
}

/* The token that a post-processor puts in front; -1: none. */
static int64_t first_token(const tokdata *m, const json_t *post)
{
    const json_t *list = json_object_get(post, "processors"), *p;
    size_t i;
    json_array_foreach((json_t *)list, i, p) {
        int64_t id = first_token(m, p);
        if (id >= 0) return id;
    }
    const json_t *step = json_array_get(json_object_get(post, "single"), 0);
    const char *s = json_string_value(json_object_get(json_object_get(step, "SpecialToken"), "id"));
    return s ? tokdata_find(m, s) : -1;
}

/* Names by which Llama's family calls its ends and its beginning, the likeliest first. */
static void guess_ids(tokdata *m)
{
    static const char *const bos[] = { "<|begin_of_text|>", "<s>", "<|im_start|>", NULL };
    static const char *const eos[] = { "<|end_of_text|>", "</s>", "<|im_end|>", "<|endoftext|>",
                                       NULL };
    static const char *const eot[] = { "<|eot_id|>", NULL }, *const eom[] = { "<|eom_id|>", NULL };
    const struct { int64_t *to; const char *const *name; } all[] = {
        { &m->bos, bos }, { &m->eos, eos }, { &m->eot, eot }, { &m->eom, eom },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int k = 0; *all[i].to < 0 && all[i].name[k]; k++) {
            int64_t id = tokdata_find(m, all[i].name[k]);
            if (id >= 0 && m->type[id] == TOKD_CONTROL) *all[i].to = id;
        }
}

/* Pieces get scores that put merges into the order of the list: a piece's is minus the number of
 * pieces that merges make before it. All merges of a piece must stand together. */
static int scores_of_merges(tokdata *m, dr_err *e)
{
    int64_t n = (int64_t)(m->merges.n / sizeof(tok_place));
    uint32_t *slot = mem_zalloc(names_slots((uint64_t)m->V), sizeof *slot);
    span *tok = tokd_spans(m, m->tok, m->V, e);
    buf word = { .cap_max = TOKD_TEXT_MAX };
    int rc = slot && tok ? DR_OK : err_nomem(e, (size_t)m->V * 24, "tokens");
    name_index x = names_make(slot, (uint64_t)m->V);
    for (int64_t i = 0; rc == DR_OK && i < m->n; i++)
        if (tok[i].n) *names_at(&x, tok, sizeof *tok, tok[i]) = (uint32_t)i + 1;
    int64_t last = -1, count = 0;
    for (int64_t i = 0; rc == DR_OK && i < m->n; i++) m->score[i] = 0;
    for (int64_t i = 0; rc == DR_OK && i < n; i++) {
        tok_place p;
        memcpy(&p, m->merges.p + (size_t)i * sizeof p, sizeof p);
        span s = tokd_text(m, p);
        const char *sp = memchr(s.p, ' ', s.n);
        buf_reset(&word);
        buf_put(&word, s.p, sp ? (size_t)(sp - s.p) : s.n);
        if (sp) buf_put(&word, sp + 1, (size_t)(s.p + s.n - sp - 1));
        int64_t id = (int64_t)*names_at(&x, tok, sizeof *tok, buf_span(&word)) - 1;
        if (id == last && id >= 0) continue;
        if (word.bad) rc = err_nomem(e, word.n, "merges");
        else if (id < 0 || m->score[id] != 0)
            rc = err_set(e, DR_EUNSUPPORTED, "its merges follow no order of pieces, as GGUF's and "
                         "SentencePiece's must; a tokenizer.model beside it would do");
        else m->score[id] = -(float)++count, last = id;
    }
    for (int64_t i = 0; rc == DR_OK && i < m->n; i++)
        if (m->score[i] == 0 && m->type[i] == TOKD_NORMAL) m->score[i] = -(float)(count + 1 + i);
    buf_free(&word);
    mem_free(slot);
    mem_free(tok);
    return rc;
}

static int read_model(tokdata *m, const json_t *root, dr_err *e)
{
    const json_t *model = json_object_get(root, "model");
    const char *type = json_string_value(json_object_get(model, "type")), *unk;
    const char *pre = pre_name(json_object_get(root, "pre_tokenizer"));
    m->kind = json_is_true(json_object_get(model, "byte_fallback")) ? TOKD_SPM : TOKD_BPE;
    if (!type || strcmp(type, "BPE") || (m->kind == TOKD_BPE && !pre))
        return err_set(e, DR_EUNSUPPORTED, "only BPE with a known splitter can be carried from a "
                       "tokenizer.json");
    m->whole = json_is_true(json_object_get(model, "ignore_merges"));
    if (m->kind == TOKD_BPE) snprintf(m->pre, sizeof m->pre, "%s", pre);
    int rc = read_tokens(m, root, json_object_get(model, "vocab"), e);
    if (rc == DR_OK) rc = read_merges(m, json_object_get(model, "merges"), e);
    if (rc == DR_OK && m->kind == TOKD_SPM) rc = scores_of_merges(m, e);
    if (rc == DR_OK && (unk = json_string_value(json_object_get(model, "unk_token"))))
        m->unk = tokdata_find(m, unk);
    if (m->kind == TOKD_SPM && m->unk >= 0) m->type[m->unk] = TOKD_UNKNOWN;
    return rc;
}

int tokd_from_json(tokdata *m, span file, dr_err *e)
{
    json_t *root = tokd_json_root(file, false, "tokenizer.json", e);
    if (!root) return e && e->code ? e->code : DR_EFORMAT;
    int rc = read_model(m, root, e);
    if (rc == DR_OK) {
        m->bos = first_token(m, json_object_get(root, "post_processor"));
        if (m->bos >= 0) m->add_bos = 1;
        guess_ids(m);
        /* Llama 3's first tokenizer.json left the BOS to its callers; the model needs it. */
        if (m->add_bos < 0) m->add_bos = !strcmp(m->pre, "llama-bpe");
    }
    json_decref(root);
    return rc;
}

int tokdata_added(tokdata *m, span file, dr_err *e)
{
    json_t *root = tokd_json_root(file, false, "tokenizer.json", e);
    if (!root) return e && e->code ? e->code : DR_EFORMAT;
    const json_t *j;
    size_t i;
    int rc = DR_OK;
    int64_t own = m->n;
    json_array_foreach(json_object_get(root, "added_tokens"), i, j) {
        const char *s = json_string_value(json_object_get(j, "content"));
        int64_t id = json_integer_value(json_object_get(j, "id"));
        if (rc != DR_OK || !s || !*s || id < own) continue;
        rc = tokd_set(m, id, tokd_keep(m, s, strlen(s)), json_is_true(json_object_get(j, "special")) ?
                      TOKD_CONTROL : TOKD_USER, 0, e);
    }
    json_decref(root);
    return rc == DR_OK ? tokd_nomem(m, e) : rc;
}

/* "bos_token": "<s>" or {"content": "<s>"}. */
static void named(const tokdata *m, const json_t *config, const char *key, int64_t *to)
{
    const json_t *j = json_object_get(config, key);
    if (json_is_object(j)) j = json_object_get(j, "content");
    int64_t id = json_is_string(j) ? tokdata_find(m, json_string_value(j)) : -1;
    if (id >= 0) *to = id;
}

static void tokdata_config(tokdata *m, const json_t *config)
{
    named(m, config, "bos_token", &m->bos);
    named(m, config, "eos_token", &m->eos);
    named(m, config, "pad_token", &m->pad);
    const json_t *add = json_object_get(config, "add_bos_token");
    const json_t *chat = json_object_get(config, "chat_template");
    if (json_is_boolean(add)) m->add_bos = json_is_true(add);
    if (json_is_string(chat)) {
        buf_reset(&m->chat);
        buf_put(&m->chat, json_string_value(chat), json_string_length(chat));
    }
}

int tokdata_config_file(tokdata *m, span file, dr_err *e)
{
    json_t *c = tokd_json_root(file, true, "tokenizer_config.json", e);
    if (!c) return e && e->code ? e->code : DR_EFORMAT;
    tokdata_config(m, c);
    json_decref(c);
    return tokd_nomem(m, e);
}
