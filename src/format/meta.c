/* meta.c - see meta.h. */
#include "format/meta.h"
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"

enum { SHARDS_MAX = 999, PEEK = 4096, EQUAL_MAX = 1 << 20 /* norms have far less */ };

/* Which way a tensor is cut, by the end of its name; what is not listed is in every shard. */
static const struct { const char *tail; int axis; } cuts[] = {
    { "attention.wq.weight", 0 }, { "attention.wk.weight", 0 }, { "attention.wv.weight", 0 },
    { "attention.wo.weight", 1 }, { "feed_forward.w1.weight", 0 },
    { "feed_forward.w3.weight", 0 }, { "feed_forward.w2.weight", 1 }, { "output.weight", 0 },
    { "tok_embeddings.weight", 0 },
};

static bool ends(span s, const char *tail)
{
    size_t n = strlen(tail);
    return s.n >= n && !memcmp(s.p + s.n - n, tail, n);
}

static int64_t number(const json_t *params, const char *key, int64_t otherwise)
{
    const json_t *j = json_object_get(params, key);
    json_int_t v = json_integer_value(j);
    return json_is_integer(j) && v > 0 && v < 1 << 24 ? v : otherwise;
}

static int cut_of(const pth_tensor *t, int n_shards, int64_t dim)
{
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        if (t->n_dims != 2 || !ends(t->name, cuts[i].tail)) continue;
        if (ends(t->name, "tok_embeddings.weight") && t->dim[1] != dim &&
            t->dim[1] * n_shards == dim)
            return 1;                                  // Llama 1 and 2
        return cuts[i].axis;
    }
    return -1;
}

/* ---- are these shards of one model, and all of it? ---- */

static int same_lists(const pth *const *shard, int n_shards, dr_err *e)
{
    for (int s = 1; s < n_shards; s++) {
        if (shard[s]->n != shard[0]->n)
            return err_set(e, DR_EFORMAT, "consolidated.%02d.pth holds %" PRId64 " tensors, "
                           "consolidated.00.pth %" PRId64 ": they are not of the same model", s,
                           shard[s]->n, shard[0]->n);
        for (int64_t i = 0; i < shard[0]->n; i++) {
            const pth_tensor *a = &shard[0]->t[i], *b = pth_find(shard[s], a->name);
            if (!b)
                return err_set(e, DR_EFORMAT, "consolidated.%02d.pth holds no " SPAN_FMT ", "
                               "consolidated.00.pth does", s, SPAN_ARG(a->name));
            if (a->type != b->type || a->n_dims != b->n_dims || memcmp(a->dim, b->dim, sizeof a->dim))
                return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " has another shape or type in "
                               "consolidated.%02d.pth than in consolidated.00.pth",
                               SPAN_ARG(a->name), s);
        }
    }
    return DR_OK;
}

/* The first layer's wq says how many shards there must be. */
static int count_shards(const pth *first, int n_shards, const json_t *params, dr_err *e)
{
    const pth_tensor *wq = pth_find(first, span_of("layers.0.attention.wq.weight"));
    int64_t dim = number(params, "dim", 0), heads = number(params, "n_heads", 0);
    if (!wq || wq->n_dims != 2 || wq->dim[0] < 1 || !dim || !heads) return DR_OK;   // said later
    int64_t rows = heads * number(params, "head_dim", dim / heads);
    if (rows == wq->dim[0] * n_shards) return DR_OK;
    if (rows % wq->dim[0] || rows / wq->dim[0] > SHARDS_MAX)
        return err_set(e, DR_EFORMAT, "params.json says that attention is %" PRId64 " rows wide, "
                       "but %d shards of %" PRId64 " are here: they are not of this model", rows,
                       n_shards, wq->dim[0]);
    int want = (int)(rows / wq->dim[0]);
    if (want > n_shards)
        return err_set(e, DR_EIO, "the model is cut into %d shards, but only %d are here: "
                       "consolidated.%02d.pth is missing", want, n_shards, n_shards);
    return err_set(e, DR_EFORMAT, "the model is cut into %d shards, but %d files are here", want,
                   n_shards);
}

