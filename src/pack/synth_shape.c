/* synth_shape.c - the table of shapes, and shapes written as key=value. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/span.h"
#include "pack/synth.h"

#define LLAMA3(f) .eps = 1e-5, .theta = 500000, .factor = f, .low = 1, .high = 4, .orig_ctx = 8192

static const synth_shape table[] = {
    { "llama-3.2-1b", 2048, 16, 32, 8, 64, 8192, 128256, 131072, .tied = true, LLAMA3(32) },
    { "llama-3.2-3b", 3072, 28, 24, 8, 128, 8192, 128256, 131072, .tied = true, LLAMA3(32) },
    { "llama-3.1-8b", 4096, 32, 32, 8, 128, 14336, 128256, 131072, LLAMA3(8) },
    { "llama-3.1-70b", 8192, 80, 64, 8, 128, 28672, 128256, 131072, LLAMA3(8) },
    { "llama-3.3-70b", 8192, 80, 64, 8, 128, 28672, 128256, 131072, LLAMA3(8) },
    { "llama-3.1-405b", 16384, 126, 128, 8, 128, 53248, 128256, 131072, LLAMA3(8) },
    { "llama-3-8b", 4096, 32, 32, 8, 128, 14336, 128256, 8192, LLAMA3(0) },
    { "llama-3-70b", 8192, 80, 64, 8, 128, 28672, 128256, 8192, LLAMA3(0) },
    { "llama-2-7b", 4096, 32, 32, 32, 128, 11008, 32000, 4096, .eps = 1e-5, .theta = 10000 },
    { "llama-2-13b", 5120, 40, 40, 40, 128, 13824, 32000, 4096, .eps = 1e-5, .theta = 10000 },
    { "llama-2-70b", 8192, 80, 64, 8, 128, 28672, 32000, 4096, .eps = 1e-5, .theta = 10000 },
    { "tinyllama-1.1b", 2048, 22, 32, 4, 64, 5632, 32000, 2048, .eps = 1e-5, .theta = 10000 },
    { "smollm2-135m", 576, 30, 9, 3, 64, 1536, 49152, 8192, .tied = true, .eps = 1e-5,
      .theta = 100000 },
    { "smollm2-360m", 960, 32, 15, 5, 64, 2560, 49152, 8192, .tied = true, .eps = 1e-5,
      .theta = 100000 },
    { "smollm2-1.7b", 2048, 24, 32, 32, 64, 8192, 49152, 8192, .tied = true, .eps = 1e-5,
      .theta = 130000 },
    { "mistral-7b-v0.1", 4096, 32, 32, 8, 128, 14336, 32000, 32768, .eps = 1e-5, .theta = 10000,
      .window = 4096 },
    { "mistral-7b-v0.2", 4096, 32, 32, 8, 128, 14336, 32000, 32768, .eps = 1e-5, .theta = 1e6 },
    { "mistral-7b-v0.3", 4096, 32, 32, 8, 128, 14336, 32768, 32768, .eps = 1e-5, .theta = 1e6 },
    { "tiny", 256, 2, 4, 2, 64, 512, 512, 2048, .eps = 1e-5, .theta = 10000 },
};
enum { N_SHAPES = sizeof table / sizeof *table };

const char *synth_shape_name(int i) { return i >= 0 && i < N_SHAPES ? table[i].name : NULL; }

/* One pair. Sizes are whole numbers of at least 1; the rest may be 0. */
static int set(synth_shape *s, span key, const char *value, size_t n_value, dr_err *e)
{
    const struct { const char *name; int64_t *i; double *d; bool *b; } keys[] = {
        { "dim", &s->C, NULL, NULL }, { "layers", &s->L, NULL, NULL },
        { "heads", &s->nh, NULL, NULL }, { "kv_heads", &s->nkv, NULL, NULL },
        { "head_dim", &s->hs, NULL, NULL }, { "ffn", &s->F, NULL, NULL },
        { "vocab", &s->V, NULL, NULL }, { "ctx", &s->ctx, NULL, NULL },
        { "window", &s->window, NULL, NULL }, { "tied", NULL, NULL, &s->tied },
        { "bias", NULL, NULL, &s->bias }, { "eps", NULL, &s->eps, NULL },
        { "theta", NULL, &s->theta, NULL }, { "std", NULL, &s->std, NULL },
        { "rope_factor", NULL, &s->factor, NULL }, { "rope_low", NULL, &s->low, NULL },
        { "rope_high", NULL, &s->high, NULL }, { "rope_orig", NULL, &s->orig_ctx, NULL },
        { "rope_linear", NULL, &s->linear, NULL },
    };
    char text[64], *end;
    snprintf(text, sizeof text, "%.*s", (int)(n_value < 63 ? n_value : 63), value);
    double d = strtod(text, &end);
    bool number = *text && !*end && isfinite(d) && d >= 0;
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        if (!span_is(key, keys[k].name)) continue;
        bool whole = number && d == floor(d) && d <= (keys[k].b ? 1 : 1 << 30);
        if (!number || (!keys[k].d && !whole))
            return err_set(e, DR_EINVAL, "shape: %s=%s: %s is wanted", keys[k].name, text,
                           keys[k].d ? "a number" : keys[k].b ? "0 or 1" : "a whole number");
        if (keys[k].i) *keys[k].i = (int64_t)d;
        if (keys[k].d) *keys[k].d = d;
        if (keys[k].b) *keys[k].b = d != 0;
        return DR_OK;
    }
    char all[256] = "";
    size_t n = 0;
    for (size_t k = 0; k < sizeof keys / sizeof *keys && n < sizeof all; k++)
        n += (size_t)snprintf(all + n, sizeof all - n, " %s", keys[k].name);
    return err_set(e, DR_EINVAL, "shape: no key is called " SPAN_FMT "; there are%s",
                   SPAN_ARG(key), all);
}

