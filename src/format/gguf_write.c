/* gguf_write.c - see gguf_write.h. spec: ggml docs/gguf.md, version 3. */
#include "format/gguf_write.h"
#include <inttypes.h>
#include "base/block.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/os.h"

enum { ALIGN = 32 };
#define META_MAX ((size_t)1 << 30)

struct gguf_writer {
    buf kv, info;                    /* entries as they will stand in the file */
    uint64_t n_kv, n_tensors;
    uint64_t *bytes;                 /* of each tensor */
    uint64_t cap;
    uint64_t data_end;               /* where the next tensor starts in the data section */
    uint64_t cur, left;              /* tensor being written, its bytes still to come */
    os_out out;
    char *mem;                       /* the place in memory, or NULL */
    write_fn fn;                     /* who takes the bytes, or NULL */
    void *arg;
};

gguf_writer *gguf_write_new(dr_err *e)
{
    gguf_writer *w = mem_zalloc(1, sizeof *w);
    if (!w) { err_nomem(e, sizeof *w, "GGUF writer"); return NULL; }
    buf_init(&w->kv, META_MAX);
    buf_init(&w->info, META_MAX);
    w->out.fd = -1;
    return w;
}

void gguf_write_free(gguf_writer *w)
{
    if (!w) return;
    os_out_drop(&w->out);
    buf_free(&w->kv);
    buf_free(&w->info);
    mem_free(w->bytes);
    mem_free(w);
}

static void put_u32(buf *b, uint32_t v) { buf_put(b, &v, sizeof v); }
static void put_u64(buf *b, uint64_t v) { buf_put(b, &v, sizeof v); }
static void put_span(buf *b, span s) { put_u64(b, s.n); buf_put(b, s.p, s.n); }

static void put_key(gguf_writer *w, span key, gguf_type type)
{
    put_span(&w->kv, key);
    put_u32(&w->kv, type);
    w->n_kv++;
}

static void put_scalar(gguf_writer *w, const char *key, gguf_type type, const void *v, size_t n)
{
    put_key(w, span_of(key), type);
    buf_put(&w->kv, v, n);
}

static void put_array(gguf_writer *w, const char *key, gguf_type elem, uint64_t n)
{
    put_key(w, span_of(key), GGUF_ARRAY);
    put_u32(&w->kv, elem);
    put_u64(&w->kv, n);
}

void gguf_put_u16(gguf_writer *w, const char *key, uint16_t v)
{
    put_scalar(w, key, GGUF_U16, &v, sizeof v);
}

void gguf_put_i32(gguf_writer *w, const char *key, int32_t v)
{
    put_scalar(w, key, GGUF_I32, &v, sizeof v);
}

void gguf_put_u32(gguf_writer *w, const char *key, uint32_t v)
{
    put_scalar(w, key, GGUF_U32, &v, sizeof v);
}

void gguf_put_u64(gguf_writer *w, const char *key, uint64_t v)
{
    put_scalar(w, key, GGUF_U64, &v, sizeof v);
}

void gguf_put_f32(gguf_writer *w, const char *key, float v)
{
    put_scalar(w, key, GGUF_F32, &v, sizeof v);
}

void gguf_put_bool(gguf_writer *w, const char *key, bool v)
{
    uint8_t b = v;
    put_scalar(w, key, GGUF_BOOL, &b, sizeof b);
}

void gguf_put_str(gguf_writer *w, const char *key, span v)
{
    put_key(w, span_of(key), GGUF_STRING);
    put_span(&w->kv, v);
}

void gguf_put_strs(gguf_writer *w, const char *key, const span *v, uint64_t n)
{
    put_array(w, key, GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++) put_span(&w->kv, v[i]);
}

void gguf_put_i32s(gguf_writer *w, const char *key, const int32_t *v, uint64_t n)
{
    put_array(w, key, GGUF_I32, n);
    buf_put(&w->kv, v, n * sizeof *v);
}

void gguf_put_f32s(gguf_writer *w, const char *key, const float *v, uint64_t n)
{
    put_array(w, key, GGUF_F32, n);
    buf_put(&w->kv, v, n * sizeof *v);
}

void gguf_put_u8s(gguf_writer *w, const char *key, const uint8_t *v, uint64_t n)
{
    put_array(w, key, GGUF_U8, n);
    buf_put(&w->kv, v, n);
}

void gguf_put_kv(gguf_writer *w, const gguf_kv *kv)
{
    put_key(w, kv->key, kv->type);
    if (kv->type == GGUF_STRING) {
        put_span(&w->kv, kv->str);
        return;
    }
    if (kv->type == GGUF_ARRAY) {
        put_u32(&w->kv, kv->elem);
        put_u64(&w->kv, kv->n);
    }
    buf_put(&w->kv, kv->at, kv->bytes);
}

