/* test_loader.c - the order of training data: everything once an epoch, the same for any number of
 * ranks and size of micro-batches, and again after a resume. Ids say where they come from
 * (shards.h). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "folder.h"
#include "base/buf.h"
#include "base/mem.h"
#include "shards.h"
#include "train/loader.h"

/* Source a: 3,000 documents in 4 shards; b: one shard alone of 700 short ones. */
enum { A_DOCS = 3000, A_MEAN = 60, B_DOCS = 700, B_MEAN = 12 };

static int data_up(void **state)
{
    if (folder_up(state)) return -1;
    shards_make(at("a"), 1, A_DOCS, A_MEAN, 800);
    shards_make(at("b.shard"), 2, B_DOCS, B_MEAN, 0);
    return 0;
}

static int data_down(void **state)
{
    wipe(at("a"));
    remove(at("b.shard"));
    return folder_down(state);
}

static loader *open_it(loader_opt *o, int seq, int rows, int micro)
{
    static loader_source both[2];
    dr_err e = {0};
    if (!o->src) {
        both[0] = (loader_source){ at("a"), 3 }, both[1] = (loader_source){ at("b.shard"), 1 };
        o->src = both;
        o->n_src = o->n_src ? o->n_src : 2;
    }
    o->phase.seq = seq, o->phase.rows = rows, o->phase.micro_rows = micro;
    loader *l = loader_open(o, &e);
    if (!l) fail_msg("%s", e.msg);
    return l;
}

/* Next step of this rank; its documents are appended to b as "id,id,…;" and rows are counted. */
static int step(loader *l, buf *out)
{
    dr_err e = {0};
    int n = loader_next(l, &e);
    if (n < 0) fail_msg("%s", e.msg);
    for (int i = 0; i < n; i++) {
        batch b;
        if (loader_batch(l, i, &b, &e)) fail_msg("%s", e.msg);
        if (batch_check(&b, SHARDS_VOCAB, SHARDS_LEN, &e)) fail_msg("%s", e.msg);
        for (int d = 0; d < b.n_docs; d++) {
            for (int k = b.doc_start[d]; k < b.doc_start[d + 1]; k++) {
                if (b.target[k] != b.tok[k] + 1) fail_msg("%d is to predict %d", b.tok[k], b.target[k]);
                if (k > b.doc_start[d] && b.tok[k] != b.tok[k - 1] + 1)
                    fail_msg("%d comes after %d", b.tok[k], b.tok[k - 1]);
                buf_printf(out, "%d,", b.tok[k]);
            }
            buf_putc(out, ';');
        }
    }
    return n;
}

/* One epoch of source a: each position of each document once, cut into pieces where it is too long,
 * rows as full as best fit makes them. */
static void once_each(int seq, bool once)
{
    loader_opt o = { .n_src = 1, .seed = 5, .once = once };
    loader *l = open_it(&o, seq, 1, 0);
    loader_stat st;
    static uint8_t seen[A_DOCS * SHARDS_LEN];
    static int docs_of[A_DOCS];
    memset(seen, 0, sizeof seen);
    memset(docs_of, 0, sizeof docs_of);
    dr_err e = {0};
    uint64_t positions = 0, want = 0, rows = 0;
    for (int d = 0; d < A_DOCS; d++) {
        int n = shards_len(1, d, A_MEAN);
        want += n > 1 ? (uint64_t)n - 1 : 0;
    }
    loader_source_stat(l, 0, &st);
    assert_int_equal(st.positions, want);
    assert_int_equal(st.docs, A_DOCS);
    assert_true(st.epoch == 0);
    while (positions < want) {
        batch b;
        assert_int_equal(loader_next(l, &e), 1);
        assert_int_equal(loader_rows(l), 1);
        if (loader_batch(l, 0, &b, &e)) fail_msg("%s", e.msg);
        assert_true(b.n <= seq);
        for (int k = 0; k < b.n; k++) {
            if (seen[b.tok[k]]) fail_msg("id %d comes twice", b.tok[k]);
            seen[b.tok[k]] = 1;
        }
        for (int d = 0; d < b.n_docs; d++) docs_of[b.tok[b.doc_start[d]] / SHARDS_LEN]++;
        positions += (uint64_t)b.n;
        rows++;
    }
    assert_int_equal(positions, want);
    for (int d = 0; d < A_DOCS; d++) {
        int n = shards_len(1, d, A_MEAN) - 1;
        assert_int_equal(docs_of[d], n > 0 ? (n + seq - 1) / seq : 0);
    }
    double fill = (double)positions / (double)(rows * (uint64_t)seq);
    if (fill < 0.97) fail_msg("rows of %d are filled to %g", seq, fill);
    loader_source_stat(l, 0, &st);
    if (once) {
        assert_int_equal(loader_next(l, &e), 0);
        assert_int_equal(loader_rows(l), 0);
        assert_int_equal(loader_next(l, &e), 0);
    } else {
        assert_true(st.epoch == 1);
        batch b;
        assert_int_equal(loader_next(l, &e), 1);         /* and the next epoch begins */
        assert_int_equal(loader_batch(l, 0, &b, &e), DR_OK);
    }
    loader_free(l);
}

