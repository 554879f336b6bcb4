/* model_arg.c - see model_arg.h. */
#include "cli/model_arg.h"
#include <string.h>

const opt dev_opts[] = {
    { 't', "threads", OPT_INT, offsetof(dev_args, threads), "N",
      "threads (default: one per core)", 1, 1024 },
    { 0, "cpu", OPT_STR, offsetof(dev_args, cpu_level), "LEVEL",
      "cap the CPU kernels: ref, avx2, avx512, amx", .hidden = true },
    { 0, "device", OPT_STR, offsetof(dev_args, device), "NAME", "cpu", .hidden = true },
    OPT_END
};

const char kv_choices[] = "f16|bf16|f32";

kv_type kv_choice(int i)
{
    static const kv_type t[] = { KV_F16, KV_BF16, KV_F32 };
    return t[i];
}

model *model_arg_open(const command *c, const char *arg, const dev_args *a, dr_err *e)
{
    dev_opt o = { a->device, a->threads, a->cpu_level };
    model *m = model_open(arg, &o, e);
    if (!m) return NULL;
    for (char *s = buf_str(&m->warnings), *end; *s; s = end) {
        end = strchr(s, '\n');
        if (!end) end = s + strlen(s);
        cmd_warn(c, "%.*s", (int)(end - s), s);
        if (*end) end++;
    }
    return m;
}
