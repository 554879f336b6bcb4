/* events.c - see events.h. */
#include "train/events.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/mem.h"

/* CRC-32C bit by bit: a record has tens of bytes. */
static uint32_t crc32c(const void *p, size_t n)
{
    const uint8_t *s = p;
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        c ^= s[i];
        for (int b = 0; b < 8; b++) c = c >> 1 ^ (0x82f63b78u & (0u - (c & 1)));
    }
    return ~c;
}

static uint32_t masked(const void *p, size_t n)
{
    uint32_t c = crc32c(p, n);
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

static void put_varint(buf *b, uint64_t v)
{
    for (; v > 127; v >>= 7) buf_putc(b, (char)(v | 128));
    buf_putc(b, (char)v);
}

/* Field numbers with their wire types: 0 varint, 1 eight bytes, 2 bytes, 5 four bytes. */
static void put_key(buf *b, int field, int wire) { put_varint(b, (uint64_t)(field << 3 | wire)); }

static void put_bytes(buf *b, int field, const void *p, size_t n)
{
    put_key(b, field, 2);
    put_varint(b, n);
    buf_put(b, p, n);
}

static void put_head(buf *b, int64_t step)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    double wall = (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
    put_key(b, 1, 1);
    buf_put(b, &wall, sizeof wall);
    put_key(b, 2, 0);
    put_varint(b, (uint64_t)step);
}

static int put_record(events *v, const buf *b, dr_err *e)
{
    uint64_t n = b->n;
    if (b->bad) return err_nomem(e, b->n, "TensorBoard event");
    uint32_t head = masked(&n, sizeof n), tail = masked(b->p, b->n);
    bool ok = fwrite(&n, sizeof n, 1, v->f) == 1 && fwrite(&head, sizeof head, 1, v->f) == 1 &&
              fwrite(b->p, 1, b->n, v->f) == b->n && fwrite(&tail, sizeof tail, 1, v->f) == 1 &&
              fflush(v->f) == 0;
    return ok ? DR_OK : err_set(e, DR_EIO, "cannot write %s: %s", v->path, strerror(errno));
}

int events_put(events *v, int64_t step, const event_value *value, int n, dr_err *e)
{
    buf all = { .cap_max = 1 << 20 }, sum = { .cap_max = 1 << 20 }, one = { .cap_max = 4096 };
    put_head(&all, step);
    for (int i = 0; i < n; i++) {
        float x = (float)value[i].value;
        buf_reset(&one);
        put_bytes(&one, 1, value[i].tag, strlen(value[i].tag));
        put_key(&one, 2, 5);
        buf_put(&one, &x, sizeof x);
        put_bytes(&sum, 1, one.p, one.n);
    }
    put_bytes(&all, 5, sum.p, sum.n);
    all.bad |= sum.bad || one.bad;
    int rc = put_record(v, &all, e);
    buf_free(&all);
    buf_free(&sum);
    buf_free(&one);
    return rc;
}

int events_open(events *v, const char *dir, int64_t step, dr_err *e)
{
    char host[128] = "host";
    buf path = { .cap_max = 1 << 16 }, b = { .cap_max = 4096 };
    if (gethostname(host, sizeof host - 1)) snprintf(host, sizeof host, "host");
    host[sizeof host - 1] = 0;
    buf_printf(&path, "%s/events.out.tfevents.%" PRId64 ".%s.%d", dir, (int64_t)time(NULL), host,
               (int)getpid());
    *v = (events){ .path = path.bad ? NULL : mem_strdup(path.p) };
    buf_free(&path);
    if (!v->path) return err_nomem(e, 256, "path");
    v->f = fopen(v->path, "wb");
    if (!v->f) {
        int rc = err_set(e, DR_EIO, "cannot create %s: %s", v->path, strerror(errno));
        events_close(v);
        return rc;
    }
    static const char version[] = "brain.Event:2";
    put_head(&b, 0);
    put_bytes(&b, 3, version, sizeof version - 1);
    int rc = put_record(v, &b, e);
    buf_reset(&b);
    put_head(&b, step);
    put_bytes(&b, 7, "\x08\x01", 2);             /* session_log { status: START } */
    if (rc == DR_OK) rc = put_record(v, &b, e);
    buf_free(&b);
    if (rc != DR_OK) events_close(v);
    return rc;
}

void events_close(events *v)
{
    if (v->f) fclose(v->f);
    mem_free(v->path);
    *v = (events){0};
}
