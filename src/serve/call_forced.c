/* call_forced.c - calls that a grammar holds the reply to, given out while they are made: the text is
 *
 *     {"name":"NAME","parameters":{…}}    or a list of such
 *
 * to the letter (call_form.c), so each byte of arguments is known to be one as soon as it is there. */
#include <string.h>
#include "serve/call_priv.h"

enum { OPEN, HEAD, NAME, KEY, ARGS, CLOSE, NEXT };

void call_forced_init(call_forced *f, const char *key)
{
    *f = (call_forced){ .name.cap_max = 256 };
    snprintf(f->key, sizeof f->key, ",\"%s\":", key);
}

static int odd(dr_err *e) { return err_set(e, DR_EFORMAT, "a call that is not what its grammar says"); }

/* One more byte of a text that is known. 1: it is complete; 0: more of it comes; -1: another text. */
static int expect(call_forced *f, const char *what, char c)
{
    if (what[f->at] != c) return -1;
    if (what[++f->at]) return 0;
    f->at = 0;
    return 1;
}

static int emit(call_forced *f, toolcall_kind k, span text, toolcall_fn fn, void *arg)
{
    return fn(arg, &(toolcall_event){ k, f->index, text });
}

/* Bytes of arguments from text.p[i] on; how many. *over: their object is complete. */
static size_t args(call_forced *f, span text, size_t i, bool *over)
{
    size_t from = i;
    for (*over = false; i < text.n && !*over; i++) {
        char c = text.p[i];
        if (f->escaped) f->escaped = false;
        else if (f->quoted) f->escaped = c == '\\', f->quoted = c != '"';
        else if (c == '"') f->quoted = true;
        else if (c == '{' || c == '[') f->depth++;
        else if (c == '}' || c == ']') *over = --f->depth == 0;
    }
    return i - from;
}

int call_forced_feed(call_forced *f, span text, toolcall_fn fn, void *arg, dr_err *e)
{
    static const char head[] = "{\"name\":\"";
    for (size_t i = 0; i < text.n;) {
        char c = text.p[i];
        int r = 0, rc = DR_OK;
        bool over;
        switch (f->state) {
        case OPEN:
            f->state = HEAD;
            if (c == '[') i++;
            continue;
        case HEAD:
            if ((r = expect(f, head, c)) > 0) f->state = NAME, buf_reset(&f->name);
            break;
        case NAME:
            if (c != '"') buf_putc(&f->name, c);
            else f->state = KEY;
            if (f->name.bad) return err_nomem(e, f->name.n, "a call");
            break;
        case KEY:
            if ((r = expect(f, f->key, c)) > 0) {
                f->state = ARGS;
                rc = emit(f, TOOLCALL_BEGIN, buf_span(&f->name), fn, arg);
            }
            break;
        case ARGS: {
            size_t n = args(f, text, i, &over);
            rc = emit(f, TOOLCALL_ARGS, (span){ text.p + i, n }, fn, arg);
            i += n - 1;
            if (over) f->state = CLOSE;
            break;
        }
        case CLOSE:
            r = c == '}' ? 0 : -1;
            rc = r ? DR_OK : emit(f, TOOLCALL_END, (span){ "", 0 }, fn, arg);
            f->state = NEXT, f->index++;
            break;
        default:
            r = c == ',' || c == ']' ? 0 : -1;
            f->state = c == ',' ? HEAD : NEXT;
        }
        if (r < 0) return odd(e);
        if (rc) return rc;
        i++;
    }
    return DR_OK;
}
