/* tokenize_many.c - encode many texts with one tokenizer, for compare_tokenizers.py.
 * usage: tokenize_many MODEL FLAGS [speed]
 * Standard input: records of a little-endian 32-bit length and that many bytes. Standard output:
 * for each, a 32-bit count and the ids; then the decoded bytes with their length in front.
 * With "speed": a record is only kept, and each length of 0xffffffff encodes the last one again
 * and prints seconds and ids, so that rounds can alternate with another program's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "base/os.h"
#include "text/tokenizer.h"

static void die(const char *what)
{
    fprintf(stderr, "tokenize_many: %s\n", what);
    exit(1);
}

/* Processor time of this thread: other programs on the machine do not count. */
static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv)
{
    dr_err e = {0};
    if (argc < 3) die("usage: tokenize_many MODEL FLAGS [speed]");
    int flags = (int)strtol(argv[2], NULL, 10);
    bool speed = argc > 3;
    int64_t t0 = cpu_ns(), open0 = os_now_ns();
    tokenizer *t = tok_open(argv[1], &e);
    if (!t) die(e.msg);
    if (speed) fprintf(stderr, "loaded in %.2f ms: %s\n", (double)(os_now_ns() - open0) / 1e6, tok_kind(t));
    uint32_t n;
    buf text = { .cap_max = (size_t)1 << 32 }, out = { .cap_max = (size_t)1 << 32 };
    ids v = {0};
    while (fread(&n, 4, 1, stdin) == 1) {
        if (speed && n == 0xffffffff) {                 /* again: time the text last read */
            v.n = 0;
            t0 = cpu_ns();
            if (tok_encode(t, buf_span(&text), flags, &v, &e)) die(e.msg);
            printf("%.9f %lld\n", (double)(cpu_ns() - t0) / 1e9, (long long)v.n);
            fflush(stdout);
            continue;
        }
        buf_reset(&text);
        for (char tmp[65536]; n;) {
            size_t k = fread(tmp, 1, n < sizeof tmp ? n : sizeof tmp, stdin);
            if (!k) die("a short record");
            buf_put(&text, tmp, k);
            n -= (uint32_t)k;
        }
        if (speed) continue;
        v.n = 0;
        if (tok_encode(t, buf_span(&text), flags, &v, &e)) die(e.msg);
        buf_reset(&out);
        if (tok_decode(t, v.p, v.n, flags & TOK_SPECIAL, &out, &e)) die(e.msg);
        uint32_t k = (uint32_t)v.n, b = (uint32_t)out.n;
        fwrite(&k, 4, 1, stdout);
        if (k) fwrite(v.p, 4, k, stdout);
        fwrite(&b, 4, 1, stdout);
        fwrite(buf_str(&out), 1, b, stdout);
    }
    fflush(stdout);
    buf_free(&text);
    buf_free(&out);
    ids_free(&v);
    tok_free(t);
    if (mem_live_bytes()) die("memory is still held at the end");
    return 0;
}
