/* toolcall_scan.c - see toolcall_scan.h. Values first, then the forms of calls. */
#include "text/toolcall_scan.h"
#include <stdint.h>
#include <string.h>
#include "base/mem.h"
#include "text/chat.h"

#define MAX_DEPTH 64

/* End of input is MORE: in every place where this is used the form is not closed yet. */
#define TRY(x) do { scan_result r_ = (x); if (r_ != SCAN_OK) return r_; } while (0)

static int peek(const scan *s) { return s->at < s->in.n ? (unsigned char)s->in.p[s->at] : -1; }

static bool is_digit(int c) { return c >= '0' && c <= '9'; }
static bool is_word(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_';
}

void scan_space(scan *s)
{
    while (s->at < s->in.n && strchr(" \t\r\n", s->in.p[s->at]) && s->in.p[s->at]) s->at++;
}

scan_result scan_word(scan *s, const char *word)
{
    for (; *word; word++, s->at++) {
        if (s->at == s->in.n) return SCAN_MORE;
        if (s->in.p[s->at] != *word) return SCAN_NO;
    }
    return SCAN_OK;
}

uint32_t scan_char(const char *p, size_t n, size_t *len)
{
    const unsigned char *u = (const unsigned char *)p;
    size_t want = u[0] < 0x80 ? 1 : u[0] >= 0xc2 && u[0] < 0xe0 ? 2 : u[0] >> 4 == 14 ? 3
                : u[0] >= 0xf0 && u[0] < 0xf5 ? 4 : 0;
    *len = 1;
    if (want == 1) return u[0];
    if (want == 0) return 0xfffd;
    uint32_t c = u[0] & (0xffu >> (want + 1));
    for (size_t i = 1; i < want; i++) {
        if (i == n) {
            *len = 0;
            return 0;
        }
        if (u[i] >> 6 != 2) return 0xfffd;
        c = c << 6 | (u[i] & 63u);
    }
    if ((want == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000)))
        || (want == 4 && (c < 0x10000 || c > 0x10ffff))) return 0xfffd;
    *len = want;
    return c;
}