static bool equal_in_groups(const pth *const *shard, int n_shards, int group, const char *name,
                            size_t most)
{
    for (int s = 0; s < n_shards; s++) {
        const pth_tensor *a = pth_find(shard[s - s % group], span_of(name));
        const pth_tensor *b = pth_find(shard[s], span_of(name));
        if (!a || !b || memcmp(a->data, b->data, a->bytes < most ? a->bytes : most)) return false;
    }
    return true;
}

/* How many neighbouring shards hold the same key/value head. Meta's 16-way 405B says 8 heads, or
 * counts every copy: then the first layer tells. */
static int find_fold(const pth *const *shard, int n_shards, const json_t *params, int *fold,
                     dr_err *e)
{
    *fold = 1;
    const char *wk = "layers.0.attention.wk.weight", *wv = "layers.0.attention.wv.weight";
    const pth_tensor *t = pth_find(shard[0], span_of(wk));
    int64_t heads = number(params, "n_heads", 0), kv = number(params, "n_kv_heads", heads);
    int64_t dim = number(params, "dim", 0);
    if (n_shards == 1 || !t || t->n_dims != 2 || !heads || !kv || !dim) return DR_OK;
    int64_t hs = number(params, "head_dim", dim / heads), have = t->dim[0] * n_shards;
    if (hs > 0 && have > kv * hs && have % (kv * hs) == 0) {
        int f = (int)(have / (kv * hs));
        if (n_shards % f || !equal_in_groups(shard, n_shards, f, wk, PEEK))
            return err_set(e, DR_EFORMAT, "%d shards hold %" PRId64 " key/value heads, params.json "
                           "says %" PRId64 ", but they are no copies of each other", n_shards,
                           have / hs, kv);
        *fold = f;
    } else if (t->dim[0] == hs) {
        while (n_shards % (*fold * 2) == 0 &&
               equal_in_groups(shard, n_shards, *fold * 2, wk, SIZE_MAX) &&
               equal_in_groups(shard, n_shards, *fold * 2, wv, SIZE_MAX))
            *fold *= 2;
    }
    return DR_OK;
}

/* ---- the table ---- */

static void put_part(meta *m, int64_t i, int s, const pth_tensor *t)
{
    m->part[i * m->n_shards + s] = t->data;
}

static int join_tensor(meta *m, const pth *const *shard, int64_t i, int64_t dim, dr_err *e)
{
    const pth_tensor *a = &shard[0]->t[i];
    tensor *t = &m->t[i];
    int S = m->n_shards, axis = S > 1 ? cut_of(a, S, dim) : -1;
    bool kv = ends(a->name, "attention.wk.weight") || ends(a->name, "attention.wv.weight");
    *t = (tensor){ .name = a->name, .type = a->type, .n_dims = a->n_dims, .bytes = a->bytes,
                   .data = axis < 0 ? a->data : NULL };
    memcpy(t->dim, a->dim, sizeof t->dim);
    m->join[i] = (meta_join){ (int8_t)axis, (int16_t)(kv ? m->fold : 1) };
    for (int s = 0; s < S; s++) {
        const pth_tensor *b = pth_find(shard[s], a->name);
        put_part(m, i, s, b);
        size_t equal = a->bytes < EQUAL_MAX ? a->bytes : EQUAL_MAX;
        if (axis < 0 && s && memcmp(a->data, b->data, equal))
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " differs between consolidated.00.pth "
                           "and consolidated.%02d.pth: they are not of the same model",
                           SPAN_ARG(a->name), s);
        int s0 = s - s % m->join[i].step;              // its bytes behind these: meta_rows
        if (s0 != s && memcmp(m->part[i * S + s0], b->data, a->bytes < PEEK ? a->bytes : PEEK))
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": consolidated.%02d.pth and "
                           "consolidated.%02d.pth should hold the same key/value head and do not",
                           SPAN_ARG(a->name), s0, s);
    }
    if (axis < 0) return DR_OK;
    int n = S / m->join[i].step;
    if (__builtin_mul_overflow(t->dim[axis], (int64_t)n, &t->dim[axis]) ||
        __builtin_mul_overflow(t->bytes, (size_t)n, &t->bytes))
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " is too large", SPAN_ARG(a->name));
    return DR_OK;
}

