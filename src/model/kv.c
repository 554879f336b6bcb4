/* kv.c - see kv.h. */
#include "model/kv.h"
#include <string.h>
#include "base/mem.h"

static int64_t pages_for(int64_t positions) { return (positions + KV_PAGE - 1) / KV_PAGE; }

size_t kv_bytes(kv_type t, int L, int nkv, int hs, int64_t positions)
{
    return (size_t)L * (size_t)pages_for(positions) * kv_page_bytes(t, nkv, hs);
}

int kv_init(kv_cache *c, dev *d, kv_type t, int L, int nkv, int hs, int64_t positions, dr_err *e)
{
    *c = (kv_cache){ .d = d, .type = t, .L = L, .nkv = nkv, .hs = hs };
    int rc = kv_type_check(t, hs, e);
    if (rc) return rc;
    int64_t np = pages_for(positions);
    if (np < 1 || np > INT32_MAX)
        return err_set(e, DR_EINVAL, "a cache of %lld positions", (long long)positions);
    c->n_pages = (int)np;
    c->page_bytes = kv_page_bytes(t, nkv, hs);
    c->bytes = kv_bytes(t, L, nkv, hs, positions);
    c->count = mem_zalloc((size_t)np, sizeof *c->count);
    c->free_list = mem_alloc((size_t)np * sizeof *c->free_list);
    c->kept = mem_zalloc((size_t)np, sizeof *c->kept);
    c->base = d->alloc(d, c->bytes);
    if (!c->count || !c->free_list || !c->kept || !c->base) {
        size_t n = c->bytes;
        kv_free(c);
        return err_nomem(e, n, "keys and values");
    }
    for (int i = 0; i < c->n_pages; i++) c->free_list[i] = c->n_pages - 1 - i;
    c->n_free = c->n_pages;
    return DR_OK;
}

void kv_free(kv_cache *c)
{
    if (c->base) c->d->free(c->d, c->base, c->bytes);
    mem_free(c->count);
    mem_free(c->free_list);
    mem_free(c->kept);
    *c = (kv_cache){0};
}

int kv_seq_init(kv_seq *s, int max_len, dr_err *e)
{
    *s = (kv_seq){ .max_len = max_len };
    size_t n = (size_t)pages_for(max_len) * sizeof *s->page;
    s->page = mem_alloc(n);
    if (!s->page) return err_nomem(e, n, "page table");
    memset(s->page, -1, n);
    return DR_OK;
}

static void drop(kv_cache *c, int32_t page)
{
    if (--c->count[page] == 0) c->free_list[c->n_free++] = page;
    else if (c->count[page] == 1 && c->kept[page]) c->n_idle++;
}

void kv_hold(kv_cache *c, int32_t page)
{
    DR_ASSERT(c->count[page] > 0);
    if (c->count[page]++ == 1 && c->kept[page]) c->n_idle--;
}

void kv_release(kv_cache *c, int32_t page) { drop(c, page); }

void kv_keep(kv_cache *c, int32_t page)
{
    DR_ASSERT(c->count[page] > 0 && !c->kept[page]);
    c->count[page]++;
    c->kept[page] = true;
}

void kv_unkeep(kv_cache *c, int32_t page)
{
    DR_ASSERT(c->kept[page]);
    if (c->count[page] == 1) c->n_idle--;
    c->kept[page] = false;
    drop(c, page);
}

void kv_replace(kv_cache *c, kv_seq *s, int i, int32_t page)
{
    DR_ASSERT(i < pages_for(s->max_len) && c->count[page] > 0);
    kv_hold(c, page);
    if (s->page[i] >= 0) drop(c, s->page[i]);
    s->page[i] = page;
}

int kv_grow_pages(const kv_cache *c, const kv_seq *s, int n)
{
    int take = 0;
    for (int64_t i = s->len / KV_PAGE; n > 0 && i < pages_for((int64_t)s->len + n); i++)
        take += s->page[i] < 0 || c->count[s->page[i]] > 1;
    return take;
}

void kv_truncate(kv_cache *c, kv_seq *s, int len)
{
    if (len < 0) len = 0;
    for (int64_t i = pages_for(len); i < pages_for(s->max_len) && s->page[i] >= 0; i++) {
        drop(c, s->page[i]);
        s->page[i] = -1;
    }
    if (len < s->len) s->len = len;
}

void kv_seq_free(kv_cache *c, kv_seq *s)
{
    if (s->page) kv_truncate(c, s, 0);
    mem_free(s->page);
    *s = (kv_seq){0};
}

static void copy_page(kv_cache *c, int32_t to, int32_t from)
{
    for (int l = 0; l < c->L; l++) {
        char *base = c->base + (size_t)l * (size_t)c->n_pages * c->page_bytes;
        memcpy(base + (size_t)to * c->page_bytes, base + (size_t)from * c->page_bytes,
               c->page_bytes);
    }
}

int kv_grow(kv_cache *c, kv_seq *s, int n, dr_err *e)
{
    if (n > s->max_len - s->len)
        return err_set(e, DR_EINVAL, "the context of %d positions is full (%d held, %d more)",
                       s->max_len, s->len, n);
    for (int64_t i = s->len / KV_PAGE; n > 0 && i < pages_for((int64_t)s->len + n); i++) {
        bool shared = s->page[i] >= 0 && c->count[s->page[i]] > 1;
        if (s->page[i] >= 0 && !shared) continue;
        if (c->n_free == 0)
            return err_set(e, DR_ENOMEM, "all %d pages of the key/value cache are in use",
                           c->n_pages);
        int32_t p = c->free_list[--c->n_free];
        c->count[p] = 1;
        if (shared) {
            copy_page(c, p, s->page[i]);
            drop(c, s->page[i]);
        }
        s->page[i] = p;
    }
    return DR_OK;
}

int kv_share(kv_cache *c, kv_seq *dst, const kv_seq *src, int len, dr_err *e)
{
    DR_ASSERT(dst->len == 0 && len <= src->len);
    if (len > dst->max_len)
        return err_set(e, DR_EINVAL, "a prefix of %d does not fit a context of %d", len,
                       dst->max_len);
    kv_truncate(c, dst, 0);
    for (int64_t i = 0; i < pages_for(len); i++) {
        dst->page[i] = src->page[i];
        kv_hold(c, src->page[i]);
    }
    dst->len = len;
    return DR_OK;
}

kv_layer kv_at(const kv_cache *c, int l)
{
    return (kv_layer){ c->type, c->nkv, c->hs,
                       c->base + (size_t)l * (size_t)c->n_pages * c->page_bytes, c->page_bytes };
}
