/* encode.c - text to ids. Text is cut at added tokens into sections; a section is normalised,
 * cut into pieces by the pre-tokenisers, and each piece is merged on its own. All scratch
 * belongs to one call, so a tokenizer is shared freely. */
#include "base/mem.h"
#include "text/tok_priv.h"
#include "text/unicode.h"
#include "text/utf8.h"

typedef struct { uint32_t *p; size_t n, cap; } cuts;      /* pairs: begin, end */

/* Pieces that had to be merged lately: words come back. One call's, so nothing is shared. */
enum { MEMO_N = 4096, MEMO_BYTES = 46, MEMO_IDS = 18, MEMO_FROM = 65536 };
typedef struct {
    uint64_t key;
    uint8_t n_ids, n;
    uint8_t text[MEMO_BYTES];
    int32_t id[MEMO_IDS];
} memo;

typedef struct {
    const tokenizer *t;
    ids *out;
    dr_err *e;
    bpe_work bpe;
    split_work split;
    buf text[2];                  /* the section as normalisers rewrite it */
    buf prefixed[2];              /* and as pre-tokenisers that add characters do */
    cuts cut[2];
    memo *memo;                   /* NULL: the text is too short to be worth it */
    bool open_unk;                /* the last id put is an unknown that may be fused with more */
    int flags;
    const uint8_t *mark;          /* a byte for each of the text that `marked` begins, or NULL */
    const char *marked;
    bool clean;                   /* the section has no marked byte */
    bool in_place;                /* the text being cut is part of the marked one */
} encoder;

static int put(encoder *x, int32_t id)
{
    ids *o = x->out;
    x->open_unk = false;
    if (o->n < o->cap) {
        o->p[o->n++] = id;
        return 0;
    }
    return ids_put(o, id, x->e);
}

static int put_unknown(encoder *x, span text)
{
    const tokenizer *t = x->t;
    bool all = t->byte_fallback;
    for (size_t i = 0; i < text.n && all; i++) all = t->byte_id[(uint8_t)text.p[i]] >= 0;
    int rc = 0;
    if (all) {
        for (size_t i = 0; i < text.n && !rc; i++) rc = put(x, t->byte_id[(uint8_t)text.p[i]]);
        return rc;
    }
    if (t->unk < 0 || (x->open_unk && t->fuse_unk)) return 0;
    rc = put(x, t->unk);
    x->open_unk = true;
    return rc;
}

/* Symbols of one piece of bytes, merged and put out. */
static int merge_bytes(encoder *x, const uint8_t *p, size_t n)
{
    const tokenizer *t = x->t;
    int rc;
    if (n <= BPE_SHORT && t->all_bytes) {
        int32_t sym[BPE_SHORT];
        size_t left = bpe_merge_bytes(&t->m, x->bpe.near, t->byte_id, p, n, sym);
        for (size_t i = 0; i < left; i++)
            if ((rc = put(x, sym[i]))) return rc;
        return 0;
    }
    if ((rc = bpe_room(&x->bpe, n, x->e))) return rc;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[p[i]];
        if (id < 0) id = t->unk;            /* neither: the byte is lost, as in the reference */
        if (id >= 0) x->bpe.sym[k++] = id;
    }
    int64_t left = bpe_merge(&t->m, &x->bpe, k, x->e);
    if (left < 0) return (int)left;
    for (int64_t i = 0; i < left; i++)
        if ((rc = put(x, x->bpe.sym[i]))) return rc;
    return 0;
}

/* Is merging the bytes of this token sure to give it back? Found out once per token. */
static int is_whole(encoder *x, int32_t id, const uint8_t *p, size_t n, bool *yes)
{
    const tokenizer *t = x->t;
    int known = atomic_load_explicit(&t->v.whole[id], memory_order_relaxed);
    if (!known) {
        int64_t at = x->out->n;
        int rc = merge_bytes(x, p, n);
        if (rc) return rc;
        known = x->out->n == at + 1 && x->out->p[at] == id ? 1 : 2;
        x->out->n = at;
        atomic_store_explicit(&t->v.whole[id], (uint8_t)known, memory_order_relaxed);
    }
    *yes = known == 1;
    return 0;
}

static memo *memo_of(encoder *x, uint64_t key, size_t n)
{
    if (!x->memo || n > MEMO_BYTES) return NULL;
    return &x->memo[(key ^ key >> 32) * 0x9e3779b97f4a7c15u >> 52];
}

