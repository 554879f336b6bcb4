/* pipeline.c - see pipeline.h: slices of rows made by all threads, written in order.
 *
 * A slice is made while the one before is written: writing is the first chunk of a slice's work.
 * The cut into chunks and slices follows from the shapes alone, so the journal's checksums (sum
 * of the chunks' sums) can be made again from a file. What stands in the source as it shall stand
 * in the file is written from there; the source vouches for it. */
#include "pack/pipeline.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "base/sum.h"
#include "format/fp8.h"
#include "format/names.h"
#include "format/quant.h"
#include "model/rope.h"
#include "pack/carry.h"
#include "pack/layout.h"
#include "pack/quant_rows.h"
#include "pack/sink.h"
#include "pack/work.h"

/* Weights in a chunk, chunks in a slice: two slices stay in the last cache until they are written,
 * and there is work for many threads. */
enum { CHUNK = 16384, CHUNKS = 128, COPIED = 4 };     /* and slices' worth that are copied at once */

typedef struct {
    uint8_t *p;
    size_t bytes;                    /* 0: nothing waits here */
    int n_chunks;
    uint32_t sum[CHUNKS];
} slice;

typedef struct {
    const pack_job *j;
    const char *out;
    layout plan;
    pool *pool;
    work work;
    sink sink;                       /* the file being written */
    bool adjacent;                   /* the target's order of q and k */
    slice slice[2];
    int turn;                        /* the slice being made; the other one is being written */
    uint8_t *scratch;                /* of all threads */
    size_t scratch_bytes, float_bytes;   /* a thread's; the floats in front of them */
    dr_err *fail;                    /* of each thread, and of the writer */
    const pack_tensor *t;            /* being made */
    int64_t row, n, step;            /* its slice's rows, rows in a chunk */
    bool copy, check_only;
    uint64_t done, total;
    int64_t n_slices;
} run;

container pack_container_of(const char *out)
{
    size_t n = strlen(out);
    if (n >= 5 && !strcmp(out + n - 5, ".gguf")) return CONTAINER_GGUF;
    while (n > 1 && out[n - 1] == '/') n--;
    return n >= 4 && !strncmp(out + n - 4, ".pth", 4) ? CONTAINER_META : CONTAINER_SAFETENSORS;
}

/* ---- making rows ---- */

static size_t row_bytes(const pack_tensor *t) { return type_row_bytes(t->type, t->cols); }

static bool edited(const pack_job *j, const pack_tensor *t)
{
    return j->edit && t->src && (!j->edits || j->edits(j->arg, t));
}

/* The slice of an FP8 source tensor that columns [col0, col0+n) lie in, and with it their scales;
 * -1: they lie in several. */
static int slice_of(const run *r, const pack_tensor *t, int64_t n)
{
    const pack_scales *q = pack_scales_of(r->j->src, t->src);
    int64_t part = q->n_slice ? t->all_cols / q->n_slice : 0;
    if (!part || t->col0 / part != (t->col0 + n - 1) / part) return -1;
    return (int)(t->col0 / part);
}

/* Stored rows can be taken as they are. */
static bool copies(const run *r, const pack_tensor *t)
{
    if (!t->src || t->src->type != t->type || t->scale || edited(r->j, t)) return false;
    bool whole = t->cols == t->all_cols || type_get(t->type)->elems == 1;
    bool moved = t->n_dims == 1 && r->adjacent != r->j->src->hp.adjacent &&
                 pack_role_rotated(t->role);
    return whole && !moved && (t->type != DT_F8_E4M3 || slice_of(r, t, t->cols) >= 0);
}

/* ---- FP8 ---- */