/* Keys "LAYER_feed_forward.wI_RANK". */
static bool scale_key(span s, int *layer, char *w, int *rank)
{
    static const char mid[] = "_feed_forward.w";
    size_t i = 0, d = 0;
    *layer = 0, *rank = 0;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9' && i < 5; i++) *layer = *layer * 10 + s.p[i] - '0';
    if (!i || s.n - i < sizeof mid || memcmp(s.p + i, mid, sizeof mid - 1)) return false;
    i += sizeof mid - 1;
    *w = s.p[i++];
    if (i >= s.n || s.p[i++] != '_') return false;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9' && d < 5; i++, d++)
        *rank = *rank * 10 + s.p[i] - '0';
    return d && i == s.n && *w >= '1' && *w <= '3';
}

enum { SCALE_NAME = 64 };

static int join_scale(meta *m, const pth *const *scale, int64_t k, int64_t i, char *name, dr_err *e)
{
    const pth_tensor *a = &scale[0]->t[k];
    int layer, rank, S = m->n_shards;
    char w, key[SCALE_NAME];
    if (!scale_key(a->name, &layer, &w, &rank) || rank != 0)
        return err_set(e, DR_EFORMAT, "fp8_scales_0.pt holds " SPAN_FMT ", but keys such as "
                       "3_feed_forward.w1_0 are wanted", SPAN_ARG(a->name));
    int64_t rows = a->n_dims ? a->dim[0] : 0;
    if (!(a->n_dims == 1 || (a->n_dims == 2 && a->dim[1] == 1)) || rows < 1)
        return err_set(e, DR_EFORMAT, "fp8_scales_0.pt: " SPAN_FMT " is no list of scales",
                       SPAN_ARG(a->name));
    int n = snprintf(name, SCALE_NAME, "layers.%d.feed_forward.w%c.weight_scale", layer, w);
    bool slices = w == '2' && S > 1;
    m->t[i] = (tensor){ .name = { name, (size_t)n }, .type = a->type, .n_dims = slices ? 2 : 1,
                        .dim = { slices ? S : rows * S, slices ? rows : 0 },
                        .data = S == 1 ? a->data : NULL, .bytes = a->bytes * (size_t)S };
    m->join[i] = (meta_join){ S == 1 ? -1 : slices ? 0 : 1, 1 };
    for (int s = 0; s < S; s++) {
        snprintf(key, sizeof key, "%d_feed_forward.w%c_%d", layer, w, s);
        const pth_tensor *b = pth_find(scale[s], span_of(key));
        if (!b)
            return err_set(e, DR_EFORMAT, "fp8_scales_%d.pt holds no %s: is it another shard's?", s,
                           key);
        if (b->type != a->type || b->n_dims != a->n_dims || b->dim[0] != rows)
            return err_set(e, DR_EFORMAT, "fp8_scales_%d.pt: %s has another shape or type than in "
                           "fp8_scales_0.pt", s, key);
        put_part(m, i, s, b);
    }
    return DR_OK;
}

static int take(meta *m, int64_t n, int64_t n_scales, char **names, dr_err *e)
{
    int64_t all = n + n_scales;
    size_t parts = (size_t)all * (size_t)m->n_shards * sizeof *m->part;
    size_t bytes = (size_t)all * (sizeof *m->t + sizeof *m->join) + parts +
                   (size_t)n_scales * SCALE_NAME;
    m->mem = mem_zalloc(bytes, 1);
    if (!m->mem) return err_nomem(e, bytes, "table of tensors");
    m->t = m->mem;
    m->part = (const uint8_t **)(void *)(m->t + all);
    m->join = (meta_join *)(void *)((char *)m->part + parts);
    *names = (char *)(m->join + all);
    return DR_OK;
}

