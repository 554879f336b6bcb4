/* gguf.c - see gguf.h. spec: ggml docs/gguf.md; v2 and v3 have the same layout here.
 *
 * Order of a file: header, n_kv entries, n_tensors infos, padding to the alignment, data.
 * Two rules of ours keep memory below the file's size whatever its bytes are: a table has at
 * most 8192 entries plus one for each 256 bytes of the file, and the entries own nothing. */
#include "format/gguf.h"
#include <inttypes.h>
#include "base/mem.h"
#include "format/gguf_type.h"
#include "format/rd.h"

enum {
    KEY_MAX = 65535, NAME_MAX_BYTES = 1024,
    FREE_ENTRIES = 8192, BYTES_PER_ENTRY = 256,
    ALIGN_DEFAULT = 32, ALIGN_MAX = 1 << 20
};

/* Bytes of a scalar of each gguf_type; 0: not a scalar. */
static const uint8_t scalar_bytes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

static int cut_short(dr_err *e, size_t n, const char *where)
{
    return err_set(e, DR_EFORMAT, "the file ends inside its %s, after %zu bytes: was it "
                   "downloaded only in part?", where, n);
}

int gguf_check_lfs(const void *bytes, size_t n, dr_err *e)
{
    static const char head[] = "version https://git-lfs";
    if (n < sizeof head - 1 || memcmp(bytes, head, sizeof head - 1)) return DR_OK;
    const char *p = bytes;
    unsigned long long size = 0;
    for (size_t i = 0; i + 6 < n && i < 1024; i++) {
        if (memcmp(p + i, "\nsize ", 6)) continue;
        for (i += 6; i < n && p[i] >= '0' && p[i] <= '9' && size < UINT64_MAX / 10 - 10; i++)
            size = size * 10 + (unsigned long long)(p[i] - '0');
        break;
    }
    return err_set(e, DR_EFORMAT, "this is a Git LFS pointer and not the weights (%llu bytes): "
                   "run 'git lfs pull' in its folder, or download the file itself", size);
}

static int parse_value(gguf_kv *k, rd *r, dr_err *e)
{
    uint32_t t = rd_u32(r);
    if (rd_bad(r)) return DR_EFORMAT;
    if (t > GGUF_F64)
        return err_set(e, DR_EFORMAT, "key " SPAN_FMT " has value type %u, which GGUF does not "
                       "define", SPAN_ARG(k->key), t);
    k->type = t;
    if (t == GGUF_STRING) {
        k->str = rd_str(r);
        return DR_OK;
    }
    if (t != GGUF_ARRAY) {
        k->bytes = scalar_bytes[t];
        k->at = rd_bytes(r, k->bytes);
        if (t == GGUF_BOOL && k->at && *k->at > 1)
            return err_set(e, DR_EFORMAT, "key " SPAN_FMT " is a bool of value %d",
                           SPAN_ARG(k->key), *k->at);
        return DR_OK;
    }
    uint32_t el = rd_u32(r);
    k->n = rd_u64(r);
    if (rd_bad(r)) return DR_EFORMAT;
    if (el == GGUF_ARRAY)
        return err_set(e, DR_EUNSUPPORTED, "key " SPAN_FMT " is an array of arrays, which is "
                       "not read", SPAN_ARG(k->key));
    if (el > GGUF_F64)
        return err_set(e, DR_EFORMAT, "key " SPAN_FMT " is an array of type %u, which GGUF does "
                       "not define", SPAN_ARG(k->key), el);
    k->elem = el;
    k->at = r->p;
    if (el == GGUF_STRING) {
        for (uint64_t i = 0; i < k->n && !rd_bad(r); i++) rd_str(r);
    } else if (__builtin_mul_overflow(k->n, (uint64_t)scalar_bytes[el], &k->bytes)) {
        r->bad = true;
    } else {
        rd_bytes(r, k->bytes);
    }
    k->bytes = (size_t)(r->p - k->at);
    return DR_OK;
}

