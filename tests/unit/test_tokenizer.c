/* test_tokenizer.c - what a tokenizer promises whatever the vocabulary: exact bytes back, one
 * BOS, no control token from text, whole characters in a stream, broken files refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/os.h"
#include "base/rng.h"
#include "text/split.h"
#include "text/tok_priv.h"
#include "text/unicode.h"
#include "text/utf8.h"

#define DIR "tests/data/tokenizers/"
static const char *const files[] = { DIR "small.json", DIR "small.gguf", DIR "small.tiktoken",
                                     DIR "small.model", DIR "small_norm.model" };
enum { N_FILES = 5, LOSSLESS = 3 };            /* the first LOSSLESS give every byte back */

static tokenizer *must_open(const char *path)
{
    dr_err e = {0};
    tokenizer *t = tok_open(path, &e);
    if (!t) fail_msg("%s", e.msg);
    return t;
}

static ids must_encode(const tokenizer *t, span text, int flags)
{
    ids v = {0};
    dr_err e = {0};
    if (tok_encode(t, text, flags, &v, &e)) fail_msg("%s", e.msg);
    return v;
}

static void bos_once(void **state)
{
    (void)state;
    tokenizer *t = must_open(files[0]);
    span bos = tok_text(t, tok_bos(t));
    assert_true(span_is(bos, "<|begin_of_text|>"));
    char text[64];
    snprintf(text, sizeof text, "%.*sthe", (int)bos.n, bos.p);
    ids a = must_encode(t, span_of("the"), TOK_BOS), b = must_encode(t, span_of(text), TOK_BOS |
                                                                    TOK_SPECIAL);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.p, b.p, (size_t)a.n * 4);
    assert_int_equal(a.p[0], tok_bos(t));
    ids_free(&b);
    b = must_encode(t, span_of(text), TOK_BOS);         /* written by the user: text, not a BOS */
    for (int64_t i = 1; i < b.n; i++) assert_false(tok_is_control(t, b.p[i]));
    ids_free(&a);
    ids_free(&b);
    a = must_encode(t, (span){ "", 0 }, TOK_BOS);
    assert_int_equal(a.n, 1);
    ids_free(&a);
    tok_free(t);
}

static void control_needs_asking(void **state)
{
    (void)state;
    for (int i = 0; i < N_FILES; i++) {
        tokenizer *t = must_open(files[i]);
        buf text = { .cap_max = 1 << 20 };
        int n_control = 0;
        for (int32_t id = 0; id < tok_count(t); id++) {
            if (!tok_is_control(t, id)) continue;
            span s = tok_text(t, id);
            n_control++;
            buf_puts(&text, " x");
            buf_put(&text, s.p, s.n);
        }
        assert_true(n_control > 0);
        ids v = must_encode(t, buf_span(&text), TOK_BOS);
        for (int64_t k = 1; k < v.n; k++)
            if (i != 4) assert_false(tok_is_control(t, v.p[k]));       /* [4] has no bytes: <unk> */
        ids_free(&v);
        v = must_encode(t, buf_span(&text), TOK_SPECIAL);
        int seen = 0;
        for (int64_t k = 0; k < v.n; k++) seen += tok_is_control(t, v.p[k]);
        assert_true(seen >= n_control);
        ids_free(&v);
        buf_free(&text);
        tok_free(t);
    }
}

static void user_tokens_always(void **state)
{
    (void)state;
    tokenizer *t = must_open(files[0]);
    ids v = must_encode(t, span_of("a<tool>b"), 0);
    int32_t id = tok_find(t, span_of("<tool>"));
    assert_true(id >= 0);
    assert_int_equal(v.n, 3);
    assert_int_equal(v.p[1], id);
    assert_false(tok_is_control(t, id));
    assert_true(tok_is_eog(t, tok_find(t, span_of("<|eot_id|>"))));
    assert_false(tok_is_eog(t, tok_find(t, span_of("<|begin_of_text|>"))));
    assert_int_equal(tok_find(t, span_of("no such token")), -1);
    ids_free(&v);
    tok_free(t);
}

