/* train_case.h - models and batches as tools/golden/train.py makes them: every number is a hash of its
 * place. Include after cmocka.h. */
#ifndef TESTS_TRAIN_CASE_H
#define TESTS_TRAIN_CASE_H
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "dev/dev.h"
#include "train/batch.h"
#include "train/params.h"

/* lowbias32 (C. Wellons, hash-prospector) of place i in a stream. */
static inline uint32_t case_hash(uint32_t stream, uint32_t i)
{
    uint32_t x = i + 0x9E3779B9u * (stream + 1);
    x ^= x >> 16, x *= 0x7FEB352Du;
    x ^= x >> 15, x *= 0x846CA68Bu;
    return x ^ x >> 16;
}

/* In [-1, 1). */
static inline float case_value(uint32_t stream, uint32_t i)
{
    return (float)(case_hash(stream, i) >> 8) * 0x1p-23f - 1;
}

typedef struct {
    hparams h;
    float std;
    batch b;
    int32_t *tok, *target, *start;
    float *weight;
} train_case;

/* tok[0..n) and what each must predict: the next of its document, the last nothing, and of the
 * very last the first; one in seven is masked. weighted: weights of 0, 0.25 … 1. ids: the tokens; NULL:
 * hashes. */
static inline void case_batch(train_case *c, const int *len, int n_docs, bool weighted, const json_t *ids)
{
    int n = 0;
    for (int d = 0; d < n_docs; d++) n += len[d];
    c->tok = calloc((size_t)n, sizeof *c->tok), c->target = calloc((size_t)n, sizeof *c->target);
    c->weight = calloc((size_t)n, sizeof *c->weight);
    c->start = calloc((size_t)n_docs + 1, sizeof *c->start);
    for (int i = 0; i < n; i++) {
        c->tok[i] = ids ? (int32_t)json_integer_value(json_array_get(ids, (size_t)i))
                        : (int32_t)(case_hash(1000, (uint32_t)i) % (uint32_t)c->h.V);
        c->weight[i] = (float)(case_hash(1002, (uint32_t)i) % 5) * 0.25f;
    }
    for (int d = 0; d < n_docs; d++) c->start[d + 1] = c->start[d] + len[d];
    for (int d = 0; d < n_docs; d++)
        for (int i = c->start[d]; i < c->start[d + 1]; i++)
            c->target[i] = i + 1 < c->start[d + 1] ? c->tok[i + 1] : -1;
    if (len[n_docs - 1] > 1) c->target[n - 1] = c->tok[0];
    for (int i = 0; i < n; i++)
        if (case_hash(1001, (uint32_t)i) % 7 == 0) c->target[i] = -1;
    c->b = (batch){ .n = n, .tok = c->tok, .target = c->target, .weight = weighted ? c->weight : NULL,
                    .n_docs = n_docs, .doc_start = c->start };
}

static inline void case_free(train_case *c)
{
    free(c->tok), free(c->target), free(c->start), free(c->weight);
    *c = (train_case){0};
}

/* Weights: matrices std * value, norms 1 + value / 4. */
static inline void case_weights(params *p, float std)
{
    for (int t = 0; t < p->n; t++)
        for (int64_t i = 0; i < p->p[t].n; i++) {
            float v = case_value((uint32_t)t, (uint32_t)i);
            p->w[p->p[t].at + i] = p->p[t].matrix ? v * std : 1 + v * 0.25f;
        }
    params_round(p, 0, p->n_elem);
}

static inline int case_int(const json_t *o, const char *k)
{
    return (int)json_integer_value(json_object_get(o, k));
}

static inline double case_real(const json_t *o, const char *k)
{
    return json_number_value(json_object_get(o, k));
}

/* Of a row of train.json. */
static inline void case_read(train_case *c, const json_t *j)
{
    enum { DOCS = 64 };
    const json_t *r = json_object_get(j, "rope"), *docs = json_object_get(j, "docs");
    int len[DOCS], n = (int)json_array_size(docs);
    hparams *h = &c->h;
    *c = (train_case){ .std = (float)case_real(j, "std") };
    *h = (hparams){ .family = "llama", .V = case_int(j, "V"), .C = case_int(j, "C"),
                    .L = case_int(j, "L"), .nh = case_int(j, "nh"), .nkv = case_int(j, "nkv"),
                    .hs = case_int(j, "hs"), .F = case_int(j, "F"), .n_ctx = case_int(j, "ctx"),
                    .eps = (float)case_real(j, "eps"), .tied = json_is_true(json_object_get(j, "tied")) };
    h->rope.theta = case_real(j, "theta");
    if (json_is_object(r)) {
        h->rope.kind = ROPE_LLAMA3;
        h->rope.factor = case_real(r, "factor"), h->rope.low = case_real(r, "low");
        h->rope.high = case_real(r, "high"), h->rope.orig_ctx = case_real(r, "orig");
    }
    assert_true(n > 0 && n <= DOCS);
    for (int i = 0; i < n; i++) len[i] = (int)json_integer_value(json_array_get(docs, (size_t)i));
    case_batch(c, len, n, json_is_true(json_object_get(j, "weighted")), json_object_get(j, "ids"));
}

/* |a - b| / |b|, in double. */
static inline double case_rel(const float *a, const float *b, int64_t n)
{
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        s += (double)b[i] * (double)b[i];
    }
    return s > 0 ? sqrt(d / s) : sqrt(d);
}
#endif
