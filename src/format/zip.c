/* zip.c - see zip.h. */
#include "format/zip.h"
#include <inttypes.h>
#include <string.h>
#include <zlib.h>
#include "base/mem.h"
#include "format/rd.h"

enum { END_BYTES = 22, END64_BYTES = 56, LOCATOR_BYTES = 20, DIR_BYTES = 46, LOCAL_BYTES = 30,
       PIECE = 1 << 16 };

static uint16_t u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t u32(const uint8_t *p) { return u16(p) | (uint32_t)u16(p + 2) << 16; }
static uint64_t u64(const uint8_t *p) { return u32(p) | (uint64_t)u32(p + 4) << 32; }

/* What the end records say of the directory. */
typedef struct { uint64_t here, all, n, at; bool parts; } end_record;

/* The zip64 end record, when a locator stands before the old one at `at`. Both may be there with
 * the same numbers, as PyTorch writes them. */
static int read_end64(const zip *z, size_t at, end_record *r, dr_err *e)
{
    if (at < LOCATOR_BYTES || memcmp(z->p + at - LOCATOR_BYTES, "PK\6\7", 4)) {
        if (r->here == 0xffff || r->at == 0xffffffff || r->n == 0xffffffff)
            return err_set(e, DR_EFORMAT, "the zip archive's zip64 end record is missing");
        return DR_OK;
    }
    const uint8_t *l = z->p + at - LOCATOR_BYTES;
    uint64_t from = u64(l + 8);
    if (u32(l + 4) || u32(l + 16) > 1)
        return err_set(e, DR_EUNSUPPORTED, "zip archives in several parts are not read");
    if (at < LOCATOR_BYTES + END64_BYTES || from > at - LOCATOR_BYTES - END64_BYTES ||
        memcmp(z->p + from, "PK\6\6", 4))
        return err_set(e, DR_EFORMAT, "the zip archive's zip64 end record is not where it says");
    const uint8_t *p = z->p + from;
    *r = (end_record){ u64(p + 24), u64(p + 32), u64(p + 40), u64(p + 48),
                       u32(p + 16) || u32(p + 20) };
    return DR_OK;
}

int zip_open(zip *z, const void *bytes, size_t n, dr_err *e)
{
    const uint8_t *p = bytes;
    *z = (zip){ .p = p, .n = n };
    if (n < END_BYTES) return err_set(e, DR_EFORMAT, "not a zip archive: only %zu bytes", n);
    /* the end record is last but for a comment of at most 65,535 bytes */
    size_t at = n - END_BYTES, low = at > 65535 ? at - 65535 : 0;
    while (memcmp(p + at, "PK\5\6", 4) && at > low) at--;
    if (memcmp(p + at, "PK\5\6", 4))
        return err_set(e, DR_EFORMAT, "not a zip archive, or cut short: no end record");
    const uint8_t *o = p + at;
    end_record r = { u16(o + 8), u16(o + 10), u32(o + 12), u32(o + 16), u16(o + 4) || u16(o + 6) };
    int rc = read_end64(z, at, &r, e);
    if (rc != DR_OK) return rc;
    if (r.parts || r.here != r.all)
        return err_set(e, DR_EUNSUPPORTED, "zip archives in several parts are not read");
    if (r.at > at || r.n > at - r.at)
        return err_set(e, DR_EFORMAT, "the zip directory (%" PRIu64 " bytes at %" PRIu64 ") lies "
                       "outside the file", r.n, r.at);
    if (r.all > r.n / DIR_BYTES)
        return err_set(e, DR_EFORMAT, "the zip directory of %" PRIu64 " bytes cannot hold %" PRIu64
                       " members", r.n, r.all);
    z->dir_at = (size_t)r.at, z->dir_n = (size_t)r.n, z->n_entries = r.all;
    return DR_OK;
}

/* Sizes and place of more than 32 bits stand in an extra field, those only, in this order. */
static bool read_extra64(zip_entry *x, const uint8_t *p, size_t n)
{
    uint64_t *want[3];
    int k = 0;
    if (x->size == 0xffffffff) want[k++] = &x->size;
    if (x->packed == 0xffffffff) want[k++] = &x->packed;
    if (x->header_at == 0xffffffff) want[k++] = &x->header_at;
    while (k && n >= 4) {
        size_t len = u16(p + 2);
        if (len > n - 4) return false;
        if (u16(p) == 1) {
            if (len < 8 * (size_t)k) return false;
            for (int i = 0; i < k; i++) *want[i] = u64(p + 4 + 8 * i);
            return true;
        }
        p += 4 + len, n -= 4 + len;
    }
    return !k;
}

bool zip_next(const zip *z, size_t *at, zip_entry *x)
{
    if (*at >= z->dir_n || z->dir_n - *at < DIR_BYTES) return false;
    const uint8_t *r = z->p + z->dir_at + *at;
    size_t name = u16(r + 28), total = DIR_BYTES + name + u16(r + 30) + u16(r + 32);
    if (memcmp(r, "PK\1\2", 4) || total > z->dir_n - *at) return false;
    *x = (zip_entry){
        .name = { (const char *)r + DIR_BYTES, name }, .method = u16(r + 10), .crc = u32(r + 16),
        .packed = u32(r + 20), .size = u32(r + 24), .header_at = u32(r + 42),
    };
    if (u16(r + 8) & 1) x->method = -1;                /* encrypted */
    if (!read_extra64(x, r + DIR_BYTES + name, u16(r + 30))) return false;
    *at += total;
    return true;
}

