/* safetensors.c - see safetensors.h. */
#include "format/safetensors.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include "base/block.h"
#include "base/mem.h"
#include "format/gguf.h"
#include "format/json.h"
#include "format/rd.h"

enum { HEADER_MAX = 100000000 };     /* the format's own limit */

/* Types of the format (safetensors/src/tensor.rs, Dtype). bits: of one element. */
static const struct { const char *name; int type, bits; } types[] = {
    { "F32", DT_F32, 32 },          { "F16", DT_F16, 16 },
    { "BF16", DT_BF16, 16 },        { "F64", ST_TYPE0, 64 },
    { "I64", ST_TYPE0 + 1, 64 },    { "I32", ST_TYPE0 + 2, 32 },
    { "I16", ST_TYPE0 + 3, 16 },    { "I8", ST_TYPE0 + 4, 8 },
    { "U64", ST_TYPE0 + 5, 64 },    { "U32", ST_TYPE0 + 6, 32 },
    { "U16", ST_TYPE0 + 7, 16 },    { "U8", ST_TYPE0 + 8, 8 },
    { "BOOL", ST_TYPE0 + 9, 8 },    { "F8_E4M3", DT_F8_E4M3, 8 },
    { "F8_E5M2", ST_TYPE0 + 11, 8 },{ "F8_E8M0", ST_TYPE0 + 12, 8 },
    { "F6_E2M3", ST_TYPE0 + 13, 6 },{ "F6_E3M2", ST_TYPE0 + 14, 6 },
    { "F4", ST_TYPE0 + 15, 4 },     { "C64", ST_TYPE0 + 16, 64 },
};

const char *st_type_name(int type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].type == type) return types[i].name;
    return NULL;
}

bool st_type_find(const char *name, int *type, int *bits)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name)) {
            *type = types[i].type, *bits = types[i].bits;
            return true;
        }
    return false;
}

bool st_looks_like(const void *bytes, size_t n)
{
    rd r = { bytes, (const uint8_t *)bytes + n, false };
    uint64_t len = rd_u64(&r);
    const uint8_t *c = rd_bytes(&r, 1);
    return c && *c == '{' && len >= 2 && len <= HEADER_MAX;
}

/* One dimension or offset: a JSON integer that is not negative. */
static bool whole(const json_t *j, int64_t *v)
{
    if (!json_is_integer(j)) return false;
    *v = json_integer_value(j);
    return *v >= 0;
}

static int parse_entry(st_tensor *t, const json_t *j, const uint8_t *data, uint64_t n, dr_err *e)
{
    const char *type = json_string_value(json_object_get(j, "dtype"));
    const json_t *shape = json_object_get(j, "shape"), *at = json_object_get(j, "data_offsets");
    int64_t begin, end;
    if (!type || !json_is_array(shape) || json_array_size(at) != 2 ||
        !whole(json_array_get(at, 0), &begin) || !whole(json_array_get(at, 1), &end))
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": dtype, shape and data_offsets are "
                       "wanted", SPAN_ARG(t->name));
    int one;
    if (!st_type_find(type, &t->type, &one))
        return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT " has dtype %.32s, which is not "
                       "known", SPAN_ARG(t->name), type);
    if (json_array_size(shape) > ST_MAX_DIMS)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " has %zu dimensions, up to %d are "
                       "possible", SPAN_ARG(t->name), json_array_size(shape), ST_MAX_DIMS);
    t->n_dims = (int)json_array_size(shape);
    int64_t bits = one;
    for (int i = 0; i < t->n_dims; i++)
        if (!whole(json_array_get(shape, (size_t)i), &t->dim[i]) ||
            __builtin_mul_overflow(bits, t->dim[i], &bits))
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": dimension %d is broken",
                           SPAN_ARG(t->name), i);
    if (end < begin || bits % 8 || (uint64_t)(end - begin) != (uint64_t)bits / 8)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": bytes %" PRId64 " to %" PRId64
                       " do not match its shape in %s, which takes %" PRId64, SPAN_ARG(t->name),
                       begin, end, type, bits / 8);
    if ((uint64_t)end > n)
        return err_set(e, DR_EFORMAT, "the file is cut short: tensor " SPAN_FMT " ends %" PRIu64
                       " bytes behind it; was it downloaded only in part?", SPAN_ARG(t->name),
                       (uint64_t)end - n);
    t->data = data + begin;
    t->bytes = (size_t)(end - begin);
    return DR_OK;
}

