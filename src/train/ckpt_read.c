/* ckpt_read.c - see ckpt.h: opening checkpoints. Every file is compared with its sum before
 * anything of it is used; the sums' own file says which files there are. */
#include <inttypes.h>
#include <string.h>
#include "base/hash.h"
#include "base/mem.h"
#include "format/json.h"
#include "train/ckpt_priv.h"

static const char *const words = "drover training";

int ckpt_parse_state(const void *bytes, size_t n, int64_t *step, json_t **state, json_t **arrays,
                     dr_err *e)
{
    if (n > CKPT_STATE_MAX)
        return err_set(e, DR_EFORMAT, "state.json has %zu bytes, at most %d are read", n,
                       CKPT_STATE_MAX);
    json_t *j = json_read(bytes, n, ((size_t)4 << 20) + 2 * n, "state.json", e);
    if (!j) return e ? e->code : DR_EFORMAT;
    const json_t *at = json_object_get(j, "step"), *version = json_object_get(j, "version");
    const char *format = json_string_value(json_object_get(j, "format")), *key;
    json_t *s = json_object_get(j, "state"), *a = json_object_get(j, "arrays"), *v;
    int rc = DR_OK;
    if (!format || strcmp(format, words))
        rc = err_set(e, DR_EFORMAT, "state.json is not of \"%s\"", words);
    else if (!json_is_integer(version) || json_integer_value(version) != 1)
        rc = err_set(e, DR_EUNSUPPORTED, "state.json has version %lld, this program reads 1",
                     (long long)json_integer_value(version));
    else if (!json_is_integer(at) || json_integer_value(at) < 0 || !json_is_object(a) ||
             !json_is_object(s))
        rc = err_set(e, DR_EFORMAT, "state.json: step, arrays and state are wanted");
    json_object_foreach(a, key, v)
        if (rc == DR_OK && (!json_is_integer(v) || json_integer_value(v) < 0))
            rc = err_set(e, DR_EFORMAT, "state.json: array %.64s has no length", key);
    if (rc == DR_OK) *step = json_integer_value(at), *state = json_incref(s), *arrays = json_incref(a);
    json_decref(j);
    return rc;
}

void ckpt_close(ckpt *c)
{
    for (int i = 0; i < c->n_files; i++) {
        st_free(&c->file[i].st);
        os_unmap(&c->file[i].map);
    }
    mem_free(c->file);
    json_decref(c->state);
    json_decref(c->arrays);
    *c = (ckpt){0};
}

/* "rank-000.safetensors": no other names are opened. */
static bool rank_name(span s)
{
    return s.n == 20 && !memcmp(s.p, "rank-", 5) && strspn(s.p + 5, "0123456789") == 3 &&
           !memcmp(s.p + 8, ".safetensors", 12);
}

/* One file of the list, mapped when its sum is the one wanted. */
static int map_checked(os_file *f, const char *dir, int64_t step, const char *name,
                       const char *want, dr_err *e)
{
    char hex[HASH_HEX];
    buf path = {0};
    *f = (os_file){0};
    int rc = ckpt_path(&path, dir, "step", step, name, e);
    if (rc == DR_OK) rc = os_map(f, path.p, e);
    if (rc == DR_OK) rc = hash_bytes(f->p, f->n, hex, e);
    if (rc == DR_OK && strcmp(hex, want))
        rc = err_set(e, DR_EFORMAT, "%s has SHA-256 %s, %s is wanted: it was damaged", path.p, hex,
                     want);
    if (rc != DR_OK) os_unmap(f);
    buf_free(&path);
    return rc;
}

static int take(ckpt *c, const char *dir, int64_t step, span name, const char *want, dr_err *e)
{
    char file[32];
    os_file f;
    snprintf(file, sizeof file, SPAN_FMT, SPAN_ARG(name));
    bool is_state = span_is(name, "state.json");
    if ((!is_state && !rank_name(name)) || (is_state && c->state) || c->n_files >= CKPT_MAX_RANKS)
        return err_set(e, DR_EFORMAT, "SHA256SUMS names \"%s\", which is not part of a checkpoint "
                       "or named twice", file);
    int rc = map_checked(&f, dir, step, file, want, e);
    if (rc != DR_OK) return rc;
    if (is_state) {
        rc = ckpt_parse_state(f.p, f.n, &c->step, &c->state, &c->arrays, e);
        os_unmap(&f);
        return rc;
    }
    ckpt_file *more = mem_realloc(c->file, (size_t)(c->n_files + 1) * sizeof *more);
    if (!more) {
        os_unmap(&f);
        return err_nomem(e, sizeof *more, "list of files");
    }
    c->file = more;
    c->file[c->n_files] = (ckpt_file){ .map = f };
    c->n_files++;
    return st_parse(&c->file[c->n_files - 1].st, f.p, f.n, e);
}