static void everything_once(void **state)
{
    (void)state;
    once_each(256, false), once_each(40, false), once_each(1024, false), once_each(1, false);
    once_each(256, true), once_each(40, true);
}

/* How many rows of the epoch that l is about to read are in `rows` as they are; all of them are added
 * to `out`. */
static int rows_again(loader *l, const buf *rows, buf *out, int *n_rows)
{
    loader_stat st;
    buf row = { .cap_max = 1 << 20 };
    int again = 0;
    loader_source_stat(l, 0, &st);
    double end = floor(st.epoch + 1e-9) + 1;
    for (*n_rows = 0; st.epoch < end; ++*n_rows) {
        buf_reset(&row);
        step(l, &row);
        again += rows && strstr(rows->p, buf_str(&row)) != NULL;
        buf_put(out, row.p, row.n);
        loader_source_stat(l, 0, &st);
    }
    buf_free(&row);
    return again;
}

/* Another epoch and another seed have other rows, and the order of a window's rows is another, too. */
static void epochs_differ(void **state)
{
    (void)state;
    loader_opt o = { .n_src = 1, .seed = 5 }, p = { .n_src = 1, .seed = 6 };
    loader *l = open_it(&o, 256, 1, 0), *m = open_it(&p, 256, 1, 0);
    buf first = { .cap_max = 1 << 24 }, second = first, other = first;
    int n, k;
    rows_again(l, NULL, &first, &n);
    k = rows_again(l, &first, &second, &n);
    if (k > n / 10) fail_msg("%d of %d rows of the second epoch are rows of the first", k, n);
    k = rows_again(m, &first, &other, &n);
    if (k > n / 10) fail_msg("%d of %d rows with another seed are the same", k, n);
    int32_t falls = 0, before = 0;                        /* packing goes from long to short */
    for (const char *s = buf_str(&first), *e; (e = strchr(s, ';')); s = e + 1) {
        falls += e - s > before;
        before = (int32_t)(e - s);
    }
    assert_true(falls > 100);
    buf_free(&first), buf_free(&second), buf_free(&other);
    loader_free(l), loader_free(m);
}

/* The documents of n_steps steps, in order, over all ranks. */
static void run(buf *out, int n_ranks, int micro, int n_steps, const loader_state *from, int rows)
{
    *out = (buf){ .cap_max = 1 << 24 };
    loader *l[8];
    dr_err e = {0};
    for (int r = 0; r < n_ranks; r++) {
        loader_opt o = { .seed = 11, .rank = r, .n_ranks = n_ranks };
        l[r] = open_it(&o, 128, rows, micro);
        if (from && loader_seek(l[r], from, &e)) fail_msg("%s", e.msg);
    }
    for (int s = 0; s < n_steps; s++)
        for (int r = 0; r < n_ranks; r++) {
            int n = step(l[r], out), own = rows * (r + 1) / n_ranks - rows * r / n_ranks;
            assert_int_equal(n, micro ? (own + micro - 1) / micro : own > 0);
            assert_int_equal(loader_rows(l[r]), rows);
        }
    for (int r = 0; r < n_ranks; r++) loader_free(l[r]);
}