/* The scales of n rows. Those that the source has are kept where its bytes are. */
static void make_scales(const run *r, int64_t row, int64_t n, const float *x, float *dst)
{
    const pack_tensor *t = r->t;
    bool f8 = t->src->type == DT_F8_E4M3 && !edited(r->j, t);
    int k = f8 ? slice_of(r, t, t->scale_cols) : -1;
    const float *of = k < 0 ? NULL : pack_scales_of(r->j->src, t->src)->of +
                                     k * t->src->dim[0];
    for (int64_t i = 0; i < n; i++)
        dst[i] = of ? of[pack_row_of(r->j->src, t->role, r->adjacent, t->row0 + row + i)]
                    : fp8_scale(x + i * t->all_cols + t->col0, t->scale_cols);
}

static int copy_rows(const run *r, int64_t row, int64_t n, uint8_t *dst, void *scratch, dr_err *e)
{
    const pack_tensor *t = r->t;
    size_t bytes = row_bytes(t), skip = type_row_bytes(t->type, t->col0);
    for (int64_t i = 0; i < n; i++, dst += bytes) {
        const uint8_t *p = pack_read_raw(r->j->src, t->role, t->src, r->adjacent,
                                         t->row0 + row + i, scratch, e);
        if (!p) return DR_EIO;
        memcpy(dst, p + skip, bytes);
    }
    return DR_OK;
}

static int make_rows(const run *r, int64_t row, int64_t n, uint8_t *dst, int thread, dr_err *e)
{
    const pack_tensor *t = r->t;
    const pack_job *j = r->j;
    float *x = (float *)(void *)(r->scratch + (size_t)thread * r->scratch_bytes);
    void *raw = (uint8_t *)x + r->float_bytes;
    if (r->copy) return copy_rows(r, row, n, dst, raw, e);
    if (t->role.row == ROLE_ROPE) {
        rope_divisors(x, &j->src->hp.rope, j->src->hp.hs);
        memcpy(dst, x, (size_t)t->cols * sizeof *x);
        return DR_OK;
    }
    int rc = pack_read(j->src, t->role, t->src, r->adjacent, t->row0 + row, n, x, raw, e);
    if (rc == DR_OK && edited(j, t)) rc = j->edit(j->arg, t, t->row0 + row, n, x, thread, e);
    if (rc != DR_OK) return rc;
    if (t->scale) {
        make_scales(r, row, n, x, (float *)(void *)dst);
        return DR_OK;
    }
    if (t->cols != t->all_cols)
        for (int64_t i = 0; i < n; i++)
            memmove(x + i * t->cols, x + i * t->all_cols + t->col0, (size_t)t->cols * sizeof *x);
    if (t->type == DT_F8_E4M3) {
        for (int64_t i = 0; i < n; i++) fp8_row(x + i * t->cols, dst + i * t->cols, t->cols);
        return DR_OK;
    }
    if (j->encode) return j->encode(j->arg, t, row, n, x, dst, thread, e);
    if (type_get(t->type)->elems > 1) return quant_rows(t->type, x, NULL, dst, n, t->cols, e);
    size_t bytes = row_bytes(t);
    for (int64_t i = 0; i < n && rc == DR_OK; i++)
        rc = quant_row(t->type, x + i * t->cols, dst + (size_t)i * bytes, t->cols);
    return rc == DR_OK ? rc : err_set(e, rc, "tensor %s cannot be written as %s", t->name,
                                      type_get(t->type)->name);
}

static int write_slice(run *r, slice *s, dr_err *e)
{
    if (!s->bytes) return DR_OK;
    uint32_t check = sum_bytes(s->sum, (size_t)s->n_chunks * sizeof *s->sum);
    int rc = sink_data(&r->sink, s->p, s->bytes, e);
    if (rc == DR_OK) rc = work_check(&r->work, check, e);
    s->bytes = 0;
    return rc;
}