static int check(const synth_shape *s, dr_err *e)
{
    const struct { const char *name; int64_t v; } need[] = {
        { "dim", s->C }, { "layers", s->L }, { "heads", s->nh }, { "kv_heads", s->nkv },
        { "head_dim", s->hs }, { "ffn", s->F }, { "vocab", s->V }, { "ctx", s->ctx },
    };
    for (size_t i = 0; i < sizeof need / sizeof *need; i++)
        if (need[i].v < 1) return err_set(e, DR_EINVAL, "shape: %s is missing", need[i].name);
    if (s->L > 4096) return err_set(e, DR_EINVAL, "shape: %" PRId64 " layers", s->L);
    if (s->nh % s->nkv)
        return err_set(e, DR_EINVAL, "shape: %" PRId64 " heads cannot share %" PRId64 " kv_heads "
                       "evenly", s->nh, s->nkv);
    if (s->hs % 2) return err_set(e, DR_EINVAL, "shape: head_dim %" PRId64 " is odd", s->hs);
    if (s->factor != 0 && s->linear != 0)
        return err_set(e, DR_EINVAL, "shape: rope_factor and rope_linear exclude each other");
    return DR_OK;
}

int synth_shape_read(synth_shape *s, const char *spec, dr_err *e)
{
    *s = (synth_shape){ .eps = 1e-5, .theta = 10000 };
    for (const char *p = spec; *p; ) {
        size_t n = strcspn(p, ",");
        const char *eq = memchr(p, '=', n);
        int rc = DR_OK;
        if (eq) {
            rc = set(s, (span){ p, (size_t)(eq - p) }, eq + 1, n - (size_t)(eq + 1 - p), e);
        } else {
            int i = 0;
            while (i < N_SHAPES && !span_is((span){ p, n }, table[i].name)) i++;
            if (i == N_SHAPES || p != spec) {
                char all[400] = "";
                size_t k = 0;
                for (i = 0; i < N_SHAPES && k < sizeof all; i++)
                    k += (size_t)snprintf(all + k, sizeof all - k, " %s", table[i].name);
                return err_set(e, DR_EINVAL, "shape: %.*s is no shape; there are%s, or dim=…,"
                               "layers=…", (int)(n < 60 ? n : 60), p, all);
            }
            *s = table[i];
        }
        if (rc != DR_OK) return rc;
        p += n + (p[n] == ',');
    }
    if (s->std == 0) s->std = 0.02;
    if (s->low == 0) s->low = 1;
    if (s->high == 0) s->high = 4;
    if (s->orig_ctx == 0) s->orig_ctx = 8192;
    if (s->nkv == 0) s->nkv = s->nh;
    if (s->hs == 0 && s->nh > 0) s->hs = s->C / s->nh;
    if (s->F == 0) s->F = (s->C * 8 / 3 + 255) / 256 * 256;
    if (s->V == 0) s->V = 512;
    if (s->ctx == 0) s->ctx = 2048;
    if (!*s->name) snprintf(s->name, sizeof s->name, "custom");
    return check(s, e);
}