static void same_for_all_ranks(void **state)
{
    (void)state;
    buf one_rank, other;
    enum { ROWS = 10, STEPS = 300 };                     /* several epochs of both sources */
    run(&one_rank, 1, 0, STEPS, NULL, ROWS);
    static const int ranks[] = { 1, 1, 2, 3, 4, 7 }, micro[] = { 1, 3, 2, 0, 1, 4 };
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
        run(&other, ranks[i], micro[i], STEPS, NULL, ROWS);
        if (strcmp(buf_str(&one_rank), buf_str(&other)))
            fail_msg("%d ranks with %d rows a micro-batch have another order", ranks[i], micro[i]);
        buf_free(&other);
    }
    buf_free(&one_rank);
    run(&one_rank, 5, 0, 3, NULL, 3);                    /* ranks that have nothing to do */
    run(&other, 1, 0, 3, NULL, 3);
    assert_string_equal(buf_str(&one_rank), buf_str(&other));
    buf_free(&one_rank), buf_free(&other);
}

/* Evaluation by several ranks: together they read what one does, the last step being short. */
static void once_by_ranks(void **state)
{
    (void)state;
    buf all[2] = { { .cap_max = 1 << 24 }, { .cap_max = 1 << 24 } };
    for (int k = 0; k < 2; k++) {
        loader *l[3];
        int ranks = k ? 3 : 1, rows;
        for (int r = 0; r < ranks; r++)
            l[r] = open_it(&(loader_opt){ .once = true, .rank = r, .n_ranks = ranks }, 100, 16, 3);
        do {
            for (int r = 0; r < ranks; r++) step(l[r], &all[k]);
            rows = loader_rows(l[0]);
            for (int r = 0; r < ranks; r++) assert_int_equal(loader_rows(l[r]), rows);
        } while (rows);
        for (int r = 0; r < ranks; r++) loader_free(l[r]);
    }
    assert_true(all[0].n > 100000);
    assert_string_equal(buf_str(&all[0]), buf_str(&all[1]));
    buf_free(&all[0]), buf_free(&all[1]);
}

/* A run that a later version resumes must go on in the same order: that of these steps is pinned. */
static void order_stays(void **state)
{
    (void)state;
    buf b;
    char hex[HASH_HEX];
    dr_err e = {0};
    run(&b, 1, 0, 60, NULL, 10);
    assert_int_equal(hash_bytes(buf_str(&b), b.n, hex, &e), DR_OK);
    assert_string_equal(hex, "c132772047b3a7d96b58858571d2e25384ebc5f9345fb0e239d3912752f2245f");
    buf_free(&b);
}

static void resumes(void **state)
{
    (void)state;
    buf whole, tail;
    enum { ROWS = 10, STEPS = 120 };
    run(&whole, 1, 0, STEPS, NULL, ROWS);
    loader_opt o = { .seed = 11 };
    loader *l = open_it(&o, 128, ROWS, 0);
    buf head = { .cap_max = 1 << 24 };
    for (int s = 0; s < STEPS; s++) {
        loader_state st;
        loader_tell(l, &st);
        if (s % 17 == 0) {
            int ranks = 1 + s / 17 % 4;
            run(&tail, ranks, 0, STEPS - s, &st, ROWS);
            assert_string_equal(buf_str(&tail), buf_str(&whole) + head.n);
            buf_free(&tail);
        }
        step(l, &head);
    }
    assert_string_equal(buf_str(&head), buf_str(&whole));
    /* the start again, and the same loader back and forth */
    dr_err e = {0};
    assert_int_equal(loader_seek(l, &(loader_state){0}, &e), DR_OK);
    buf_reset(&head);
    step(l, &head);
    assert_memory_equal(buf_str(&head), buf_str(&whole), head.n);
    loader_free(l);
    buf_free(&head), buf_free(&whole);
}