static int64_t find_tied(const meta *m)
{
    int64_t head = -1, emb = -1;
    for (int64_t i = 0; i < m->n; i++) {
        if (span_is(m->t[i].name, "output.weight")) head = i;
        if (span_is(m->t[i].name, "tok_embeddings.weight")) emb = i;
    }
    if (head < 0 || emb < 0 || !m->t[head].bytes || m->t[head].bytes != m->t[emb].bytes ||
        m->join[head].axis != m->join[emb].axis)
        return -1;
    return memcmp(&m->part[head * m->n_shards], &m->part[emb * m->n_shards],
                  (size_t)m->n_shards * sizeof *m->part) ? -1 : head;
}

int meta_put_together(meta *m, const pth *const *shard, const pth *const *scale, int n_shards,
                      const json_t *params, dr_err *e)
{
    *m = (meta){ .n_shards = n_shards, .fold = 1, .tied = -1 };
    DR_ASSERT(n_shards >= 1 && n_shards <= SHARDS_MAX);
    int64_t n = shard[0]->n, n_scales = scale ? scale[0]->n : 0;
    char *names = NULL;
    int rc = same_lists(shard, n_shards, e);
    if (rc == DR_OK) rc = count_shards(shard[0], n_shards, params, e);
    if (rc == DR_OK) rc = find_fold(shard, n_shards, params, &m->fold, e);
    if (rc == DR_OK) rc = take(m, n, n_scales, &names, e);
    for (int64_t i = 0; rc == DR_OK && i < n; i++)
        rc = join_tensor(m, shard, i, number(params, "dim", 0), e);
    for (int64_t k = 0; rc == DR_OK && k < n_scales; k++)
        rc = join_scale(m, scale, k, n + k, names + k * SCALE_NAME, e);
    if (rc != DR_OK) {
        meta_free(m);
        return rc;
    }
    m->n = n + n_scales;
    m->tied = find_tied(m);
    for (int64_t i = 0; i < m->n; i++)
        if (!m->t[i].data && i != m->tied) m->gather += (m->t[i].bytes + 63) & ~(size_t)63;
    return DR_OK;
}

void meta_free(meta *m)
{
    mem_free(m->mem);
    *m = (meta){0};
}

/* ---- rows ---- */

/* Rows [row, row+n) of shard s's part, of `one` bytes a row, to dst with `stride` between them;
 * the copies in the next shards are compared with it. */
static int copy_part(const meta *m, int64_t i, int s, int64_t row, int64_t n, size_t one,
                     uint8_t *dst, size_t stride, dr_err *e)
{
    const uint8_t *const *part = m->part + i * m->n_shards;
    size_t at = (size_t)row * one;
    for (int c = 1; c < m->join[i].step; c++)
        if (memcmp(part[s] + at, part[s + c] + at, (size_t)n * one))
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": consolidated.%02d.pth and "
                           "consolidated.%02d.pth should hold the same key/value head and do not",
                           SPAN_ARG(m->t[i].name), s, s + c);
    if (stride == one) {
        memcpy(dst, part[s] + at, (size_t)n * one);
        return DR_OK;
    }
    for (int64_t r = 0; r < n; r++)
        memcpy(dst + (size_t)r * stride, part[s] + at + (size_t)r * one, one);
    return DR_OK;
}

int meta_rows(const meta *m, int64_t i, int64_t row, int64_t n, void *dst, dr_err *e)
{
    const tensor *t = &m->t[i];
    int64_t rows = tensor_n_rows(t);
    if (!rows || !n) return DR_OK;
    size_t one = t->bytes / (size_t)rows;
    uint8_t *to = dst;
    int step = m->join[i].step, rc = DR_OK;
    if (m->join[i].axis < 0) return copy_part(m, i, 0, row, n, one, to, one, e);
    if (m->join[i].axis == 1) {
        size_t part = one / (size_t)(m->n_shards / step);
        for (int s = 0; rc == DR_OK && s < m->n_shards; s += step)
            rc = copy_part(m, i, s, row, n, part, to + (size_t)(s / step) * part, one, e);
        return rc;
    }
    int64_t each = rows / (m->n_shards / step);
    for (int64_t done = 0; rc == DR_OK && done < n;) {
        int64_t from = (row + done) % each, k = each - from < n - done ? each - from : n - done;
        rc = copy_part(m, i, (int)((row + done) / each) * step, from, k, one, to + (size_t)done * one,
                       one, e);
        done += k;
    }
    return rc;
}