static int by_place(const void *x, const void *y)
{
    const st_tensor *a = x, *b = y;
    if (a->data != b->data) return a->data < b->data ? -1 : 1;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1;
    size_t n = a->name.n < b->name.n ? a->name.n : b->name.n;
    int c = memcmp(a->name.p, b->name.p, n);
    return c ? c : (a->name.n > b->name.n) - (a->name.n < b->name.n);
}

/* In order of their data, tensors follow each other exactly and fill the file. */
static int check_places(const safetensors *s, const uint8_t *data, uint64_t n, dr_err *e)
{
    const uint8_t *at = data;
    for (int64_t i = 0; i < s->n; i++) {
        const st_tensor *t = &s->t[i];
        if (t->data != at)
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " starts at %td, but the one before "
                           "it ends at %td", SPAN_ARG(t->name), t->data - data, at - data);
        at += t->bytes;
    }
    if ((uint64_t)(at - data) != n)
        return err_set(e, DR_EFORMAT, "%" PRIu64 " bytes behind the last tensor belong to none",
                       n - (uint64_t)(at - data));
    return DR_OK;
}

static int fill(safetensors *s, json_t *header, const uint8_t *data, uint64_t n, dr_err *e)
{
    size_t count = 0, chars = 0;
    const char *key;
    json_t *v;
    json_object_foreach(header, key, v) {
        if (!strcmp(key, "__metadata__")) continue;
        count++;
        chars += strlen(key) + 1;
    }
    size_t all = count * sizeof *s->t + chars;
    s->mem = mem_zalloc(all, 1);
    if (!s->mem) return err_nomem(e, all, "table of tensors");
    s->t = s->mem;
    char *text = (char *)(s->t + count);
    json_object_foreach(header, key, v) {
        if (!strcmp(key, "__metadata__")) continue;
        size_t len = strlen(key);
        memcpy(text, key, len + 1);
        st_tensor *t = &s->t[s->n++];
        t->name = (span){ text, len };
        text += len + 1;
        if (!len) return err_set(e, DR_EFORMAT, "a tensor has no name");
        int rc = parse_entry(t, v, data, n, e);
        if (rc != DR_OK) return rc;
    }
    if (count) qsort(s->t, count, sizeof *s->t, by_place);
    return check_places(s, data, n, e);
}

int st_parse(safetensors *s, const void *bytes, size_t n, dr_err *e)
{
    *s = (safetensors){0};
    int rc = gguf_check_lfs(bytes, n, e);
    if (rc != DR_OK) return rc;
    rd r = { bytes, (const uint8_t *)bytes + n, false };
    uint64_t len = rd_u64(&r);
    if (rd_bad(&r) || len < 2 || len > HEADER_MAX)
        return err_set(e, DR_EFORMAT, "not a safetensors file");
    const char *text = rd_bytes(&r, len);
    if (!text)
        return err_set(e, DR_EFORMAT, "the file ends inside its header of %" PRIu64 " bytes: %"
                       PRIu64 " bytes and all tensors are missing; was it downloaded only in "
                       "part?", len, len + 8 - n);
    if (*text != '{') return err_set(e, DR_EFORMAT, "not a safetensors file");
    /* The table costs 96 bytes a tensor, less than what json_cost counts for one. */
    json_t *header = json_read(text, len, ((size_t)2 << 20) + n + n / 4, "header", e);
    if (!header) return e && e->code ? e->code : DR_EFORMAT;
    rc = fill(s, header, r.p, (uint64_t)(r.end - r.p), e);
    json_decref(header);
    if (rc != DR_OK) st_free(s);
    return rc;
}

void st_free(safetensors *s)
{
    mem_free(s->mem);
    *s = (safetensors){0};
}
