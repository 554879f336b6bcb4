/* tok_tiktoken.c - Meta's tokenizer.model: a line per token, its bytes in base64, a space, its
 * rank. The 256 control tokens are not in the file: they follow the ranks, with the known that
 * Meta's own program gives them (cf. llama-models models/llama3/tokenizer.py). */
#include "text/tok_priv.h"

enum { N_CONTROL = 256 };

static int base64(const char *p, size_t n, uint8_t *out, size_t *n_out)
{
    uint32_t acc = 0;
    size_t k = 0;
    int bits = 0, pad = 0;
    if (n % 4 || !n) return -1;
    for (size_t i = 0; i < n; i++) {
        int c = (uint8_t)p[i], v;
        if (c >= 'A' && c <= 'Z') v = c - 'A';
        else if (c >= 'a' && c <= 'z') v = c - 'a' + 26;
        else if (c >= '0' && c <= '9') v = c - '0' + 52;
        else if (c == '+') v = 62;
        else if (c == '/') v = 63;
        else if (c == '=' && i + 2 >= n) { pad++; continue; }
        else return -1;
        if (pad) return -1;
        acc = acc << 6 | (uint32_t)v, bits += 6;
        if (bits >= 8) bits -= 8, out[k++] = (uint8_t)(acc >> bits), acc &= (1u << bits) - 1;
    }
    *n_out = k;
    return acc ? -1 : 0;                    /* bits left over must be zero */
}

static int read_line(vocab *v, const char *p, size_t n, int32_t n_ranks, size_t line, dr_err *e)
{
    const char *sp = memchr(p, ' ', n);
    uint8_t bytes[4096];
    size_t len = 0, digits = sp ? (size_t)(p + n - sp - 1) : 0;
    int64_t rank = 0;
    for (size_t i = 0; i < digits; i++) {
        if (sp[1 + i] < '0' || sp[1 + i] > '9' || digits > 8) { digits = 0; break; }
        rank = rank * 10 + (sp[1 + i] - '0');
    }
    if (!digits || (size_t)(sp - p) > sizeof bytes / 3 * 4 ||
        base64(p, (size_t)(sp - p), bytes, &len) || !len)
        return err_set(e, DR_EFORMAT, "line %zu is not a token in base64, a space and a rank",
                       line);
    if (rank >= n_ranks)
        return err_set(e, DR_EFORMAT, "line %zu: rank %lld in a file of %d tokens", line,
                       (long long)rank, n_ranks);
    if (!vocab_set(v, (int32_t)rank, bytes, len, TT_NORMAL))
        return err_set(e, DR_EFORMAT, "line %zu: rank %lld is given twice", line, (long long)rank);
    return 0;
}

static int read_lines(tokenizer *t, span f, dr_err *e)
{
    size_t lines = 0, bytes = 0;
    for (const char *p = f.p, *end = f.p + f.n, *nl; p < end; p = nl + 1, lines++) {
        if (!(nl = memchr(p, '\n', (size_t)(end - p)))) nl = end;
        const char *sp = memchr(p, ' ', (size_t)(nl - p));
        bytes += sp ? (size_t)(sp - p) / 4 * 3 : 0;
        if (nl == end) { lines++; break; }
    }
    if (lines > TOK_MAX_IDS - N_CONTROL)
        return err_set(e, DR_EUNSUPPORTED, "a vocabulary of %zu tokens", lines);
    int32_t n = (int32_t)lines;
    int rc = vocab_init(&t->v, n + N_CONTROL, bytes + N_CONTROL * 40, e);
    size_t line = 1;
    for (const char *p = f.p, *end = f.p + f.n; p < end && !rc; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        rc = read_line(&t->v, p, (size_t)(stop - p), n, line, e);
        p = stop + 1;
    }
    return rc;
}

static int add_control(tokenizer *t, int32_t first, dr_err *e)
{
    static const char *const known[] = {
        "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
        "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|step_id|>",
        "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
        "<|image|>"
    };
    int n_names = (int)(sizeof known / sizeof *known);
    for (int i = 0; i < N_CONTROL; i++) {
        char name[40];
        if (i < n_names) snprintf(name, sizeof name, "%s", known[i]);
        else snprintf(name, sizeof name, "<|reserved_special_token_%d|>", i - n_names + 2);
        if (!vocab_set(&t->v, first + i, name, strlen(name), TT_CONTROL))
            return err_set(e, DR_EFORMAT, "no room for the control tokens");
        int rc = added_put(&t->raw, vocab_text(&t->v, first + i), first + i, AT_SPECIAL, e);
        if (rc) return rc;
    }
    t->bos = first, t->eos = first + 1, t->wants_bos = true;
    return 0;
}

static int load(tokenizer *t, span f, dr_err *e)
{
    int rc = read_lines(t, f, e);
    if (rc) return rc;
    int32_t n = t->v.n;
    t->v.n_ids = n + N_CONTROL;
    t->bytes = t->whole = true;
    if ((rc = add_control(t, n, e)) || (rc = vocab_index(&t->v, 0, e))) return rc;
    for (int b = 0; b < 256; b++) {
        uint8_t c = (uint8_t)b;
        if (vocab_find(&t->v, &c, 1) < 0)
            return err_set(e, DR_EFORMAT, "byte 0x%02x is not in the vocabulary", b);
    }
    rc = merges_init(&t->m, (uint32_t)n * 9 / 4, e);
    if (!rc) rc = merges_from_splits(&t->m, &t->v, false, f.n / 8 + 65536, e);
    if (!rc) rc = tok_add_re(t, split_llama3_regex, CUT_ISOLATED, e);
    return rc ? rc : tok_finish(t, "byte-level BPE (tiktoken)", "llama3", e);
}

tokenizer *tok_from_tiktoken(span file, dr_err *e)
{
    tokenizer *t = tok_new(e);
    if (t && load(t, file, e)) {
        tok_free(t);
        return NULL;
    }
    return t;
}
