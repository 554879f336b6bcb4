/* state.c - a session's timeline to a file and back.
 *
 * Layout, little-endian: "DRVRKV01", u32 of L nkv hs kv_type n_tok V, u64 checksum of the rest,
 * n_tok i32 tokens, then for each layer and page the page's bytes as the cache has them. The
 * checksum (FNV-1a over 64-bit words) catches damage, not malice: values are only ever read as numbers. */
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "format/rd.h"
#include "gen/session_priv.h"

static const char magic[8] = "DRVRKV01";

static uint64_t fnv(uint64_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (; n >= 8; n -= 8, b += 8) {
        uint64_t v;
        memcpy(&v, b, 8);
        h = (h ^ v) * 0x100000001b3u;
    }
    for (; n; n--, b++) h = (h ^ *b) * 0x100000001b3u;
    return h;
}

static void header(const session *s, uint32_t v[6], int n_tok)
{
    const hparams *h = &s->m->h;
    uint32_t t[6] = { (uint32_t)h->L, (uint32_t)h->nkv, (uint32_t)h->hs, (uint32_t)s->kv.type,
                      (uint32_t)n_tok, (uint32_t)h->V };
    memcpy(v, t, sizeof t);
}

static char *page_at(const session *s, int l, int i)
{
    return kv_at(&s->kv, l).base + (size_t)s->seq.page[i] * s->kv.page_bytes;
}

int session_save(const session *s, const char *path, dr_err *e)
{
    int pages = (s->n_tok + KV_PAGE - 1) / KV_PAGE;
    size_t body = (size_t)s->n_tok * sizeof *s->tok +
                  (size_t)s->m->h.L * (size_t)pages * s->kv.page_bytes;
    size_t head = sizeof magic + 6 * sizeof(uint32_t) + sizeof(uint64_t);
    char *p = mem_pages(head + body), *w = p + head;
    if (!p) return err_nomem(e, head + body, "saved state");
    memcpy(w, s->tok, (size_t)s->n_tok * sizeof *s->tok);
    w += (size_t)s->n_tok * sizeof *s->tok;
    for (int l = 0; l < s->m->h.L; l++)
        for (int i = 0; i < pages; i++, w += s->kv.page_bytes)
            memcpy(w, page_at(s, l, i), s->kv.page_bytes);
    uint32_t v[6];
    header(s, v, s->n_tok);
    uint64_t sum = fnv(0xcbf29ce484222325u, p + head, body);
    memcpy(p, magic, sizeof magic);
    memcpy(p + 8, v, sizeof v);
    memcpy(p + 8 + sizeof v, &sum, sizeof sum);
    int rc = os_write(path, p, head + body, e);
    mem_pages_free(p, head + body);
    return rc;
}

static int restore(session *s, rd *r, dr_err *e)
{
    uint32_t v[6], want[6];
    const void *mg = rd_bytes(r, sizeof magic);
    if (!mg || memcmp(mg, magic, sizeof magic))
        return err_set(e, DR_EFORMAT, "not a saved state");
    for (int i = 0; i < 6; i++) v[i] = rd_u32(r);
    uint64_t sum = rd_u64(r);
    if (rd_bad(r)) return err_set(e, DR_EFORMAT, "the saved state is cut short");
    header(s, want, 0);
    want[4] = v[4];
    if (memcmp(v, want, sizeof v))
        return err_set(e, DR_EINVAL, "the state was saved from another model or cache type");
    if (v[4] > (uint32_t)s->n_ctx)
        return err_set(e, DR_EINVAL, "the saved state has %u positions, the context %d", v[4],
                       s->n_ctx);
    int n = (int)v[4], pages = (n + KV_PAGE - 1) / KV_PAGE;
    size_t toks = (size_t)n * sizeof *s->tok;
    size_t body = toks + (size_t)s->m->h.L * (size_t)pages * s->kv.page_bytes;
    if ((size_t)(r->end - r->p) != body)
        return err_set(e, DR_EFORMAT, "the saved state has %zu bytes where %zu are wanted",
                       (size_t)(r->end - r->p), body);
    if (fnv(0xcbf29ce484222325u, r->p, body) != sum)
        return err_set(e, DR_EFORMAT, "the saved state is damaged: its checksum is wrong");
    for (int i = 0; i < n; i++) {
        int32_t t;
        memcpy(&t, r->p + 4 * (size_t)i, 4);
        if (t < 0 || t >= s->m->h.V) return err_set(e, DR_EFORMAT, "the saved state has token %d", t);
    }
    session_truncate(s, 0);
    int rc = kv_grow(&s->kv, &s->seq, n, e);
    if (rc) return rc;
    memcpy(s->tok, r->p, toks);
    const uint8_t *p = r->p + toks;
    for (int l = 0; l < s->m->h.L; l++)
        for (int i = 0; i < pages; i++, p += s->kv.page_bytes)
            memcpy(page_at(s, l, i), p, s->kv.page_bytes);
    kv_advance(&s->seq, n);
    s->n_tok = n;
    s->n_logits = 0;
    return DR_OK;
}

int session_load(session *s, const char *path, dr_err *e)
{
    os_file f;
    int rc = os_map(&f, path, e);
    if (rc) return rc;
    rd r = { f.p, f.p + f.n, false };
    dr_err inner = {0};
    rc = restore(s, &r, &inner);
    if (rc) err_set(e, rc, "%.200s: %.280s", path, inner.msg);
    os_unmap(&f);
    return rc;
}
