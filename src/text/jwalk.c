/* jwalk.c - see jwalk.h. Strict RFC 8259, UTF-8 checked inside strings. */
#include "text/jwalk.h"
#include "text/utf8.h"

enum { MAX_DEPTH = 64 };

void jw_init(jw *w, span text, dr_err *e)
{
    *w = (jw){ text.p, text.p + text.n, text.p, e };
}

static void space(jw *w)
{
    while (w->p < w->end && (*w->p == ' ' || *w->p == '\n' || *w->p == '\t' || *w->p == '\r'))
        w->p++;
}

static int broken(jw *w, const char *what)
{
    return err_set(w->e, DR_EFORMAT, "broken JSON at byte %zu: %s", (size_t)(w->p - w->start),
                   what);
}

bool jw_at(jw *w, char c)
{
    space(w);
    return w->p < w->end && *w->p == c;
}

int jw_open(jw *w, char bracket)
{
    if (!jw_at(w, bracket)) return broken(w, bracket == '{' ? "an object must be here" :
                                          "an array must be here");
    w->p++;
    return 0;
}

static int hex4(jw *w, uint32_t *v)
{
    uint32_t x = 0;
    if (w->end - w->p < 4) return broken(w, "an unfinished \\u");
    for (int i = 0; i < 4; i++) {
        int c = *w->p++, l = c | 32;
        if (c >= '0' && c <= '9') x = x << 4 | (uint32_t)(c - '0');
        else if (l >= 'a' && l <= 'f') x = x << 4 | (uint32_t)(l - 'a' + 10);
        else return broken(w, "a bad \\u");
    }
    *v = x;
    return 0;
}

static int escape(jw *w, buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (w->p >= w->end) return broken(w, "an unfinished string");
    char c = *w->p++;
    const char *at = c ? strchr(from, c) : NULL;
    if (at) {
        if (out) buf_putc(out, to[at - from]);
        return 0;
    }
    if (c != 'u') return broken(w, "a bad escape");
    uint32_t v, low;
    int rc = hex4(w, &v);
    if (!rc && v >= 0xd800 && v < 0xdc00) {
        if (w->end - w->p < 2 || w->p[0] != '\\' || w->p[1] != 'u')
            return broken(w, "half a character");
        w->p += 2;
        if ((rc = hex4(w, &low))) return rc;
        if (low < 0xdc00 || low > 0xdfff) return broken(w, "half a character");
        v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
    } else if (!rc && v >= 0xdc00 && v < 0xe000) {
        return broken(w, "half a character");
    }
    if (rc || !out) return rc;
    uint8_t c4[4];
    buf_put(out, c4, (size_t)utf8_put(c4, v));
    return 0;
}

/* A string; out may be NULL. */
static int string(jw *w, buf *out)
{
    if (!jw_at(w, '"')) return broken(w, "a string must be here");
    w->p++;
    while (w->p < w->end) {
        const char *from = w->p;
        while (w->p < w->end && *w->p != '"' && *w->p != '\\' && (uint8_t)*w->p >= 32) {
            int n = 1;
            if ((uint8_t)*w->p >= 128 &&
                utf8_get((const uint8_t *)w->p, (const uint8_t *)w->end, &n) == UTF8_BAD)
                return broken(w, "ill-formed UTF-8");
            w->p += n;
        }
        if (out) buf_put(out, from, (size_t)(w->p - from));
        if (w->p >= w->end) break;
        if (*w->p == '"') {
            w->p++;
            return out && out->bad ? err_nomem(w->e, out->n, "JSON") : 0;
        }
        if (*w->p != '\\') return broken(w, "a control character in a string");
        w->p++;
        int rc = escape(w, out);
        if (rc) return rc;
    }
    return broken(w, "an unfinished string");
}

int jw_string(jw *w, buf *out)
{
    buf_reset(out);
    return string(w, out);
}

