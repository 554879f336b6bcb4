/* unicode.h - what kind of character a code point is, in the one Unicode version that tiktoken's
 * regex engine has (unicode_data.c, made by tools/gen_unicode.py).
 * A table entry: general category in 5 bits, then White_Space, \w, and "a digit for Digits". */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H
#include <stdbool.h>
#include <stdint.h>

enum {                          /* general categories, as the tables number them */
    GC_CN, GC_LU, GC_LL, GC_LT, GC_LM, GC_LO, GC_MN, GC_MC, GC_ME, GC_ND, GC_NL, GC_NO,
    GC_PC, GC_PD, GC_PS, GC_PE, GC_PI, GC_PF, GC_PO, GC_SM, GC_SC, GC_SK, GC_SO,
    GC_ZS, GC_ZL, GC_ZP, GC_CC, GC_CF, GC_CO, GC_CS, GC_N
};
enum { UC_GC = 31, UC_SPACE = 32, UC_WORD = 64, UC_DIGIT = 128 };
#define UC_LETTERS (1u << GC_LU | 1u << GC_LL | 1u << GC_LT | 1u << GC_LM | 1u << GC_LO)
#define UC_NUMBERS (1u << GC_ND | 1u << GC_NL | 1u << GC_NO)

extern const char uc_version[];             /* "Unicode 16.0.0" */
extern const uint16_t uc_index[0x110000 / 128];
extern const uint8_t uc_block[][128];

/* c must be below 0x110000. */
static inline uint8_t uc_props(uint32_t c) { return uc_block[uc_index[c >> 7]][c & 127]; }
static inline bool uc_in(uint32_t c, uint32_t categories)
{
    return categories >> (uc_props(c) & UC_GC) & 1;
}
#endif