static bool memo_is(const memo *m, uint64_t key, const uint8_t *p, size_t n)
{
    return m && m->key == key && m->n == n && !memcmp(m->text, p, n);
}

static int memo_put(encoder *x, const memo *m)
{
    int rc = 0;
    for (int i = 0; i < m->n_ids && !rc; i++) rc = put(x, m->id[i]);
    return rc;
}

/* Keep what was put out since `from`. */
static void memo_keep(encoder *x, memo *m, uint64_t key, const uint8_t *p, size_t n, int64_t from)
{
    int64_t k = x->out->n - from;
    if (!m || k > MEMO_IDS) return;
    m->key = key, m->n = (uint8_t)n, m->n_ids = (uint8_t)k;
    memcpy(m->text, p, n);
    memcpy(m->id, x->out->p + from, (size_t)k * sizeof *m->id);
}

static int piece_of_bytes(encoder *x, const uint8_t *p, size_t n, uint64_t key)
{
    int32_t id = vocab_find_key(&x->t->v, key, p, n);
    if (id >= 0) {
        bool yes = x->t->whole;
        int rc = yes ? 0 : is_whole(x, id, p, n, &yes);
        if (rc) return rc;
        if (yes) return put(x, id);
    }
    memo *m = memo_of(x, key, n);
    if (memo_is(m, key, p, n)) return memo_put(x, m);
    int64_t from = x->out->n;
    int rc = merge_bytes(x, p, n);
    if (!rc) memo_keep(x, m, key, p, n, from);
    return rc;
}

/* One run of characters, merged. SentencePiece merges characters it does not know with their
 * neighbours when that gives a token; they turn into bytes or <unk> only at the end. Hugging
 * Face turns them into bytes first. */
static int merge_chars(encoder *x, const uint8_t *p, size_t n)
{
    const tokenizer *t = x->t;
    int rc = bpe_room(&x->bpe, n, x->e), m;
    if (rc) return rc;
    if (n > INT32_MAX - 8) return err_set(x->e, DR_EUNSUPPORTED, "a piece of %zu bytes", n);
    size_t k = 0;
    for (size_t i = 0; i < n; i += (size_t)m) {
        utf8_get(p + i, p + n, &m);
        int32_t id = vocab_find(&t->v, p + i, (size_t)m);
        bool all = id < 0 && !t->spm && t->byte_fallback;
        for (int j = 0; j < m && all; j++) all = t->byte_id[p[i + (size_t)j]] >= 0;
        if (all) for (int j = 0; j < m; j++) x->bpe.sym[k++] = t->byte_id[p[i + (size_t)j]];
        else x->bpe.sym[k++] = id >= 0 ? id : -2 - (int32_t)i;
    }
    int64_t left = bpe_merge(&t->m, &x->bpe, k, x->e);
    if (left < 0) return (int)left;
    for (int64_t i = 0; i < left && !rc; i++) {
        int32_t id = x->bpe.sym[i];
        if (id >= 0 && id < t->v.n_ids) {
            rc = put(x, id);
        } else if (id >= 0) {
            rc = put_unknown(x, vocab_text(&t->v, id));
        } else {
            const uint8_t *c = p + (-2 - id);
            utf8_get(c, p + n, &m);
            rc = put_unknown(x, (span){ (const char *)c, (size_t)m });
        }
    }
    return rc;
}

/* Merges never cross a place that no token spans, so a long run is cut in front of each word's
 * mark that no token has behind such a byte: short runs merge faster. */
static int piece_of_chars(encoder *x, const uint8_t *p, size_t n)
{
    const tokenizer *t = x->t;
    x->open_unk = false;
    if (t->whole) {
        int32_t id = vocab_find(&t->v, p, n);
        if (id >= 0) return put(x, id);
    }
    size_t from = 0;
    for (size_t i = 1; i + 2 < n; i++) {
        if (p[i] != 0xe2 || p[i + 1] != 0x96 || p[i + 2] != 0x81 || t->glue[p[i - 1]]) continue;
        int rc = merge_chars(x, p + from, i - from);
        if (rc) return rc;
        from = i;
    }
    return merge_chars(x, p + from, n - from);
}

static int piece(encoder *x, const uint8_t *p, size_t n)
{
    if (!n) return 0;
    return x->t->bytes ? piece_of_bytes(x, p, n, vocab_key(p, n)) : piece_of_chars(x, p, n);
}

