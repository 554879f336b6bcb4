/* shards.c - see shard.h: all the shards of one preparation. */
#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "train/shard.h"

enum { SHARDS_MAX = 1 << 20 };

static int open_one(shard_set *set, const char *path, int *cap, dr_err *e)
{
    if (set->n == SHARDS_MAX) return err_set(e, DR_EINVAL, "more than %d shards", SHARDS_MAX);
    if (set->n == *cap) {
        int to = *cap ? 2 * *cap : 16;
        shard *more = mem_realloc(set->s, (size_t)to * sizeof *more);
        if (!more) return err_nomem(e, (size_t)to * sizeof *more, "a set of shards");
        set->s = more, *cap = to;
    }
    int rc = shard_open(&set->s[set->n], path, e);
    if (!rc) set->n++;
    return rc;
}

static int open_folder(shard_set *set, const char *folder, dr_err *e)
{
    DIR *d = opendir(folder);
    if (!d) return err_set(e, DR_EIO, "cannot read folder %s", folder);
    int rc = DR_OK, cap = 0;
    buf path = { .cap_max = 1 << 16 };
    for (struct dirent *f; !rc && (f = readdir(d));) {
        size_t n = strlen(f->d_name);
        if (n < 6 || strcmp(f->d_name + n - 6, ".shard")) continue;
        buf_reset(&path);
        buf_printf(&path, "%s/%s", folder, f->d_name);
        rc = path.bad ? err_nomem(e, n, "a path") : open_one(set, buf_str(&path), &cap, e);
    }
    closedir(d);
    buf_free(&path);
    if (!rc && !set->n)
        rc = err_set(e, DR_EFORMAT, "%s holds no token shard (NAME.shard): 'drover prep' makes them",
                     folder);
    return rc;
}

static int by_part(const void *a, const void *b)
{
    const shard_info *x = &((const shard *)a)->info, *y = &((const shard *)b)->info;
    return x->part < y->part ? -1 : x->part > y->part;
}

/* Parts 0, 1, … of one set, the last of them last. */
static int check_set(shard_set *set, const char *path, dr_err *e)
{
    qsort(set->s, (size_t)set->n, sizeof *set->s, by_part);
    for (int i = 0; i < set->n; i++) {
        const shard *a = &set->s[0], *b = &set->s[i];
        if (a->info.set != b->info.set || a->info.vocab != b->info.vocab ||
            strcmp(a->info.tokenizer, b->info.tokenizer))
            return err_set(e, DR_EFORMAT, "%s and %s are of different preparations", a->path, b->path);
        if (b->info.part > (uint32_t)i)
            return err_set(e, DR_EFORMAT, "%s: part %d of the shards is missing, part %" PRIu32
                           " (%s) is there", path, i, b->info.part, b->path);
        if (b->info.part < (uint32_t)i)
            return err_set(e, DR_EFORMAT, "%s and %s are both part %" PRIu32, set->s[i - 1].path,
                           b->path, b->info.part);
        if (b->info.last != (i == set->n - 1))
            return err_set(e, DR_EFORMAT, b->info.last ? "%s is the last part, but there are more" :
                           "parts after %s are missing", b->path);
    }
    return DR_OK;
}

int shards_open(shard_set *set, const char *path, dr_err *e)
{
    *set = (shard_set){0};
    int cap = 0, rc;
    if (os_is_dir(path)) {
        rc = open_folder(set, path, e);
        if (!rc) rc = check_set(set, path, e);
    } else {
        rc = open_one(set, path, &cap, e);
    }
    if (!rc && !(set->first = mem_alloc((size_t)(set->n + 1) * sizeof *set->first)))
        rc = err_nomem(e, (size_t)(set->n + 1) * sizeof *set->first, "a set of shards");
    for (int i = 0; i < set->n && !rc; i++) {
        set->first[i] = set->n_docs;
        set->n_docs += set->s[i].info.n_docs;
        set->n_tok += set->s[i].info.n_tok;
    }
    if (rc) shards_close(set);
    else set->first[set->n] = set->n_docs;
    return rc;
}

void shards_close(shard_set *set)
{
    for (int i = 0; i < set->n; i++) shard_close(&set->s[i]);
    mem_free(set->s);
    mem_free(set->first);
    *set = (shard_set){0};
}

shard *shards_find(const shard_set *set, uint64_t *d)
{
    DR_ASSERT(*d < set->n_docs);
    int lo = 0, hi = set->n - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (set->first[mid] <= *d) lo = mid;
        else hi = mid - 1;
    }
    *d -= set->first[lo];
    return &set->s[lo];
}
