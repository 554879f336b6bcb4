/* ids_file.c - see ids_file.h. */
#include "cli/ids_file.h"
#include "base/os.h"

int ids_read(ids *v, const char *path, dr_err *e)
{
    buf b;
    buf_init(&b, (size_t)1 << 32);
    int rc = os_read(&b, path, e), line = 1;
    const char *s = buf_str(&b), *end = s + b.n;
    while (rc == DR_OK && s < end) {
        if (*s == '\n') line++;
        if (*s == ' ' || *s == '\n' || *s == '\t' || *s == '\r') {
            s++;
            continue;
        }
        int64_t x = 0;
        const char *start = s;
        while (s < end && *s >= '0' && *s <= '9' && x <= INT32_MAX) x = x * 10 + (*s++ - '0');
        bool whole = s == end || *s == ' ' || *s == '\n' || *s == '\t' || *s == '\r';
        if (s == start || !whole || x > INT32_MAX)
            rc = err_set(e, DR_EFORMAT, "%s line %d: \"%.*s\" is not a token id", path, line,
                         (int)(end - start > 20 ? 20 : end - start), start);
        else
            rc = ids_put(v, (int32_t)x, e);
    }
    buf_free(&b);
    return rc;
}
