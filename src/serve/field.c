/* field.c - see field.h. */
#include "serve/field.h"
#include <stdint.h>
#include <string.h>
#include "base/near.h"
#include "text/utf8.h"

enum { NAMES = 128 };

static bool says_nothing(const json_t *v)
{
    return json_is_null(v) || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0) ||
           (json_is_string(v) && !json_string_length(v)) || (json_is_array(v) && !json_array_size(v)) ||
           (json_is_object(v) && !json_object_size(v));
}

/* Whether word is among those of list, which have a | between. */
static bool one_of(const char *list, const char *word)
{
    size_t n = word ? strlen(word) : 0;
    for (const char *p = list; word && p; p = strchr(p, '|'), p = p ? p + 1 : NULL)
        if (strcspn(p, "|") == n && !strncmp(p, word, n)) return true;
    return false;
}

static int wants(const field *f, const char *inside, const char *what, dr_err *e)
{
    return err_set(e, DR_EINVAL, "%s%s has to be %s", inside, f->name, what);
}

static int in_range(const field *f, double v, const char *inside, const char *of, dr_err *e)
{
    if ((f->lo == 0 && f->hi == 0) || (v >= f->lo && v <= f->hi)) return DR_OK;
    return err_set(e, DR_EINVAL, "%s%s is %.15g%s; it has to be from %.15g to %.15g", inside, f->name, v, of,
                   f->lo, f->hi);
}

static int take(const field *f, json_t *v, void *to, const char *inside, dr_err *e)
{
    char *at = (char *)to + f->at;
    int rc;
    switch (f->kind) {
    case FIELD_BOOL:
        if (!json_is_boolean(v)) return wants(f, inside, "true or false", e);
        *(bool *)(void *)at = json_is_true(v);
        return DR_OK;
    case FIELD_INT: case FIELD_INT64: {
        double d = json_number_value(v);
        bool whole = json_is_integer(v) || (json_is_real(v) && d >= -9007199254740992.0 && d <= 9007199254740992.0 &&
                                            d == (double)(int64_t)d);
        if (!whole) return wants(f, inside, "a whole number", e);
        int64_t i = json_is_integer(v) ? json_integer_value(v) : (int64_t)d;
        if ((rc = in_range(f, (double)i, inside, "", e))) return rc;
        if (f->kind == FIELD_INT64) *(int64_t *)(void *)at = i;
        else if (i < INT32_MIN || i > INT32_MAX)
            return err_set(e, DR_EINVAL, "%s%s is %lld, which is too large", inside, f->name, (long long)i);
        else *(int *)(void *)at = (int)i;
        return DR_OK;
    }
    case FIELD_FLOAT:
        if (!json_is_number(v)) return wants(f, inside, "a number", e);
        if ((rc = in_range(f, json_number_value(v), inside, "", e))) return rc;
        *(float *)(void *)at = (float)json_number_value(v);
        return DR_OK;
    case FIELD_TEXT:
        if (!json_is_string(v)) return wants(f, inside, "a string", e);
        if ((rc = in_range(f, (double)json_string_length(v), inside, " bytes long", e))) return rc;
        *(const char **)(void *)at = json_string_value(v);
        return DR_OK;
    case FIELD_LIST:
        if (!json_is_array(v)) return wants(f, inside, "an array", e);
        if ((rc = in_range(f, (double)json_array_size(v), inside, " items long", e))) return rc;
        *(const json_t **)(void *)at = v;
        return DR_OK;
    case FIELD_OBJECT:
        if (!json_is_object(v)) return wants(f, inside, "an object", e);
        *(const json_t **)(void *)at = v;
        return DR_OK;
    case FIELD_ANY:
        *(const json_t **)(void *)at = v;
        return DR_OK;
    case FIELD_UNUSED:
        return DR_OK;
    case FIELD_SET: return f->set(to, f, v, e);
    case FIELD_REFUSED:
        if (says_nothing(v) || one_of(f->also, json_string_value(v))) return DR_OK;
        return err_set(e, DR_EUNSUPPORTED, "%s%s is not supported%s%s", inside, f->name, f->why ? ": " : "",
                       f->why ? f->why : "");
    }
    return DR_OK;
}

static bool is_in(const field *f, unsigned of) { return !f->of || (f->of & of); }

static int unknown(const field *table, unsigned of, const char *key, const char *inside, dr_err *e)
{
    const char *names[NAMES];
    int n = 0;
    for (const field *f = table; f->name && n < NAMES; f++)
        if (is_in(f, of)) names[n++] = f->name;
    const char *near = strlen(key) < 64 ? near_miss(key, names, n) : NULL;
    return err_set(e, DR_EINVAL, "%s%.100s is not a field that is known here%s%s%s", inside, key,
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

int fields_read(const field *table, const json_t *o, void *to, const char *inside, const char **param,
                dr_err *e)
{
    return fields_read_of(table, ~0u, o, to, inside, param, e);
}

int fields_read_of(const field *table, unsigned of, const json_t *o, void *to, const char *inside,
                   const char **param, dr_err *e)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        const field *f = table;
        while (f->name && (!is_in(f, of) || strcmp(f->name, key))) f++;
        int rc = !f->name ? unknown(table, of, key, inside, e) : json_is_null(v) ? DR_OK : take(f, v, to, inside, e);
        if (rc != DR_OK) {
            *param = key;
            return rc;
        }
    }
    for (const field *f = table; f->name; f++) {
        const json_t *is = f->must ? json_object_get(o, f->name) : NULL;
        if (!f->must || !is_in(f, of) || (is && !json_is_null(is))) continue;
        *param = f->name;
        return err_set(e, DR_EINVAL, "%s%s is missing", inside, f->name);
    }
    return DR_OK;
}

void field_text(buf *out, span s)
{
    const uint8_t *p = (const uint8_t *)(s.n ? s.p : ""), *end = p + s.n, *from = p;    // an empty one may be NULL
    buf_putc(out, '"');
    while (p < end) {
        int n = 1;
        uint32_t c = *p < 0x80 ? *p : utf8_get(p, end, &n);
        if (c >= ' ' && c != '"' && c != '\\' && c != UTF8_BAD) {
            p += n;
            continue;
        }
        buf_put(out, from, (size_t)(p - from));
        if (c == '"' || c == '\\') buf_putc(out, '\\'), buf_putc(out, (char)c);
        else if (c == '\n') buf_puts(out, "\\n");
        else if (c == UTF8_BAD) buf_puts(out, "\\ufffd");
        else buf_printf(out, "\\u%04x", (unsigned)c);
        from = p += n;
    }
    buf_put(out, from, (size_t)(p - from));
    buf_putc(out, '"');
}