/* A mixture's shares are near its weights from the start. */
static void mixtures(void **state)
{
    (void)state;
    static const double w[3] = { 0.7, 0.25, 0.05 };
    loader_source src[3] = { { at("a"), w[0] * 8 }, { at("b.shard"), w[1] * 8 }, { at("a"), w[2] * 8 } };
    loader_opt o = { .src = src, .n_src = 3, .seed = 3 };
    loader *l = open_it(&o, 256, 1, 0);
    dr_err e = {0};
    double worst = 0;
    int have[3] = {0};
    loader_state was, is;
    loader_tell(l, &was);
    for (int g = 1; g <= 5000; g++) {
        assert_int_equal(loader_next(l, &e), 1);
        loader_tell(l, &is);
        assert_int_equal(is.row, g);
        int moved = 0;
        for (int s = 0; s < 3; s++)
            if (is.at[s] != was.at[s]) have[s]++, moved++;
        assert_int_equal(moved, 1);
        was = is;
        for (int s = 0; s < 3; s++) {
            double off = fabs(have[s] - w[s] * g);
            worst = off > worst ? off : worst;
        }
    }
    if (worst > 6) fail_msg("a share is %g rows off its weight", worst);
    /* another phase: the second source alone */
    loader_phase p = { .seq = 256, .rows = 4, .weight = { 0, 1, 0 } };
    assert_int_equal(loader_set_phase(l, &p, &e), DR_OK);
    for (int g = 0; g < 50; g++) assert_int_equal(loader_next(l, &e), 1);
    loader_tell(l, &is);
    assert_int_equal(is.at[0], was.at[0]);
    assert_int_equal(is.at[2], was.at[2]);
    assert_int_not_equal(is.at[1], was.at[1]);
    assert_int_equal(is.row, 5200);
    loader_free(l);
}

/* Mark what a step has; nothing may come twice. */
static void mark(loader *l, uint8_t *seen)
{
    dr_err e = {0};
    batch b;
    int n = loader_next(l, &e);
    for (int i = 0; i < n; i++) {
        if (loader_batch(l, i, &b, &e)) fail_msg("%s", e.msg);
        for (int k = 0; k < b.n; k++) {
            if (seen[b.tok[k]]) fail_msg("id %d comes twice", b.tok[k]);
            seen[b.tok[k]] = 1;
        }
    }
}

/* A source of three windows, and a phase of longer rows that begins in the middle of the first: the
 * other two follow, whole, and nothing that was read comes again before the epoch's end. */
static void phases(void **state)
{
    (void)state;
    enum { DOCS = 40000 };
    static uint8_t seen[DOCS * SHARDS_LEN];
    dr_err e = {0};
    shards_make(at("c.shard"), 9, DOCS, 8, 0);
    loader_source src[1] = { { at("c.shard"), 1 } };
    loader_opt o = { .src = src, .n_src = 1, .seed = 3 };
    loader *l = open_it(&o, 64, 5, 0);
    loader_state s;
    loader_stat st;
    loader_phase p = { .seq = 64, .rows = 7, .micro_rows = 2 };
    for (int k = 0; k < 3; k++) mark(l, seen);
    loader_tell(l, &s);
    assert_int_equal(s.at[0], 15);
    assert_int_equal(loader_set_phase(l, &p, &e), DR_OK);     /* the same rows go on */
    mark(l, seen);
    loader_tell(l, &s);
    assert_int_equal(s.at[0], 22);
    p.seq = 100;
    assert_int_equal(loader_set_phase(l, &p, &e), DR_OK);
    loader_tell(l, &s);
    assert_int_equal(s.at[0], (uint64_t)1 << 32);
    loader *m = open_it(&(loader_opt){ .src = src, .n_src = 1, .seed = 3 }, 100, 7, 0);
    assert_int_equal(loader_seek(m, &s, &e), DR_OK);
    buf x = { .cap_max = 1 << 20 }, y = x;
    step(l, &x), step(m, &y);
    assert_string_equal(buf_str(&x), buf_str(&y));
    buf_free(&x), buf_free(&y);
    loader_free(m);

    /* and where a window is packed, but nothing of it was read */
    assert_int_equal(loader_seek(l, &(loader_state){0}, &e), DR_OK);
    p.seq = 64;
    assert_int_equal(loader_set_phase(l, &p, &e), DR_OK);
    m = open_it(&(loader_opt){ .src = src, .n_src = 1, .seed = 3 }, 64, 7, 0);
    x = y = (buf){ .cap_max = 1 << 20 };
    step(l, &x), step(m, &y);
    assert_string_equal(buf_str(&x), buf_str(&y));
    buf_free(&x), buf_free(&y);
    loader_free(m);

    p.rows = 1, p.seq = 100;
    assert_int_equal(loader_set_phase(l, &p, &e), DR_OK);
    do mark(l, seen), loader_source_stat(l, 0, &st);
    while (st.epoch < 1);
    int docs = 0, all = 0, read = 0;
    for (int d = 0; d < DOCS; d++) {
        int n = shards_len(9, d, 8);
        all += n > 1;
        read += n > 1 && seen[d * SHARDS_LEN + n - 2];
        docs += n > 1 && seen[d * SHARDS_LEN];
    }
    assert_int_equal(docs, read);
    /* two windows of three in which 40000 - 16384 documents are, and 22 rows of the first */
    int two = all * (DOCS - LOADER_WINDOW) / DOCS;
    if (docs < two - 200 || docs > two + 22 * 20) fail_msg("%d documents were read, about %d wanted", docs, two);
    assert_true(all > 25000);
    loader_free(l);
    remove(at("c.shard"));
}

