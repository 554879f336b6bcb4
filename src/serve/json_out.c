/* json_out.c - see json_out.h. */
#include "serve/json_out.h"
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/os.h"
#include "base/rng.h"
#include "serve/field.h"

void js_put(buf *b, const char *s)
{
    if (s) field_text(b, span_of(s));
    else buf_puts(b, "null");
}

void js_float(buf *b, float v)
{
    if (isnan(v)) buf_puts(b, "null");
    else if (isinf(v)) buf_puts(b, v < 0 ? "-9999.0" : "9999.0");
    else buf_printf(b, "%.9g", (double)v);
}

static int dump(const char *p, size_t n, void *arg)
{
    buf_put(arg, p, n);
    return 0;
}

void js_value(buf *b, const json_t *v)
{
    if (!v || json_dump_callback(v, dump, b, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)))
        buf_puts(b, "null");
}

void js_bytes(buf *b, span s)
{
    buf_putc(b, '[');
    for (size_t i = 0; i < s.n; i++) buf_printf(b, i ? ",%u" : "%u", (unsigned)(unsigned char)s.p[i]);
    buf_putc(b, ']');
}

/* Words of (start of the process, count): no two of one process are equal, and those of two processes
 * differ by their clocks and numbers. */
static void fresh(uint32_t w[4])
{
    static atomic_uint_fast64_t count, start;
    uint64_t s = atomic_load(&start);
    if (!s) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        uint64_t mine = ((uint64_t)t.tv_sec << 30 ^ (uint64_t)t.tv_nsec) ^ (uint64_t)getpid() << 48;
        if (!mine) mine = 1;
        if (!atomic_compare_exchange_strong(&start, &s, mine)) mine = s;
        s = mine;
    }
    rng_philox(w, s, 0x6964, atomic_fetch_add(&count, 1));
}

void js_arguments(buf *b, span args)
{
    json_t *v = json_loadb(args.p ? args.p : "", args.n, 0, NULL);
    if (json_is_object(v)) buf_put(b, args.p, args.n);
    else buf_puts(b, "{}");
    json_decref(v);
}

void js_id(char out[JS_ID], const char *prefix)
{
    static const char digit[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint32_t w[4];
    size_t n = strlen(prefix);
    if (n > JS_ID - 25) n = JS_ID - 25;
    memcpy(out, prefix, n);
    fresh(w);
    for (int i = 0; i < 24; i++) {
        if (i == 20) fresh(w);                       // a word holds five digits
        out[n++] = digit[w[i % 4] % 62];
        w[i % 4] /= 62;
    }
    out[n] = 0;
}