/* Any bytes: no crash, the bytes come back, whole or as a stream of whole characters. */
static void any_bytes(void **state)
{
    (void)state;
    static const char *const sample[] = { "the ", "\xc3", "\xa9", "\xe2\x82", "\xac", "\xf0\x9f",
        "\x99\x82", "\xff", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80", "herd", "12", "\n",
        "'s" };
    for (int i = 0; i < N_FILES; i++) {
        tokenizer *t = must_open(files[i]);
        for (uint64_t round = 0; round < 300; round++) {
            buf text = { .cap_max = 1 << 20 }, back = { .cap_max = 1 << 20 };
            buf flow = { .cap_max = 1 << 20 };
            dr_err e = {0};
            for (uint64_t k = 0; k < 24; k++) {
                uint32_t r[4];
                rng_philox(r, 5, round, k);
                if (round & 1) buf_putc(&text, (char)r[0]);
                else buf_puts(&text, sample[r[0] % (sizeof sample / sizeof *sample)]);
            }
            ids v = must_encode(t, buf_span(&text), 0);
            assert_int_equal(tok_decode(t, v.p, v.n, false, &back, &e), 0);
            if (i < LOSSLESS || i == 3) assert_true(span_eq(buf_span(&back), buf_span(&text)));
            tok_stream s = {0};
            for (int64_t k = 0; k < v.n; k++)
                assert_int_equal(tok_stream_put(t, &s, v.p[k], false, &flow, &e), 0);
            tok_stream_end(&s, &flow);
            assert_true(span_eq(buf_span(&flow), buf_span(&back)));
            ids_free(&v);
            buf_free(&text);
            buf_free(&back);
            buf_free(&flow);
        }
        tok_free(t);
    }
}

/* Characters of several tokens come out of a stream whole. */
static void whole_characters(void **state)
{
    (void)state;
    tokenizer *t = must_open(files[0]);
    ids v = must_encode(t, span_of("h\u00e9 \U0001f642\u65e5\u0939\u093f\U000e0041"), 0);
    buf out = { .cap_max = 1 << 20 };
    tok_stream s = {0};
    dr_err e = {0};
    int waited = 0;
    for (int64_t k = 0; k < v.n; k++) {
        assert_int_equal(tok_stream_put(t, &s, v.p[k], false, &out, &e), 0);
        waited += s.n_held > 0;
        const uint8_t *p = (const uint8_t *)buf_str(&out), *end = p + out.n;
        for (int n; p < end; p += n) assert_int_not_equal(utf8_get(p, end, &n), UTF8_BAD);
    }
    assert_true(waited > 5);
    assert_int_equal(s.n_held, 0);
    ids_free(&v);
    buf_free(&out);
    tok_free(t);
}

/* Broken bytes do not change how the valid text around them is cut. */
static void broken_is_a_symbol(void **state)
{
    (void)state;
    static const struct { const char *text; size_t end; } t[] = {
        { "ab\xff" "cd", 2 }, { "\xff\xfe!\n\nx", 5 }, { " \xff\xff", 3 }, { "\xff" "ab c", 3 },
        { "12\xc3", 2 }, { "\xe2\x82 a", 2 },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const uint8_t *p = (const uint8_t *)t[i].text;
        assert_int_equal(split_llama3(p, p + strlen(t[i].text), 3) - p, t[i].end);
    }
}

static void megabyte_of_one_letter(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    char *a = mem_alloc(N);
    memset(a, 'a', N);
    for (int i = 0; i < N_FILES; i++) {
        tokenizer *t = must_open(files[i]);
        int64_t t0 = os_now_ns();
        ids v = must_encode(t, (span){ a, N }, 0);
        double s = (double)(os_now_ns() - t0) / 1e9;
        if (s > 20) fail_msg("%s: %.1f s: is merging quadratic?", files[i], s);
        assert_true(v.n > 0);
        ids_free(&v);
        tok_free(t);
    }
    mem_free(a);
}

