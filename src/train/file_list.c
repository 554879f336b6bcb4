/* file_list.c - see prep.h: the files that arguments mean. */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include "base/mem.h"
#include "train/prep.h"

enum { DEPTH_MAX = 32, LIST_MAX = 1 << 24 };

static int put(file_list *l, const char *path, dr_err *e)
{
    if (l->n == LIST_MAX) return err_set(e, DR_EINVAL, "more than %d files", LIST_MAX);
    if ((l->n & (l->n - 1)) == 0) {                       /* doubled at each power of two */
        size_t to = l->n ? 2 * (size_t)l->n : 1;
        char **more = mem_realloc(l->path, to * sizeof *more);
        if (!more) return err_nomem(e, to * sizeof *more, "names of files");
        l->path = more;
    }
    if (!(l->path[l->n] = mem_strdup(path))) return err_nomem(e, strlen(path) + 1, "names of files");
    l->n++;
    return DR_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add(file_list *l, const char *path, int depth, dr_err *e)
{
    struct stat st;
    if (!strcmp(path, "-")) return put(l, path, e);
    if (stat(path, &st)) return err_set(e, DR_EIO, "%s: there is no such file", path);
    if (!S_ISDIR(st.st_mode)) {
        l->bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
        return put(l, path, e);
    }
    if (depth == DEPTH_MAX)
        return err_set(e, DR_EINVAL, "%s: folders in folders, more than %d deep", path, DEPTH_MAX);
    DIR *d = opendir(path);
    if (!d) return err_set(e, DR_EIO, "cannot read folder %s", path);
    int rc = DR_OK;
    file_list in = {0};
    buf name = { .cap_max = 1 << 16 };
    for (struct dirent *f; !rc && (f = readdir(d));) {
        if (f->d_name[0] == '.') continue;
        buf_reset(&name);
        buf_printf(&name, "%s/%s", path, f->d_name);
        rc = name.bad ? err_nomem(e, name.n, "a path") : put(&in, buf_str(&name), e);
    }
    closedir(d);
    buf_free(&name);
    if (in.n) qsort(in.path, (size_t)in.n, sizeof *in.path, by_name);
    for (int i = 0; i < in.n && !rc; i++) rc = add(l, in.path[i], depth + 1, e);
    file_list_free(&in);
    return rc;
}

int file_list_make(file_list *l, const char *const *in, int n_in, dr_err *e)
{
    *l = (file_list){0};
    int rc = DR_OK;
    for (int i = 0; i < n_in && !rc; i++) rc = add(l, in[i], 0, e);
    if (rc) file_list_free(l);
    return rc;
}

void file_list_free(file_list *l)
{
    for (int i = 0; i < l->n; i++) mem_free(l->path[i]);
    mem_free(l->path);
    *l = (file_list){0};
}