/* Chunk 0 writes the slice before; the others make this one. */
static void one_chunk(void *arg, int chunk, int thread)
{
    run *r = arg;
    slice *s = &r->slice[r->turn];
    int threads = pool_threads(r->pool);
    if (chunk == 0) {
        write_slice(r, &r->slice[!r->turn], &r->fail[threads]);
        return;
    }
    int64_t a = (int64_t)(chunk - 1) * r->step, n = r->n - a < r->step ? r->n - a : r->step;
    size_t bytes = row_bytes(r->t);
    uint8_t *dst = s->p + (size_t)a * bytes;
    if (!r->check_only && make_rows(r, r->row + a, n, dst, thread, &r->fail[thread]) != DR_OK)
        return;
    s->sum[chunk - 1] = sum_bytes(dst, (size_t)n * bytes);
}

static int failed(run *r, dr_err *e)
{
    for (int i = 0; i <= pool_threads(r->pool); i++)
        if (r->fail[i].code) return err_set(e, r->fail[i].code, "%s", r->fail[i].msg);
    return DR_OK;
}

/* Write what waits in the other slice. */
static int flush(run *r, dr_err *e)
{
    return write_slice(r, &r->slice[!r->turn], e);
}

/* The slice that the journal vouches for, from the file: true when that holds. */
static bool take_again(run *r, slice *s, int n_chunks)
{
    if (!work_get(&r->work, s->p, s->bytes)) return false;
    r->check_only = true;
    size_t bytes = s->bytes;
    s->n_chunks = n_chunks;
    pool_run(r->pool, n_chunks + 1, one_chunk, r);
    r->check_only = false;
    s->bytes = bytes;
    return sum_bytes(s->sum, (size_t)n_chunks * sizeof *s->sum) == r->work.check[r->n_slices];
}

/* Where the slice's bytes stand in the source one behind the other; NULL: nowhere. */
static const uint8_t *in_source(const run *r)
{
    const pack_tensor *t = r->t;
    if (!r->copy || !t->src->data || t->cols != t->all_cols) return NULL;
    if (r->adjacent != r->j->src->hp.adjacent && pack_role_rotated(t->role)) return NULL;
    return t->src->data + (size_t)(t->row0 + r->row) * row_bytes(t);
}

/* Write the slice from where it stands. A slice of a stopped run is compared with that, which is
 * more than a checksum says, so its entry in the journal is 0. */
static int copy_slice(run *r, const uint8_t *from, dr_err *e)
{
    size_t bytes = row_bytes(r->t) * (size_t)r->n;
    int rc = flush(r, e);
    if (rc == DR_OK && r->n_slices < r->work.n_check) {
        if (work_same(&r->work, from, bytes)) {
            r->work.skip = bytes;
            return sink_data(&r->sink, from, bytes, e);
        }
        rc = work_forget(&r->work, r->n_slices, e);
    }
    os_bring_in(from, bytes);
    if (rc == DR_OK) rc = sink_data(&r->sink, from, bytes, e);
    return rc == DR_OK ? work_check(&r->work, 0, e) : rc;
}

static int make_slice(run *r, dr_err *e)
{
    const uint8_t *from = in_source(r);
    if (from) return copy_slice(r, from, e);

    slice *s = &r->slice[r->turn];
    int n_chunks = (int)((r->n + r->step - 1) / r->step), rc = DR_OK;
    size_t bytes = row_bytes(r->t) * (size_t)r->n;
    s->bytes = bytes, s->n_chunks = n_chunks;
    if (r->n_slices < r->work.n_check) {
        if (take_again(r, s, n_chunks)) {
            r->work.skip = bytes;
            rc = sink_data(&r->sink, s->p, bytes, e);
            s->bytes = 0;
            return rc;
        }
        if ((rc = work_forget(&r->work, r->n_slices, e)) != DR_OK) return rc;
    }
    pool_run(r->pool, n_chunks + 1, one_chunk, r);
    r->turn = !r->turn;
    return failed(r, e);
}

