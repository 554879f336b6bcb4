/* carry_meta.c - Meta's params.json, and its own text where another form keeps it: what it says
 * in other words (ffn_dim_multiplier, the order of the keys) would otherwise be lost. */
#include <string.h>
#include "base/mem.h"
#include "format/json.h"
#include "pack/carry_priv.h"
#include "pack/params.h"

enum { TEXT_MAX = 1 << 20 };

/* The text that the model came with: beside Meta's weights, or kept by a conversion. */
static int find_text(const pack_source *s, buf *out, dr_err *e)
{
    span text = { "", 0 };
    os_file f = {0};
    const json_t *kept = json_object_get(tensors_config(s->ts), CARRY_PARAMS_JSON);
    if (tensors_container(s->ts) == CONTAINER_META) {
        if (carry_beside(s->ts, "params.json", &f)) text = (span){ (const char *)f.p, f.n };
    } else if (tensors_gguf(s->ts)) {
        gguf_get_str(tensors_gguf(s->ts), CARRY_PARAMS_GGUF, &text);
    } else if (json_is_string(kept)) {
        text = (span){ json_string_value(kept), json_string_length(kept) };
    }
    if (text.n && text.n < TEXT_MAX) buf_put(out, text.p, text.n);
    os_unmap(&f);
    return out->bad ? err_nomem(e, text.n, "params.json") : DR_OK;
}

static bool agrees(span text, const hparams *h)
{
    dr_err quiet = {0};
    json_t *c = text.n ? json_read(text.p, text.n, 64 * text.n + 4096, "params.json", &quiet) : NULL;
    bool yes = c && params_agree(c, h);
    json_decref(c);
    return yes;
}

int carry_params_json(const pack_job *j, buf *out, dr_err *e)
{
    int rc = find_text(j->src, out, e);
    if (rc != DR_OK || agrees(buf_span(out), &j->src->hp)) return rc;
    buf_reset(out);
    return params_json(&j->src->hp, out, e);
}

int carry_params_text(const pack_job *j, buf *out, dr_err *e)
{
    buf own = { .cap_max = TEXT_MAX };
    int rc = find_text(j->src, out, e);
    bool keep = rc == DR_OK && out->n && agrees(buf_span(out), &j->src->hp) &&
                (params_json(&j->src->hp, &own, NULL) != DR_OK ||
                 !span_eq(buf_span(&own), buf_span(out)));
    if (!keep) buf_reset(out);
    buf_free(&own);
    return rc;
}
