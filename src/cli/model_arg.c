/* model_arg.c - see model_arg.h. */
#include "cli/model_arg.h"
#include <string.h>
#include "cli/cache.h"
#include "cli/progress.h"

const opt dev_opts[] = {
    { 't', "threads", OPT_INT, offsetof(dev_args, threads), "N",
      "threads (default: one per core)", 1, 1024 },
    { 0, "load", OPT_CHOICE, offsetof(dev_args, load), "map|copy",
      "weights stay in the file, or are copied into memory of huge pages (map)" },
    { 0, "numa", OPT_CHOICE, offsetof(dev_args, numa), "off|distribute|isolate",
      "bind threads to cores, spread over all memory nodes or all at one, and copy the weights to "
      "them (off)" },
    { 'v', "verbose", OPT_FLAG, offsetof(dev_args, verbose), NULL,
      "say where weights and threads are" },
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

dev_opt dev_args_opt(const dev_args *a)
{
    return (dev_opt){ .device = a->device, .n_threads = a->threads, .cpu_level = a->cpu_level,
                      .copy = a->load == 1, .numa = (numa_mode)a->numa };
}

static void show(void *arg, size_t done, size_t all)
{
    progress *p = arg;
    if (!p->total) progress_begin(p, "copying weights", (int64_t)all);
    progress_set(p, (int64_t)done);
}

static double percent(size_t n, size_t of) { return of ? 100.0 * (double)n / (double)of : 0; }

void model_arg_places(const model *m)
{
    model_pages p;
    char a[SIZE_TEXT], b[SIZE_TEXT];
    bool known = model_pages_of(m, &p);
    size_text(a, (double)p.copied), size_text(b, (double)p.mapped);
    if (p.copied) fprintf(stderr, "[weights: %s copied, %.0f %% in huge pages", a,
                          percent(p.copied_huge, p.copied));
    else fprintf(stderr, "[weights: %s mapped", b);
    if (known && !p.copied)
        fprintf(stderr, ", %.0f %% in the page cache, %.0f %% in huge pages",
                percent(p.cached, p.mapped), percent(p.cached_huge, p.mapped));
    if (m->copy.placed) fprintf(stderr, "; rows placed at %d memory nodes", m->d->n_nodes);
    fprintf(stderr, "]\n[threads: %d, %s", m->d->n_threads,
            m->d->seat ? "each bound to one CPU" : "not bound");
    for (int k = 0; m->d->seat && k < m->d->n_nodes; k++) {
        fprintf(stderr, "%s node %d:", k ? "," : ";", k);
        for (int t = m->d->first[k]; t < m->d->first[k + 1]; t++)
            fprintf(stderr, " %d", m->d->seat[t]);
    }
    fprintf(stderr, "]\n");
}

static model *open_arg(const command *c, const char *arg, dev_opt o, dr_err *e)
{
    buf path = { .cap_max = CACHE_PATH_MAX };
    progress bar = {0};
    model *m = NULL;
    o.progress = show, o.progress_arg = &bar;
    if (model_resolve(arg, &path, e) == DR_OK) m = model_open(buf_str(&path), &o, e);
    progress_end(&bar);
    buf_free(&path);
    if (m) model_arg_warn(c, m);
    return m;
}

model *model_arg_open(const command *c, const char *arg, const dev_args *a, dr_err *e)
{
    model *m = open_arg(c, arg, dev_args_opt(a), e);
    if (m && a->verbose) model_arg_places(m);
    return m;
}

model *model_arg_open_beside(const command *c, const char *arg, const model *other, dr_err *e)
{
    return open_arg(c, arg, (dev_opt){ .use = other->d, .copy = other->copy.mem != NULL }, e);
}
