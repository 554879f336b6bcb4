/* test_batch.c - what a batch is checked for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "train/batch.h"

/* Two documents of 3 and 2 tokens, and one that goes on after the first. */
static int32_t tok[7], target[7], start[4], parent[3];
static float weight[7];
static batch b;

static int whole(void **state)
{
    (void)state;
    static const int32_t t0[7] = { 1, 2, 3, 4, 5, 6, 7 }, s0[4] = { 0, 3, 5, 7 },
                         p0[3] = { -1, -1, 0 };
    for (int i = 0; i < 7; i++) tok[i] = t0[i], target[i] = t0[i] + 1, weight[i] = 1;
    target[2] = -1;
    memcpy(start, s0, sizeof start);
    memcpy(parent, p0, sizeof parent);
    b = (batch){ 7, tok, target, weight, 3, start, parent };
    return 0;
}

static void good(void **state)
{
    (void)state;
    dr_err e = {0};
    assert_int_equal(batch_check(&b, 9, 5, &e), DR_OK);
    assert_true(batch_weight(&b) == 6);
    weight[0] = 0.25f, weight[2] = 100;                 // the third has no target
    assert_true(batch_weight(&b) == 5.25);
    b.weight = NULL;
    assert_true(batch_weight(&b) == 6);
    b.parent = NULL;
    assert_int_equal(batch_check(&b, 9, 3, &e), DR_OK);
}

static void bad(const char *says, int max_len)
{
    dr_err e = {0};
    assert_int_equal(batch_check(&b, 9, max_len, &e), DR_EINVAL);
    if (!strstr(e.msg, says)) fail_msg("\"%s\" does not say \"%s\"", e.msg, says);
    whole(NULL);
}

static void refused(void **state)
{
    (void)state;
    bad("position 5, 4 is the most", 4);
    parent[2] = -1, bad("position 3, 2 is the most", 2);
    tok[6] = 9, bad("token 6 is id 9", 9);
    tok[0] = -1, bad("token 0 is id -1", 9);
    target[1] = 9, bad("target of token 1 is id 9", 9);
    target[1] = -2, bad("target of token 1 is id -2", 9);
    weight[3] = -1, bad("token 3 has weight -1", 9);
    weight[3] = NAN, bad("token 3 has weight", 9);
    weight[3] = INFINITY, bad("token 3 has weight inf", 9);
    start[0] = 1, bad("cover tokens 1 to 7", 9);
    start[3] = 6, bad("cover tokens 0 to 6", 9);
    start[1] = 5, bad("document 1 has tokens 5 to 5", 9);
    start[1] = 6, bad("document 1 has tokens 6 to 5", 9);
    start[1] = 0, bad("document 0 has tokens 0 to 0", 9);
    start[2] = 9, bad("document 1 has tokens 3 to 9 of 7", 9);
    parent[2] = 2, bad("document 2 goes on from document 2", 9);
    parent[0] = -2, bad("document 0 goes on from document -2", 9);
    b.n = 0, bad("batch of 0 tokens", 9);
    b.n_docs = 0, bad("in 0 documents", 9);
    b.n_docs = 8, bad("in 8 documents", 9);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test_setup(good, whole), cmocka_unit_test_setup(refused, whole),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
