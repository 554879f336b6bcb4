/* synth_tok_file.c - GGUF's tokenizer metadata from a tokenizer.model or tokenizer.json.
 *
 * Strings are gathered in one buffer as places in it, because it moves while it grows, and
 * become spans when all are there. Ids that the file leaves open are [PADn]. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include "base/buf.h"
#include "base/mem.h"
#include "format/json.h"
#include "format/names.h"
#include "pack/synth_priv.h"

enum { NORMAL = 1, CONTROL = 3, USER = 4, UNUSED = 5 };           // GGUF's token types
#define TEXT_MAX ((size_t)256 << 20)

typedef struct { size_t at, n; } place;
typedef struct {
    buf text, merges;                /* merges: places */
    place *tok;                      /* n 0: none yet */
    int32_t *type;
    float *score;
    int64_t V, n;                    /* rows of the model; 1 + the largest id given */
    const char *model, *pre;
    bool scores;
    int64_t bos, eos, unk;           /* -1: none */
} made;

static int made_init(made *m, int64_t V, dr_err *e)
{
    *m = (made){ .V = V, .bos = -1, .eos = -1, .unk = -1 };
    buf_init(&m->text, TEXT_MAX);
    buf_init(&m->merges, TEXT_MAX);
    m->tok = mem_zalloc((size_t)V, sizeof *m->tok);
    m->type = mem_zalloc((size_t)V, sizeof *m->type);
    m->score = mem_zalloc((size_t)V, sizeof *m->score);
    return m->tok && m->type && m->score ? DR_OK : err_nomem(e, (size_t)V * 24, "tokens");
}

static void made_free(made *m)
{
    buf_free(&m->text);
    buf_free(&m->merges);
    mem_free(m->tok);
    mem_free(m->type);
    mem_free(m->score);
}

static place keep(made *m, const char *p, size_t n)
{
    place at = { m->text.n, n };
    buf_put(&m->text, p, n);
    return at;
}

static int set(made *m, int64_t id, place at, int type, float score, dr_err *e)
{
    if (id < 0 || id >= m->V)
        return err_set(e, DR_EINVAL, "the tokenizer has token %" PRId64 ", but the shape's "
                       "vocabulary is %" PRId64, id, m->V);
    if (m->tok[id].n) return err_set(e, DR_EFORMAT, "token %" PRId64 " appears twice", id);
    m->tok[id] = at, m->type[id] = type, m->score[id] = score;
    if (id >= m->n) m->n = id + 1;
    return DR_OK;
}

static span *spans(const made *m, const place *p, int64_t n, dr_err *e)
{
    span *s = mem_zalloc((size_t)n, sizeof *s);
    if (!s) { err_nomem(e, (size_t)n * sizeof *s, "tokens"); return NULL; }
    for (int64_t i = 0; i < n; i++) s[i] = (span){ m->text.p + p[i].at, p[i].n };
    return s;
}

static void put_id(gguf_writer *w, const char *key, int64_t id)
{
    if (id >= 0) gguf_put_u32(w, key, (uint32_t)id);
}

static int put(gguf_writer *w, made *m, dr_err *e)
{
    for (int64_t i = 0; i < m->V; i++) {
        if (m->tok[i].n) continue;
        char name[32];
        int n = snprintf(name, sizeof name, "[PAD%" PRId64 "]", i);
        m->tok[i] = keep(m, name, (size_t)n);
        m->type[i] = UNUSED;
    }
    if (m->text.bad || m->merges.bad) return err_nomem(e, m->text.n, "tokens");
    int64_t n_merges = (int64_t)(m->merges.n / sizeof(place));
    span *tok = spans(m, m->tok, m->V, e);
    span *merge = spans(m, (const place *)(void *)m->merges.p, n_merges, e);
    if (tok && merge) {
        gguf_put_str(w, "tokenizer.ggml.model", span_of(m->model));
        gguf_put_str(w, "tokenizer.ggml.pre", span_of(m->pre));
        gguf_put_strs(w, "tokenizer.ggml.tokens", tok, (uint64_t)m->V);
        gguf_put_i32s(w, "tokenizer.ggml.token_type", m->type, (uint64_t)m->V);
        if (m->scores) gguf_put_f32s(w, "tokenizer.ggml.scores", m->score, (uint64_t)m->V);
        if (n_merges) gguf_put_strs(w, "tokenizer.ggml.merges", merge, (uint64_t)n_merges);
        put_id(w, "tokenizer.ggml.bos_token_id", m->bos);
        put_id(w, "tokenizer.ggml.eos_token_id", m->eos);
        put_id(w, "tokenizer.ggml.unknown_token_id", m->unk);
        gguf_put_bool(w, "tokenizer.ggml.add_bos_token", m->bos >= 0);
    }
    int rc = tok && merge ? DR_OK : DR_ENOMEM;
    mem_free(tok);
    mem_free(merge);
    return rc;
}