static int parse_kvs(gguf *g, rd *r, uint64_t n_kv, size_t n, dr_err *e)
{
    for (uint64_t i = 0; i < n_kv; i++) {
        gguf_kv *k = &g->kv[i];
        k->key = rd_str(r);
        if (rd_bad(r)) return cut_short(e, n, "metadata");
        if (k->key.n < 1 || k->key.n > KEY_MAX || memchr(k->key.p, 0, k->key.n))
            return err_set(e, DR_EFORMAT, "metadata entry %" PRIu64 " has a broken key of %zu "
                           "bytes", i, k->key.n);
        int rc = parse_value(k, r, e);
        if (rd_bad(r)) return cut_short(e, n, "metadata");
        if (rc != DR_OK) return rc;
        uint32_t *slot = names_at(&g->kv_names, &g->kv->key, sizeof *g->kv, k->key);
        if (*slot)
            return err_set(e, DR_EFORMAT, "key " SPAN_FMT " appears twice", SPAN_ARG(k->key));
        *slot = (uint32_t)i + 1;
        g->n_kv = i + 1;
    }
    return DR_OK;
}

/* Type, dimensions and size of one tensor. Its place is checked once all are known. */
static int parse_tensor(gguf_tensor *t, rd *r, dr_err *e)
{
    t->name = rd_str(r);
    uint32_t nd = rd_u32(r);
    if (rd_bad(r)) return DR_EFORMAT;
    if (t->name.n < 1 || t->name.n > NAME_MAX_BYTES || memchr(t->name.p, 0, t->name.n))
        return err_set(e, DR_EFORMAT, "a tensor has a broken name of %zu bytes", t->name.n);
    if (nd < 1 || nd > GGUF_MAX_DIMS)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " has %u dimensions, 1 to %d are "
                       "possible", SPAN_ARG(t->name), nd, GGUF_MAX_DIMS);
    t->n_dims = (int)nd;
    int64_t elems = 1;
    for (uint32_t i = 0; i < nd; i++) {
        uint64_t d = rd_u64(r);
        if (rd_bad(r)) return DR_EFORMAT;
        if (d == 0 || d > INT64_MAX || __builtin_mul_overflow(elems, (int64_t)d, &elems))
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": dimension %u is %" PRIu64,
                           SPAN_ARG(t->name), i, d);
        t->dim[i] = (int64_t)d;
    }
    t->type = rd_u32(r);
    t->offset = rd_u64(r);
    if (rd_bad(r)) return DR_EFORMAT;
    const gguf_type_info *ti = gguf_type_find(t->type);
    if (!ti) return DR_OK;
    if (t->dim[0] % ti->elems)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " has rows of %" PRId64 " weights, but "
                       "%s comes in blocks of %d", SPAN_ARG(t->name), t->dim[0], ti->name,
                       ti->elems);
    if (__builtin_mul_overflow((size_t)(elems / ti->elems), (size_t)ti->bytes, &t->bytes))
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " is larger than any file",
                       SPAN_ARG(t->name));
    return DR_OK;
}

static int parse_tensors(gguf *g, rd *r, uint64_t n_tensors, size_t n, dr_err *e)
{
    for (uint64_t i = 0; i < n_tensors; i++) {
        gguf_tensor *t = &g->tensor[i];
        int rc = parse_tensor(t, r, e);
        if (rd_bad(r)) return cut_short(e, n, "list of tensors");
        if (rc != DR_OK) return rc;
        uint32_t *slot = names_at(&g->tensor_names, &g->tensor->name, sizeof *g->tensor, t->name);
        if (*slot)
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " appears twice", SPAN_ARG(t->name));
        *slot = (uint32_t)i + 1;
        g->n_tensors = i + 1;
    }
    return DR_OK;
}

