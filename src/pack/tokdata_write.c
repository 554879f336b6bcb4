/* tokdata_write.c - see tokdata.h: tokenizer.json, tokenizer_config.json, tokenizer.model.
 * The JSON is laid out as Hugging Face's library does, so that an official file comes back the
 * same. */
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "pack/tokdata_priv.h"
#include "text/split.h"
#include "text/utf8.h"

/* ---- JSON ---- */

void tokdata_json_str(buf *b, span s)
{
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    const uint8_t *p = (const uint8_t *)s.p, *end = p + s.n;
    buf_putc(b, '"');
    for (int n; p < end; p += n) {
        uint32_t c = utf8_get(p, end, &n);
        const char *at = c && c < 128 ? strchr(from, (int)c) : NULL;
        if (c == UTF8_BAD) buf_puts(b, "\xEF\xBF\xBD");
        else if (at) buf_printf(b, "\\%c", to[at - from]);
        else if (c < 0x20) buf_printf(b, "\\u%04x", c);
        else buf_put(b, p, (size_t)n);
    }
    buf_putc(b, '"');
}

/* Compact JSON, indented by two spaces a level. */
static void pretty(buf *out, span s)
{
    int depth = 0;
    bool in = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool open = !in && (c == '{' || c == '['), close = !in && (c == '}' || c == ']');
        if (in) {
            buf_putc(out, c);
            if (c == '\\' && i + 1 < s.n) buf_putc(out, s.p[++i]);
            else if (c == '"') in = false;
            continue;
        }
        if (close && s.p[i - 1] != '{' && s.p[i - 1] != '[') buf_printf(out, "\n%*s", --depth * 2, "");
        else if (close) depth--;
        buf_putc(out, c);
        if (c == '"') in = true;
        if (c == ':') buf_putc(out, ' ');
        if (open) depth++;
        bool empty = open && i + 1 < s.n && (s.p[i + 1] == '}' || s.p[i + 1] == ']');
        if ((open && !empty) || c == ',') buf_printf(out, "\n%*s", depth * 2, "");
    }
}

static bool is_added(const tokdata *m, int64_t i)
{
    return m->tok[i].n && (m->type[i] == TOKD_CONTROL || m->type[i] == TOKD_USER ||
                           m->type[i] == TOKD_UNKNOWN);
}

static void put_added(const tokdata *m, buf *b)
{
    bool first = true;
    buf_puts(b, "\"added_tokens\":[");
    for (int64_t i = 0; i < m->n; i++) {
        if (!is_added(m, i)) continue;
        buf_printf(b, "%s{\"id\":%" PRId64 ",\"content\":", first ? "" : ",", i);
        tokdata_json_str(b, tokd_text(m, m->tok[i]));
        buf_printf(b, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                   "\"normalized\":false,\"special\":%s}", m->type[i] == TOKD_USER ? "false" : "true");
        first = false;
    }
    buf_puts(b, "],");
}

static int put_steps_bpe(const tokdata *m, buf *b, dr_err *e)
{
    static const struct { const char *pre, *regex; } known[] = {
        { "llama-bpe", split_llama3_regex }, { "llama3", split_llama3_regex },
        { "llama-v3", split_llama3_regex }, { "qwen2", split_qwen2_regex },
        { "tekken", split_tekken_regex }, { "gpt-2", NULL }, { "gpt2", NULL }, { "smollm", NULL },
    };
    size_t k = 0;
    while (k < sizeof known / sizeof *known && strcmp(known[k].pre, m->pre)) k++;
    if (k == sizeof known / sizeof *known)
        return err_set(e, DR_EUNSUPPORTED, "the pre-tokeniser \"%s\" cannot be said in a "
                       "tokenizer.json here", m->pre);
    buf_puts(b, "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    if (known[k].regex) {
        buf_puts(b, "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        tokdata_json_str(b, span_of(known[k].regex));
        buf_puts(b, "},\"behavior\":\"Isolated\",\"invert\":false},");
    } else if (!strcmp(m->pre, "smollm")) {
        buf_puts(b, "{\"type\":\"Digits\",\"individual_digits\":true},");
    }
    buf_printf(b, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
               "\"use_regex\":%s}]},", known[k].regex ? "false" : "true");
    return DR_OK;
}

static void put_steps_spm(const tokdata *m, buf *b)
{
    buf_puts(b, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    if (!m->no_prefix) buf_puts(b, "{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},");
    buf_puts(b, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]},"
             "\"pre_tokenizer\":null,");
}