/* ---- tiktoken text: "base64 rank" a line ---- */

/* GPT-2's letters for bytes: printable Latin-1 as itself, the rest from U+0100 on. */
static void put_byte(buf *b, uint8_t c)
{
    unsigned u = c;
    if (!((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || c >= 174))
        u = c <= 32 ? 256u + c : c <= 160 ? 256u + 33 + (c - 127u) : 256u + 67;
    if (u < 128) {
        buf_putc(b, (char)u);
    } else {
        buf_putc(b, (char)(0xC0 | u >> 6));
        buf_putc(b, (char)(0x80 | (u & 63)));
    }
}

static place keep_bytes(made *m, const span *s, int n)
{
    place at = { m->text.n, 0 };
    for (int k = 0; k < n; k++) {
        if (k) buf_putc(&m->text, ' ');
        for (size_t i = 0; i < s[k].n; i++) put_byte(&m->text, (uint8_t)s[k].p[i]);
    }
    at.n = m->text.n - at.at;
    return at;
}

static int base64(int c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 :
           c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Tokens of ranks 0, 1, … into raw, their bytes into *bytes. */
static int64_t read_ranks(span file, span *raw, int64_t most, buf *bytes, dr_err *e)
{
    int64_t n = 0;
    for (size_t i = 0; i < file.n; n++) {
        size_t start = bytes->n, bits = 0, have = 0;
        for (; i < file.n && base64(file.p[i]) >= 0; i++) {
            bits = bits << 6 | (size_t)base64(file.p[i]);
            if ((have += 6) >= 8) buf_putc(bytes, (char)(bits >> (have -= 8)));
        }
        while (i < file.n && file.p[i] == '=') i++;
        int64_t rank = 0;
        if (i >= file.n || file.p[i++] != ' ') rank = -1;
        for (; rank >= 0 && i < file.n && file.p[i] != '\n'; i++)
            rank = file.p[i] >= '0' && file.p[i] <= '9' && rank < 1 << 24 ?
                   rank * 10 + file.p[i] - '0' : -1;
        if (rank != n || n >= most || bytes->n == start) {
            err_set(e, DR_EFORMAT, "line %" PRId64 " is not \"base64 %" PRId64 "\", or the shape's "
                    "vocabulary is smaller than that", n + 1, n);
            return -1;
        }
        i++;
        raw[n] = (span){ (const char *)start, bytes->n - start };     // a place, for now
    }
    for (int64_t k = 0; k < n; k++) raw[k].p = bytes->p + (size_t)raw[k].p;
    return bytes->bad ? err_nomem(e, bytes->n, "tokens"), -1 : n;
}

/* Every way to cut a token into two tokens is a merge: tiktoken joins any two neighbours that
 * together are a token. In the order of the left part's rank, then the right's, as Hugging
 * Face's converter lists them. */
static void put_splits(made *m, const name_index *x, const span *raw, int64_t rank)
{
    enum { LONGEST = 256 };
    struct { uint32_t a, b; } cut[LONGEST];
    span s = raw[rank];
    int n = 0;
    for (size_t i = 1; i < s.n && n < LONGEST; i++) {
        uint32_t a = *names_at(x, raw, sizeof *raw, (span){ s.p, i });
        uint32_t b = *names_at(x, raw, sizeof *raw, (span){ s.p + i, s.n - i });
        if (!a || !b) continue;
        int k = n++;
        for (; k > 0 && (cut[k - 1].a > a || (cut[k - 1].a == a && cut[k - 1].b > b)); k--)
            cut[k] = cut[k - 1];
        cut[k].a = a, cut[k].b = b;
    }
    for (int k = 0; k < n; k++) {
        span part[2] = { raw[cut[k].a - 1], raw[cut[k].b - 1] };
        place at = keep_bytes(m, part, 2);
        buf_put(&m->merges, &at, sizeof at);
    }
}

/* Llama 3.1's control tokens, which the file does not name (llama-models tokenizer.py). */
static int put_llama3_special(made *m, int64_t first, dr_err *e)
{
    static const char *const name[] = {
        "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
        "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>",
        "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
        "<|eot_id|>", "<|python_tag|>",
    };
    enum { NAMED = sizeof name / sizeof *name };
    int rc = DR_OK;
    for (int i = 0; rc == DR_OK && i < 256; i++) {
        char s[48];
        if (i < NAMED) snprintf(s, sizeof s, "%s", name[i]);
        else snprintf(s, sizeof s, "<|reserved_special_token_%d|>", i - NAMED + 3);
        rc = set(m, first + i, keep(m, s, strlen(s)), CONTROL, 0, e);
    }
    m->bos = first, m->eos = first + 9;
    return rc;
}

static int from_tiktoken(made *m, span file, dr_err *e)
{
    buf bytes;
    buf_init(&bytes, TEXT_MAX);
    span *raw = mem_zalloc((size_t)m->V, sizeof *raw);
    uint32_t *slot = mem_zalloc(names_slots((uint64_t)m->V), sizeof *slot);
    int rc = raw && slot ? DR_OK : err_nomem(e, (size_t)m->V * sizeof *raw, "tokens");
    int64_t n = rc == DR_OK ? read_ranks(file, raw, m->V, &bytes, e) : -1;
    if (n < 0 && rc == DR_OK) rc = DR_EFORMAT;
    name_index x = names_make(slot, (uint64_t)m->V);
    for (int64_t r = 0; rc == DR_OK && r < n; r++) {
        *names_at(&x, raw, sizeof *raw, raw[r]) = (uint32_t)r + 1;
        rc = set(m, r, keep_bytes(m, &raw[r], 1), NORMAL, 0, e);
    }
    for (int64_t r = 0; rc == DR_OK && r < n; r++) put_splits(m, &x, raw, r);
    m->model = "gpt2", m->pre = "llama-bpe";
    if (rc == DR_OK) rc = put_llama3_special(m, n, e);
    mem_free(raw);
    mem_free(slot);
    buf_free(&bytes);
    return rc;
}

/* ---- SentencePiece: a protobuf whose field 1 repeats {1: piece, 2: score, 3: type} ---- */

static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t c = *(*p)++;
        *v |= (uint64_t)(c & 127) << shift;
        if (c < 128) return true;
    }
    return false;
}

