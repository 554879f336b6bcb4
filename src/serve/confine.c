/* confine.c - see confine.h. */
#define _GNU_SOURCE
#include "serve/confine.h"
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "model/lora.h"
#include "serve/sandbox.h"

enum { PATHS_MAX = 4096, PATH_BYTES = 4096 };

typedef struct { sandbox_path *v; int n; bool bad; } list;

static void add(list *l, const char *path, size_t n, sandbox_right right)
{
    char *s = l->n < PATHS_MAX ? mem_strndup(path, n) : NULL;
    l->bad |= !s;
    if (s) l->v[l->n++] = (sandbox_path){ s, right };
}

static void add_folder_of(list *l, const char *file, sandbox_right right)
{
    const char *slash = strrchr(file, '/');
    if (!slash) add(l, ".", 1, right);
    else add(l, file, slash == file ? 1 : (size_t)(slash - file), right);
}

/* A folder, and what links in it lead to: Hugging Face's cache is made of them. */
static void add_folder(list *l, const char *path)
{
    add(l, path, strlen(path), SANDBOX_READ);
    DIR *d = opendir(path);
    for (struct dirent *x; d && (x = readdir(d));) {
        if (x->d_type != DT_LNK && x->d_type != DT_UNKNOWN) continue;
        buf b = { .cap_max = PATH_BYTES };
        buf_printf(&b, "%s/%s", path, x->d_name);
        char real[PATH_MAX];
        if (!b.bad && realpath(buf_str(&b), real)) add(l, real, strlen(real), SANDBOX_READ);
        buf_free(&b);
    }
    if (d) closedir(d);
}

/* What a model or an adapter consists of. */
static void add_model(list *l, const char *path)
{
    size_t n = strlen(path);
    if (os_is_dir(path)) {
        add_folder(l, path);
        return;
    }
    add(l, path, n, SANDBOX_READ);
    bool one_file = n > 5 && !strcmp(path + n - 5, ".gguf") && !strstr(path, "-of-");
    if (one_file) return;
    char *folder = mem_strdup(path), *slash = folder ? strrchr(folder, '/') : NULL;
    l->bad |= !folder;
    if (slash) *slash = 0;
    if (folder) add_folder(l, slash ? (*folder ? folder : "/") : ".");
    mem_free(folder);
}

static int add_models(list *l, const models_opt *o, dr_err *e)
{
    for (int i = 0; i < o->n; i++) {
        buf b = { .cap_max = PATH_BYTES };
        dr_err own = {0};
        int rc = o->resolve ? o->resolve(o->path[i], &b, &own) : (buf_puts(&b, o->path[i]), DR_OK);
        if (rc == DR_OK && !b.bad) add_model(l, buf_str(&b));
        buf_free(&b);
        if (rc) return err_set(e, rc, "%s", own.msg);
    }
    for (const char *const *a = o->adapters; a && *a; a++) {
        const char *eq = strchr(*a, '=');
        char path[PATH_BYTES];
        lora_ref ref;
        if (eq && lora_ref_parse(&ref, eq + 1, path, sizeof path, NULL) == DR_OK) add_model(l, path);
    }
    return DR_OK;
}

int confine_files(const serve_opt *o, dr_err *e)
{
    const http_opt *h = &o->http;
    const char *store = o->models.engine.store;
    list l = { mem_zalloc(PATHS_MAX, sizeof *l.v), 0, false };
    if (!l.v) return err_nomem(e, PATHS_MAX * sizeof *l.v, "the sandbox's files");
    int rc = add_models(&l, &o->models, e);
    if (!rc && store) rc = os_mkdirs(store, e);
    if (store) add(&l, store, strlen(store), SANDBOX_WRITE);
    if (h->key_file) add_folder_of(&l, h->key_file, SANDBOX_READ);
    if (h->cert) add(&l, h->cert, strlen(h->cert), SANDBOX_READ);
    if (h->key) add(&l, h->key, strlen(h->key), SANDBOX_READ);
    if (h->unix_path) add_folder_of(&l, h->unix_path, SANDBOX_SOCKET);
    if (o->models.adapter_dir) add_folder(&l, o->models.adapter_dir);
    for (const char *const *a = o->allow; a && *a; a++) add_model(&l, *a);
    if (!rc && l.bad) rc = err_set(e, DR_ENOMEM, "the sandbox holds %d files and folders at most", PATHS_MAX);
    if (!rc) rc = sandbox_files(l.v, l.n, h->port, e);
    for (int i = 0; i < l.n; i++) mem_free((void *)(uintptr_t)l.v[i].path);
    mem_free(l.v);
    return rc;
}
