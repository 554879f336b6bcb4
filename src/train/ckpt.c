/* ckpt.c - see ckpt.h: writing checkpoints, listing and removing them. */
#include "train/ckpt.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/block.h"
#include "base/hash.h"
#include "base/mem.h"
#include "format/json.h"
#include "format/safetensors_write.h"
#include "train/ckpt_priv.h"

struct ckpt_writer {
    char *dir;
    int rank, n_ranks;
    bool begun, running;
    int64_t step;
    ckpt_array *a;               /* copies of the descriptions, not of what they point to */
    int n;
    char *state;                 /* rank 0: the words of state.json */
    pthread_t thread;
    int rc;                      /* the thread's result, once joined */
    dr_err e;
};

int ckpt_path(buf *b, const char *dir, const char *kind, int64_t step, const char *file, dr_err *e)
{
    *b = (buf){ .cap_max = 1 << 16 };
    buf_printf(b, "%s/%s-%08" PRId64, dir, kind, step);
    if (file) buf_printf(b, "/%s", file);
    if (!b->bad) return DR_OK;
    buf_free(b);
    return err_nomem(e, strlen(dir) + 64, "path");
}

/* step-00000100 and its kin: exactly the form that ckpt_path writes. */
static bool step_of(const char *name, const char *kind, int64_t *step)
{
    size_t k = strlen(kind);
    if (strncmp(name, kind, k) || name[k] != '-') return false;
    const char *s = name + k + 1;
    size_t n = strspn(s, "0123456789");
    if (n < 8 || n > 18 || s[n] || (n > 8 && s[0] == '0')) return false;
    *step = 0;
    for (size_t i = 0; i < n; i++) *step = *step * 10 + (s[i] - '0');
    return true;
}

/* A folder of plain files and the files in it. */
static int remove_folder(const char *path, dr_err *e)
{
    DIR *d = opendir(path);
    int rc = DR_OK;
    for (struct dirent *f; d && rc == DR_OK && (f = readdir(d));) {
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..")) continue;
        buf b = { .cap_max = 1 << 16 };
        buf_printf(&b, "%s/%s", path, f->d_name);
        if (b.bad) rc = err_nomem(e, b.n, "path");
        else if (unlink(b.p) && errno != ENOENT)
            rc = err_set(e, DR_EIO, "cannot remove %s: %s", b.p, strerror(errno));
        buf_free(&b);
    }
    if (d) closedir(d);
    if (rc == DR_OK && rmdir(path) && errno != ENOENT)
        rc = err_set(e, DR_EIO, "cannot remove %s: %s", path, strerror(errno));
    return rc;
}

/* Out of the way in one instant, so that no half removed checkpoint has a name, then removed. */
static int remove_step(const char *dir, int64_t step, dr_err *e)
{
    buf from = {0}, to = {0};
    int rc = ckpt_path(&from, dir, "step", step, NULL, e);
    if (rc == DR_OK) rc = ckpt_path(&to, dir, ".old", step, NULL, e);
    if (rc == DR_OK) rc = remove_folder(to.p, e);
    if (rc == DR_OK && rename(from.p, to.p))
        rc = err_set(e, DR_EIO, "cannot rename %s to %s: %s", from.p, to.p, strerror(errno));
    if (rc == DR_OK) rc = remove_folder(to.p, e);
    buf_free(&from);
    buf_free(&to);
    return rc;
}

static int remove_leftovers(const char *dir, dr_err *e)
{
    DIR *d = opendir(dir);
    int rc = DR_OK;
    for (struct dirent *f; d && rc == DR_OK && (f = readdir(d));) {
        int64_t step;
        bool new = step_of(f->d_name, ".new", &step);
        if (!new && !step_of(f->d_name, ".old", &step)) continue;
        buf b = {0};
        rc = ckpt_path(&b, dir, new ? ".new" : ".old", step, NULL, e);
        if (rc == DR_OK) rc = remove_folder(b.p, e);
        buf_free(&b);
    }
    if (d) closedir(d);
    return rc;
}

ckpt_writer *ckpt_writer_new(const char *dir, int rank, int n_ranks, dr_err *e)
{
    DR_ASSERT(rank >= 0 && rank < n_ranks && n_ranks <= CKPT_MAX_RANKS);
    char hex[HASH_HEX];
    /* the first use loads the library, which one thread may do */
    int rc = hash_bytes("", 0, hex, e);
    if (rc == DR_OK) rc = os_mkdirs(dir, e);
    if (rc == DR_OK && rank == 0) rc = remove_leftovers(dir, e);
    ckpt_writer *w = rc == DR_OK ? mem_zalloc(1, sizeof *w) : NULL;
    if (rc == DR_OK && (!w || !(w->dir = mem_strdup(dir)))) {
        err_nomem(e, sizeof *w, "checkpoint writer");
        mem_free(w);
        return NULL;
    }
    if (rc != DR_OK) return NULL;
    w->rank = rank, w->n_ranks = n_ranks;
    return w;
}

