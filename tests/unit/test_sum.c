/* test_sum.c - base/sum.h: against the same arithmetic in Python's whole numbers, and what a
 * checksum is for: a bit, two words that changed places, zeros behind the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/sum.h"

static unsigned char text[1024 + 8];

static void fill(unsigned char *p)
{
    for (int i = 0; i < 1000; i++) p[i] = (unsigned char)(i * 7 + 3);
}

static void known(void **state)
{
    (void)state;
    static const struct { size_t n; uint32_t want; } kat[] = {
        { 0, 0x42f7109d }, { 1, 0xdb87980a }, { 63, 0xf8b096cf }, { 64, 0x22962b02 },
        { 65, 0xb637986a }, { 1000, 0x134c3a4f },
    };
    for (int at = 0; at < 8; at++)               /* from any address */
        for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
            fill(text + at);
            assert_int_equal(sum_bytes(text + at, kat[i].n), kat[i].want);
        }
}

static void differs(void **state)
{
    (void)state;
    fill(text);
    uint32_t whole = sum_bytes(text, 1000);
    for (int i = 0; i < 8000; i++) {
        text[i / 8] ^= (unsigned char)(1 << i % 8);
        assert_int_not_equal(sum_bytes(text, 1000), whole);
        text[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    for (int i = 0; i + 8 <= 1000; i += 8)
        for (int k = i + 8; k + 8 <= 1000; k += 8) {
            unsigned char a[8], b[8];
            memcpy(a, text + i, 8), memcpy(b, text + k, 8);
            if (!memcmp(a, b, 8)) continue;
            memcpy(text + i, b, 8), memcpy(text + k, a, 8);
            assert_int_not_equal(sum_bytes(text, 1000), whole);
            memcpy(text + i, a, 8), memcpy(text + k, b, 8);
        }
    memset(text, 0, sizeof text);
    for (size_t n = 0; n < 200; n++)
        for (size_t m = 0; m < n; m++) assert_int_not_equal(sum_bytes(text, n), sum_bytes(text, m));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(known), cmocka_unit_test(differs) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