/* A whole epoch of several windows. */
static void windows(void **state)
{
    (void)state;
    enum { DOCS = 40000 };
    static uint8_t seen[DOCS * SHARDS_LEN];
    shards_make(at("c"), 10, DOCS, 8, 15000);
    loader_source src[1] = { { at("c"), 1 } };
    loader_opt o = { .src = src, .n_src = 1, .seed = 3 };
    loader *l = open_it(&o, 64, 1, 0);
    loader_stat st;
    do mark(l, seen), loader_source_stat(l, 0, &st);
    while (st.epoch < 1);
    assert_true(st.epoch == 1);
    for (int d = 0; d < DOCS; d++)
        for (int i = 0, n = shards_len(10, d, 8); i < n; i++)
            if (seen[d * SHARDS_LEN + i] != (i < n - 1)) fail_msg("document %d, id %d", d, i);
    loader_free(l);
    wipe(at("c"));
}

static void fails(loader_opt o, int code, const char *says)
{
    dr_err e = {0};
    if (!o.phase.seq) o.phase.seq = 64;
    if (!o.phase.rows) o.phase.rows = 2;
    assert_null(loader_open(&o, &e));
    assert_int_equal(e.code, code);
    if (!strstr(e.msg, says)) fail_msg("\"%s\" does not say \"%s\"", e.msg, says);
}

static void refused(void **state)
{
    (void)state;
    loader_source a[2] = { { at("a"), 1 }, { at("b.shard"), 1 } }, none[1] = { { at("no"), 1 } };
    fails((loader_opt){ .src = a }, DR_EINVAL, "0 sources");
    fails((loader_opt){ .src = a, .n_src = 65 }, DR_EINVAL, "65 sources");
    fails((loader_opt){ .src = a, .n_src = 1, .rank = 2, .n_ranks = 2 }, DR_EINVAL, "rank 2 of 2");
    fails((loader_opt){ .src = none, .n_src = 1 }, DR_EIO, "no");
    fails((loader_opt){ .src = a, .n_src = 1, .vocab = 1000 }, DR_EINVAL, "the model's vocabulary 1000");
    fails((loader_opt){ .src = a, .n_src = 1, .phase = { .seq = -1 } }, DR_EINVAL, "rows of -1 tokens");
    fails((loader_opt){ .src = a, .n_src = 1, .phase = { .rows = -1 } }, DR_EINVAL, "a step of -1");
    fails((loader_opt){ .src = a, .n_src = 1, .phase = { .micro_rows = -1 } }, DR_EINVAL,
          "micro-batch of -1");
    fails((loader_opt){ .src = a, .n_src = 1, .phase = { .seq = 1 << 20, .rows = 1 << 12 } }, DR_EINVAL,
          "is too large");
    fails((loader_opt){ .src = a, .n_src = 1, .phase = { .weight = { -1 } } }, DR_EINVAL, "weight -1");
    a[1].weight = NAN;
    fails((loader_opt){ .src = a, .n_src = 2 }, DR_EINVAL, "has weight nan");
    a[1].weight = 0;
    fails((loader_opt){ .src = a, .n_src = 2 }, DR_EINVAL, "has weight 0");
    shards_make(at("short.shard"), 1, 1, 1, 0);           /* one document, of less than two ids */
    loader_source s[1] = { { at("short.shard"), 1 } };
    fails((loader_opt){ .src = s, .n_src = 1 }, DR_EINVAL, "no document of two tokens");
    remove(at("short.shard"));

    loader_opt o = { .seed = 1 };
    loader *l = open_it(&o, 128, 4, 0);
    dr_err e = {0};
    assert_int_equal(loader_seek(l, &(loader_state){ .n = 1, .row = 3 }, &e), DR_EINVAL);
    e = (dr_err){0};
    assert_int_equal(loader_seek(l, &(loader_state){ .n = 2, .at = { 100000 } }, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "row 100000"));
    loader_free(l);
}

