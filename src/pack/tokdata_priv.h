/* tokdata_priv.h - what tokdata's own files share. */
#ifndef PACK_TOKDATA_PRIV_H
#define PACK_TOKDATA_PRIV_H
#include "base/buf.h"
#include "format/names.h"
#include "pack/tokdata.h"

/* TOKD_LONGEST: bytes of the longest token that is taken apart into merges; Llama 3's longest has
 * 128. */
enum { TOKD_LONGEST = 1024, TOKD_CONTROLS = 256 };
#define TOKD_TEXT_MAX ((size_t)256 << 20)

tok_place tokd_keep(tokdata *m, const char *p, size_t n);
/* Token `id`; text n 0 is refused. */
int tokd_set(tokdata *m, int64_t id, tok_place at, int type, float score, dr_err *e);
/* Nothing for a place that a want of memory kept from being filled. */
static inline span tokd_text(const tokdata *m, tok_place p)
{
    bool there = p.n && p.at + p.n <= m->text.n;
    return (span){ there ? m->text.p + p.at : "", there ? p.n : 0 };
}
int tokd_nomem(const tokdata *m, dr_err *e);     /* when a buffer of m is bad, else DR_OK */

/* GPT-2's letter for a byte. */
void tokd_put_byte(buf *b, uint8_t c);
/* Its bytes, at most n, into out; -1: a letter that is none of GPT-2's. */
int64_t tokd_unbyte(span s, uint8_t *out);

/* Can Meta's program know the k-th control token behind the ranks by this name? */
bool tokd_is_llama3_control(span s, int k);
/* The merges that tiktoken's rule makes of ranks 0, 1, … n-1 (raw: their bytes), as places of
 * "a b" in m->merges: any two neighbours join that together are a token. */
int tokd_merges_of_ranks(tokdata *m, const span *raw, int64_t n, dr_err *e);
/* The tree of a tokenizer's JSON file, of bounded cost; wide: see json_read_wide. */
json_t *tokd_json_root(span file, bool wide, const char *what, dr_err *e);
int tokd_from_json(tokdata *m, span file, dr_err *e);

/* Spans of n places of m->text; freed with mem_free. */
span *tokd_spans(const tokdata *m, const tok_place *p, int64_t n, dr_err *e);
#endif