static int make_tensor(run *r, const pack_tensor *t, dr_err *e)
{
    int64_t wide = t->all_cols > t->cols ? t->all_cols : t->cols;
    r->t = t, r->copy = copies(r, t);
    r->step = wide >= CHUNK ? 1 : CHUNK / wide;
    int rc = DR_OK;
    for (r->row = 0; rc == DR_OK && r->row < t->rows; r->row += r->n) {
        int64_t most = r->step * CHUNKS * (in_source(r) ? COPIED : 1);
        r->n = t->rows - r->row < most ? t->rows - r->row : most;
        rc = make_slice(r, e);
        r->n_slices++;
        r->done += row_bytes(t) * (uint64_t)r->n;
        if (rc == DR_OK && r->j->progress) r->j->progress(r->j->arg, r->done, r->total);
    }
    return rc;
}

/* ---- files ---- */

/* The k-th file's name, without a folder. */
static int file_name(const run *r, int k, char *s, size_t n, dr_err *e)
{
    const char *slash = strrchr(r->out, '/'), *last = slash ? slash + 1 : r->out;
    int len, all = r->plan.n_files;
    const layout_file *f = &r->plan.file[k];
    if (r->j->to == CONTAINER_META && f->scales) len = snprintf(s, n, "fp8_scales_%d.pt", f->shard);
    else if (r->j->to == CONTAINER_META) len = snprintf(s, n, "consolidated.%02d.pth", f->shard);
    else if (r->j->to == CONTAINER_GGUF && all == 1) len = snprintf(s, n, "%s", last);
    else if (r->j->to == CONTAINER_GGUF)
        len = snprintf(s, n, "%.*s-%05d-of-%05d.gguf", (int)(strlen(last) - 5), last, k + 1, all);
    else if (all == 1) len = snprintf(s, n, "model.safetensors");
    else len = snprintf(s, n, "model-%05d-of-%05d.safetensors", k + 1, all);
    return len < (int)n ? DR_OK : err_set(e, DR_EINVAL, "the name %.100s… is too long", last);
}

static int write_file(run *r, int k, dr_err *e)
{
    char name[512];
    const layout_file *f = &r->plan.file[k];
    int rc = file_name(r, k, name, sizeof name, e);
    if (rc == DR_OK) rc = work_begin(&r->work, name, e);
    if (rc == DR_OK) rc = sink_start(&r->sink, work_put, &r->work, e);
    for (int64_t i = 0; rc == DR_OK && i < f->n; i++)
        if (!r->plan.t[f->first + i].alias) rc = make_tensor(r, &r->plan.t[f->first + i], e);
    if (rc == DR_OK) rc = flush(r, e);
    if (rc == DR_OK) rc = sink_end(&r->sink, e);
    return rc == DR_OK ? work_end(&r->work, e) : rc;
}

/* A file's writer with its head: metadata, list of tensors. */
static int open_sink(run *r, int k, sink *s, dr_err *e)
{
    const layout *p = &r->plan;
    char name[512];
    int rc = file_name(r, k, name, sizeof name, e);
    if (rc == DR_OK) rc = sink_new(s, r->j->to, name, e);
    if (rc == DR_OK && s->gguf && k == 0) rc = carry_gguf(r->j, p, s->gguf, e);
    if (rc == DR_OK && s->gguf && p->n_files > 1) carry_split(s->gguf, k, p->n_files, p->n);
    for (int64_t i = 0; rc == DR_OK && i < p->file[k].n; i++)
        rc = sink_add(s, &p->t[p->file[k].first + i], e);
    return rc;
}

/* model.safetensors.index.json: which file holds which tensor. */
static int write_index(run *r, dr_err *e)
{
    buf b = { .cap_max = (size_t)256 << 20 };
    char name[512];
    int rc = DR_OK;
    buf_printf(&b, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n"
               "  \"weight_map\": {", r->plan.bytes);
    for (int k = 0; rc == DR_OK && k < r->plan.n_files; k++) {
        const layout_file *f = &r->plan.file[k];
        rc = file_name(r, k, name, sizeof name, e);
        for (int64_t i = f->first; rc == DR_OK && i < f->first + f->n; i++)
            buf_printf(&b, "%s\n    \"%s\": \"%s\"", i ? "," : "", r->plan.t[i].name, name);
    }
    buf_puts(&b, "\n  }\n}\n");
    if (rc == DR_OK && b.bad) rc = err_nomem(e, b.n, "index");
    if (rc == DR_OK) rc = work_small(&r->work, "model.safetensors.index.json", b.p, b.n, e);
    buf_free(&b);
    return rc;
}