bool zip_find(const zip *z, const char *name, zip_entry *x)
{
    for (size_t at = 0; zip_next(z, &at, x);)
        if (span_is(x->name, name)) return true;
    return false;
}

/* Where the member's packed bytes are: its own header says how long its name is. */
static int locate(const zip *z, const zip_entry *x, const uint8_t **from, dr_err *e)
{
    rd r = { z->p + (x->header_at < z->n ? (size_t)x->header_at : z->n), z->p + z->n, false };
    const uint8_t *h = rd_bytes(&r, LOCAL_BYTES);
    if (!h || memcmp(h, "PK\3\4", 4))
        return err_set(e, DR_EFORMAT, "zip member " SPAN_FMT " has no header at %" PRIu64,
                       SPAN_ARG(x->name), x->header_at);
    rd_bytes(&r, (uint64_t)u16(h + 26) + u16(h + 28));
    *from = rd_bytes(&r, x->packed);
    if (!*from)
        return err_set(e, DR_EFORMAT, "zip member " SPAN_FMT " runs past the end of the archive",
                       SPAN_ARG(x->name));
    return DR_OK;
}

static int two_sizes(const zip_entry *x, dr_err *e)
{
    return err_set(e, DR_EFORMAT, "stored zip member " SPAN_FMT " has two sizes",
                   SPAN_ARG(x->name));
}

int zip_stored(const zip *z, const zip_entry *x, const uint8_t **bytes, dr_err *e)
{
    if (x->method != 0)
        return err_set(e, DR_EUNSUPPORTED, "zip member " SPAN_FMT " is %s, stored is wanted",
                       SPAN_ARG(x->name), x->method < 0 ? "encrypted" : "compressed");
    if (x->packed != x->size) return two_sizes(x, e);
    return locate(z, x, bytes, e);
}

static int stored(const zip_entry *x, const uint8_t *from, uint32_t *crc,
                  int (*sink)(void *, const void *, size_t), void *arg, dr_err *e)
{
    if (x->packed != x->size) return two_sizes(x, e);
    int rc = DR_OK;
    for (uint64_t at = 0; rc == DR_OK && at < x->size; at += PIECE) {
        size_t n = x->size - at < PIECE ? (size_t)(x->size - at) : PIECE;
        *crc = (uint32_t)crc32(*crc, from + at, (uInt)n);
        rc = sink(arg, from + at, n);
    }
    return rc;
}

static void *z_alloc(void *o, uInt n, uInt size) { (void)o; return mem_zalloc(n, size); }
static void z_free(void *o, void *p) { (void)o; mem_free(p); }

static int inflated(const zip_entry *x, const uint8_t *from, uint8_t *out, uint32_t *crc,
                    int (*sink)(void *, const void *, size_t), void *arg, dr_err *e)
{
    z_stream s = { .zalloc = z_alloc, .zfree = z_free };
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK) return err_nomem(e, 1 << 16, "inflate");
    uint64_t in = 0, made = 0;
    int rc = DR_OK, zs = Z_OK;
    while (rc == DR_OK && zs != Z_STREAM_END) {
        if (!s.avail_in && in < x->packed) {
            uint64_t n = x->packed - in < (1u << 30) ? x->packed - in : 1u << 30;
            s.next_in = (Bytef *)(uintptr_t)(from + in), s.avail_in = (uInt)n;
            in += n;
        }
        s.next_out = out, s.avail_out = PIECE;
        zs = inflate(&s, Z_NO_FLUSH);
        size_t n = PIECE - s.avail_out;
        if (zs == Z_MEM_ERROR) rc = err_nomem(e, 1 << 16, "inflate");
        else if ((zs != Z_OK && zs != Z_STREAM_END) || n > x->size - made)
            rc = err_set(e, DR_EFORMAT, "zip member " SPAN_FMT " is damaged%s", SPAN_ARG(x->name),
                         n > x->size - made ? ": more bytes than it says" : "");
        if (rc != DR_OK) break;
        made += n;
        *crc = (uint32_t)crc32(*crc, out, (uInt)n);
        rc = sink(arg, out, n);
    }
    inflateEnd(&s);
    if (rc == DR_OK && made != x->size)
        rc = err_set(e, DR_EFORMAT, "zip member " SPAN_FMT " is cut short", SPAN_ARG(x->name));
    return rc;
}

int zip_read(const zip *z, const zip_entry *x, int (*sink)(void *arg, const void *p, size_t n),
             void *arg, dr_err *e)
{
    const uint8_t *from;
    uint32_t crc = 0;
    int rc = locate(z, x, &from, e);
    if (rc != DR_OK) return rc;
    if (x->method == 0) {
        rc = stored(x, from, &crc, sink, arg, e);
    } else if (x->method == 8) {
        uint8_t *out = mem_alloc(PIECE);
        if (!out) return err_nomem(e, PIECE, "inflate");
        rc = inflated(x, from, out, &crc, sink, arg, e);
        mem_free(out);
    } else {
        return err_set(e, DR_EUNSUPPORTED, "zip member " SPAN_FMT " is %s", SPAN_ARG(x->name),
                       x->method < 0 ? "encrypted" : "packed by a method other than deflate");
    }
    if (rc == DR_OK && crc != x->crc)
        rc = err_set(e, DR_EFORMAT, "zip member " SPAN_FMT " is damaged: wrong CRC",
                     SPAN_ARG(x->name));
    return rc;
}