/* One field: its number, and its bytes (a varint's value is in *v). */
static bool field(const uint8_t **p, const uint8_t *end, uint64_t *no, uint64_t *v, span *s)
{
    uint64_t key, n;
    if (!varint(p, end, &key)) return false;
    *no = key >> 3, *v = 0;
    switch (key & 7) {
    case 0: n = 0; if (!varint(p, end, v)) return false; break;
    case 1: n = 8; break;
    case 2: if (!varint(p, end, &n)) return false; break;
    case 5: n = 4; break;
    default: return false;
    }
    if (n > (uint64_t)(end - *p)) return false;
    *s = (span){ (const char *)*p, (size_t)n };
    *p += n;
    return true;
}

static int from_spm(made *m, span file, dr_err *e)
{
    const uint8_t *p = (const uint8_t *)file.p, *end = p + file.n;
    uint64_t no, v;
    span s;
    int64_t id = 0;
    int rc = DR_OK;
    while (rc == DR_OK && p < end) {
        if (!field(&p, end, &no, &v, &s))
            return err_set(e, DR_EFORMAT, "broken SentencePiece file");
        if (no != 1) continue;
        const uint8_t *q = (const uint8_t *)s.p, *stop = q + s.n;
        span piece = { "", 0 }, f;
        float score = 0;
        int type = NORMAL;
        while (q < stop) {
            if (!field(&q, stop, &no, &v, &f))
                return err_set(e, DR_EFORMAT, "broken SentencePiece file");
            if (no == 1) piece = f;
            else if (no == 2 && f.n == 4) memcpy(&score, f.p, 4);
            else if (no == 3 && v <= 6) type = (int)v;
        }
        if (type == 2) m->unk = id;
        else if (type == CONTROL && span_is(piece, "<s>")) m->bos = id;
        else if (type == CONTROL && span_is(piece, "</s>")) m->eos = id;
        rc = set(m, id++, keep(m, piece.p, piece.n), type, score, e);
    }
    m->model = "llama", m->pre = "default", m->scores = true;
    return rc == DR_OK && id == 0 ? err_set(e, DR_EFORMAT, "not a tokenizer file") : rc;
}

/* ---- tokenizer.json: byte-level BPE ---- */

