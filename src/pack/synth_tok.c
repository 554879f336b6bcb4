/* synth_tok.c - a tokenizer for a synthetic model, from a GGUF file, a tokenizer.json or a
 * tokenizer.model: GGUF wants it as metadata, safetensors as files beside the weights. */
#include <string.h>
#include "base/os.h"
#include "pack/synth_priv.h"
#include "pack/tokdata.h"

static int from_gguf(tokdata *m, const gguf *g, dr_err *e)
{
    int rc = tokdata_from_gguf(m, g, e);
    return rc == DR_OK && m->kind == TOKD_NONE ? err_set(e, DR_EFORMAT, "it holds no tokenizer") :
           rc;
}

int synth_put_tokenizer(gguf_writer *w, const char *path, int64_t V, bool cut, dr_err *e)
{
    if (!path) {
        gguf_put_str(w, "tokenizer.ggml.model", span_of("none"));
        return DR_OK;
    }
    os_file f;
    tokdata m = {0};
    int rc = os_map(&f, path, e);
    if (rc != DR_OK) return rc;
    enum { CUT_FROM = 1 << 19 };                 /* more than any vocabulary has */
    rc = tokdata_init(&m, cut && V < CUT_FROM ? CUT_FROM : V, e);
    if (rc == DR_OK && f.n >= 4 && !memcmp(f.p, "GGUF", 4)) {
        gguf g;
        rc = gguf_parse(&g, f.p, f.n, e);
        if (rc == DR_OK) rc = from_gguf(&m, &g, e);
        gguf_free(&g);
    } else if (rc == DR_OK) {
        rc = tokdata_read(&m, (span){ (const char *)f.p, f.n }, e);
    }
    if (rc == DR_OK && cut) rc = tokdata_cut(&m, V, e);
    if (rc == DR_OK) rc = tokdata_put_gguf(&m, w, e);
    tokdata_free(&m);
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
