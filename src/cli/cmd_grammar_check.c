/* cmd_grammar_check.c - drover grammar-check: constraints tried out without a model's weights. Reads
 * JSON lines, writes one for each; tools/golden/schema.py and bench/constrained.py drive it. */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "base/os.h"
#include "base/rng.h"
#include "cli/cache.h"
#include "cli/cmd.h"
#include "gen/grammar.h"

typedef struct { const char *file; } args;

static const opt opts[] = {
    { 'f', "file", OPT_STR, offsetof(args, file), "F", "read F; without it, standard input" },
    OPT_END
};

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* One text of random tokens: at most `most`, the end taken with probability 1/3 where possible. */
static json_t *random_text(matcher *m, uint64_t seed, uint64_t number, int most, json_t *times,
                           dr_err *e)
{
    const vtrie *v = grammar_vtrie(matcher_grammar(m));
    uint64_t *mask = mem_alloc((size_t)v->words * sizeof *mask);
    buf text = { .cap_max = (size_t)1 << 30 };
    int p = mask ? matcher_begin(m, e) : -1, rc = p < 0 ? DR_ENOMEM : DR_OK;
    for (int i = 0; !rc && i < most; i++) {
        matcher_next next;
        uint32_t w[4];
        rng_philox(w, seed, number, (uint64_t)i);
        double t0 = cpu_us();
        rc = matcher_mask(m, p, (uint32_t)(most - i), mask, &next, e);
        double t1 = cpu_us();
        if (rc || (next.done && (!next.n_text || w[0] % 3 == 0))) break;
        uint32_t k = (uint32_t)((uint64_t)w[1] * (uint64_t)next.n_text >> 32);
        int32_t id = -1;
        for (int j = 0; j < v->words && id < 0; j++) {
            uint32_t n = (uint32_t)__builtin_popcountll(mask[j]);
            uint64_t bits = mask[j];
            if (k >= n) { k -= n; continue; }
            while (k--) bits &= bits - 1;
            id = j * 64 + __builtin_ctzll(bits);
        }
        double t2 = cpu_us();
        rc = matcher_take(m, p, id, e);
        json_array_append_new(times, json_real(t1 - t0 + cpu_us() - t2));
        if (!rc) rc = tok_decode_one(v->t, id, false, &text, e);
    }
    json_t *out = NULL;
    if (!rc)
        out = json_pack("{s:o, s:b}", "text", cmd_json_text(text.p, text.n), "done", matcher_done(m, p));
    matcher_end(m, p);
    buf_free(&text);
    mem_free(mask);
    return out;
}

static int put_json(const char *p, size_t n, void *to)
{
    buf_put(to, p, n);
    return 0;
}

static int check(json_t *line, const vtrie *v, json_t *out, dr_err *e)
{
    static const char *const kinds[] = { "grammar", "schema", "regex" };
    grammar *g = NULL;
    matcher *m = NULL;
    int rc = DR_OK;
    double t0 = cpu_us();
    for (int k = 0; k < 3 && !g && !rc; k++) {
        json_t *j = json_object_get(line, kinds[k]);
        if (!j) continue;
        buf t = { .cap_max = (size_t)1 << 30 };  /* a schema too may be given as its text */
        if (json_is_string(j)) buf_put(&t, json_string_value(j), json_string_length(j));
        else json_dump_callback(j, put_json, &t, JSON_ENCODE_ANY | JSON_COMPACT);
        mem_peak_reset();
        g = t.bad ? NULL : grammar_new((grammar_kind)k, buf_span(&t), v, e);
        if (!g) rc = t.bad ? err_nomem(e, t.n, "the constraint") : e->code;
        buf_free(&t);
    }
    double t1 = cpu_us();
    json_object_set_new(out, "compile_ms", json_real((t1 - t0) * 1e-3));
    json_object_set_new(out, "peak_mb", json_real((double)mem_peak_bytes() / 1048576));
    if (g) m = matcher_new(g, e);
    if (!m) {
        grammar_free(g);
        return rc ? rc : err_set(e, DR_EINVAL, "a line wants \"grammar\", \"schema\" or \"regex\"");
    }
    json_object_set_new(out, "shortest", json_integer(grammar_shortest(g)));
    json_object_set_new(out, "bytes", json_integer((json_int_t)grammar_bytes(g)));
    size_t i;
    json_t *x, *accept = json_array(), *made = json_array(), *times = json_array();
    json_array_foreach(json_object_get(line, "texts"), i, x) {
        int p = matcher_begin(m, e);
        bool ok = p >= 0 && matcher_bytes(m, p, (span){ json_string_value(x), json_string_length(x) })
                  && matcher_done(m, p);
        json_array_append_new(accept, json_boolean(ok));
        matcher_end(m, p);
    }
    json_int_t n = json_integer_value(json_object_get(line, "samples"));
    json_t *most = json_object_get(line, "tokens");
    for (json_int_t k = 0; k < n && !rc; k++) {
        json_t *t = random_text(m, (uint64_t)json_integer_value(json_object_get(line, "seed")),
                                (uint64_t)k, most ? (int)json_integer_value(most) : 256, times, e);
        if (t) json_array_append_new(made, t);
        else rc = e->code;
    }
    json_object_set_new(out, "accept", accept);
    json_object_set_new(out, "samples", made);
    json_object_set_new(out, "mask_us", times);
    matcher_free(m);
    grammar_free(g);
    return rc;
}

static int run(const command *c, int argc, char **argv)
{
    args a = {0};
    dr_err e = {0};
    cmd_parse(c, &a, argc, argv);
    buf path = { .cap_max = CACHE_PATH_MAX }, text = { .cap_max = (size_t)1 << 30 };
    tokenizer *t = NULL;
    vtrie *v = NULL;
    int rc = model_resolve(argv[0], &path, &e);
    if (!rc) t = tok_open(buf_str(&path), &e);
    if (t) v = vtrie_new(t, &e);
    rc = v ? os_read(&text, a.file ? a.file : "-", &e) : e.code;
    for (char *p = buf_str(&text), *end; !rc && *p; p = end + (*end == '\n')) {
        json_error_t why;
        end = p + strcspn(p, "\n");
        if (end == p) continue;
        json_t *line = json_loadb(p, (size_t)(end - p), JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
        json_t *out = json_object();
        dr_err one = {0};
        if (!line) err_set(&one, DR_EFORMAT, "not JSON: %.200s", why.text);
        if (!line || check(line, v, out, &one)) json_object_set_new(out, "error", json_string(one.msg));
        json_dumpf(out, stdout, JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(out);
        json_decref(line);
    }
    vtrie_free(v);
    tok_free(t);
    buf_free(&path);
    buf_free(&text);
    return rc ? cmd_fail(c, &e) : cmd_done(c);
}

const command cmd_grammar_check = {
    .name = "grammar-check", .group = GROUP_PLUMBING, .synopsis = "[options] MODEL",
    .summary = "try grammars, schemas and regular expressions on texts",
    .details = "Reads JSON lines: {\"schema\": S | \"grammar\": TEXT | \"regex\": TEXT, \"texts\": [...],\n"
               "\"samples\": N, \"tokens\": MOST, \"seed\": S}. For each it writes one line: \"accept\" for the\n"
               "texts, \"samples\" of random tokens, \"mask_us\" for each step, or \"error\". MODEL may be a\n"
               "tokenizer alone.",
    .hidden = true, .min_args = 1, .max_args = 1, .opts = opts, .run = run,
};