/* llama.cpp's name of the pre-tokeniser, by what tells the known ones apart. */
static const char *pre_name(const json_t *pre)
{
    const json_t *list = json_object_get(pre, "pretokenizers"), *p;
    size_t i;
    bool digits = false;
    json_array_foreach((json_t *)list, i, p) {
        const char *re = json_string_value(json_object_get(json_object_get(p, "pattern"), "Regex"));
        if (re && strstr(re, "\\p{N}{1,3}") && strstr(re, "[^\\r\\n\\p{L}\\p{N}]?"))
            return "llama-bpe";
        if (re) return NULL;
        const char *type = json_string_value(json_object_get(p, "type"));
        digits |= type && !strcmp(type, "Digits") &&
                  json_is_true(json_object_get(p, "individual_digits"));
    }
    return digits ? "smollm" : "gpt-2";
}

static int json_merges(made *m, const json_t *merges, dr_err *e)
{
    const json_t *j;
    size_t i;
    json_array_foreach((json_t *)merges, i, j) {
        const char *a = json_string_value(json_is_array(j) ? json_array_get(j, 0) : j);
        const char *b = json_string_value(json_array_get(j, 1));
        if (!a || (json_is_array(j) && !b))
            return err_set(e, DR_EFORMAT, "merge %zu is broken", i);
        place at = keep(m, a, strlen(a));
        if (b) {
            keep(m, " ", 1);
            keep(m, b, strlen(b));
        }
        at.n = m->text.n - at.at;
        buf_put(&m->merges, &at, sizeof at);
    }
    return DR_OK;
}

static int from_json(made *m, span file, dr_err *e)
{
    static const char *const bos[] = { "<|begin_of_text|>", "<s>", "<|im_start|>" };
    static const char *const eos[] = { "<|eot_id|>", "<|im_end|>", "<|end_of_text|>", "</s>",
                                       "<|endoftext|>" };
    json_t *root = json_read(file.p, file.n, 64 * file.n, "tokenizer.json", e);
    if (!root) return DR_EFORMAT;
    const json_t *model = json_object_get(root, "model"), *j;
    const char *type = json_string_value(json_object_get(model, "type")), *name;
    int rc = DR_OK;
    m->model = "gpt2", m->pre = pre_name(json_object_get(root, "pre_tokenizer"));
    if (!type || strcmp(type, "BPE") || json_is_true(json_object_get(model, "byte_fallback")) ||
        !m->pre)
        rc = err_set(e, DR_EUNSUPPORTED, "only byte-level BPE with a known splitter can be copied "
                     "from a tokenizer.json; name a tokenizer.model or a GGUF file");
    json_object_foreach((json_t *)json_object_get(model, "vocab"), name, j)
        if (rc == DR_OK)
            rc = set(m, json_is_integer(j) ? json_integer_value(j) : -1,
                     keep(m, name, strlen(name)), NORMAL, 0, e);
    size_t i;
    json_array_foreach((json_t *)json_object_get(root, "added_tokens"), i, j) {
        const char *s = json_string_value(json_object_get(j, "content"));
        int64_t id = json_integer_value(json_object_get(j, "id"));
        if (rc != DR_OK || !s) continue;
        if (id >= 0 && id < m->V) m->tok[id].n = 0;     // the list overrules the vocabulary
        rc = set(m, id, keep(m, s, strlen(s)),
                 json_is_true(json_object_get(j, "special")) ? CONTROL : USER, 0, e);
        for (size_t k = sizeof bos / sizeof *bos; k-- > 0;)
            if (!strcmp(s, bos[k])) m->bos = id;
    }
    for (size_t k = sizeof eos / sizeof *eos; rc == DR_OK && k-- > 0;)
        for (int64_t id = 0; id < m->n; id++)
            if (m->tok[id].n == strlen(eos[k]) && m->type[id] == CONTROL && !m->text.bad &&
                !memcmp(m->text.p + m->tok[id].at, eos[k], m->tok[id].n)) m->eos = id;
    if (rc == DR_OK) rc = json_merges(m, json_object_get(model, "merges"), e);
    json_decref(root);
    return rc;
}

int synth_put_tokenizer_file(gguf_writer *w, span file, int64_t V, dr_err *e)
{
    made m;
    int rc = made_init(&m, V, e);
    const char *nl = memchr(file.p, '\n', file.n < 512 ? file.n : 512);
    bool text = nl && file.n && base64(*file.p) >= 0 && memchr(file.p, ' ', (size_t)(nl - file.p));
    if (rc == DR_OK && file.n && *file.p == '{') rc = from_json(&m, file, e);
    else if (rc == DR_OK && text) rc = from_tiktoken(&m, file, e);
    else if (rc == DR_OK) rc = from_spm(&m, file, e);
    if (rc == DR_OK) rc = put(w, &m, e);
    made_free(&m);
    return rc;
}
