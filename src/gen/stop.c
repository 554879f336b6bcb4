/* stop.c - see stop.h. Invariant between bytes: held[0..n) is the longest end of the text so far
 * that is the beginning of some stop string, and no stop string is in the text. */
#include "gen/stop.h"
#include <string.h>
#include "base/mem.h"

struct stop {
    span *str;
    int n_str, hit;
    char *held;                 /* as long as the longest string */
    size_t n;
};

stop *stop_new(const span *strings, int n, dr_err *e)
{
    size_t longest = 1, all = 0;
    for (int i = 0; i < n; i++) {
        if (!strings[i].n) {
            err_set(e, DR_EINVAL, "stop string %d is empty", i + 1);
            return NULL;
        }
        if (strings[i].n > longest) longest = strings[i].n;
        all += strings[i].n;
    }
    size_t head = sizeof(stop) + (size_t)n * sizeof(span);
    stop *s = mem_alloc(head + all + longest);
    if (!s) {
        err_nomem(e, head + all + longest, "the stop strings");
        return NULL;
    }
    char *at = (char *)s + head;
    *s = (stop){ .str = (span *)(s + 1), .n_str = n, .hit = -1, .held = at + all };
    for (int i = 0; i < n; i++) {
        memcpy(at, strings[i].p, strings[i].n);
        s->str[i] = (span){ at, strings[i].n };
        at += strings[i].n;
    }
    return s;
}

void stop_free(stop *s) { mem_free(s); }

void stop_reset(stop *s)
{
    s->n = 0;
    s->hit = -1;
}

/* The longest stop string that the held text ends with; -1: none. */
static int completed(const stop *s)
{
    int best = -1;
    for (int i = 0; i < s->n_str; i++) {
        size_t len = s->str[i].n;
        if (len > s->n || memcmp(s->held + s->n - len, s->str[i].p, len)) continue;
        if (best < 0 || len > s->str[best].n) best = i;
    }
    return best;
}

static bool begins_one(const stop *s, const char *p, size_t n)
{
    for (int i = 0; i < s->n_str; i++)
        if (n < s->str[i].n && !memcmp(p, s->str[i].p, n)) return true;
    return false;
}

int stop_feed(stop *s, span text, buf *out)
{
    for (size_t i = 0; i < text.n && s->hit < 0; i++) {
        if (s->n == 0 && !begins_one(s, text.p + i, 1)) {
            bool whole = false;                  /* a string of one byte */
            for (int k = 0; k < s->n_str; k++)
                whole |= s->str[k].n == 1 && s->str[k].p[0] == text.p[i];
            if (!whole) {
                buf_putc(out, text.p[i]);
                continue;
            }
        }
        s->held[s->n++] = text.p[i];
        s->hit = completed(s);
        if (s->hit >= 0) {
            buf_put(out, s->held, s->n - s->str[s->hit].n);
            s->n = 0;
            break;
        }
        size_t free = 0;
        while (free < s->n && !begins_one(s, s->held + free, s->n - free)) free++;
        buf_put(out, s->held, free);
        memmove(s->held, s->held + free, s->n - free);
        s->n -= free;
    }
    return s->hit;
}

void stop_end(stop *s, buf *out)
{
    if (s->hit < 0) buf_put(out, s->held, s->n);
    s->n = 0;
}