/* ---- before and after ---- */

/* What the output depends on, as a number: another source, another choice, another key. */
static uint64_t job_key(const run *r, dr_err *e, int *rc)
{
    uint64_t key = names_hash(span_of("drover " DR_VERSION), r->j->key + (uint64_t)r->j->to);
    const pack_source *s = r->j->src;
    for (int64_t i = 0; i < r->plan.n; i++) {
        const pack_tensor *t = &r->plan.t[i];
        int64_t v[6] = { t->type, t->rows, t->cols, t->row0, t->col0, r->plan.n_files };
        key = names_hash(span_of(t->name), key);
        key = names_hash((span){ (const char *)v, sizeof v }, key);
        if (!t->src) continue;
        /* one stored row stands for the tensor: weights of another training differ everywhere */
        size_t n = t->src->bytes / (size_t)tensor_n_rows(t->src);
        const void *row = pack_read_raw(s, t->role, t->src, s->hp.adjacent, 0, r->scratch, e);
        if (!row) { *rc = DR_EIO; return 0; }
        key = names_hash((span){ row, n }, key + (uint64_t)t->src->type);
    }
    return key;
}

static int take_memory(run *r, dr_err *e)
{
    size_t raw = 0, most = 0;
    int64_t cols = 0;
    for (int64_t i = 0; i < r->plan.n; i++) {
        const pack_tensor *t = &r->plan.t[i];
        int64_t wide = t->all_cols > t->cols ? t->all_cols : t->cols;
        int64_t step = wide >= CHUNK ? 1 : CHUNK / wide, rows = step * CHUNKS;
        size_t n = row_bytes(t) * (size_t)(t->rows < rows ? t->rows : rows);
        size_t s = t->src ? pack_scratch_bytes(t->src) : 0;
        if (n > most) most = n;
        if (s > raw) raw = s;
        if (step * wide > cols) cols = step * wide;
    }
    int n = pool_threads(r->pool);
    r->float_bytes = ((size_t)cols * sizeof(float) + 63) / 64 * 64;
    r->scratch_bytes = (r->float_bytes + raw + 127) / 128 * 128;
    r->scratch = mem_aligned((size_t)n * r->scratch_bytes + 64);
    r->fail = mem_zalloc((size_t)n + 1, sizeof *r->fail);
    r->slice[0].p = mem_alloc(most + 1);
    r->slice[1].p = mem_alloc(most + 1);
    return r->scratch && r->fail && r->slice[0].p && r->slice[1].p ? DR_OK :
           err_nomem(e, 2 * most + (size_t)n * r->scratch_bytes, "slices of tensors");
}

static int check_room(const run *r, uint64_t bytes, dr_err *e)
{
    uint64_t have = work_bytes(&r->work), room = os_disk_free(r->work.dir);
    if (!room || bytes < have || bytes - have <= room) return DR_OK;
    return err_set(e, DR_EIO, "%s takes %.2f GB more, but its disk has %.2f GB free", r->work.out,
                   (double)(bytes - have) * 1e-9, (double)room * 1e-9);
}

/* The output may not be what is read, by whatever name. */
static int check_self(const pack_job *j, const char *out, dr_err *e)
{
    const char *in = tensors_path(j->src->ts), *slash = strrchr(in, '/');
    char folder[4096];
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - in) : 1, slash ? in : ".");
    /* a file of safetensors or .pth stands for its folder */
    bool inside = !os_is_dir(in) && !tensors_gguf(j->src->ts) &&
                  os_same_file(slash == in ? "/" : folder, out);
    if (!os_same_file(in, out) && !inside) return DR_OK;
    return err_set(e, DR_EINVAL, "%s is the model that is read: name another output", out);
}

