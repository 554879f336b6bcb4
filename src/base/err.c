/* err.c - see err.h. */
#include "base/err.h"
#include <stdarg.h>

int err_set(dr_err *e, int code, const char *fmt, ...)
{
    if (!e || e->code) return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    /* Names out of files end up in messages and messages on terminals. */
    for (char *s = e->msg; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f) *s = '?';
    e->code = code;
    return code;
}

int err_wrap(dr_err *e, int code, const char *fmt, ...)
{
    if (!e) return code;
    dr_err inner = *e;
    char doing[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(doing, sizeof doing, fmt, ap);
    va_end(ap);
    snprintf(e->msg, sizeof e->msg, "%s: %.*s", doing,
             (int)(sizeof e->msg - sizeof doing), inner.msg);
    e->code = code;
    return code;
}

int err_nomem(dr_err *e, size_t n, const char *what)
{
    return err_set(e, DR_ENOMEM, "no memory for %zu bytes of %s", n, what);
}