/* The hand-written splitter against its own pattern in PCRE2, over every code point. */
static void splitters_agree(void **state)
{
    (void)state;
    dr_err e = {0};
    split_re *re = split_re_new(span_of(split_llama3_regex), &e);
    assert_non_null(re);
    static const char *const around[] = { "%s", "a%sb", " %s ", "1%s2", "'%s", "!%s\n", "\n%s\n ",
                                          "  %s%s", "%s's" };
    buf text = { .cap_max = 1 << 26 };
    for (size_t k = 0; k < sizeof around / sizeof *around; k++) {
        buf_reset(&text);
        for (uint32_t c = 1; c < 0x110000; c += c < 0x3400 ? 1 : 7) {
            char s[5] = "";
            if (c >= 0xd800 && c < 0xe000) continue;
            utf8_put((uint8_t *)s, c);
            buf_printf(&text, around[k], s, s);
        }
        split_work w = {0};
        assert_int_equal(split_re_begin(re, &w, buf_span(&text), &e), 0);
        const uint8_t *base = (const uint8_t *)text.p, *p = base, *end = p + text.n;
        size_t from = 0, lo, hi;
        while (p < end) {
            assert_int_equal(split_re_next(re, &w, from, &lo, &hi, &e), 1);
            const uint8_t *q = split_llama3(p, end, 3);
            if (base + w.at[lo] != p || base + w.at[hi] != q)
                fail_msg("%s: at byte %zu the hand ends at %zu, the pattern at %u", around[k],
                         (size_t)(p - base), (size_t)(q - base), w.at[hi]);
            p = q, from = hi;
        }
        split_work_free(&w);
    }
    buf_free(&text);
    split_re_free(re);
}

static void patterns_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "(?<x>a)", "\\bx", "[a[b]]", "\\p{Greek}", "(a", "a)", "[a",
        "\\1", "(?i)x", "\\", "[\\p{L}&&a]", "x{,a}", "[α-ω]", "\\p", "\\x{110000}" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dr_err e = {0};
        split_re *re = split_re_new(span_of(bad[i]), &e);
        if (re) fail_msg("\"%s\" was taken", bad[i]);
        assert_true(e.code == DR_EUNSUPPORTED || e.code == DR_EFORMAT);
    }
}

/* One spot of a file changed; the sentence must name what is wrong. */
static void refuse(const char *path, const char *from, const char *to, const char *says)
{
    os_file f = {0};
    dr_err e = {0};
    assert_int_equal(os_map(&f, path, &e), 0);
    buf b = { .cap_max = 1 << 20 };
    const char *p = (const char *)f.p, *at = NULL;
    size_t n = strlen(from);
    for (size_t i = 0; i + n <= f.n && !at; i++)
        if (!memcmp(p + i, from, n)) at = p + i;
    if (!at) fail_msg("%s has no %s", path, from);
    buf_put(&b, p, (size_t)(at - p));
    buf_puts(&b, to);
    buf_put(&b, at + n, f.n - n - (size_t)(at - p));
    tokenizer *t = tok_from_bytes(buf_span(&b), &e);
    if (t) fail_msg("%s with %s was taken", path, to);
    if (!strstr(e.msg, says)) fail_msg("\"%s\" does not say \"%s\"", e.msg, says);
    buf_free(&b);
    os_unmap(&f);
}

static void unknown_is_refused(void **state)
{
    (void)state;
    refuse(DIR "small.gguf", "smollm", "smallm", "\"smallm\"");
    refuse(DIR "small.gguf", "gpt2", "bert", "\"bert\"");
    refuse(DIR "small.json", "\"BPE\"", "\"WordPiece\"", "WordPiece");
    refuse(DIR "small.json", "\"type\": \"Split\"", "\"type\": \"Punctuation\"", "Punctuation");
    refuse(DIR "small.json", "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}", "NFC");
    refuse(DIR "small.json", "\"Isolated\"", "\"Isolation\"", "Isolation");
    refuse(DIR "small.json", "\"use_regex\"", "\"use_magic\"", "use_magic");
    refuse(DIR "small.json", "\"fuse_unk\"", "\"fuse_all\"", "fuse_all");
    refuse(DIR "small.json", "\"dropout\": null", "\"dropout\": 0.1", "dropout");
    refuse(DIR "small.json", "\"padding\"", "\"pudding\"", "pudding");
    refuse(DIR "small.tiktoken", " 300\n", " 301\n", "twice");
}