int jw_next(jw *w, char closing, buf *key, size_t *n)
{
    if (jw_at(w, closing)) {
        w->p++;
        return 0;
    }
    if ((*n)++) {
        if (!jw_at(w, ',')) return broken(w, "a comma or the end must be here");
        w->p++;
    }
    if (!key) {
        space(w);
        return w->p < w->end && *w->p != closing ? 1 : broken(w, "a value must be here");
    }
    int rc = jw_string(w, key);
    if (rc) return rc;
    if (!jw_at(w, ':')) return broken(w, "a colon must be here");
    w->p++;
    return 1;
}

static int number(jw *w)
{
    const char *d;
    if (w->p < w->end && *w->p == '-') w->p++;
    if (w->p < w->end && *w->p == '0') {
        w->p++;
    } else {
        for (d = w->p; w->p < w->end && *w->p >= '0' && *w->p <= '9';) w->p++;
        if (w->p == d) return broken(w, "a value must be here");
    }
    if (w->p < w->end && *w->p == '.') {
        for (d = ++w->p; w->p < w->end && *w->p >= '0' && *w->p <= '9';) w->p++;
        if (w->p == d) return broken(w, "a bad number");
    }
    if (w->p < w->end && (*w->p | 32) == 'e') {
        w->p++;
        if (w->p < w->end && (*w->p == '+' || *w->p == '-')) w->p++;
        for (d = w->p; w->p < w->end && *w->p >= '0' && *w->p <= '9';) w->p++;
        if (w->p == d) return broken(w, "a bad number");
    }
    return 0;
}

int jw_uint(jw *w, uint64_t max, uint64_t *v)
{
    uint64_t x = 0;
    space(w);
    const char *from = w->p;
    int rc = number(w);
    if (rc) return rc;
    for (const char *p = from; p < w->p; p++) {
        if (*p < '0' || *p > '9' || x > max) return broken(w, "a whole number must be here");
        x = x * 10 + (uint64_t)(*p - '0');
    }
    if (x > max) return broken(w, "this number is too large");
    *v = x;
    return 0;
}

static int word(jw *w, const char *s)
{
    size_t n = strlen(s);
    if ((size_t)(w->end - w->p) < n || memcmp(w->p, s, n)) return broken(w, "a value must be here");
    w->p += n;
    return 0;
}

static int scalar(jw *w)
{
    switch (*w->p) {
    case '"': return string(w, NULL);
    case 't': return word(w, "true");
    case 'f': return word(w, "false");
    case 'n': return word(w, "null");
    default: return number(w);
    }
}

int jw_skip(jw *w, span *raw)
{
    char open[MAX_DEPTH];
    int depth = 0, rc;
    space(w);
    const char *from = w->p;
    for (;;) {                                        /* a value begins here */
        space(w);
        if (w->p >= w->end) return broken(w, "a value must be here");
        bool opened = *w->p == '{' || *w->p == '[';
        if (opened) {
            if (depth == MAX_DEPTH) return broken(w, "too deep");
            open[depth++] = *w->p++;
        } else if ((rc = scalar(w))) {
            return rc;
        }
        while (depth) {                               /* after a value, or just inside */
            char closing = open[depth - 1] == '{' ? '}' : ']';
            if (jw_at(w, closing)) {
                w->p++, depth--, opened = false;
                continue;
            }
            if (!opened) {
                if (!jw_at(w, ',')) return broken(w, "a comma or the end must be here");
                w->p++;
                if (jw_at(w, closing)) return broken(w, "a value must be here");
            }
            if (closing == '}') {
                if ((rc = string(w, NULL))) return rc;
                if (!jw_at(w, ':')) return broken(w, "a colon must be here");
                w->p++;
            }
            break;
        }
        if (!depth) break;
    }
    *raw = (span){ from, (size_t)(w->p - from) };
    return 0;
}

int jw_end(jw *w)
{
    space(w);
    return w->p == w->end ? 0 : broken(w, "something follows the end");
}