void scan_put_char(buf *out, uint32_t c)
{
    if (c == 0 || (c >= 0xd800 && c < 0xe000)) c = 0xfffd;
    if (c == '"' || c == '\\') {
        buf_putc(out, '\\');
        buf_putc(out, (char)c);
    } else if (c == '\n') {
        buf_puts(out, "\\n");
    } else if (c == '\t') {
        buf_puts(out, "\\t");
    } else if (c == '\r') {
        buf_puts(out, "\\r");
    } else if (c < 32) {
        buf_printf(out, "\\u%04x", c);
    } else if (c < 0x80) {
        buf_putc(out, (char)c);
    } else if (c < 0x800) {
        buf_putc(out, (char)(0xc0 | c >> 6));
        buf_putc(out, (char)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        buf_putc(out, (char)(0xe0 | c >> 12));
        buf_putc(out, (char)(0x80 | (c >> 6 & 63)));
        buf_putc(out, (char)(0x80 | (c & 63)));
    } else {
        buf_putc(out, (char)(0xf0 | c >> 18));
        buf_putc(out, (char)(0x80 | (c >> 12 & 63)));
        buf_putc(out, (char)(0x80 | (c >> 6 & 63)));
        buf_putc(out, (char)(0x80 | (c & 63)));
    }
}

static scan_result hex(scan *s, int digits, uint32_t *c)
{
    *c = 0;
    for (int i = 0; i < digits; i++, s->at++) {
        int d = peek(s);
        if (d < 0) return SCAN_MORE;
        int v = is_digit(d) ? d - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10
              : d >= 'A' && d <= 'F' ? d - 'A' + 10 : -1;
        if (v < 0) return SCAN_NO;
        *c = *c << 4 | (uint32_t)v;
    }
    return SCAN_OK;
}

/* \uXXXX, s->at past the u; two halves of a pair become one character. */
static scan_result unicode_escape(scan *s, buf *out)
{
    uint32_t c, low;
    TRY(hex(s, 4, &c));
    if (c >= 0xd800 && c < 0xdc00) {
        scan t = *s;
        scan_result r = scan_word(&t, "\\u");
        if (r == SCAN_OK) r = hex(&t, 4, &low);
        if (r == SCAN_MORE) return SCAN_MORE;
        if (r == SCAN_OK && low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            *s = t;
        }
    }
    scan_put_char(out, c);
    return SCAN_OK;
}

/* s->at is past the backslash. */
static scan_result escape(scan *s, buf *out)
{
    static const char from[] = "nrtbf\"\\/'", to[] = "\n\r\t\b\f\"\\/'";
    int c = peek(s);
    uint32_t u;
    if (c < 0) return SCAN_MORE;
    s->at++;
    if (c == 'u') return unicode_escape(s, out);
    const char *k = c ? strchr(from, c) : NULL;
    if (k && !(s->python && c == '/')) {
        scan_put_char(out, (unsigned char)to[k - from]);
        return SCAN_OK;
    }
    if (s->python) {
        if (c == '\n') return SCAN_OK;                       /* a continued line */
        if (c == 'x' || c == 'U') {
            TRY(hex(s, c == 'x' ? 2 : 8, &u));
            if (u > 0x10ffff) return SCAN_NO;
            scan_put_char(out, u);
            return SCAN_OK;
        }
        if (c >= '0' && c <= '7') {
            u = (uint32_t)(c - '0');
            for (int i = 0; i < 2 && peek(s) >= '0' && peek(s) <= '7'; i++)
                u = u * 8 + (uint32_t)(s->in.p[s->at++] - '0');
            scan_put_char(out, u);
            return SCAN_OK;
        }
        scan_put_char(out, '\\');                            /* unknown ones stay, in Python */
    }
    s->at--;                                                 /* the character itself follows */
    size_t len;
    u = scan_char(s->in.p + s->at, s->in.n - s->at, &len);
    if (!len) return SCAN_MORE;
    s->at += len;
    scan_put_char(out, u);
    return SCAN_OK;
}

/* "..." or '...', in Python also tripled. Raw line ends are taken: models write them. */
static scan_result string(scan *s, buf *out)
{
    char q = s->in.p[s->at++];
    bool triple = false;
    if (s->python && peek(s) == q) {
        if (s->at + 1 == s->in.n) return SCAN_MORE;
        triple = s->in.p[s->at + 1] == q;
        if (triple) s->at += 2;
    }
    buf_putc(out, '"');
    for (;;) {
        int c = peek(s);
        if (c < 0) return SCAN_MORE;
        if (c == q) {
            if (!triple) break;
            if (s->in.n - s->at < 3) return SCAN_MORE;
            if (s->in.p[s->at + 1] == q && s->in.p[s->at + 2] == q) {
                s->at += 2;
                break;
            }
        }
        if (c == '\\') {
            s->at++;
            TRY(escape(s, out));
            continue;
        }
        size_t len;
        uint32_t u = scan_char(s->in.p + s->at, s->in.n - s->at, &len);
        if (!len) return SCAN_MORE;
        scan_put_char(out, u);
        s->at += len;
    }
    s->at++;
    buf_putc(out, '"');
    return SCAN_OK;
}

static size_t digits(scan *s, buf *out)
{
    size_t n = 0;
    for (; is_digit(peek(s)); n++) buf_putc(out, s->in.p[s->at++]);
    return n;
}

/* JSON's numbers, and Python's ".5" and "1.". */
static scan_result number(scan *s, buf *out)
{
    if (peek(s) == '-') buf_putc(out, '-'), s->at++;
    if (peek(s) < 0) return SCAN_MORE;
    size_t start = s->at, n = digits(s, out);
    if (n > 1 && s->in.p[start] == '0') return SCAN_NO;
    if (n == 0) {
        if (peek(s) != '.') return SCAN_NO;
        buf_putc(out, '0');
    }
    if (peek(s) == '.') {
        s->at++;
        buf_putc(out, '.');
        if (peek(s) < 0) return SCAN_MORE;
        size_t m = digits(s, out);
        if (!m && !n) return SCAN_NO;
        if (!m) buf_putc(out, '0');
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        buf_putc(out, s->in.p[s->at++]);
        if (peek(s) == '+' || peek(s) == '-') buf_putc(out, s->in.p[s->at++]);
        if (peek(s) < 0) return SCAN_MORE;
        if (!digits(s, out)) return SCAN_NO;
    }
    if (peek(s) < 0) return SCAN_MORE;
    return is_word(peek(s)) ? SCAN_NO : SCAN_OK;
}

static scan_result literal(scan *s, buf *out)
{
    static const struct { const char *in, *out; } w[] = {
        { "true", "true" }, { "false", "false" }, { "null", "null" },
        { "True", "true" }, { "False", "false" }, { "None", "null" },
    };
    for (size_t i = 0; i < sizeof w / sizeof w[0]; i++) {
        scan t = *s;
        scan_result r = scan_word(&t, w[i].in);
        if (r == SCAN_NO) continue;
        if (r == SCAN_MORE || peek(&t) < 0) return SCAN_MORE;
        if (is_word(peek(&t))) return SCAN_NO;
        *s = t;
        buf_puts(out, w[i].out);
        return SCAN_OK;
    }
    return SCAN_NO;
}

/* Past a comma, or at the closing bracket (*end). A comma before the bracket is forgiven. */
static scan_result next_item(scan *s, char close, bool *end)
{
    scan_space(s);
    int c = peek(s);
    if (c < 0) return SCAN_MORE;
    *end = c == close;
    if (*end) return SCAN_OK;
    if (c != ',') return SCAN_NO;
    s->at++;
    scan_space(s);
    if (peek(s) < 0) return SCAN_MORE;
    *end = peek(s) == close;
    return SCAN_OK;
}

static scan_result key(scan *s, buf *out)
{
    scan_space(s);
    int c = peek(s);
    if (c < 0) return SCAN_MORE;
    if (c != '"' && c != '\'') return SCAN_NO;
    TRY(string(s, out));
    scan_space(s);
    TRY(scan_word(s, ":"));
    scan_space(s);
    return peek(s) < 0 ? SCAN_MORE : SCAN_OK;
}

static scan_result list(scan *s, buf *out)
{
    char open = s->in.p[s->at++], close = open == '{' ? '}' : ']';
    bool end, first = true;
    if (++s->depth > MAX_DEPTH) return SCAN_NO;
    buf_putc(out, open);
    scan_space(s);
    if (peek(s) < 0) return SCAN_MORE;
    for (end = peek(s) == close; !end; first = false) {
        if (!first) buf_puts(out, ", ");
        if (open == '{') {
            TRY(key(s, out));
            buf_puts(out, ": ");
        }
        TRY(scan_value(s, out));
        TRY(next_item(s, close, &end));
    }
    s->at++;
    s->depth--;
    buf_putc(out, close);
    return SCAN_OK;
}

scan_result scan_value(scan *s, buf *out)
{
    scan_space(s);
    int c = peek(s);
    if (c < 0) return SCAN_MORE;
    if (c == '"' || c == '\'') return string(s, out);
    if (c == '{' || c == '[') return list(s, out);
    if (c == '-' || c == '.' || is_digit(c)) return number(s, out);
    return literal(s, out);
}

/* ---- calls ---- */

static bool listed(const json_t *names, const char *name)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *s = json_string_value(json_array_get(names, i));
        if (s && !strcmp(s, name)) return true;
    }
    return false;
}