static void one_hostile(const uint8_t *p, size_t n)
{
    dr_err e = {0};
    size_t held = mem_live_bytes();
    mem_peak_reset();
    tokenizer *t = tok_from_bytes((span){ (const char *)p, n }, &e);
    if (mem_peak_bytes() - held > 2 * n + (4 << 20))
        fail_msg("%zu bytes held for a file of %zu", mem_peak_bytes() - held, n);
    if (!t) assert_int_not_equal(e.code, 0);
    if (t) {
        ids v = {0};
        buf out = { .cap_max = 1 << 16 };
        if (!tok_encode(t, span_of("The herd's 12 dogs <|eot_id|>\n"), TOK_BOS, &v, &e))
            tok_decode(t, v.p, v.n, true, &out, &e);
        ids_free(&v);
        buf_free(&out);
    }
    tok_free(t);
    assert_int_equal(mem_live_bytes(), held);
}

static void hostile(void **state)
{
    (void)state;
    for (int i = 0; i < N_FILES; i++) {
        os_file f = {0};
        dr_err e = {0};
        assert_int_equal(os_map(&f, files[i], &e), 0);
        uint8_t *p = mem_alloc(f.n);
        memcpy(p, f.p, f.n);
        size_t step = f.n / 1500 + 1;
        for (size_t n = 0; n < f.n; n += n < 300 ? 1 : step) {
            uint8_t *cut = mem_alloc(n);             /* exactly n, for the sanitizers */
            memcpy(cut, p, n);
            one_hostile(cut, n);
            mem_free(cut);
        }
        for (size_t at = 0; at < f.n; at += at < 300 ? 1 : step) {
            for (int bit = at < 300 ? 0 : (int)(at % 8); bit < 8; bit += at < 300 ? 1 : 8) {
                p[at] ^= (uint8_t)(1 << bit);
                one_hostile(p, f.n);
                p[at] ^= (uint8_t)(1 << bit);
            }
        }
        mem_free(p);
        os_unmap(&f);
    }
}

static void failing_allocations(void **state)
{
    (void)state;
    for (int i = 0; i < N_FILES; i++) {
        os_file f = {0};
        dr_err e = {0};
        assert_int_equal(os_map(&f, files[i], &e), 0);
        size_t held = mem_live_bytes();
        for (long k = 0;; k++) {
            e = (dr_err){0};
            mem_fail_after(k);
            tokenizer *t = tok_from_bytes((span){ (const char *)f.p, f.n }, &e);
            ids v = {0};
            int rc = t ? tok_encode(t, span_of("The herd's 12 dogs"), TOK_BOS, &v, &e) : e.code;
            mem_fail_after(-1);
            if (!t || rc) assert_int_equal(e.code, DR_ENOMEM);
            ids_free(&v);
            tok_free(t);
            assert_int_equal(mem_live_bytes(), held);
            if (!rc) break;
            assert_true(k < 20000);
        }
        os_unmap(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bos_once), cmocka_unit_test(control_needs_asking),
        cmocka_unit_test(user_tokens_always), cmocka_unit_test(any_bytes),
        cmocka_unit_test(whole_characters),
        cmocka_unit_test(broken_is_a_symbol), cmocka_unit_test(megabyte_of_one_letter),
        cmocka_unit_test(splitters_agree), cmocka_unit_test(patterns_refused),
        cmocka_unit_test(unknown_is_refused), cmocka_unit_test(hostile),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
