/* peft.h - LoRA adapters for tests: a PEFT folder with random matrices for the weights asked for. Include
 * after cmocka.h. */
#ifndef TESTS_PEFT_H
#define TESTS_PEFT_H
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "base/rng.h"
#include "format/safetensors_write.h"
#include "model/weights.h"

enum { PEFT_ATTN = 1, PEFT_FFN = 2, PEFT_HEAD = 4, PEFT_EMB = 8, PEFT_ALL = 15 };

static inline int peft_kind(const wrow *w)
{
    if (!w->per_layer) return w->at == offsetof(weights, out) ? PEFT_HEAD : PEFT_EMB;
    return w->at < offsetof(layer_weights, w1) ? PEFT_ATTN : PEFT_FFN;
}

static inline int peft_buf(void *arg, const void *p, size_t n, dr_err *e)
{
    (void)e;
    buf_put(arg, p, n);
    return DR_OK;
}

/* A of a weight is (r,K), B (rows,r); for the embedding (r,V) and (C,r). */
static inline void peft_each(st_writer *w, const hparams *h, int kinds, int r, bool names,
                             uint64_t seed)
{
    dr_err e = {0};
    for (int i = 0; i < n_weights; i++)
        for (int l = 0; l < (weight_table[i].per_layer ? h->L : 1); l++)
            for (int b = 0; b < 2; b++) {
                const wrow *x = &weight_table[i];
                int kind = x->matrix ? peft_kind(x) : 0;
                if (!(kind & kinds)) continue;
                char name[128], s[192];
                wrow_name(name, sizeof name, x, CONTAINER_SAFETENSORS, l);
                name[strlen(name) - strlen(".weight")] = 0;
                snprintf(s, sizeof s, kind == PEFT_EMB ? "base_model.model.%s.lora_embedding_%c"
                                                       : "base_model.model.%s.lora_%c.weight", name, "AB"[b]);
                int64_t rows = axis_size(x->rows, h), cols = axis_size(x->cols, h);
                int64_t in = kind == PEFT_EMB ? rows : cols, to = kind == PEFT_EMB ? cols : rows;
                int64_t dim[2] = { b ? to : r, b ? r : in };
                if (names) assert_int_equal(st_add_tensor(w, s, DT_F32, 2, dim, &e), DR_OK);
                for (int64_t k = 0; !names && k < dim[0] * dim[1]; k++) {
                    float v = (float)(rng_uniform(seed, (uint64_t)(i * 1000 + l * 2 + b), (uint64_t)k) - 0.5) * 0.3f;
                    assert_int_equal(st_write_data(w, &v, sizeof v, &e), DR_OK);
                }
            }
}

static inline void peft_write(const char *folder, const hparams *h, int kinds, int r, uint64_t seed)
{
    char path[256], config[128];
    dr_err e = {0};
    buf b = { .cap_max = (size_t)1 << 30 };
    st_writer *w = st_write_new(&e);
    peft_each(w, h, kinds, r, true, seed);
    assert_int_equal(st_write_start_to(w, peft_buf, &b, &e), DR_OK);
    peft_each(w, h, kinds, r, false, seed);
    assert_int_equal(st_write_end(w, &e), DR_OK);
    st_write_free(w);
    assert_int_equal(os_mkdirs(folder, &e), DR_OK);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    assert_int_equal(os_write(path, b.p, b.n, &e), DR_OK);
    buf_free(&b);
    int n = snprintf(config, sizeof config, "{\"peft_type\":\"LORA\",\"r\":%d,\"lora_alpha\":%d}", r, 2 * r);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    assert_int_equal(os_write(path, config, (size_t)n, &e), DR_OK);
}

static inline void peft_remove(const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder), remove(path);
    snprintf(path, sizeof path, "%s/adapter_config.json", folder), remove(path);
    remove(folder);
}
#endif
