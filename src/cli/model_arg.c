/* model_arg.c - see model_arg.h. */
#include "cli/model_arg.h"
#include <string.h>
#include "base/os.h"
#include "cli/cache.h"

const opt dev_opts[] = {
    { 't', "threads", OPT_INT, offsetof(dev_args, threads), "N",
      "threads (default: one per core)", 1, 1024 },
    { 0, "cpu", OPT_STR, offsetof(dev_args, cpu_level), "LEVEL",
      "cap the CPU kernels: ref, avx2, avx512, amx; neon, i8mm", .hidden = true },
    { 0, "device", OPT_STR, offsetof(dev_args, device), "NAME", "cpu", .hidden = true },
    OPT_END
};

const opt lora_opts[] = {
    { 0, "lora", OPT_LIST, offsetof(lora_args, path), "PATH[:SCALE]",
      "add a LoRA adapter (PEFT folder or GGUF); may be given again" },
    OPT_END
};

int lora_args_apply(const lora_args *a, model *m, dr_err *e)
{
    for (int i = 0; i < a->path.n; i++) {
        char path[CACHE_PATH_MAX];
        lora_ref r;
        int rc = lora_ref_parse(&r, a->path.v[i], path, sizeof path, e);
        if (!rc) rc = model_add_lora(m, &r, e);
        if (rc) return rc;
    }
    return DR_OK;
}

kv_type kv_choice(int i)
{
    static const kv_type t[] = { KV_F16, KV_BF16, KV_F32, KV_Q8_0, KV_Q4_0 };      /* KV_CHOICES */
    return t[i];
}

void model_arg_warn(const command *c, const model *m)
{
    buf all = m->warnings;
    for (char *s = buf_str(&all), *end; *s; s = end) {
        end = strchr(s, '\n');
        if (!end) end = s + strlen(s);
        cmd_warn(c, "%.*s", (int)(end - s), s);
        if (*end) end++;
    }
}

static model *open_arg(const command *c, const char *arg, const dev_opt *o, dr_err *e)
{
    buf path = { .cap_max = CACHE_PATH_MAX };
    model *m = NULL;
    if (model_resolve(arg, &path, e) == DR_OK) m = model_open(buf_str(&path), o, e);
    buf_free(&path);
    if (m) model_arg_warn(c, m);
    return m;
}

model *model_arg_open(const command *c, const char *arg, const dev_args *a, dr_err *e)
{
    return open_arg(c, arg, &(dev_opt){ a->device, a->threads, a->cpu_level }, e);
}

model *model_arg_open_beside(const command *c, const char *arg, const model *other, dr_err *e)
{
    return open_arg(c, arg, &(dev_opt){ .use = other->d }, e);
}

tokenizer *model_arg_tokenizer_at(const char *path, dr_err *e)
{
    const char *slash = strrchr(path, '/');
    if (os_is_dir(path)) return tok_open(path, e);
    buf dir = { .cap_max = CACHE_PATH_MAX };
    if (slash) buf_put(&dir, path, (size_t)(slash - path));
    else buf_putc(&dir, '.');
    tokenizer *t = NULL;
    if (dir.bad) err_set(e, DR_EINVAL, "the path %.100s is too long", path);
    else t = tok_open(dir.n ? buf_str(&dir) : "/", e);
    buf_free(&dir);
    return t;
}

tokenizer *model_arg_tokenizer(const model *m, dr_err *e)
{
    const gguf *g = tensors_gguf(m->ts);
    return g ? tok_from_gguf(g, e) : model_arg_tokenizer_at(m->path, e);
}