/* Tensors lie in the order of the list, aligned, none over another (ggml demands the same). */
static int place_tensors(gguf *g, const uint8_t *bytes, size_t n, dr_err *e)
{
    uint64_t end = 0, have = n > g->data_at ? n - g->data_at : 0;
    const gguf_tensor *last = NULL;
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        gguf_tensor *t = &g->tensor[i];
        uint64_t stop;
        if (t->offset % g->alignment)
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " starts at %" PRIu64 ", which is "
                           "not a multiple of the file's alignment, %" PRIu64,
                           SPAN_ARG(t->name), t->offset, g->alignment);
        if (t->offset < end)
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " starts at %" PRIu64 ", inside "
                           SPAN_FMT ", which ends at %" PRIu64, SPAN_ARG(t->name), t->offset,
                           SPAN_ARG(last->name), end);
        if (__builtin_add_overflow(t->offset, (uint64_t)t->bytes, &stop))
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " ends beyond any file",
                           SPAN_ARG(t->name));
        end = stop, last = t;
    }
    if (end > have)
        return err_set(e, DR_EFORMAT, "the file is cut short: its tensors need %" PRIu64 " bytes "
                       "more than the %zu it has; was it downloaded only in part?",
                       end - have + (n > g->data_at ? 0 : g->data_at - n), n);
    for (uint64_t i = 0; i < g->n_tensors; i++)
        if (g->tensor[i].bytes) g->tensor[i].data = bytes + g->data_at + g->tensor[i].offset;
    return DR_OK;
}

static int make_tables(gguf *g, uint64_t n_kv, uint64_t n_tensors, dr_err *e)
{
    uint32_t ks = names_slots(n_kv), ts = names_slots(n_tensors);
    size_t a = (size_t)n_kv * sizeof *g->kv, b = (size_t)n_tensors * sizeof *g->tensor;
    size_t all = a + b + ((size_t)ks + ts) * sizeof(uint32_t);
    char *p = mem_zalloc(all, 1);
    if (!p) return err_nomem(e, all, "metadata tables");
    g->mem = p;
    g->kv = (gguf_kv *)p;
    g->tensor = (gguf_tensor *)(p + a);
    g->kv_names = names_make((uint32_t *)(p + a + b), n_kv);
    g->tensor_names = names_make((uint32_t *)(p + a + b) + ks, n_tensors);
    return DR_OK;
}

static int parse_header(rd *r, gguf *g, size_t n, uint64_t *n_tensors, uint64_t *n_kv, dr_err *e)
{
    const void *magic = rd_bytes(r, 4);
    if (!magic || memcmp(magic, "GGUF", 4))
        return err_set(e, DR_EFORMAT, "not a GGUF file");
    g->version = rd_u32(r);
    if (rd_bad(r)) return cut_short(e, n, "header");
    if (g->version && !(g->version & 0xffff))
        return err_set(e, DR_EUNSUPPORTED, "this GGUF file is big-endian, only little-endian "
                       "files are read");
    if (g->version != 2 && g->version != 3)
        return err_set(e, DR_EUNSUPPORTED, "GGUF version %u, versions 2 and 3 are read",
                       g->version);
    *n_tensors = rd_u64(r), *n_kv = rd_u64(r);
    if (rd_bad(r)) return cut_short(e, n, "header");
    uint64_t most = FREE_ENTRIES + n / BYTES_PER_ENTRY;
    if (*n_tensors > most || *n_kv > most || most > UINT32_MAX / 4)
        return err_set(e, DR_EFORMAT, "the header promises %" PRIu64 " tensors and %" PRIu64
                       " metadata entries, more than a file of %zu bytes holds", *n_tensors,
                       *n_kv, n);
    return DR_OK;
}

static int parse(gguf *g, const uint8_t *bytes, size_t n, dr_err *e)
{
    rd r = { bytes, bytes + n, false };
    uint64_t n_tensors = 0, n_kv = 0;
    int rc;
    if ((rc = gguf_check_lfs(bytes, n, e)) != DR_OK) return rc;
    if ((rc = parse_header(&r, g, n, &n_tensors, &n_kv, e)) != DR_OK) return rc;
    if ((rc = make_tables(g, n_kv, n_tensors, e)) != DR_OK) return rc;
    if ((rc = parse_kvs(g, &r, n_kv, n, e)) != DR_OK) return rc;

    g->alignment = ALIGN_DEFAULT;
    if (gguf_find(g, "general.alignment")) {
        if (!gguf_get_u64(g, "general.alignment", &g->alignment)) g->alignment = 0;
        if (g->alignment < 8 || g->alignment > ALIGN_MAX || (g->alignment & (g->alignment - 1)))
            return err_set(e, DR_EFORMAT, "general.alignment is not a power of two between 8 "
                           "and %d", ALIGN_MAX);
    }
    if ((rc = parse_tensors(g, &r, n_tensors, n, e)) != DR_OK) return rc;
    size_t at = (size_t)(r.p - bytes);
    g->data_at = at + (size_t)(-at & (g->alignment - 1));
    return place_tensors(g, bytes, n, e);
}

