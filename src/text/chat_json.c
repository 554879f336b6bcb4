/* chat_json.c - JSON as Python's json.dumps prints it, because templates were run by Python and
 * models were trained on its spacing, its floats and its escapes. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "text/chat.h"

/* One character of valid UTF-8 (jansson has checked it). */
static uint32_t utf8_take(const unsigned char *s, size_t n, size_t *len)
{
    *len = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (*len > n) *len = n;
    uint32_t c = *len == 1 ? s[0] : s[0] & (0xffu >> (*len + 1));
    for (size_t i = 1; i < *len; i++) c = c << 6 | (s[i] & 63u);
    return c;
}

static void put_string(buf *out, const char *p, size_t n, bool ascii)
{
    buf_putc(out, '"');
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t c = utf8_take((const unsigned char *)p + i, n - i, &len);
        const char *in = "\"\\\n\r\t\b\f", *to = "\"\\nrtbf";
        const char *at = c && c < 128 ? strchr(in, (int)c) : NULL;
        if (at) {
            buf_putc(out, '\\');
            buf_putc(out, to[at - in]);
        } else if (c < 32 || (ascii && c > 126 && c < 0x10000)) {
            buf_printf(out, "\\u%04x", c);
        } else if (ascii && c >= 0x10000) {
            c -= 0x10000;
            buf_printf(out, "\\u%04x\\u%04x", 0xd800 + (c >> 10), 0xdc00 + (c & 1023));
        } else {
            buf_put(out, p + i, len);
        }
    }
    buf_putc(out, '"');
}

/* Python's repr: the fewest digits that read back the same; an exponent below -4 or from 16. */
static void put_real(buf *out, double v)
{
    char d[32];
    int prec = 0;
    do snprintf(d, sizeof d, "%.*e", prec, v);
    while (prec++ < 17 && strtod(d, NULL) != v);
    const char *e = strchr(d, 'e');
    int exp = (int)strtol(e + 1, NULL, 10);
    if (exp < -4 || exp >= 16) {
        buf_put(out, d, (size_t)(e - d));
        buf_printf(out, "e%c%02d", exp < 0 ? '-' : '+', exp < 0 ? -exp : exp);
        return;
    }
    const char *p = d;
    if (*p == '-') buf_putc(out, *p++);
    char digit[32];
    int n = 0;
    for (; p < e; p++)
        if (*p != '.') digit[n++] = *p;
    if (exp < 0) buf_puts(out, "0.");
    for (int i = exp + 1; i < 0; i++) buf_putc(out, '0');
    for (int i = 0; i < n || i <= exp; i++) {
        if (i && i == exp + 1) buf_putc(out, '.');
        buf_putc(out, i < n ? digit[i] : '0');
    }
    if (exp >= 0 && n <= exp + 1) buf_puts(out, ".0");
}

static void newline(buf *out, int indent, int depth)
{
    buf_putc(out, '\n');
    for (int i = 0; i < indent * depth; i++) buf_putc(out, ' ');
}

static void put_value(buf *out, const json_t *v, int indent, bool ascii, int depth)
{
    bool first = true;
    switch (json_typeof(v)) {
    case JSON_OBJECT: {
        const char *key;
        size_t key_len;
        json_t *item;
        buf_putc(out, '{');
        json_object_keylen_foreach((json_t *)(uintptr_t)v, key, key_len, item) {
            if (!first) buf_puts(out, indent ? "," : ", ");
            if (indent) newline(out, indent, depth + 1);
            first = false;
            put_string(out, key, key_len, ascii);
            buf_puts(out, ": ");
            put_value(out, item, indent, ascii, depth + 1);
        }
        if (indent && !first) newline(out, indent, depth);
        buf_putc(out, '}');
        break;
    }
    case JSON_ARRAY:
        buf_putc(out, '[');
        for (size_t i = 0; i < json_array_size(v); i++) {
            if (i) buf_puts(out, indent ? "," : ", ");
            if (indent) newline(out, indent, depth + 1);
            first = false;
            put_value(out, json_array_get(v, i), indent, ascii, depth + 1);
        }
        if (indent && !first) newline(out, indent, depth);
        buf_putc(out, ']');
        break;
    case JSON_STRING:
        put_string(out, json_string_value(v), json_string_length(v), ascii);
        break;
    case JSON_INTEGER: buf_printf(out, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL: put_real(out, json_real_value(v)); break;
    case JSON_TRUE: buf_puts(out, "true"); break;
    case JSON_FALSE: buf_puts(out, "false"); break;
    case JSON_NULL: buf_puts(out, "null"); break;
    }
}

void chat_tojson(buf *out, const json_t *v, int indent, bool ascii)
{
    put_value(out, v, indent, ascii, 0);
}