static int cut_put(cuts *c, size_t lo, size_t hi, dr_err *e)
{
    if (hi <= lo) return 0;
    if (c->n + 2 > c->cap) {
        size_t cap = c->cap + c->cap / 2 + 256;
        uint32_t *p = mem_realloc(c->p, cap * sizeof *p);
        if (!p) return err_nomem(e, cap * sizeof *p, "splitting");
        c->p = p, c->cap = cap;
    }
    c->p[c->n++] = (uint32_t)lo, c->p[c->n++] = (uint32_t)hi;
    return 0;
}

/* One segment, match or gap, joins the pieces by the step's rule. Begin of this text's pieces is
 * `base`; *joined: the last segment was a match that joined its neighbour (or is it). */
static int segment(const pre_step *s, cuts *c, size_t base, size_t lo, size_t hi, bool match,
                   int *last, dr_err *e)
{
    if (hi <= lo) return 0;
    match ^= s->invert;
    bool join = false, drop = false;
    switch (s->cut) {
    case CUT_REMOVED: drop = match; break;
    case CUT_ISOLATED: break;
    case CUT_CONTIGUOUS: join = *last == match; break;
    case CUT_PREVIOUS: join = match && *last == 0; break;
    case CUT_NEXT: join = !match && *last == 1; break;
    }
    *last = match;
    if (drop) return 0;
    if (join && c->n > base) {
        c->p[c->n - 1] = (uint32_t)hi;
        return 0;
    }
    return cut_put(c, lo, hi, e);
}

/* The next match of the step in [from, n): 1 found, 0 none, or an error. */
static int next_match(encoder *x, const pre_step *s, span text, size_t from, size_t *lo, size_t *hi)
{
    const uint8_t *p = (const uint8_t *)text.p, *end = p + text.n;
    if (s->kind == PRE_LLAMA3) {
        if (from >= text.n) return 0;
        *lo = from, *hi = (size_t)(split_llama3(p + from, end, s->digits) - p);
        return 1;
    }
    if (s->kind == PRE_DIGITS) {
        for (int m; from < text.n; from += (size_t)m) {
            uint32_t c = utf8_get(p + from, end, &m);
            if (c == UTF8_BAD || !(uc_props(c) & UC_DIGIT)) continue;
            *lo = from, *hi = from + (size_t)m;
            return 1;
        }
        return 0;
    }
    for (; from + s->str.n <= text.n; from++) {
        const void *at = memchr(p + from, s->str.p[0], text.n - from);
        if (!at) return 0;
        from = (size_t)((const uint8_t *)at - p);
        if (from + s->str.n > text.n) return 0;
        if (memcmp(p + from, s->str.p, s->str.n)) continue;
        *lo = from, *hi = from + s->str.n;
        return 1;
    }
    return 0;
    (void)x;
}

static int split_one(encoder *x, const pre_step *s, span all, size_t lo, size_t hi, cuts *c)
{
    span text = { all.p + lo, hi - lo };
    size_t base = c->n, from = 0, a, b, chars = 0;
    int last = -1, rc;
    if (s->kind == PRE_RE) {
        if ((rc = split_re_begin(s->re, &x->split, text, x->e))) return rc;
        const uint32_t *at = x->split.at;
        while ((rc = split_re_next(s->re, &x->split, chars, &a, &b, x->e)) > 0) {
            rc = segment(s, c, base, lo + at[chars], lo + at[a], false, &last, x->e);
            if (!rc) rc = segment(s, c, base, lo + at[a], lo + at[b], true, &last, x->e);
            if (rc) return rc;
            chars = b;
        }
        return rc ? rc : segment(s, c, base, lo + at[chars], hi, false, &last, x->e);
    }
    while ((rc = next_match(x, s, text, from, &a, &b)) > 0) {
        rc = segment(s, c, base, lo + from, lo + a, false, &last, x->e);
        if (!rc) rc = segment(s, c, base, lo + a, lo + b, true, &last, x->e);
        if (rc) return rc;
        from = b;
    }
    return rc ? rc : segment(s, c, base, lo + from, hi, false, &last, x->e);
}

/* A step that may put something in front of each piece, or rewrites spaces: the pieces move to
 * a new text. */
