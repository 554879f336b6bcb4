/* kv.h - the paged cache of keys and values.
 *
 * A page holds 64 positions of every layer; a sequence is a table of page numbers. Pages are
 * counted: sequences that share a prefix share its whole pages, and a page is copied before
 * it is written if somebody else holds it. Invariants: positions [0,len) of a sequence are
 * valid; page[i] >= 0 exactly for i < ceil(len/64) after kv_grow; a free page has count 0.
 * Memory is taken from the system when a page is first written, not before.
 * Threads: one at a time. */
#ifndef MODEL_KV_H
#define MODEL_KV_H
#include "dev/dev.h"

typedef struct {
    dev *d;
    kv_type type;
    int L, nkv, hs, n_pages;
    size_t page_bytes, bytes;        /* of one layer's page; of everything */
    char *base;                      /* (L, n_pages, page) */
    int32_t *count, *free_list;
    int n_free;
    bool *kept;                      /* (n_pages,) those that something besides sequences holds: kv_keep */
    int n_idle;                      /* kept pages that nothing else holds */
} kv_cache;

typedef struct {
    int32_t *page;                   /* (max_len/64,) */
    int len, max_len;
} kv_seq;

size_t kv_bytes(kv_type t, int L, int nkv, int hs, int64_t positions);
int kv_init(kv_cache *c, dev *d, kv_type t, int L, int nkv, int hs, int64_t positions, dr_err *e);
void kv_free(kv_cache *c);
int kv_seq_init(kv_seq *s, int max_len, dr_err *e);
void kv_seq_free(kv_cache *c, kv_seq *s);            /* gives its pages back */
/* Make positions [len, len+n) writable; len is unchanged (kv_advance moves it). */
int kv_grow(kv_cache *c, kv_seq *s, int n, dr_err *e);
static inline void kv_advance(kv_seq *s, int n) { s->len += n; }
void kv_truncate(kv_cache *c, kv_seq *s, int len);   /* drop positions from len on */
/* dst (empty) becomes the first len positions of src, sharing pages. */
int kv_share(kv_cache *c, kv_seq *dst, const kv_seq *src, int len, dr_err *e);
/* Holders other than sequences: kv_keep counts a page in use once more, kv_unkeep gives that back.
 * A page is kept once. n_idle says how many pages would become free if all were unkept. */
void kv_keep(kv_cache *c, int32_t page);
void kv_unkeep(kv_cache *c, int32_t page);
/* Count a page in use once more, and give that back. */
void kv_hold(kv_cache *c, int32_t page);
void kv_release(kv_cache *c, int32_t page);
/* Page number i of s becomes `page`, which is in use and holds the same or more; i may be one behind the
 * pages that s has. */
void kv_replace(kv_cache *c, kv_seq *s, int i, int32_t page);
/* Pages that kv_grow(c, s, n) takes: new ones and copies. */
int kv_grow_pages(const kv_cache *c, const kv_seq *s, int n);
kv_layer kv_at(const kv_cache *c, int l);            /* layer l's pages */
#endif
