/* split.h - cut text into the pieces inside which byte pairs may merge (pre-tokenisers).
 * Llama 3's pattern is written out by hand; any other pattern runs in PCRE2 over a string of
 * one class byte per character, so that \p{...} and \s mean this program's Unicode tables and
 * not the library's. A splitter is immutable once made: share freely. */
#ifndef TEXT_SPLIT_H
#define TEXT_SPLIT_H
#include <stdint.h>
#include "base/buf.h"

/* End of the piece that begins at p < end; numbers are cut into runs of at most `digits`. */
const uint8_t *split_llama3(const uint8_t *p, const uint8_t *end, int digits);
extern const char split_llama3_regex[];     /* digits = 3 */
extern const char split_qwen2_regex[];      /* digits = 1 */
extern const char split_gpt2_regex[];
extern const char split_tekken_regex[];

typedef struct split_re split_re;
/* What cannot be translated is refused by name (DR_EUNSUPPORTED). */
split_re *split_re_new(span pattern, dr_err *e);
void split_re_free(split_re *s);            /* NULL is fine */

/* Working space of one thread. Zeroed is valid; split_work_free releases. cls: one class byte
 * per character; at: where each character begins, and the end. */
typedef struct { uint8_t *cls; uint32_t *at; size_t n, cap; void *match; } split_work;
void split_work_free(split_work *w);

/* Ready the text (under 4 GB) for split_re_next. */
int split_re_begin(const split_re *s, split_work *w, span text, dr_err *e);
/* The next match at or after character `from`, in characters: [*lo, *hi). 1: found, 0: none is
 * left. An empty match counts as none. */
int split_re_next(const split_re *s, const split_work *w, size_t from, size_t *lo, size_t *hi,
                  dr_err *e);
#endif