bool scan_tool_known(const scan *s, const char *name)
{
    for (size_t i = 0; i < json_array_size(s->tools); i++) {
        const json_t *t = json_array_get(s->tools, i), *f = json_object_get(t, "function");
        const char *n = json_string_value(json_object_get(f ? f : t, "name"));
        if (n && !strcmp(n, name)) return true;
    }
    return listed(s->builtin_tools, name);
}

static void reset(scan *s, buf *b)
{
    s->nomem |= b->bad;
    buf_reset(b);
}

/* The text of a JSON string; NULL when it holds a 0 or there is no memory. */
static char *unquote(scan *sc, const buf *b)
{
    json_t *v = json_loadb(b->p, b->n, JSON_DECODE_ANY, NULL);
    const char *t = json_string_value(v);
    char *s = t && strlen(t) == json_string_length(v) ? mem_strdup(t) : NULL;
    sc->nomem |= t && !s && strlen(t) == json_string_length(v);
    json_decref(v);
    return s;
}

typedef struct { buf name, args, val; bool typed; } fields;

/* The arguments field: an object, null, or JSON text that holds an object. */
static bool take_args(scan *sc, buf *val, buf *args)
{
    reset(sc, args);
    if (val->n && val->p[0] == '{') {
        buf_put(args, val->p, val->n);
        return true;
    }
    if (val->n == 4 && !memcmp(val->p, "null", 4)) {
        buf_puts(args, "{}");
        return true;
    }
    char *s = val->n && val->p[0] == '"' ? unquote(sc, val) : NULL;
    json_t *v = s ? json_loads(s, 0, NULL) : NULL;
    mem_free(s);
    if (json_is_object(v)) chat_tojson(args, v, 0, false);
    bool ok = json_is_object(v);
    json_decref(v);
    return ok;
}