/* ---- one rank's part */

typedef struct { os_out out; hash h; } hashed;

static int put_hashed(void *arg, const void *p, size_t n, dr_err *e)
{
    hashed *o = arg;
    int rc = hash_put(&o->h, p, n, e);
    return rc == DR_OK ? os_out_put(&o->out, p, n, e) : rc;
}

static const struct { const char *name; int bytes; } type_of[] = {
    [CKPT_F32] = { "F32", 4 }, [CKPT_BF16] = { "BF16", 2 }, [CKPT_U8] = { "U8", 1 }
};

int ckpt_elem(ckpt_type t) { return type_of[t].bytes; }
const char *ckpt_type_name(ckpt_type t) { return type_of[t].name; }

static int list_array(st_writer *w, const ckpt_array *a, dr_err *e)
{
    char name[CKPT_NAME_MAX + 32];
    int type, bits;
    DR_ASSERT(a->at >= 0 && a->n >= 0 && a->at + a->n <= a->total && !strchr(a->name, '@'));
    bool whole = a->at == 0 && a->n == a->total, matrix = whole && a->cols > 1;
    DR_ASSERT(!matrix || a->n % a->cols == 0);
    if (whole) snprintf(name, sizeof name, "%s", a->name);
    else snprintf(name, sizeof name, "%s@%" PRId64, a->name, a->at);
    if (!st_type_find(ckpt_type_name(a->type), &type, &bits)) DR_ASSERT(!"type");
    int64_t dim[2] = { matrix ? a->n / a->cols : a->n, a->cols };
    return st_add_tensor(w, name, type, matrix ? 2 : 1, dim, e);
}

static int write_arrays(ckpt_writer *k, hashed *o, dr_err *e)
{
    enum { PIECE = 4 << 20 };                    /* hashed while it is in the cache */
    st_writer *w = st_write_new(e);
    int rc = w ? DR_OK : e->code;
    for (int i = 0; i < k->n && rc == DR_OK; i++) rc = list_array(w, &k->a[i], e);
    if (rc == DR_OK) rc = st_write_start_to(w, put_hashed, o, e);
    for (int i = 0; i < k->n && rc == DR_OK; i++) {
        const char *p = k->a[i].p;
        size_t n = (size_t)k->a[i].n * (size_t)ckpt_elem(k->a[i].type);
        for (size_t at = 0; at < n && rc == DR_OK; at += PIECE)
            rc = st_write_data(w, p + at, n - at < PIECE ? n - at : PIECE, e);
    }
    if (rc == DR_OK) rc = st_write_end(w, e);
    st_write_free(w);
    return rc;
}

static int write_part(ckpt_writer *k, dr_err *e)
{
    char name[32], hex[HASH_HEX];
    buf path = {0}, sum = {0};
    hashed o = { .out = { .fd = -1 } };
    snprintf(name, sizeof name, "rank-%03d.safetensors", k->rank);
    int rc = ckpt_path(&path, k->dir, ".new", k->step, NULL, e);
    if (rc == DR_OK) rc = os_mkdirs(path.p, e);
    buf_printf(&path, "/%s", name);
    if (rc == DR_OK && path.bad) rc = err_nomem(e, path.n, "path");
    if (rc == DR_OK) rc = hash_begin(&o.h, HASH_SHA256, e);
    if (rc == DR_OK) rc = os_out_open(&o.out, path.p, e);
    if (rc == DR_OK) rc = write_arrays(k, &o, e);
    if (rc == DR_OK) rc = hash_end(&o.h, hex, e);
    if (rc == DR_OK) rc = os_out_keep(&o.out, e);
    os_out_drop(&o.out);
    hash_drop(&o.h);
    buf_free(&path);
    /* the sum beside it, for rank 0 to find */
    snprintf(name, sizeof name, "rank-%03d.sum", k->rank);
    if (rc == DR_OK) rc = ckpt_path(&sum, k->dir, ".new", k->step, name, e);
    if (rc == DR_OK) rc = os_write(sum.p, hex, strlen(hex), e);
    buf_free(&sum);
    return rc;
}

