/* synth_tok.c - a tokenizer for a synthetic model, from a GGUF file, a tokenizer.json or a
 * tokenizer.model: GGUF wants it as metadata, safetensors as files beside the weights. */
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "pack/synth_priv.h"

/* Tokens of a model whose vocabulary is larger than its tokenizer. */
static int check_count(uint64_t have, int64_t V, dr_err *e)
{
    if (have <= (uint64_t)V) return DR_OK;
    return err_set(e, DR_EINVAL, "the tokenizer has %" PRIu64 " tokens, but the shape's vocabulary "
                   "is %" PRId64, have, V);
}

static int from_gguf(gguf_writer *w, const gguf *g, int64_t V, dr_err *e)
{
    const gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    if (!tokens || tokens->type != GGUF_ARRAY || tokens->elem != GGUF_STRING)
        return err_set(e, DR_EFORMAT, "it holds no tokenizer");
    int rc = check_count(tokens->n, V, e);
    if (rc != DR_OK) return rc;
    for (uint64_t i = 0; i < g->n_kv; i++) {
        const gguf_kv *k = &g->kv[i];
        if (k->key.n < 10 || memcmp(k->key.p, "tokenizer.", 10)) continue;
        bool per_token = k->type == GGUF_ARRAY && k->n == tokens->n && tokens->n < (uint64_t)V;
        if (!per_token) {
            gguf_put_kv(w, k);
            continue;
        }
        char key[128];
        snprintf(key, sizeof key, SPAN_FMT, SPAN_ARG(k->key));
        span *s = k->elem == GGUF_STRING ? mem_zalloc((size_t)V, sizeof *s) : NULL;
        int32_t *v = k->elem == GGUF_STRING ? NULL : mem_zalloc((size_t)V, sizeof *v);
        char (*pad)[24] = mem_alloc((size_t)V * sizeof *pad);
        if ((!s && !v) || !pad) {
            rc = err_nomem(e, (size_t)V * sizeof *s, "tokens");
        } else if (s) {
            const uint8_t *at = k->at;
            for (int64_t i2 = 0; i2 < V; i2++) {
                snprintf(pad[i2], sizeof *pad, "[PAD%" PRId64 "]", i2);
                s[i2] = (uint64_t)i2 < k->n ? gguf_array_str(&at) : span_of(pad[i2]);
            }
            gguf_put_strs(w, key, s, (uint64_t)V);
        } else if (k->bytes == k->n * 4) {             // types (i32) or scores (f32)
            memcpy(v, k->at, k->bytes);
            for (int64_t i2 = (int64_t)k->n; k->elem != GGUF_F32 && i2 < V; i2++) v[i2] = 5;
            if (k->elem == GGUF_F32) gguf_put_f32s(w, key, (float *)v, (uint64_t)V);
            else gguf_put_i32s(w, key, v, (uint64_t)V);
        }
        mem_free(s);
        mem_free(v);
        mem_free(pad);
        if (rc != DR_OK) return rc;
    }
    return DR_OK;
}

int synth_put_tokenizer(gguf_writer *w, const char *path, int64_t V, dr_err *e)
{
    if (!path) {
        gguf_put_str(w, "tokenizer.ggml.model", span_of("none"));
        return DR_OK;
    }
    os_file f;
    int rc = os_map(&f, path, e);
    if (rc != DR_OK) return rc;
    if (f.n >= 4 && !memcmp(f.p, "GGUF", 4)) {
        gguf g;
        rc = gguf_parse(&g, f.p, f.n, e);
        if (rc == DR_OK) rc = from_gguf(w, &g, V, e);
        gguf_free(&g);
    } else {
        rc = synth_put_tokenizer_file(w, (span){ (const char *)f.p, f.n }, V, e);
    }
    os_unmap(&f);
    return rc == DR_OK ? rc : err_wrap(e, rc, "%s", path);
}

int synth_copy_tokenizer(const char *folder, const char *path, dr_err *e)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char to[4096];
    os_file f;
    int rc = os_map(&f, path, e);
    if (rc != DR_OK) return rc;
    if (f.n >= 4 && !memcmp(f.p, "GGUF", 4))
        rc = err_set(e, DR_EUNSUPPORTED, "%s: a safetensors folder takes tokenizer.json or "
                     "tokenizer.model", path);
    else if (snprintf(to, sizeof to, "%s/%s", folder, name) >= (int)sizeof to)
        rc = err_set(e, DR_EINVAL, "the folder's name is too long");
    else
        rc = os_write(to, f.p, f.n, e);
    os_unmap(&f);
    return rc;
}
