/* utf8.h - strict UTF-8 (RFC 3629: no overlong forms, no surrogates). A byte that begins no
 * well-formed character is one character of its own, of value UTF8_BAD. */
#ifndef TEXT_UTF8_H
#define TEXT_UTF8_H
#include <stddef.h>
#include <stdint.h>

enum { UTF8_BAD = 0x110000 };

/* The character at p (p < end); *n is its length in bytes, 1 when ill-formed. */
static inline uint32_t utf8_get(const uint8_t *p, const uint8_t *end, int *n)
{
    uint32_t a = p[0];
    size_t left = (size_t)(end - p);
    *n = 1;
    if (a < 0x80) return a;
    if (a >= 0xc2 && a < 0xe0) {
        if (left < 2 || (p[1] & 0xc0) != 0x80) return UTF8_BAD;
        *n = 2;
        return (a & 31) << 6 | (p[1] & 63);
    }
    if (a >= 0xe0 && a < 0xf0) {
        if (left < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) return UTF8_BAD;
        uint32_t c = (a & 15) << 12 | (uint32_t)(p[1] & 63) << 6 | (p[2] & 63);
        if (c < 0x800 || (c >= 0xd800 && c < 0xe000)) return UTF8_BAD;
        *n = 3;
        return c;
    }
    if (a >= 0xf0 && a < 0xf5) {
        if (left < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
            return UTF8_BAD;
        uint32_t c = (a & 7) << 18 | (uint32_t)(p[1] & 63) << 12 | (uint32_t)(p[2] & 63) << 6 |
                     (p[3] & 63);
        if (c < 0x10000 || c > 0x10ffff) return UTF8_BAD;
        *n = 4;
        return c;
    }
    return UTF8_BAD;
}

/* Write c (below 0x110000); returns the bytes written, at most 4. */
static inline int utf8_put(uint8_t *p, uint32_t c)
{
    if (c < 0x80) { p[0] = (uint8_t)c; return 1; }
    if (c < 0x800) {
        p[0] = (uint8_t)(0xc0 | c >> 6), p[1] = (uint8_t)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        p[0] = (uint8_t)(0xe0 | c >> 12), p[1] = (uint8_t)(0x80 | (c >> 6 & 63));
        p[2] = (uint8_t)(0x80 | (c & 63));
        return 3;
    }
    p[0] = (uint8_t)(0xf0 | c >> 18), p[1] = (uint8_t)(0x80 | (c >> 12 & 63));
    p[2] = (uint8_t)(0x80 | (c >> 6 & 63)), p[3] = (uint8_t)(0x80 | (c & 63));
    return 4;
}

/* How many bytes at the end of p[0..n) begin a character that more bytes could complete: 0-3. */
static inline int utf8_unfinished(const uint8_t *p, size_t n)
{
    for (int k = 1; k <= 3 && (size_t)k <= n; k++) {
        uint8_t a = p[n - (size_t)k];
        if ((a & 0xc0) == 0x80) continue;
        int want = a < 0xc2 || a > 0xf4 ? 0 : a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
        if (k >= want) return 0;
        if (k >= 2) {                        /* the second byte may already rule it out */
            uint8_t b = p[n - (size_t)k + 1];
            if ((a == 0xe0 && b < 0xa0) || (a == 0xed && b > 0x9f) || (a == 0xf0 && b < 0x90) ||
                (a == 0xf4 && b > 0x8f)) return 0;
        }
        return k;
    }
    return 0;
}
#endif