static int open_all(ckpt *c, const char *dir, int64_t step, span sums, dr_err *e)
{
    while (sums.n) {
        char want[HASH_HEX];
        const char *end = memchr(sums.p, '\n', sums.n);
        size_t n = end ? (size_t)(end - sums.p) : 0;
        if (n < 66 || memcmp(sums.p + 64, "  ", 2))
            return err_set(e, DR_EFORMAT, "SHA256SUMS has a broken or cut line");
        memcpy(want, sums.p, 64);
        want[64] = 0;
        int rc = take(c, dir, step, (span){ sums.p + 66, n - 66 }, want, e);
        if (rc != DR_OK) return rc;
        sums.p += n + 1, sums.n -= n + 1;
    }
    if (!c->state || !c->n_files)
        return err_set(e, DR_EFORMAT, "SHA256SUMS names no state.json or no rank's file");
    if (c->step != step)
        return err_set(e, DR_EFORMAT, "state.json is of step %" PRId64, c->step);
    return DR_OK;
}

int ckpt_open(ckpt *c, const char *dir, int64_t step, dr_err *e)
{
    buf path = {0}, sums = { .cap_max = 1 << 20 };
    dr_err why = {0};
    *c = (ckpt){0};
    int rc = ckpt_path(&path, dir, "step", step, "SHA256SUMS", &why);
    if (rc == DR_OK) rc = os_read(&sums, path.p, &why);
    if (rc == DR_OK) rc = open_all(c, dir, step, buf_span(&sums), &why);
    buf_free(&path);
    buf_free(&sums);
    if (rc == DR_OK) return DR_OK;
    ckpt_close(c);
    return err_set(e, rc, "checkpoint %s/step-%08" PRId64 ": %s", dir, step, why.msg);
}

int ckpt_open_latest(ckpt *c, const char *dir, buf *notes, dr_err *e)
{
    ckpt_entry *l = NULL;
    int n = 0, rc = ckpt_list(dir, &l, &n, e);
    *c = (ckpt){ .step = -1 };
    for (int i = n; rc == DR_OK && i-- > 0;) {
        dr_err why = {0};
        int got = ckpt_open(c, dir, l[i].step, &why);
        if (got == DR_OK) break;
        c->step = -1;
        if (got == DR_ENOMEM) rc = err_set(e, got, "%s", why.msg);
        else buf_printf(notes, "%s\n", why.msg);
    }
    mem_free(l);
    return rc;
}

bool ckpt_has(const ckpt *c, const char *name)
{
    return json_object_get(c->arrays, name) != NULL;
}

/* Is this tensor a range of the array? *at is where it begins. */
static bool range_of(const st_tensor *t, const char *name, int64_t *at)
{
    size_t k = strlen(name);
    *at = 0;
    if (t->name.n < k || memcmp(t->name.p, name, k)) return false;
    if (t->name.n == k) return true;
    if (t->name.p[k] != '@' || t->name.n == k + 1 || t->name.n > k + 19) return false;
    for (size_t i = k + 1; i < t->name.n; i++) {
        if (t->name.p[i] < '0' || t->name.p[i] > '9') return false;
        *at = *at * 10 + (t->name.p[i] - '0');
    }
    return true;
}

int ckpt_read(const ckpt *c, const ckpt_array *a, dr_err *e)
{
    const json_t *total = json_object_get(c->arrays, a->name);
    if (!total) return err_set(e, DR_EFORMAT, "the checkpoint has no array %s", a->name);
    if (json_integer_value(total) != a->total)
        return err_set(e, DR_EFORMAT, "array %s has %lld elements in the checkpoint, %" PRId64
                       " are wanted: it is another model's", a->name,
                       (long long)json_integer_value(total), a->total);
    int64_t done = 0, elem = ckpt_elem(a->type), end = a->at + a->n;
    for (int f = 0; f < c->n_files; f++)
        for (int64_t i = 0; i < c->file[f].st.n; i++) {
            const st_tensor *t = &c->file[f].st.t[i];
            int64_t at;
            int type, one;
            if (!range_of(t, a->name, &at)) continue;
            if (!st_type_find(ckpt_type_name(a->type), &type, &one) || t->type != type)
                return err_set(e, DR_EFORMAT, "array %s: %s is wanted and another type is there",
                               a->name, ckpt_type_name(a->type));
            int64_t n = (int64_t)t->bytes / elem, lo = at > a->at ? at : a->at;
            int64_t hi = at + n < end ? at + n : end;
            if (lo >= hi) continue;
            memcpy((char *)a->p + (lo - a->at) * elem, t->data + (lo - at) * elem,
                   (size_t)((hi - lo) * elem));
            done += hi - lo;
        }
    if (done != a->n)
        return err_set(e, DR_EFORMAT, "array %s: %" PRId64 " of the elements [%" PRId64 ",%" PRId64
                       ") are in the checkpoint, each once is wanted", a->name, done, a->at, end);
    return DR_OK;
}