static int rewrite(encoder *x, const pre_step *s, span *text, const cuts *in, cuts *c, buf *to,
                   bool at_start)
{
    bool meta = s->kind == PRE_METASPACE;
    span mark = meta ? s->str : (span){ " ", 1 };
    buf_reset(to);
    to->cap_max = UINT32_MAX - 8;
    for (size_t i = 0; i < in->n; i += 2) {
        const char *p = text->p + in->p[i];
        size_t n = in->p[i + 1] - in->p[i], begin = to->n;
        bool first = at_start && i == 0 && in->p[i] == 0;
        bool starts = (meta && p[0] == ' ') || (n >= mark.n && !memcmp(p, mark.p, mark.n));
        int when = meta ? s->digits : PREPEND_ALWAYS;
        if (!starts && (when == PREPEND_ALWAYS || (when == PREPEND_FIRST && first)))
            buf_put(to, mark.p, mark.n);
        for (size_t j = 0; j < n; j++) {
            if (meta && p[j] == ' ') buf_put(to, mark.p, mark.n);
            else buf_putc(to, p[j]);
        }
        if (to->bad) return err_nomem(x->e, to->n + n, "splitting");
        int rc = cut_put(c, begin, to->n, x->e);
        if (rc) return rc;
    }
    *text = buf_span(to);
    return 0;
}

/* The pieces of one section, whatever the steps are. */
static int split_all(encoder *x, span text, bool at_start)
{
    const tokenizer *t = x->t;
    cuts *in = &x->cut[0], *c = &x->cut[1];
    in->n = 0;
    if (text.n > UINT32_MAX - 8) return err_set(x->e, DR_EUNSUPPORTED, "over 4 GB of text");
    int rc = cut_put(in, 0, text.n, x->e), to = 0;
    for (int k = 0; k < t->n_pres && !rc; k++) {
        const pre_step *s = &t->pres[k];
        c->n = 0;
        if (s->kind == PRE_PREFIX || s->kind == PRE_METASPACE) {
            rc = rewrite(x, s, &text, in, c, &x->prefixed[to], at_start);
            to ^= 1;
            if (!rc && s->kind == PRE_METASPACE && s->split) {
                pre_step by = { .kind = PRE_STRING, .cut = CUT_NEXT, .str = s->str };
                cuts *swap = in;
                in = c, c = swap, c->n = 0;
                for (size_t i = 0; i < in->n && !rc; i += 2)
                    rc = split_one(x, &by, text, in->p[i], in->p[i + 1], c);
            }
        } else {
            for (size_t i = 0; i < in->n && !rc; i += 2)
                rc = split_one(x, s, text, in->p[i], in->p[i + 1], c);
        }
        cuts *swap = in;
        in = c, c = swap;
    }
    for (size_t i = 0; i < in->n && !rc; i += 2)
        rc = piece(x, (const uint8_t *)text.p + in->p[i], in->p[i + 1] - in->p[i]);
    return rc;
}

static int pieces(encoder *x, span text, bool at_start)
{
    const tokenizer *t = x->t;
    const uint8_t *p = (const uint8_t *)text.p, *end = p + text.n;
    if (!text.n) return 0;
    if (!t->n_pres) return piece(x, p, text.n);
    if (!t->bytes || t->n_pres > 1 || t->pres[0].kind != PRE_LLAMA3 || t->pres[0].cut != CUT_ISOLATED)
        return split_all(x, text, at_start);
    /* A few pieces ahead of the search, so that the table's lines are on their way. */
    enum { AHEAD = 16 };
    struct { const uint8_t *p; size_t n; uint64_t key; } q[AHEAD];
    int digits = t->pres[0].digits, rc = 0;
    while (p < end && !rc) {
        int k = 0;
        for (; k < AHEAD && p < end; k++) {
            const uint8_t *to = split_llama3(p, end, digits);
            q[k].p = p, q[k].n = (size_t)(to - p), q[k].key = vocab_key(p, q[k].n);
            uint32_t slot = vocab_first(&t->v, q[k].key);
            __builtin_prefetch(&t->v.tag[slot]);
            __builtin_prefetch(&t->v.slot[slot]);
            if (x->memo && q[k].n <= MEMO_BYTES) __builtin_prefetch(memo_of(x, q[k].key, q[k].n));
            p = to;
        }
        for (int i = 0; i < k && !rc; i++) rc = piece_of_bytes(x, q[i].p, q[i].n, q[i].key);
    }
    return rc;
}

static void replace(buf *out, span in, span a, span b)
{
    for (size_t i = 0; i < in.n;) {
        const char *at = in.n - i >= a.n ? memchr(in.p + i, a.p[0], in.n - i - a.n + 1) : NULL;
        size_t k = at ? (size_t)(at - in.p) : in.n;
        buf_put(out, in.p + i, k - i);
        i = k;
        if (!at) break;
        if (!memcmp(at, a.p, a.n)) buf_put(out, b.p, b.n), i += a.n;
        else buf_putc(out, in.p[i++]);
    }
}