/* The parts of a split GGUF file have names of their own, which may be taken. */
static int check_parts(run *r, dr_err *e)
{
    char name[512], path[4096];
    const char *slash = strrchr(r->work.out, '/');
    int rc = DR_OK;
    for (int k = 0; rc == DR_OK && r->plan.n_files > 1 && k < r->plan.n_files; k++) {
        rc = file_name(r, k, name, sizeof name, e);
        if (snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash - r->work.out) + 1 : 0,
                     r->work.out, name) >= (int)sizeof path)
            return err_set(e, DR_EINVAL, "the path %.200s… is too long", r->work.out);
        if (rc == DR_OK && os_same_file(tensors_path(r->j->src->ts), path))
            rc = err_set(e, DR_EINVAL, "%s is the model that is read: name another output", path);
        else if (rc == DR_OK && !r->j->force && os_exists(path))
            rc = err_set(e, DR_EINVAL, "%s is there already; --force replaces it", path);
    }
    return rc;
}

static int write_all(run *r, sink *s, dr_err *e)
{
    int rc = DR_OK;
    for (int k = 0; rc == DR_OK && k < r->plan.n_files; k++) {
        r->sink = s[k];
        rc = write_file(r, k, e);
    }
    if (rc == DR_OK && r->j->to == CONTAINER_SAFETENSORS && r->plan.n_files > 1)
        rc = write_index(r, e);
    if (rc == DR_OK && r->j->to != CONTAINER_GGUF) rc = carry_files(r->j, &r->plan, &r->work, e);
    return rc == DR_OK ? work_finish(&r->work, e) : rc;
}

static int run_all(run *r, const char *out, dr_err *e)
{
    uint64_t bytes = 16 << 20;                   // the files beside the weights
    int n = r->plan.n_files, rc = DR_OK;
    sink *s = mem_zalloc((size_t)n, sizeof *s);
    if (!s) return err_nomem(e, (size_t)n * sizeof *s, "files");
    for (int k = 0; rc == DR_OK && k < n; k++) {
        rc = open_sink(r, k, &s[k], e);
        if (rc == DR_OK) bytes += sink_size(&s[k]);
    }
    uint64_t key = rc == DR_OK ? job_key(r, e, &rc) : 0;
    if (rc == DR_OK)
        rc = work_open(&r->work, out, r->j->to != CONTAINER_GGUF, r->j->force, key, e);
    if (rc == DR_OK && r->work.fresh && r->j->note)
        r->j->note(r->j->arg, "what an earlier run had begun there was of another source or other "
                   "options; begun anew");
    if (rc == DR_OK && r->work.done) rc = work_finish(&r->work, e);
    else if (rc == DR_OK) {
        if (r->j->to == CONTAINER_GGUF) rc = check_parts(r, e);
        if (rc == DR_OK) rc = check_room(r, bytes, e);
        if (rc == DR_OK) rc = write_all(r, s, e);
    }
    for (int k = 0; k < n; k++) sink_free(&s[k]);
    mem_free(s);
    return rc;
}

int pack_run(const pack_job *j, const char *out, pool *p, dr_err *e)
{
    run r = { .j = j, .out = out, .pool = p, .adjacent = j->to != CONTAINER_SAFETENSORS,
              .work = { .journal = -1, .fd = -1 } };
    int rc = check_self(j, out, e);
    if (rc == DR_OK) rc = carry_check(j, e);
    if (rc == DR_OK) rc = layout_make(&r.plan, j, e);
    if (rc == DR_OK) rc = take_memory(&r, e);
    r.total = r.plan.bytes;
    if (rc == DR_OK) rc = run_all(&r, out, e);
    work_close(&r.work);
    layout_free(&r.plan);
    mem_free(r.slice[0].p);
    mem_free(r.slice[1].p);
    mem_free(r.scratch);
    mem_free(r.fail);
    return rc;
}
