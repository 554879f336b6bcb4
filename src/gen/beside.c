/* beside.c - see beside.h. */
#include "gen/beside.h"
#include <math.h>
#include <string.h>
#include "base/os.h"

enum { PATH_CAP = 4096 };

tokenizer *beside_tokenizer_at(const char *path, dr_err *e)
{
    const char *slash = strrchr(path, '/');
    if (os_is_dir(path)) return tok_open(path, e);
    buf dir = { .cap_max = PATH_CAP };
    if (slash) buf_put(&dir, path, (size_t)(slash - path));
    else buf_putc(&dir, '.');
    tokenizer *t = NULL;
    if (dir.bad) err_set(e, DR_EINVAL, "the path %.100s is too long", path);
    else t = tok_open(dir.n ? buf_str(&dir) : "/", e);
    buf_free(&dir);
    return t;
}

tokenizer *beside_tokenizer(const model *m, dr_err *e)
{
    const gguf *g = tensors_gguf(m->ts);
    return g ? tok_from_gguf(g, e) : beside_tokenizer_at(m->path, e);
}

/* general.sampling.* as GGUF files carry it. */
static void from_gguf(sample_opt *o, const gguf *g)
{
    const struct { const char *key; float *to; } f[] = {
        { "general.sampling.temp", &o->temperature }, { "general.sampling.top_p", &o->top_p },
        { "general.sampling.min_p", &o->min_p },
        { "general.sampling.xtc_probability", &o->xtc_probability },
        { "general.sampling.xtc_threshold", &o->xtc_threshold },
        { "general.sampling.penalty_repeat", &o->repeat_penalty },
    };
    double v;
    uint64_t k;
    for (size_t i = 0; i < sizeof f / sizeof *f; i++)
        if (gguf_get_f64(g, f[i].key, &v) && isfinite(v)) *f[i].to = (float)v;
    if (gguf_get_u64(g, "general.sampling.top_k", &k) && k < 1u << 30) o->top_k = (int)k;
}

int beside_sample(sample_opt *o, const tensors *ts, dr_err *e)
{
    const json_t *config = ts ? tensors_generation(ts) : NULL;
    sample_opt own = sample_opt_default();
    if (config) {
        /* the file speaks for all of them: what it leaves out is off, as in transformers */
        int rc = sample_opt_generation_config(&own, config, e);
        if (rc != DR_OK) return rc;
    } else {
        own.temperature = 0.7f, own.top_p = 0.95f;
    }
    if (ts && tensors_gguf(ts)) from_gguf(&own, tensors_gguf(ts));
    *o = own;
    return DR_OK;
}