/* SentencePiece's remove_extra_whitespaces: none at either end, one at a time between. */
static void squeeze(buf *out, span in)
{
    bool gap = false;
    for (size_t i = 0; i < in.n; i++) {
        if (in.p[i] == ' ') { gap = true; continue; }
        if (gap && out->n) buf_putc(out, ' ');
        gap = false;
        buf_putc(out, in.p[i]);
    }
}

/* SentencePiece's precompiled_charsmap: the longest entry of a double-array trie at each place
 * is replaced by a 0-ended string. spec: darts-clone's unit: label in bits 0-7 and 31, a leaf
 * follows in bit 8, offset in bits 10-30 (times 256 with bit 9). */
static size_t charsmap_at(span trie, span in, size_t i, uint32_t *value)
{
    size_t n = trie.n / 4, best = 0;
    uint32_t u, pos = 0;
    memcpy(&u, trie.p, 4);
    for (size_t k = i;; k++) {
        pos ^= (u >> 10) << ((u & 512) >> 6);
        if (k > i && u & 256) {
            uint32_t leaf;
            if (pos >= n) return 0;
            memcpy(&leaf, trie.p + 4 * (size_t)pos, 4);
            *value = leaf & 0x7fffffff, best = k - i;
        }
        if (k == in.n) return best;
        pos ^= (uint8_t)in.p[k];
        if (pos >= n) return best;
        memcpy(&u, trie.p + 4 * (size_t)pos, 4);
        if ((u & 0x800000ff) != (uint8_t)in.p[k]) return best;
    }
}

static void charsmap(buf *out, span in, span trie, span strings)
{
    for (size_t i = 0; i < in.n;) {
        uint32_t at = 0;
        size_t n = charsmap_at(trie, in, i, &at);
        if (n && at < strings.n) {
            buf_puts(out, strings.p + at);
            i += n;
            continue;
        }
        int m;
        utf8_get((const uint8_t *)in.p + i, (const uint8_t *)in.p + in.n, &m);
        buf_put(out, in.p + i, (size_t)m);
        i += (size_t)m;
    }
}

int tok_normalise(const tokenizer *t, buf work[2], span *text, dr_err *e)
{
    for (int k = 0; k < t->n_norms; k++) {
        const norm_step *s = &t->norms[k];
        buf *out = &work[k & 1];
        buf_reset(out);
        out->cap_max = UINT32_MAX - 8;
        if (s->kind == NORM_PREPEND) {
            if (!text->n) continue;
            buf_put(out, s->a.p, s->a.n);
            buf_put(out, text->p, text->n);
        } else if (s->kind == NORM_REPLACE) {
            replace(out, *text, s->a, s->b);
        } else if (s->kind == NORM_CHARSMAP) {
            charsmap(out, *text, s->a, s->b);
        } else if (s->kind == NORM_TRIM_MARKS) {
            while (text->n >= 3 && !memcmp(text->p + text->n - 3, TOK_MARK, 3)) text->n -= 3;
            continue;
        } else {
            squeeze(out, *text);
        }
        if (out->bad) return err_nomem(e, text->n, "normalising");
        *text = buf_span(out);
    }
    return 0;
}

static bool is_word(uint32_t c) { return c != UTF8_BAD && (uc_props(c) & UC_WORD); }
static bool is_space(uint32_t c) { return c != UTF8_BAD && (uc_props(c) & UC_SPACE); }

/* The character that ends at p > base. */
static uint32_t before(const uint8_t *base, const uint8_t *p, int *n)
{
    const uint8_t *q = p - 1;
    while (q > base && p - q < 4 && (*q & 0xc0) == 0x80) q--;
    uint32_t c = utf8_get(q, p, n);
    if (q + *n == p) return c;
    *n = 1;
    return UTF8_BAD;
}

static bool stands_alone(span text, size_t lo, size_t hi)
{
    const uint8_t *p = (const uint8_t *)text.p, *end = p + text.n;
    int n;
    return !(lo && is_word(before(p, p + lo, &n))) &&
           !(hi < text.n && is_word(utf8_get(p + hi, end, &n)));
}

