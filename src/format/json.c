/* json.c - see json.h. The constants are those of jansson 2.14 on a 64-bit system with malloc's
 * rounding, measured by tests/unit/test_safetensors.c against the real thing. */
#include "format/json.h"
#include <string.h>
#include "base/os.h"
#include "format/gguf.h"

enum {
    COST_OBJECT = 256,               /* the object and its first 8 buckets */
    COST_ARRAY = 160,                /* the array and its first 8 slots */
    COST_PAIR = 144,                 /* an entry, its share of buckets, also while they grow */
    COST_VALUE = 72,                 /* a number or literal, its slot, also while slots grow */
    COST_STRING = 80                 /* besides its characters, kept twice while it is read */
};

size_t json_cost(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    size_t cost = 4096, longest = 0;
    for (size_t i = 0; i < n; i++) {
        switch (p[i]) {
        case '{': cost += COST_OBJECT + COST_VALUE; break;
        case '[': cost += COST_ARRAY + COST_VALUE; break;
        case ':': cost += COST_PAIR; break;
        case ',': cost += COST_VALUE; break;
        case '"': {
            size_t at = ++i;
            while (i < n && p[i] != '"') i += p[i] == '\\' ? 2 : 1;
            size_t len = (i < n ? i : n) - at;
            cost += COST_STRING + len;
            if (len > longest) longest = len;
            break;
        }
        default: {                   // a number or literal: only its length matters
            size_t at = i;
            while (i + 1 < n && !strchr("{}[]:,\" \t\r\n", p[i + 1])) i++;
            if (i - at > longest) longest = i - at;
        }
        }
    }
    return cost + 4 * longest;
}

static json_t *read_as(const void *bytes, size_t n, size_t budget, size_t flags, const char *what,
                       dr_err *e)
{
    size_t cost = json_cost(bytes, n);
    if (cost > budget) {
        err_set(e, DR_EFORMAT, "%s: %zu bytes of JSON would take %zu bytes of memory, %zu are "
                "allowed", what, n, cost, budget);
        return NULL;
    }
    json_error_t je;
    json_t *j = json_loadb(bytes, n, JSON_REJECT_DUPLICATES | flags, &je);
    if (j) return j;
    /* jansson says nothing at all when memory ends in some of its places */
    if (json_error_code(&je) == json_error_out_of_memory || !je.text[0])
        err_nomem(e, cost, what);
    else err_set(e, DR_EFORMAT, "%s: line %d: %s", what, je.line, je.text);
    return NULL;
}

json_t *json_read(const void *bytes, size_t n, size_t budget, const char *what, dr_err *e)
{
    return read_as(bytes, n, budget, 0, what, e);
}

json_t *json_read_wide(const void *bytes, size_t n, size_t budget, const char *what, dr_err *e)
{
    return read_as(bytes, n, budget, JSON_DECODE_INT_AS_REAL, what, e);
}

json_t *json_read_file(const char *path, size_t max_bytes, dr_err *e)
{
    os_file f;
    if (os_map(&f, path, e) != DR_OK) return NULL;
    json_t *j = NULL;
    if (gguf_check_lfs(f.p, f.n, e) != DR_OK)
        err_wrap(e, DR_EFORMAT, "%s", path);
    else if (f.n > max_bytes)
        err_set(e, DR_EFORMAT, "%s has %zu bytes, at most %zu are read", path, f.n, max_bytes);
    else
        j = json_read(f.p, f.n, ((size_t)4 << 20) + 2 * f.n, path, e);
    os_unmap(&f);
    return j;
}