static void *part_thread(void *arg)
{
    ckpt_writer *w = arg;
    w->rc = write_part(w, &w->e);
    return NULL;
}

/* ---- the words of state.json */

static int state_words(ckpt_writer *w, const json_t *state, dr_err *e)
{
    json_t *all = json_pack("{s:s, s:i, s:I, s:i, s:{}, s:O}", "format", "drover training",
                            "version", 1, "step", (json_int_t)w->step, "ranks", w->n_ranks,
                            "arrays", "state", (json_t *)state);
    json_t *arrays = json_object_get(all, "arrays");
    bool ok = arrays != NULL;
    for (int i = 0; i < w->n && ok; i++)
        ok = json_object_set_new(arrays, w->a[i].name, json_integer(w->a[i].total)) == 0;
    w->state = ok ? json_dumps(all, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(all);
    return w->state ? DR_OK : err_nomem(e, 4096, "state of the checkpoint");
}

static void forget(ckpt_writer *w)
{
    json_malloc_t m;
    json_free_t f;
    json_get_alloc_funcs(&m, &f);
    if (w->state) f(w->state);
    mem_free(w->a);
    w->state = NULL, w->a = NULL, w->n = 0, w->begun = false;
}

int ckpt_begin(ckpt_writer *w, int64_t step, const json_t *state, const ckpt_array *a, int n,
               dr_err *e)
{
    DR_ASSERT(!w->begun && step >= 0 && n >= 0 && (state || w->rank > 0));
    w->step = step, w->n = n, w->begun = true, w->rc = DR_OK, w->e = (dr_err){0};
    w->a = mem_alloc((size_t)n * sizeof *a);
    int rc = w->a ? DR_OK : err_nomem(e, (size_t)n * sizeof *a, "list of arrays");
    if (w->a && n) memcpy(w->a, a, (size_t)n * sizeof *a);
    if (rc == DR_OK && w->rank == 0) rc = state_words(w, state, e);
    if (rc == DR_OK && pthread_create(&w->thread, NULL, part_thread, w))
        rc = err_set(e, DR_ENOMEM, "cannot start a thread for the checkpoint");
    w->running = rc == DR_OK;
    if (rc != DR_OK) forget(w);
    return rc;
}

bool ckpt_busy(const ckpt_writer *w) { return w->begun; }

int ckpt_join(ckpt_writer *w, dr_err *e)
{
    if (!w->running) return DR_OK;
    pthread_join(w->thread, NULL);
    w->running = false;
    if (w->rc == DR_OK) return DR_OK;
    forget(w);
    return err_set(e, w->rc, "checkpoint of step %" PRId64 ": %s", w->step, w->e.msg);
}

/* ---- rank 0 gives it its name */

static int sums_of_ranks(const ckpt_writer *w, buf *sums, dr_err *e)
{
    int rc = DR_OK;
    for (int r = 0; r < w->n_ranks && rc == DR_OK; r++) {
        char name[32];
        buf path = {0}, hex = { .cap_max = HASH_HEX };
        snprintf(name, sizeof name, "rank-%03d.sum", r);
        rc = ckpt_path(&path, w->dir, ".new", w->step, name, e);
        if (rc == DR_OK) rc = os_read(&hex, path.p, e);
        if (rc == DR_OK) buf_printf(sums, "%s  rank-%03d.safetensors\n", buf_str(&hex), r);
        if (rc == DR_OK && unlink(path.p))
            rc = err_set(e, DR_EIO, "cannot remove %s: %s", path.p, strerror(errno));
        buf_free(&path);
        buf_free(&hex);
    }
    return rc;
}

static int seal(ckpt_writer *w, dr_err *e)
{
    char hex[HASH_HEX];
    size_t n = strlen(w->state);
    buf sums = { .cap_max = 1 << 20 }, from = {0}, to = {0}, at = {0};
    int rc = ckpt_path(&from, w->dir, ".new", w->step, NULL, e);
    if (rc == DR_OK) rc = ckpt_path(&to, w->dir, "step", w->step, NULL, e);
    if (rc == DR_OK) rc = hash_bytes(w->state, n, hex, e);
    if (rc == DR_OK) rc = sums_of_ranks(w, &sums, e);
    buf_printf(&sums, "%s  state.json\n", hex);
    if (rc == DR_OK && sums.bad) rc = err_nomem(e, sums.n, "sums");
    if (rc == DR_OK) rc = ckpt_path(&at, w->dir, ".new", w->step, "state.json", e);
    if (rc == DR_OK) rc = os_write(at.p, w->state, n, e);
    buf_free(&at);
    if (rc == DR_OK) rc = ckpt_path(&at, w->dir, ".new", w->step, "SHA256SUMS", e);
    if (rc == DR_OK) rc = os_write(at.p, sums.p, sums.n, e);
    if (rc == DR_OK) rc = os_sync_dir(from.p, e);
    if (rc == DR_OK && os_exists(to.p)) rc = remove_step(w->dir, w->step, e);
    if (rc == DR_OK && rename(from.p, to.p))
        rc = err_set(e, DR_EIO, "cannot rename %s to %s: %s", from.p, to.p, strerror(errno));
    if (rc == DR_OK) rc = os_sync_dir(w->dir, e);
    buf_free(&sums);
    buf_free(&from);
    buf_free(&to);
    buf_free(&at);
    return rc;
}

int ckpt_seal(ckpt_writer *w, dr_err *e)
{
    DR_ASSERT(!w->running);
    if (!w->begun) return DR_OK;
    int rc = w->rank == 0 ? seal(w, e) : DR_OK;
    forget(w);
    return rc;
}

void ckpt_writer_free(ckpt_writer *w)
{
    if (!w) return;
    bool begun = w->begun;
    ckpt_join(w, NULL);
    forget(w);
    buf b = {0};
    if (begun && w->rank == 0 && ckpt_path(&b, w->dir, ".new", w->step, NULL, NULL) == DR_OK)
        remove_folder(b.p, NULL);
    buf_free(&b);
    mem_free(w->dir);
    mem_free(w);
}

/* ---- what is there */

/* The eval_loss of state.json; NAN: none, or it cannot be read. */
static double loss_of(const char *dir, int64_t step)
{
    buf path = {0};
    os_file f = {0};
    json_t *state = NULL, *arrays = NULL;
    int64_t s;
    double loss = NAN;
    if (ckpt_path(&path, dir, "step", step, "state.json", NULL) == DR_OK &&
        os_map(&f, path.p, NULL) == DR_OK &&
        ckpt_parse_state(f.p, f.n, &s, &state, &arrays, NULL) == DR_OK) {
        const json_t *v = json_object_get(state, "eval_loss");
        if (json_is_number(v)) loss = json_number_value(v);
    }
    json_decref(state);
    json_decref(arrays);
    os_unmap(&f);
    buf_free(&path);
    return loss;
}

static int by_step(const void *a, const void *b)
{
    int64_t x = ((const ckpt_entry *)a)->step, y = ((const ckpt_entry *)b)->step;
    return (x > y) - (x < y);
}

int ckpt_list(const char *dir, ckpt_entry **list, int *n, dr_err *e)
{
    DIR *d = opendir(dir);
    ckpt_entry *l = NULL;
    int k = 0, cap = 0, rc = DR_OK;
    for (struct dirent *f; d && rc == DR_OK && (f = readdir(d));) {
        int64_t step;
        if (!step_of(f->d_name, "step", &step)) continue;
        if (k == cap) {
            cap = cap ? 2 * cap : 16;
            ckpt_entry *more = mem_realloc(l, (size_t)cap * sizeof *l);
            if (!more) { rc = err_nomem(e, (size_t)cap * sizeof *l, "checkpoints"); break; }
            l = more;
        }
        l[k++] = (ckpt_entry){ step, loss_of(dir, step) };
    }
    if (d) closedir(d);
    if (rc != DR_OK) {
        mem_free(l);
        return rc;
    }
    if (k) qsort(l, (size_t)k, sizeof *l, by_step);
    *list = l, *n = k;
    return DR_OK;
}

/* Is entry i among the `keep` ones with the lowest loss? Of equals the newer one is. */
static bool is_best(const ckpt_entry *l, int n, int i, int keep)
{
    if (isnan(l[i].eval_loss)) return false;
    int better = 0;
    for (int k = 0; k < n; k++)
        better += l[k].eval_loss < l[i].eval_loss || (l[k].eval_loss == l[i].eval_loss && k > i);
    return better < keep;
}

int ckpt_prune(const char *dir, int keep_last, int keep_best, dr_err *e)
{
    ckpt_entry *l = NULL;
    int n = 0, rc = ckpt_list(dir, &l, &n, e);
    for (int i = 0; i < n - keep_last && rc == DR_OK; i++)
        if (!is_best(l, n, i, keep_best)) rc = remove_step(dir, l[i].step, e);
    mem_free(l);
    return rc;
}