/* Does a control token of text[lo..hi) count? Not if any byte of it is marked. Where the text was
 * rewritten since, marks have no place in it: then its section must have none. *next: where the
 * search goes on when it does not; what the template wrote is still looked at. */
static bool control_counts(const encoder *x, span text, size_t lo, size_t hi, size_t *next)
{
    *next = hi;
    if (!(x->flags & TOK_SPECIAL)) return false;
    if (!x->mark) return true;
    size_t at = (size_t)(text.p - x->marked) + lo, n = 0;
    if (!x->in_place) return x->clean;
    for (size_t i = lo; i < hi; i++) n += x->mark[at + i - lo] != 0;
    if (n && n < hi - lo) *next = lo + 1;
    return n == 0;
}

/* Cut at the set's tokens; what is between goes to fn. cf. tokenizers' AddedVocabulary: a
 * control token that does not count still hides shorter tokens inside it. */
static int cut_added(encoder *x, const added_set *s, span text, bool at_start,
                     int (*fn)(encoder *, span, bool))
{
    const uint8_t *p = (const uint8_t *)text.p, *end = p + text.n;
    size_t done = 0, from = 0, at = 0;
    const added_tok *a;
    int rc, n;
    while ((a = added_next(s, text, from, &at))) {
        size_t lo = at, hi = at + a->n;
        from = hi;
        if (a->flags & AT_SPECIAL && !control_counts(x, text, lo, hi, &from)) continue;
        if (a->flags & AT_WORD && !stands_alone(text, lo, hi)) continue;
        if (a->flags & AT_LSTRIP)
            while (lo > done && is_space(before(p, p + lo, &n))) lo -= (size_t)n;
        if (a->flags & AT_RSTRIP)
            while (hi < text.n && is_space(utf8_get(p + hi, end, &n))) hi += (size_t)n;
        if (lo < done) lo = done;
        if (lo > done && (rc = fn(x, (span){ text.p + done, lo - done }, at_start && !done)))
            return rc;
        if ((rc = put(x, a->id))) return rc;
        done = hi;
    }
    if (done == text.n) return 0;
    return fn(x, (span){ text.p + done, text.n - done }, at_start && !done);
}

static int section(encoder *x, span text, bool at_start)
{
    x->clean = true;
    for (size_t i = 0; x->mark && i < text.n && x->clean; i++)
        x->clean = !x->mark[(size_t)(text.p - x->marked) + i];
    int rc = tok_normalise(x->t, x->text, &text, x->e);
    if (rc) return rc;
    if (!x->t->norm.n) return pieces(x, text, at_start);
    x->in_place = false;
    rc = cut_added(x, &x->t->norm, text, at_start, pieces);
    x->in_place = true;
    return rc;
}

int tok_encode(const tokenizer *t, span text, int flags, ids *out, dr_err *e)
{
    return tok_encode_marked(t, text, NULL, flags, out, e);
}

int tok_encode_marked(const tokenizer *t, span text, const uint8_t *mark, int flags, ids *out,
                      dr_err *e)
{
    encoder x = { .t = t, .out = out, .e = e, .flags = flags, .mark = mark, .marked = text.p,
                  .in_place = true };
    int64_t n0 = out->n;
    int rc = 0;
    size_t near = PAIRS_NEAR * sizeof *x.bpe.near;
    if (text.n >= MEMO_FROM) {
        x.memo = mem_zalloc(1, MEMO_N * sizeof *x.memo + near);
        if (!x.memo) return err_nomem(e, MEMO_N * sizeof *x.memo + near, "encoding");
        x.bpe.near = (uint64_t *)(x.memo + MEMO_N);
    }
    bool bos = flags & TOK_BOS && t->wants_bos && t->bos >= 0;
    if (bos) rc = ids_put(out, t->bos, e);
    if (!rc) rc = t->raw.n ? cut_added(&x, &t->raw, text, true, section) : section(&x, text, true);
    if (!rc && bos && out->n > n0 + 1 && out->p[n0 + 1] == t->bos) {
        memmove(out->p + n0 + 1, out->p + n0 + 2, (size_t)(out->n - n0 - 2) * sizeof *out->p);
        out->n--;                           /* the text began with the BOS itself: keep one */
    }
    if (rc) out->n = n0;
    mem_free(x.memo);
    bpe_work_free(&x.bpe);
    split_work_free(&x.split);
    for (int i = 0; i < 2; i++) {
        buf_free(&x.text[i]);
        buf_free(&x.prefixed[i]);
        mem_free(x.cut[i].p);
    }
    return rc;
}
