/* shard_tok.c - see shard_tok.h. */
#include "train/shard_tok.h"
#include <string.h>

int shard_tokenizer(const tokenizer *t, char hex[HASH_HEX], dr_err *e)
{
    hash h = {0};
    int rc = hash_begin(&h, HASH_SHA256, e);
    for (int32_t i = 0; i < tok_count(t) && !rc; i++) {
        /* containers disagree about the names of control tokens that are not in use */
        bool control = tok_is_control(t, i);
        span s = tok_text(t, i);
        uint32_t n = control ? UINT32_MAX : (uint32_t)s.n;
        rc = hash_put(&h, &n, sizeof n, e);
        if (!rc && !control) rc = hash_put(&h, s.p, s.n, e);
    }
    if (!rc) return hash_end(&h, hex, e);
    hash_drop(&h);
    return rc;
}

int32_t shard_end_of_text(const tokenizer *t)
{
    static const char *const names[] = { "<|end_of_text|>", "<|endoftext|>", "</s>", "<eos>" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int32_t id = tok_find(t, span_of(names[i]));
        if (id >= 0 && tok_is_control(t, id)) return id;
    }
    return tok_eos(t);
}