/* The tokenizer that the shards name must be the model's, and damage is found on the way. */
static void broken(void **state)
{
    (void)state;
    dr_err e = {0};
    shard_out o;
    shard_info info = { .vocab = 300 };
    char sha[HASH_HEX];
    memset(sha, 'a', sizeof sha - 1), sha[sizeof sha - 1] = 0;
    memcpy(info.tokenizer, sha, sizeof sha);
    static int32_t id[50000];
    assert_int_equal(shard_out_open(&o, at("t.shard"), &info, &e), DR_OK);
    for (int d = 0; d < 4; d++) assert_int_equal(shard_out_doc(&o, id, 50000, &e), DR_OK);
    assert_int_equal(shard_out_keep(&o, true, &e), DR_OK);
    loader_source src[1] = { { at("t.shard"), 1 } };
    sha[5] = 'b';
    fails((loader_opt){ .src = src, .n_src = 1, .tokenizer = sha }, DR_EINVAL, "another tokenizer");
    sha[5] = 'a';
    loader_opt lo = { .src = src, .n_src = 1, .tokenizer = sha };
    loader_free(open_it(&lo, 128, 4, 0));

    buf b = { .cap_max = 1 << 20 };
    assert_int_equal(os_read(&b, at("t.shard"), &e), DR_OK);
    b.p[200000] = 7;
    assert_int_equal(os_write(at("t.shard"), b.p, b.n, &e), DR_OK);
    buf_free(&b);
    loader *l = open_it(&lo, 1024, 4, 0);
    int rc = 0;
    for (int s = 0; s < 60 && rc >= 0; s++) {
        batch x;
        rc = loader_next(l, &e);
        if (rc >= 0) rc = loader_batch(l, 0, &x, &e);
    }
    assert_int_equal(rc, DR_EFORMAT);
    assert_non_null(strstr(e.msg, "t.shard is damaged at byte 196736"));
    loader_free(l);
    remove(at("t.shard"));
}

static void without_memory(void **state)
{
    (void)state;
    size_t live = mem_live_bytes();
    for (long k = 0; ; k++) {
        assert_true(k < 1000);
        loader_source src[2] = { { at("a"), 1 }, { at("b.shard"), 1 } };
        loader_opt o = { .src = src, .n_src = 2, .phase = { .seq = 64, .rows = 400 } };
        dr_err e = {0};
        batch b;
        mem_fail_after(k);
        loader *l = loader_open(&o, &e);
        int rc = l ? loader_next(l, &e) : e.code;
        if (rc >= 0) rc = loader_batch(l, 0, &b, &e);
        mem_fail_after(-1);
        loader_free(l);
        assert_int_equal(mem_live_bytes(), live);
        if (rc >= 0) break;
        if (rc != DR_ENOMEM) fail_msg("allocation %ld fails: code %d, %s", k, rc, e.msg);
    }
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(everything_once), cmocka_unit_test(epochs_differ),
        cmocka_unit_test(same_for_all_ranks), cmocka_unit_test(once_by_ranks), cmocka_unit_test(order_stays), cmocka_unit_test(resumes), cmocka_unit_test(mixtures),
        cmocka_unit_test(phases), cmocka_unit_test(windows),
        cmocka_unit_test(refused), cmocka_unit_test(broken),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(t, data_up, data_down);
}