static scan_result call_object(scan *s, fields *f, bool inner);

/* One member of a call; the key has been read into f->val. */
static scan_result member(scan *s, fields *f, bool first, bool inner)
{
    static const char *const known[] = { "\"name\"", "\"parameters\"", "\"arguments\"", "\"type\"",
                                         "\"function\"", "\"id\"" };
    int k = 0;
    while (k < 6 && strcmp(buf_str(&f->val), known[k])) k++;
    if (k == 6 && first) return SCAN_NO;
    if (k == 4 && peek(s) == '{') return inner ? SCAN_NO : call_object(s, f, true);
    reset(s, &f->val);
    TRY(scan_value(s, &f->val));
    bool text = f->val.n && f->val.p[0] == '"';
    if (k == 0 || k == 4) {
        if (!text) return SCAN_NO;
        reset(s, &f->name);
        buf_put(&f->name, f->val.p, f->val.n);
    } else if (k == 1 || k == 2) {
        if (!take_args(s, &f->val, &f->args)) return SCAN_NO;
    } else if (k == 3) {
        f->typed = !strcmp(buf_str(&f->val), "\"function\"");
    }
    return SCAN_OK;
}

static scan_result call_object(scan *s, fields *f, bool inner)
{
    bool end = false, first = true;
    TRY(scan_word(s, "{"));
    for (; !end; first = false) {
        reset(s, &f->val);
        TRY(key(s, &f->val));
        TRY(member(s, f, first, inner));
        TRY(next_item(s, '}', &end));
    }
    s->at++;
    return SCAN_OK;
}

static scan_result json_call(scan *s, buf *out)
{
    fields f = { .name.cap_max = out->cap_max, .args.cap_max = out->cap_max,
                 .val.cap_max = out->cap_max };
    scan_result r = call_object(s, &f, false);
    char *name = r == SCAN_OK && f.name.n ? unquote(s, &f.name) : NULL;
    if (r == SCAN_OK) {
        bool call = name && *name && (scan_tool_known(s, name) || s->marked || f.typed)
                 && (f.args.n || f.typed);
        if (call) {
            buf_put(out, name, strlen(name) + 1);
            if (f.args.n) buf_put(out, f.args.p, f.args.n + 1);
            else buf_put(out, "{}", 3);
        } else {
            r = SCAN_NO;
        }
    }
    s->nomem |= f.name.bad || f.args.bad || f.val.bad;
    mem_free(name);
    buf_free(&f.name);
    buf_free(&f.args);
    buf_free(&f.val);
    return r;
}

scan_result scan_json_calls(scan *s, buf *out)
{
    bool end = false;
    s->python = false;
    if (peek(s) == '{') return json_call(s, out);
    TRY(scan_word(s, "["));
    while (!end) {
        scan_space(s);
        TRY(json_call(s, out));
        TRY(next_item(s, ']', &end));
    }
    s->at++;
    return SCAN_OK;
}

