/* fuzz_tokenizer.h - one loader of a tokenizer; what it takes must also encode and decode. */
#ifndef TESTS_FUZZ_TOKENIZER_H
#define TESTS_FUZZ_TOKENIZER_H
#include "text/tok_priv.h"
#include "fuzz.h"

static inline void fuzz_tokenizer(const uint8_t *data, size_t size,
                                  tokenizer *(*load)(span file, dr_err *e))
{
    static const char text[] = "The herd's 12 dogs\n\n  <s> <|eot_id|> \xe2\x96\x81 h\xc3\xa9 \xff";
    fuzz_mark m = fuzz_begin(size);
    dr_err e = {0};
    tokenizer *t = load((span){ (const char *)data, size }, &e);
    DR_ASSERT(t || (e.code && e.msg[0]));
    DR_ASSERT(mem_peak_bytes() - m.live <= 2 * m.n + ((size_t)4 << 20));
    if (t) {
        ids v = {0};
        buf out = { .cap_max = 1 << 20 };
        if (!tok_encode(t, (span){ text, sizeof text - 1 }, TOK_BOS | TOK_SPECIAL, &v, &e)) {
            for (int64_t i = 0; i < v.n; i++) DR_ASSERT(v.p[i] >= 0 && v.p[i] < tok_count(t));
            tok_decode(t, v.p, v.n, true, &out, &e);
        }
        fuzz_touch(tok_chat_template(t).p, tok_chat_template(t).n);
        ids_free(&v);
        buf_free(&out);
    }
    tok_free(t);
    DR_ASSERT(mem_live_bytes() == m.live);
}
#endif
