/* fuzz_grammar.h - any bytes as a schema, a grammar or a regular expression over a vocabulary of bytes
 * and a few longer tokens: compiling ends within its bounds; what compiles makes texts that are
 * finished in the room that it asked for, by whatever tokens; nothing is kept. */
#ifndef TESTS_FUZZ_GRAMMAR_H
#define TESTS_FUZZ_GRAMMAR_H
#include <string.h>
#include "base/buf.h"
#include "fuzz.h"
#include "gen/grammar.h"

static inline const vtrie *fuzz_vocabulary(void)
{
    static vtrie *v;
    static const char *const more[] = { "\":", "\",\"", "{\"", "\"}", "],[", "ab", "abc", "null", "true",
                                        "00", "12", "\\u00", "  ", "\xc3\xa9", "\xe6\xbc", "-01", "aaaaaaaa" };
    static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    buf t = { .cap_max = 1 << 20 };
    if (v) return v;
    for (int i = 0; i < 256 + (int)(sizeof more / sizeof *more); i++) {
        char one = (char)i;
        const char *p = i < 256 ? &one : more[i - 256];
        size_t n = i < 256 ? 1 : strlen(p);
        for (size_t k = 0; k < n; k += 3) {
            unsigned x = 0;
            for (size_t j = 0; j < 3; j++) x = x << 8 | (k + j < n ? (uint8_t)p[k + j] : 0);
            for (size_t j = 0; j < 4; j++)
                buf_putc(&t, j <= n - k ? b64[x >> (18 - 6 * j) & 63] : '=');
        }
        buf_printf(&t, " %d\n", i);
    }
    dr_err e = {0};
    char path[] = "/tmp/drover-fuzz-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    DR_ASSERT(f && fwrite(t.p, 1, t.n, f) == t.n && !fclose(f));
    tokenizer *tok = tok_open(path, &e);
    remove(path);
    buf_free(&t);
    v = tok ? vtrie_new(tok, &e) : NULL;
    DR_ASSERT(v);
    return v;
}

/* A text by tokens that the input chooses, in `room` tokens; text gets it. */
static inline void fuzz_text(matcher *m, const uint8_t *data, size_t size, uint32_t room, buf *text)
{
    const vtrie *v = grammar_vtrie(matcher_grammar(m));
    uint64_t mask[64], h = size;
    dr_err e = {0};
    int p = matcher_begin(m, &e);
    if (p < 0) return;                                   /* ambiguous from the start */
    DR_ASSERT(v->words <= 64);
    for (uint32_t i = 0; ; i++) {
        matcher_next next;
        h = (h ^ (size ? data[i % size] : 0)) * 0x9e3779b97f4a7c15u, h ^= h >> 29;
        int rc = matcher_mask(m, p, room - i, mask, &next, &e);
        if (rc == DR_EUNSUPPORTED) { buf_reset(text); break; }        /* ambiguous */
        DR_ASSERT(!rc);
        DR_ASSERT(next.done || i < room);
        if (next.done && (!next.n_text || h % 7 == 0)) break;
        int k = (int)(h >> 33) % next.n_text, id = -1;
        for (int j = 0; j < v->words * 64 && id < 0; j++)
            if (mask[j >> 6] >> (j & 63) & 1 && k-- == 0) id = j;
        rc = matcher_take(m, p, id, &e);
        if (rc == DR_EUNSUPPORTED) { buf_reset(text); break; }
        DR_ASSERT(!rc);
        DR_ASSERT(!tok_decode_one(v->t, id, false, text, NULL));
    }
    matcher_end(m, p);
}

/* Compile and try; true and the last text when there is one. */
static inline bool fuzz_grammar(grammar_kind kind, const uint8_t *data, size_t size, buf *text)
{
    const vtrie *v = fuzz_vocabulary();
    dr_err e = {0};
    grammar *g = grammar_new(kind, (span){ (const char *)data, size }, v, &e);
    DR_ASSERT(g || (e.code && e.msg[0]));
    matcher *m = g && grammar_shortest(g) < 2000 ? matcher_new(g, &e) : NULL;
    if (m) {
        for (uint32_t k = 0; k < 3; k++) {
            buf_reset(text);
            fuzz_text(m, data + k * (size > 2), size > 2 ? size - k : size,
                      grammar_shortest(g) + k * k * 6, text);
        }
    }
    matcher_free(m);
    grammar_free(g);
    return m != NULL;
}
#endif
