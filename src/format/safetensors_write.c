/* safetensors_write.c - see safetensors_write.h. The header is padded with spaces so that the
 * data starts at a multiple of 8, as the format's own writer does. */
#include "format/safetensors_write.h"
#include <inttypes.h>
#include <string.h>
#include "base/block.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/os.h"
#include "format/safetensors.h"

struct st_writer {
    buf head;                        /* the JSON so far, without the closing brace */
    uint64_t total, written;         /* bytes of data listed, given */
    os_out out;
    write_fn fn;                     /* who takes the bytes in place of a file, or NULL */
    void *arg;
};

st_writer *st_write_new(dr_err *e)
{
    st_writer *w = mem_zalloc(1, sizeof *w);
    if (!w) { err_nomem(e, sizeof *w, "safetensors writer"); return NULL; }
    buf_init(&w->head, 100000000);               // the format's own limit
    buf_puts(&w->head, "{\"__metadata__\":{\"format\":\"pt\"}");
    w->out.fd = -1;
    return w;
}

void st_write_free(st_writer *w)
{
    if (!w) return;
    os_out_drop(&w->out);
    buf_free(&w->head);
    mem_free(w);
}

static void put_json_str(buf *b, const char *s)
{
    buf_putc(b, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') buf_printf(b, "\\%c", *s);
        else if ((unsigned char)*s < 0x20) buf_printf(b, "\\u%04x", *s);
        else buf_putc(b, *s);
    }
    buf_putc(b, '"');
}

int st_add_tensor(st_writer *w, const char *name, int type, int n_dims, const int64_t *dim,
                  dr_err *e)
{
    const type_info *ti = type_get(type);
    const char *tn = st_type_name(type);
    int same, bits = 0;
    if (!tn || !st_type_find(tn, &same, &bits) || bits % 8)
        return err_set(e, DR_EINVAL, "tensor %s: safetensors do not hold %s", name,
                       ti ? ti->name : "this type");
    uint64_t bytes = (uint64_t)bits / 8;
    put_json_str((buf_putc(&w->head, ','), &w->head), name);
    buf_printf(&w->head, ":{\"dtype\":\"%s\",\"shape\":[", tn);
    for (int i = 0; i < n_dims; i++) {
        if (dim[i] < 0 || __builtin_mul_overflow(bytes, (uint64_t)dim[i], &bytes))
            return err_set(e, DR_EINVAL, "tensor %s: dimension %" PRId64, name, dim[i]);
        buf_printf(&w->head, "%s%" PRId64, i ? "," : "", dim[i]);
    }
    buf_printf(&w->head, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", w->total,
               w->total + bytes);
    w->total += bytes;
    return DR_OK;
}

static size_t padding(const st_writer *w) { return (8 - (w->head.n + 1) % 8) % 8; }

uint64_t st_write_size(const st_writer *w)
{
    return 8 + w->head.n + 1 + padding(w) + w->total;
}

static int put(st_writer *w, const void *p, size_t n, dr_err *e)
{
    return w->fn ? w->fn(w->arg, p, n, e) : os_out_put(&w->out, p, n, e);
}

static int start(st_writer *w, dr_err *e)
{
    size_t pad = padding(w);
    buf_putc(&w->head, '}');
    while (pad-- > 0) buf_putc(&w->head, ' ');
    if (w->head.bad) return err_nomem(e, w->head.n, "safetensors header");
    uint64_t n = w->head.n;
    int rc = put(w, &n, sizeof n, e);
    return rc != DR_OK ? rc : put(w, w->head.p, w->head.n, e);
}

int st_write_start(st_writer *w, const char *path, dr_err *e)
{
    int rc = os_out_open(&w->out, path, e);
    return rc != DR_OK ? rc : start(w, e);
}

int st_write_start_to(st_writer *w, write_fn fn, void *arg, dr_err *e)
{
    w->fn = fn, w->arg = arg;
    return start(w, e);
}

int st_write_data(st_writer *w, const void *p, size_t n, dr_err *e)
{
    if (n > w->total - w->written)
        return err_set(e, DR_EINVAL, "%zu bytes of data behind the last tensor", n);
    w->written += n;
    return put(w, p, n, e);
}

int st_write_end(st_writer *w, dr_err *e)
{
    if (w->written != w->total)
        return err_set(e, DR_EINVAL, "only %" PRIu64 " of %" PRIu64 " bytes of data were written",
                       w->written, w->total);
    return w->fn ? DR_OK : os_out_keep(&w->out, e);
}