int gguf_parse(gguf *g, const void *bytes, size_t n, dr_err *e)
{
    *g = (gguf){0};
    int rc = parse(g, bytes, n, e);
    if (rc != DR_OK) gguf_free(g);
    return rc;
}

void gguf_free(gguf *g)
{
    mem_free(g->mem);
    *g = (gguf){0};
}

const gguf_kv *gguf_find(const gguf *g, const char *key)
{
    if (!g->n_kv) return NULL;
    uint32_t i = *names_at(&g->kv_names, &g->kv->key, sizeof *g->kv, span_of(key));
    return i ? &g->kv[i - 1] : NULL;
}

const gguf_tensor *gguf_tensor_find(const gguf *g, const char *name)
{
    if (!g->n_tensors) return NULL;
    uint32_t i = *names_at(&g->tensor_names, &g->tensor->name, sizeof *g->tensor, span_of(name));
    return i ? &g->tensor[i - 1] : NULL;
}

static bool int_value(gguf_type type, const uint8_t *at, int64_t *v, bool *above)
{
    uint64_t u = 0;
    *above = false;
    switch (type) {
    case GGUF_U8: *v = *at; return true;
    case GGUF_I8: *v = (int8_t)*at; return true;
    case GGUF_U16: memcpy(&u, at, 2); *v = (int64_t)u; return true;
    case GGUF_I16: memcpy(&u, at, 2); *v = (int16_t)u; return true;
    case GGUF_U32: memcpy(&u, at, 4); *v = (int64_t)u; return true;
    case GGUF_I32: memcpy(&u, at, 4); *v = (int32_t)u; return true;
    case GGUF_U64: memcpy(&u, at, 8); *v = (int64_t)u; *above = u > INT64_MAX; return true;
    case GGUF_I64: memcpy(&u, at, 8); *v = (int64_t)u; return true;
    default: return false;
    }
}

bool gguf_get_u64(const gguf *g, const char *key, uint64_t *v)
{
    const gguf_kv *k = gguf_find(g, key);
    int64_t i;
    bool above;
    if (!k || !int_value(k->type, k->at, &i, &above) || (i < 0 && !above)) return false;
    *v = (uint64_t)i;
    return true;
}

bool gguf_get_f64(const gguf *g, const char *key, double *v)
{
    const gguf_kv *k = gguf_find(g, key);
    if (!k) return false;
    if (k->type == GGUF_F32) {
        float f;
        memcpy(&f, k->at, sizeof f);
        *v = f;
        return true;
    }
    if (k->type == GGUF_F64) {
        memcpy(v, k->at, sizeof *v);
        return true;
    }
    int64_t i;
    bool above;
    if (!int_value(k->type, k->at, &i, &above)) return false;
    *v = above ? (double)(uint64_t)i : (double)i;
    return true;
}

bool gguf_get_bool(const gguf *g, const char *key, bool *v)
{
    const gguf_kv *k = gguf_find(g, key);
    if (!k || k->type != GGUF_BOOL) return false;
    *v = *k->at;
    return true;
}

bool gguf_get_str(const gguf *g, const char *key, span *v)
{
    const gguf_kv *k = gguf_find(g, key);
    if (!k || k->type != GGUF_STRING) return false;
    *v = k->str;
    return true;
}

span gguf_array_str(const uint8_t **at)
{
    uint64_t n;
    memcpy(&n, *at, sizeof n);
    span s = { (const char *)*at + sizeof n, (size_t)n };
    *at += sizeof n + n;
    return s;
}
