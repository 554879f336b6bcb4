/* quant_config.c - see quant_config.h. */
#include "format/quant_config.h"
#include <string.h>

static const char *text(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static int refuse(const char *folder, const char *what, const char *detail, dr_err *e)
{
    return err_set(e, DR_EUNSUPPORTED, "%s: its weights are quantised by %.60s%s%.60s, which is not "
                   "read; the original or a GGUF of it is", folder, what, *detail ? ", " : "", detail);
}

/* One group of compressed-tensors: its weights as 8-bit floats, scaled by row or as a whole. */
static int check_group(const json_t *group, const char *folder, dr_err *e)
{
    static const char name[] = "compressed-tensors";
    const json_t *w = json_object_get(group, "weights"), *out = json_object_get(group, "output_activations");
    const char *type = text(w, "type"), *strategy = text(w, "strategy");
    char detail[96];
    if (json_integer_value(json_object_get(w, "num_bits")) != 8 || strcmp(type, "float")) {
        snprintf(detail, sizeof detail, "weights of %d bits (%.20s)",
                 (int)json_integer_value(json_object_get(w, "num_bits")), type);
        return refuse(folder, name, detail, e);
    }
    if (strcmp(strategy, "channel") && strcmp(strategy, "tensor")) {
        snprintf(detail, sizeof detail, "strategy \"%.20s\" for weights", strategy);
        return refuse(folder, name, detail, e);
    }
    if (json_is_false(json_object_get(w, "symmetric")))
        return refuse(folder, name, "weights that are not symmetric", e);
    if (json_is_true(json_object_get(w, "dynamic")))
        return refuse(folder, name, "weights quantised as they are used", e);
    if (out && !json_is_null(out)) return refuse(folder, name, "outputs quantised", e);
    return DR_OK;
}

static int check_compressed(const json_t *q, const char *folder, dr_err *e)
{
    const char *format = text(q, "format"), *key;
    const json_t *groups = json_object_get(q, "config_groups");
    const json_t *sparse = json_object_get(q, "sparsity_config");
    json_t *g;
    int rc = DR_OK;
    char detail[64];
    if (strcmp(format, "float-quantized")) {
        snprintf(detail, sizeof detail, "format \"%.40s\"", format);
        return refuse(folder, "compressed-tensors", detail, e);
    }
    if (json_object_size(sparse) && strcmp(text(sparse, "format"), "dense"))
        return refuse(folder, "compressed-tensors", "sparse", e);
    if (!json_object_size(groups)) return refuse(folder, "compressed-tensors", "no config_groups", e);
    json_object_foreach((json_t *)groups, key, g)
        if (rc == DR_OK) rc = check_group(g, folder, e);
    return rc;
}

int quant_config_check(const json_t *config, const char *folder, dr_err *e)
{
    static const struct { const char *method, *name; } known[] = {
        { "gptq", "GPTQ" }, { "awq", "AWQ" }, { "bitsandbytes", "bitsandbytes" },
        { "modelopt", "ModelOpt" }, { "aqlm", "AQLM" }, { "hqq", "HQQ" }, { "eetq", "EETQ" },
        { "quanto", "Quanto" }, { "mxfp4", "MXFP4" },
    };
    const json_t *q = json_object_get(config, "quantization_config");
    if (!q || json_is_null(q)) q = json_object_get(config, "compression_config");
    if (!q || json_is_null(q)) return DR_OK;
    const char *method = text(q, "quant_method");
    if (!strcmp(method, "fbgemm_fp8")) return DR_OK;
    if (!strcmp(method, "compressed-tensors")) return check_compressed(q, folder, e);
    if (!strcmp(method, "fp8")) {
        const json_t *block = json_object_get(q, "weight_block_size");
        if (!block || json_is_null(block)) return DR_OK;
        return refuse(folder, "FP8", "with a scale for each block", e);
    }
    if (!*method && (json_object_get(q, "load_in_4bit") || json_object_get(q, "load_in_8bit")))
        method = "bitsandbytes";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(method, known[i].method)) method = known[i].name;
    return refuse(folder, *method ? method : "a method that config.json does not name", "", e);
}