static uint64_t padded(uint64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

int gguf_add_tensor(gguf_writer *w, const char *name, int type, int n_dims, const int64_t *dim,
                    dr_err *e)
{
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
        return err_set(e, DR_EINVAL, "tensor %s: %d dimensions", name, n_dims);
    uint64_t bytes = type_row_bytes(type, dim[0]);
    for (int i = 0; i < n_dims; i++)
        if (dim[i] < 1 || (i && __builtin_mul_overflow(bytes, (uint64_t)dim[i], &bytes)) ||
            bytes == 0 || bytes > INT64_MAX)
            return err_set(e, DR_EINVAL, "tensor %s: rows of %" PRId64 " weights and dimension "
                           "%d of %" PRId64 " are not possible in this type", name, dim[0], i,
                           dim[i]);
    if (w->n_tensors == w->cap) {
        uint64_t cap = w->cap ? 2 * w->cap : 64;
        uint64_t *p = mem_realloc(w->bytes, cap * sizeof *p);
        if (!p) return err_nomem(e, cap * sizeof *p, "list of tensors");
        w->bytes = p, w->cap = cap;
    }
    w->bytes[w->n_tensors++] = bytes;
    put_span(&w->info, span_of(name));
    put_u32(&w->info, (uint32_t)n_dims);
    for (int i = 0; i < n_dims; i++) put_u64(&w->info, (uint64_t)dim[i]);
    put_u32(&w->info, (uint32_t)type);
    put_u64(&w->info, w->data_end);
    w->data_end += padded(bytes);
    return DR_OK;
}

static uint64_t header_bytes(const gguf_writer *w) { return padded(24 + w->kv.n + w->info.n); }

uint64_t gguf_write_size(const gguf_writer *w) { return header_bytes(w) + w->data_end; }

static int put(gguf_writer *w, const void *p, size_t n, dr_err *e)
{
    if (w->fn) return w->fn(w->arg, p, n, e);
    if (!w->mem) return os_out_put(&w->out, p, n, e);
    memcpy(w->mem, p, n);
    w->mem += n;
    return DR_OK;
}

static int put_padding(gguf_writer *w, uint64_t after, dr_err *e)
{
    static const char zero[ALIGN];
    return put(w, zero, padded(after) - after, e);
}

static int start(gguf_writer *w, dr_err *e)
{
    if (w->kv.bad || w->info.bad) return err_nomem(e, w->kv.n + w->info.n, "GGUF metadata");
    buf head = { .cap_max = 64 };
    buf_put(&head, "GGUF", 4);
    put_u32(&head, 3);
    put_u64(&head, w->n_tensors);
    put_u64(&head, w->n_kv);
    int rc = head.bad ? err_nomem(e, 64, "GGUF header") : put(w, head.p, head.n, e);
    buf_free(&head);
    if (rc == DR_OK && w->kv.n) rc = put(w, w->kv.p, w->kv.n, e);
    if (rc == DR_OK && w->info.n) rc = put(w, w->info.p, w->info.n, e);
    if (rc == DR_OK) rc = put_padding(w, 24 + w->kv.n + w->info.n, e);
    w->cur = 0;
    w->left = w->n_tensors ? w->bytes[0] : 0;
    return rc;
}

int gguf_write_start(gguf_writer *w, const char *path, dr_err *e)
{
    int rc = os_out_open(&w->out, path, e);
    return rc != DR_OK ? rc : start(w, e);
}

int gguf_write_start_mem(gguf_writer *w, void *mem, dr_err *e)
{
    w->mem = mem;
    return start(w, e);
}

int gguf_write_start_to(gguf_writer *w, write_fn fn, void *arg, dr_err *e)
{
    w->fn = fn, w->arg = arg;
    return start(w, e);
}

int gguf_write_data(gguf_writer *w, const void *p, size_t n, dr_err *e)
{
    const char *at = p;
    while (n > 0) {
        if (w->cur == w->n_tensors)
            return err_set(e, DR_EINVAL, "%zu bytes of data behind the last tensor", n);
        size_t k = n < w->left ? n : (size_t)w->left;
        int rc = put(w, at, k, e);
        if (rc != DR_OK) return rc;
        at += k, n -= k, w->left -= k;
        if (w->left) continue;
        if ((rc = put_padding(w, w->bytes[w->cur], e)) != DR_OK) return rc;
        w->cur++;
        w->left = w->cur < w->n_tensors ? w->bytes[w->cur] : 0;
    }
    return DR_OK;
}

int gguf_write_end(gguf_writer *w, dr_err *e)
{
    if (w->cur != w->n_tensors)
        return err_set(e, DR_EINVAL, "only %" PRIu64 " of %" PRIu64 " tensors were written",
                       w->cur, w->n_tensors);
    return w->mem || w->fn ? DR_OK : os_out_keep(&w->out, e);
}
