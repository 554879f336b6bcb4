/* tokdata_read.c - see tokdata.h: tokenizer.model and tokenizer.json. */
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "pack/tokdata_priv.h"

/* ---- tiktoken text: "base64 rank" a line ---- */

/* GPT-2's letters for bytes: printable Latin-1 as itself, the rest from U+0100 on. */
void tokd_put_byte(buf *b, uint8_t c)
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

static tok_place keep_bytes(tokdata *m, const span *s, int n)
{
    tok_place at = { m->text.n, 0 };
    for (int k = 0; k < n; k++) {
        if (k) buf_putc(&m->text, ' ');
        for (size_t i = 0; i < s[k].n; i++) tokd_put_byte(&m->text, (uint8_t)s[k].p[i]);
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
        if (bytes->bad) break;
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
static void put_splits(tokdata *m, const name_index *x, const span *raw, int64_t rank)
{
    struct { uint32_t a, b; } cut[TOKD_LONGEST];
    span s = raw[rank];
    int n = 0;
    for (size_t i = 1; i < s.n && s.n <= TOKD_LONGEST; i++) {
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
        tok_place at = keep_bytes(m, part, 2);
        buf_put(&m->merges, &at, sizeof at);
    }
}

int tokd_merges_of_ranks(tokdata *m, const span *raw, int64_t n, dr_err *e)
{
    uint32_t *slot = mem_zalloc(names_slots((uint64_t)n), sizeof *slot);
    if (!slot) return err_nomem(e, (size_t)n * sizeof *slot, "tokens");
    name_index x = names_make(slot, (uint64_t)n);
    for (int64_t r = 0; r < n; r++) *names_at(&x, raw, sizeof *raw, raw[r]) = (uint32_t)r + 1;
    for (int64_t r = 0; r < n; r++) put_splits(m, &x, raw, r);
    mem_free(slot);
    return tokd_nomem(m, e);
}

/* Llama 3.1's control tokens, which the file does not name, as Hugging Face calls them. */
static const char *const control_names[] = {
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
    "<|eot_id|>", "<|python_tag|>",
};
enum { NAMED = sizeof control_names / sizeof *control_names };

bool tokd_is_llama3_control(span s, int k)
{
    static const char reserved[] = "<|reserved_special_token_";
    if (s.n > sizeof reserved && !memcmp(s.p, reserved, sizeof reserved - 1))
        return k > 1 && k != 6 && k != 7 && k != 9;      // Llama 3.0 has fewer names
    /* llama-models tokenizer.py has two more names than the first files */
    return k < NAMED ? span_is(s, control_names[k]) || (k == 5 && span_is(s, "<|step_id|>")) :
           k == NAMED && span_is(s, "<|image|>");
}

static int put_llama3_special(tokdata *m, int64_t first, dr_err *e)
{
    int rc = DR_OK;
    for (int i = 0; rc == DR_OK && i < TOKD_CONTROLS; i++) {
        char s[48];
        if (i < NAMED) snprintf(s, sizeof s, "%s", control_names[i]);
        else snprintf(s, sizeof s, "<|reserved_special_token_%d|>", i - NAMED + 3);
        rc = tokd_set(m, first + i, tokd_keep(m, s, strlen(s)), TOKD_CONTROL, 0, e);
    }
    /* Meta's program ends at all three; its own name for the end is <|end_of_text|>. */
    m->bos = first, m->eos = first + 1, m->eom = first + 8, m->eot = first + 9;
    return rc;
}

/* Does the form that tokdata_model writes give the file back? Otherwise the file is kept. */
static int keep_raw(tokdata *m, span file, dr_err *e)
{
    buf again = { .cap_max = TOKD_TEXT_MAX };
    int rc = tokdata_model(m, &again, NULL);
    if (rc == DR_ENOMEM || again.bad) rc = err_nomem(e, file.n, "tokens");
    else if (rc != DR_OK || !span_eq(buf_span(&again), file)) {
        buf_put(&m->raw, file.p, file.n);
        rc = tokd_nomem(m, e);
    }
    buf_free(&again);
    return rc;
}

static int from_tiktoken(tokdata *m, span file, dr_err *e)
{
    buf bytes;
    buf_init(&bytes, TOKD_TEXT_MAX);
    span *raw = mem_zalloc((size_t)m->V, sizeof *raw);
    int rc = raw ? DR_OK : err_nomem(e, (size_t)m->V * sizeof *raw, "tokens");
    int64_t n = rc == DR_OK ? read_ranks(file, raw, m->V, &bytes, e) : -1;
    if (n < 0 && rc == DR_OK) rc = bytes.bad ? DR_ENOMEM : DR_EFORMAT;
    for (int64_t r = 0; rc == DR_OK && r < n; r++)
        rc = tokd_set(m, r, keep_bytes(m, &raw[r], 1), TOKD_NORMAL, 0, e);
    if (rc == DR_OK) rc = tokd_merges_of_ranks(m, raw, n, e);
    m->kind = TOKD_BPE, m->whole = true, m->add_bos = 1;
    snprintf(m->pre, sizeof m->pre, "llama-bpe");
    if (rc == DR_OK) rc = put_llama3_special(m, n, e);
    if (rc == DR_OK) rc = tokd_nomem(m, e);
    mem_free(raw);
    buf_free(&bytes);
    return rc == DR_OK ? keep_raw(m, file, e) : rc;
}

/* ---- SentencePiece: a protobuf whose field 1 repeats ---- */

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

/* A piece's message: {1: piece, 2: score, 3: type}. */
static int read_piece(tokdata *m, int64_t id, span message, dr_err *e)
{
    const uint8_t *q = (const uint8_t *)message.p, *stop = q + message.n;
    span piece = { "", 0 }, f;
    float score = 0;
    uint64_t no, v;
    int type = TOKD_NORMAL;
    while (q < stop) {
        if (!field(&q, stop, &no, &v, &f))
            return err_set(e, DR_EFORMAT, "broken SentencePiece file");
        if (no == 1) piece = f;
        else if (no == 2 && f.n == 4) memcpy(&score, f.p, 4);
        else if (no == 3 && v <= 6) type = (int)v;
    }
    if (type == TOKD_UNKNOWN) m->unk = id;
    else if (type == TOKD_CONTROL && span_is(piece, "<s>")) m->bos = id;
    else if (type == TOKD_CONTROL && span_is(piece, "</s>")) m->eos = id;
    return tokd_set(m, id, tokd_keep(m, piece.p, piece.n), type, score, e);
}

/* Options of trainer_spec (2) and normalizer_spec (3) that change what the model does. */
static int read_spm_options(tokdata *m, uint64_t message, span s, dr_err *e)
{
    const uint8_t *q = (const uint8_t *)s.p, *stop = q + s.n;
    uint64_t no, v;
    span f;
    while (q < stop) {
        if (!field(&q, stop, &no, &v, &f))
            return err_set(e, DR_EFORMAT, "broken SentencePiece file");
        if (message == 2 && no == 3 && v != 2)
            return err_set(e, DR_EUNSUPPORTED, "a SentencePiece model of another kind than BPE");
        if (message == 3 && no == 2 && f.n)
            return err_set(e, DR_EUNSUPPORTED, "a SentencePiece model that normalises characters "
                           "(precompiled_charsmap), which GGUF's llama tokenizer does not");
        if (message == 3 && no == 3) m->no_prefix = !v;
    }
    return DR_OK;
}

static int from_spm(tokdata *m, span file, dr_err *e)
{
    const uint8_t *p = (const uint8_t *)file.p, *end = p + file.n, *tail = p;
    uint64_t no, v;
    span s;
    int64_t id = 0;
    int rc = DR_OK;
    while (rc == DR_OK && p < end) {
        if (!field(&p, end, &no, &v, &s))
            return err_set(e, DR_EFORMAT, "broken SentencePiece file");
        if (no == 1) rc = read_piece(m, id++, s, e), tail = p;
        else rc = read_spm_options(m, no, s, e);
    }
    m->kind = TOKD_SPM, m->add_bos = m->bos >= 0;
    if (rc != DR_OK) return rc;
    if (id == 0) return err_set(e, DR_EFORMAT, "not a tokenizer file");
    buf_put(&m->tail, tail, (size_t)(end - tail));
    rc = tokd_nomem(m, e);
    return rc == DR_OK ? keep_raw(m, file, e) : rc;
}

/* ---- which of them ---- */

int tokdata_read(tokdata *m, span file, dr_err *e)
{
    const char *nl = memchr(file.p, '\n', file.n < 512 ? file.n : 512);
    bool text = nl && file.n && base64(*file.p) >= 0 && memchr(file.p, ' ', (size_t)(nl - file.p));
    if (file.n && *file.p == '{') return tokd_from_json(m, file, e);
    return text ? from_tiktoken(m, file, e) : from_spm(m, file, e);
}