/* name=value, ... up to the closing bracket, as a JSON object. */
static scan_result keywords(scan *s, buf *out)
{
    bool end;
    TRY(scan_word(s, "("));
    buf_putc(out, '{');
    scan_space(s);
    if (peek(s) < 0) return SCAN_MORE;
    end = peek(s) == ')';
    for (bool first = true; !end; first = false) {
        buf_puts(out, first ? "\"" : ", \"");
        size_t start = s->at;
        while (is_word(peek(s)) && !(s->at == start && is_digit(peek(s)))) s->at++;
        if (peek(s) < 0) return SCAN_MORE;
        if (s->at == start) return SCAN_NO;
        buf_put(out, s->in.p + start, s->at - start);
        buf_puts(out, "\": ");
        scan_space(s);
        TRY(scan_word(s, "="));
        TRY(scan_value(s, out));
        TRY(next_item(s, ')', &end));
    }
    s->at++;
    buf_putc(out, '}');
    return SCAN_OK;
}

/* A name of letters, digits, _ and dots, appended with its 0. */
static scan_result identifier(scan *s, buf *out)
{
    size_t start = s->at;
    while (is_word(peek(s)) || (peek(s) == '.' && s->at > start)) s->at++;
    if (s->at - start > 256) return SCAN_NO;
    if (peek(s) < 0) return SCAN_MORE;
    if (s->at == start || is_digit((unsigned char)s->in.p[start])) return SCAN_NO;
    buf_put(out, s->in.p + start, s->at - start);
    buf_putc(out, 0);
    return SCAN_OK;
}

scan_result scan_python_calls(scan *s, buf *out)
{
    bool end = false;
    s->python = true;
    TRY(scan_word(s, "["));
    while (!end) {
        size_t name = out->n;
        scan_space(s);
        TRY(identifier(s, out));
        if (out->bad || !scan_tool_known(s, out->p + name)) return SCAN_NO;
        scan_space(s);
        TRY(keywords(s, out));
        buf_putc(out, 0);
        TRY(next_item(s, ']', &end));
    }
    s->at++;
    return SCAN_OK;
}

scan_result scan_function_tag(scan *s, buf *out)
{
    s->python = false;
    TRY(scan_word(s, "<function="));
    size_t start = s->at;
    while (is_word(peek(s)) || (peek(s) > 0 && strchr(".-", peek(s)))) s->at++;
    if (s->at - start > 256) return SCAN_NO;
    if (peek(s) < 0) return SCAN_MORE;
    if (s->at == start || peek(s) != '>') return SCAN_NO;
    buf_put(out, s->in.p + start, s->at - start);
    buf_putc(out, 0);
    s->at++;
    scan_space(s);
    if (peek(s) < 0) return SCAN_MORE;
    if (peek(s) != '{') return SCAN_NO;
    TRY(scan_value(s, out));
    buf_putc(out, 0);
    /* models forget the closing tag: without it the call ends here */
    scan t = *s;
    scan_space(&t);
    scan_result r = scan_word(&t, "</function>");
    if (r == SCAN_MORE && !s->final) return SCAN_MORE;
    if (r == SCAN_OK) *s = t;
    return SCAN_OK;
}

scan_result scan_builtin(scan *s, buf *out)
{
    size_t start = s->at, name = out->n;
    s->python = true;
    while (is_word(peek(s))) s->at++;
    if (s->at - start > 256 || (s->at == start && peek(s) >= 0)) return SCAN_NO;
    if (peek(s) < 0) return SCAN_MORE;
    buf_put(out, s->in.p + start, s->at - start);
    buf_putc(out, 0);
    if (out->bad || (!s->marked && !listed(s->builtin_tools, out->p + name))) return SCAN_NO;
    TRY(scan_word(s, ".call"));
    size_t args = out->n;
    TRY(keywords(s, out));
    /* other code may have a .call(); a search's has a query */
    if (!listed(s->builtin_tools, out->p + name)
        && (out->bad || strncmp(out->p + args, "{\"query\": \"", 11))) return SCAN_NO;
    buf_putc(out, 0);
    return SCAN_OK;
}