/* The BOS in front of one text, and of both of a pair. */
static void put_template(const tokdata *m, buf *b)
{
    buf name = { .cap_max = 4096 };
    tokdata_json_str(&name, tokd_text(m, m->tok[m->bos]));
    const char *s = buf_str(&name);
    buf_puts(b, "{\"type\":\"TemplateProcessing\",\"single\":[");
    for (int k = 0; k < 3; k++) {
        if (k) buf_puts(b, k == 1 ? "],\"pair\":[" : ",");
        buf_printf(b, "{\"SpecialToken\":{\"id\":%s,\"type_id\":%d}},"
                   "{\"Sequence\":{\"id\":\"%s\",\"type_id\":%d}}", s, k == 2, k == 2 ? "B" : "A",
                   k == 2);
    }
    buf_printf(b, "],\"special_tokens\":{%s:{\"id\":%s,\"ids\":[%" PRId64 "],\"tokens\":[%s]}}}",
               s, s, m->bos, s);
    buf_free(&name);
}

static void put_post(const tokdata *m, buf *b)
{
    bool bos = m->bos >= 0 && m->add_bos > 0, bpe = m->kind == TOKD_BPE;
    static const char offsets[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                                  "\"trim_offsets\":false,\"use_regex\":true}";
    buf_puts(b, "\"post_processor\":");
    if (bos && bpe) {
        buf_printf(b, "{\"type\":\"Sequence\",\"processors\":[%s,", offsets);
        put_template(m, b);
        buf_puts(b, "]},");
    } else {
        if (bos) put_template(m, b);
        else buf_puts(b, bpe ? offsets : "null");
        buf_putc(b, ',');
    }
    if (bpe)
        buf_puts(b, "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                 "\"trim_offsets\":true,\"use_regex\":true},");
    else
        buf_printf(b, "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
                   "\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},"
                   "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}%s]},", m->no_prefix ? "" :
                   ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}");
}

/* Added tokens behind all others are not part of the vocabulary, those between are: the library
 * counts its ids so. */
static void put_vocab(const tokdata *m, buf *b)
{
    int64_t end = m->n;
    while (end > 0 && (!m->tok[end - 1].n || is_added(m, end - 1))) end--;
    bool first = true;
    buf_puts(b, "\"vocab\":{");
    for (int64_t i = 0; i < end; i++) {
        if (!m->tok[i].n) continue;
        if (!first) buf_putc(b, ',');
        first = false;
        tokdata_json_str(b, tokd_text(m, m->tok[i]));
        buf_printf(b, ":%" PRId64, i);
    }
    buf_puts(b, "},");
}

/* ---- merges of a SentencePiece model ---- */

typedef struct { tok_place at; int32_t id, left, right; float score; } spm_merge;

static int by_score(const void *a, const void *b)
{
    const spm_merge *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

/* Every cut of a piece into two pieces, the best score first, as Hugging Face's converter
 * lists them. */
static int put_spm_merges(const tokdata *m, buf *b, dr_err *e)
{
    buf list = { .cap_max = TOKD_TEXT_MAX };
    uint32_t *slot = mem_zalloc(names_slots((uint64_t)m->V), sizeof *slot);
    span *tok = tokd_spans(m, m->tok, m->V, e);
    int rc = slot && tok ? DR_OK : err_nomem(e, (size_t)m->V * 24, "tokens");
    name_index x = names_make(slot, (uint64_t)m->V);
    for (int64_t i = 0; rc == DR_OK && i < m->n; i++)
        if (tok[i].n) *names_at(&x, tok, sizeof *tok, tok[i]) = (uint32_t)i + 1;
    for (int64_t i = 0; rc == DR_OK && i < m->n; i++) {
        if (!tok[i].n || m->type[i] == TOKD_BYTE || is_added(m, i)) continue;
        for (size_t k = 1; k < tok[i].n && tok[i].n <= TOKD_LONGEST; k++) {
            if (((uint8_t)tok[i].p[k] & 0xC0) == 0x80) continue;
            span l = { tok[i].p, k }, r = { tok[i].p + k, tok[i].n - k };
            uint32_t left = *names_at(&x, tok, sizeof *tok, l);
            uint32_t right = *names_at(&x, tok, sizeof *tok, r);
            spm_merge q = { m->tok[i], (int32_t)i, (int32_t)left, (int32_t)right, m->score[i] };
            if (left && right) buf_put(&list, &q, sizeof q);
        }
    }
    spm_merge *q = (spm_merge *)(void *)list.p;
    size_t n = list.n / sizeof *q;
    if (list.bad) rc = err_nomem(e, list.n, "merges");
    if (n) qsort(q, n, sizeof *q, by_score);
    for (size_t i = 0; rc == DR_OK && i < n; i++) {
        buf word = { .cap_max = 1 << 20 };
        span l = tok[q[i].left - 1], r = tok[q[i].right - 1];
        buf_put(&word, l.p, l.n);
        buf_putc(&word, ' ');
        buf_put(&word, r.p, r.n);
        if (i) buf_putc(b, ',');
        tokdata_json_str(b, buf_span(&word));
        buf_free(&word);
    }
    buf_free(&list);
    mem_free(slot);
    mem_free(tok);
    return rc;
}

static int put_model(const tokdata *m, buf *b, dr_err *e)
{
    bool spm = m->kind == TOKD_SPM;
    buf_puts(b, "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    if (spm && m->unk >= 0) tokdata_json_str(b, tokd_text(m, m->tok[m->unk]));
    else buf_puts(b, "null");
    buf_printf(b, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
               "\"fuse_unk\":%s,\"byte_fallback\":%s,\"ignore_merges\":%s,", spm ? "true" : "false",
               spm ? "true" : "false", m->whole ? "true" : "false");
    put_vocab(m, b);
    buf_puts(b, "\"merges\":[");
    int rc = spm ? put_spm_merges(m, b, e) : DR_OK;
    const tok_place *p = (const tok_place *)(const void *)m->merges.p;
    for (size_t i = 0; !spm && i < m->merges.n / sizeof *p; i++) {
        if (i) buf_putc(b, ',');
        tokdata_json_str(b, tokd_text(m, p[i]));
    }
    buf_puts(b, "]}");
    return rc;
}

int tokdata_json(const tokdata *m, buf *out, dr_err *e)
{
    buf b = { .cap_max = TOKD_TEXT_MAX };
    buf_puts(&b, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,");
    put_added(m, &b);
    int rc = DR_OK;
    if (m->kind == TOKD_BPE) rc = put_steps_bpe(m, &b, e);
    else put_steps_spm(m, &b);
    put_post(m, &b);
    if (rc == DR_OK) rc = put_model(m, &b, e);
    buf_putc(&b, '}');
    if (rc == DR_OK && !b.bad) pretty(out, buf_span(&b));
    if (rc == DR_OK && (b.bad || out->bad)) rc = err_nomem(e, b.n, "tokenizer.json");
    buf_free(&b);
    return rc;
}

static void put_named(const tokdata *m, buf *b, const char *key, int64_t id)
{
    if (id < 0) return;
    buf_printf(b, "\"%s\":", key);
    tokdata_json_str(b, tokd_text(m, m->tok[id]));
    buf_putc(b, ',');
}

int tokdata_config_json(const tokdata *m, int64_t n_ctx, buf *out, dr_err *e)
{
    buf b = { .cap_max = TOKD_TEXT_MAX };
    buf_putc(&b, '{');
    if (m->add_bos >= 0) buf_printf(&b, "\"add_bos_token\":%s,", m->add_bos ? "true" : "false");
    put_named(m, &b, "bos_token", m->bos);
    if (m->chat.n) {
        buf_puts(&b, "\"chat_template\":");
        tokdata_json_str(&b, buf_span(&m->chat));
        buf_putc(&b, ',');
    }
    buf_puts(&b, "\"clean_up_tokenization_spaces\":false,");
    put_named(m, &b, "eos_token", m->eos);
    buf_printf(&b, "\"model_input_names\":[\"input_ids\",\"attention_mask\"],"
               "\"model_max_length\":%" PRId64 ",", n_ctx);
    put_named(m, &b, "pad_token", m->pad);
    if (m->kind == TOKD_SPM) put_named(m, &b, "unk_token", m->unk);
    buf_puts(&b, "\"tokenizer_class\":\"PreTrainedTokenizerFast\"}");
    pretty(out, buf_span(&b));
    buf_putc(out, '\n');
    int rc = b.bad || out->bad ? err_nomem(e, b.n, "tokenizer_config.json") : DR_OK;
    buf_free(&b);
    return rc;
}

/* ---- tokenizer.model ---- */

int64_t tokd_unbyte(span s, uint8_t *out)
{
    const uint8_t *p = (const uint8_t *)s.p, *end = p + s.n;
    int64_t k = 0;
    for (int n; p < end; p += n) {
        uint32_t c = utf8_get(p, end, &n);
        if (c >= 256 && c < 256 + 33) c -= 256;
        else if (c >= 256 + 33 && c < 256 + 67) c = c - 256 - 33 + 127;
        else if (c == 256 + 67) c = 173;
        else if (!((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255)))
            return -1;
        out[k++] = (uint8_t)c;
    }
    return k;
}

static void put_base64(buf *b, span s)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = (const uint8_t *)s.p;
    for (size_t i = 0; i < s.n; i += 3) {
        size_t n = s.n - i < 3 ? s.n - i : 3;
        uint32_t v = (uint32_t)p[i] << 16;
        if (n > 1) v |= (uint32_t)p[i + 1] << 8;
        if (n > 2) v |= p[i + 2];
        for (size_t k = 0; k < 4; k++)
            buf_putc(b, k <= n ? digit[v >> (18 - 6 * k) & 63] : '=');
    }
}

static int not_tiktoken(dr_err *e)
{
    return err_set(e, DR_EUNSUPPORTED, "the tokenizer is neither one of tiktoken's ranks with Llama "
                   "3's control tokens nor a SentencePiece model, and no tokenizer.model can say "
                   "it");
}

/* Do tiktoken's rule and these ranks give exactly the merges that are there? */
static int same_merges(const tokdata *m, const span *raw, int64_t n, dr_err *e)
{
    tokdata again;
    int rc = tokdata_init(&again, 1, e);
    if (rc == DR_OK) rc = tokd_merges_of_ranks(&again, raw, n, e);
    const tok_place *a = (const tok_place *)(const void *)m->merges.p;
    const tok_place *b = (const tok_place *)(const void *)again.merges.p;
    bool same = rc == DR_OK && m->merges.n == again.merges.n;
    for (size_t i = 0; same && i < m->merges.n / sizeof *a; i++)
        same = span_eq(tokd_text(m, a[i]), tokd_text(&again, b[i]));
    tokdata_free(&again);
    return rc == DR_OK && !same ? not_tiktoken(e) : rc;
}

static int put_tiktoken(const tokdata *m, buf *out, dr_err *e)
{
    int64_t n = 0;
    while (n < m->n && m->tok[n].n && m->type[n] == TOKD_NORMAL) n++;
    bool ok = m->whole && strcmp(m->pre, "tekken") && n + TOKD_CONTROLS == m->n;
    for (int64_t i = n; ok && i < m->n; i++)
        ok = m->tok[i].n && m->type[i] == TOKD_CONTROL &&
             tokd_is_llama3_control(tokd_text(m, m->tok[i]), (int)(i - n));
    if (!ok) return not_tiktoken(e);
    span *raw = mem_zalloc((size_t)n + 1, sizeof *raw);
    uint8_t *bytes = mem_alloc(m->text.n + 1), *at = bytes;
    int rc = raw && bytes ? DR_OK : err_nomem(e, m->text.n, "tokens");
    for (int64_t i = 0; rc == DR_OK && i < n; i++) {
        int64_t k = tokd_unbyte(tokd_text(m, m->tok[i]), at);
        if (k < 1) rc = not_tiktoken(e);
        raw[i] = (span){ (char *)at, k > 0 ? (size_t)k : 0 };
        at += k > 0 ? k : 0;
    }
    if (rc == DR_OK) rc = same_merges(m, raw, n, e);
    for (int64_t i = 0; rc == DR_OK && i < n; i++) {
        put_base64(out, raw[i]);
        buf_printf(out, " %" PRId64 "\n", i);
    }
    mem_free(raw);
    mem_free(bytes);
    return rc;
}

static void put_varint(buf *b, uint64_t v)
{
    for (; v >= 128; v >>= 7) buf_putc(b, (char)(v | 128));
    buf_putc(b, (char)v);
}

/* trainer_spec and normalizer_spec for pieces that come from elsewhere: what readers look at. */
static void put_specs(const tokdata *m, buf *out)
{
    buf t = { .cap_max = 4096 };
    const struct { unsigned no; int64_t v; } fields[] = {
        { 3, 2 }, { 4, m->n }, { 35, 1 }, { 40, m->unk }, { 41, m->bos }, { 42, m->eos },
        { 43, m->pad },
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        put_varint(&t, fields[i].no << 3);
        put_varint(&t, (uint64_t)fields[i].v);
    }
    buf_putc(out, 2 << 3 | 2);
    put_varint(out, t.n);
    buf_put(out, t.p, t.n);
    buf_free(&t);
    const char norm[] = { 3 << 3 | 2, 16, 1 << 3 | 2, 8, 'i', 'd', 'e', 'n', 't', 'i', 't', 'y',
                          3 << 3, !m->no_prefix, 4 << 3, 0, 5 << 3, 1 };
    buf_put(out, norm, sizeof norm);
}

static int put_spm(const tokdata *m, buf *out, dr_err *e)
{
    for (int64_t i = 0; i < m->n; i++) {
        span s = tokd_text(m, m->tok[i]);
        if (!s.n) return err_set(e, DR_EUNSUPPORTED, "a SentencePiece model has no holes, but id "
                                 "%" PRId64 " has no token", i);
        buf head = { .cap_max = 64 };
        put_varint(&head, s.n);
        bool typed = m->type[i] != TOKD_NORMAL;
        buf_putc(out, 1 << 3 | 2);
        put_varint(out, 1 + head.n + s.n + 5 + (typed ? 2 : 0));
        buf_putc(out, 1 << 3 | 2);
        buf_put(out, head.p, head.n);
        buf_put(out, s.p, s.n);
        buf_putc(out, 2 << 3 | 5);
        buf_put(out, &m->score[i], sizeof *m->score);
        if (typed) {
            buf_putc(out, 3 << 3);
            buf_putc(out, (char)m->type[i]);
        }
        buf_free(&head);
    }
    if (m->tail.n) buf_put(out, m->tail.p, m->tail.n);
    else put_specs(m, out);
    return DR_OK;
}

int tokdata_model(const tokdata *m, buf *out, dr_err *e)
{
    int rc = DR_OK;
    if (m->raw.n) buf_put(out, m->raw.p, m->raw.n);
    else rc = m->kind == TOKD_SPM ? put_spm(m, out, e) : put_tiktoken(m, out, e);
    return rc == DR_OK && out->bad ? err_nomem(e, out->n, "tokenizer.model") : rc;
}
