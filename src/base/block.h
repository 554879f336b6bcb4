/* block.h - the weight types and their bytes, shared by format (which reads files) and kern
 * (which multiplies). Numbers are GGUF's (spec: gguf-py constants.py, GGMLQuantizationType). A
 * row of K weights is K / type_info.elems blocks, contiguous. d, dmin, m are IEEE f16 bits.
 *
 * To add a type: a struct and its static_assert here, a row in type_table (block.c), a
 * dequantiser in format/dequant.c, a row in docs/numerics.md, and its kernels in kern/. */
#ifndef BASE_BLOCK_H
#define BASE_BLOCK_H
#include <stddef.h>
#include <stdint.h>

typedef enum {
    DT_F32 = 0, DT_F16 = 1, DT_Q4_0 = 2, DT_Q4_1 = 3, DT_Q5_0 = 6, DT_Q5_1 = 7, DT_Q8_0 = 8,
    DT_Q2_K = 10, DT_Q3_K = 11, DT_Q4_K = 12, DT_Q5_K = 13, DT_Q6_K = 14, DT_BF16 = 30
} dtype;

typedef struct {
    dtype type;
    const char *name;        /* "Q4_K", as GGUF users write it */
    int elems;               /* weights in a block: 1, 32 or 256 */
    int bytes;               /* bytes in a block */
} type_info;

extern const type_info type_table[];
extern const int n_types;
const type_info *type_get(int type);               /* NULL: not a type that runs */
const type_info *type_by_name(const char *name);   /* any case; NULL: unknown */
/* Bytes of a row of K weights; K must be a multiple of the block (else 0). */
size_t type_row_bytes(int type, int64_t K);

/* y = d * (q - 8); byte j holds weights j (low nibble) and j+16 (high). */
typedef struct { uint16_t d; uint8_t qs[16]; } block_q4_0;
/* y = d * q + m; nibbles as Q4_0. */
typedef struct { uint16_t d, m; uint8_t qs[16]; } block_q4_1;
/* y = d * (q - 16); bit j of the little-endian word qh is weight j's fifth bit. */
typedef struct { uint16_t d; uint8_t qh[4]; uint8_t qs[16]; } block_q5_0;
/* y = d * q + m */
typedef struct { uint16_t d, m; uint8_t qh[4]; uint8_t qs[16]; } block_q5_1;
/* y = d * q */
typedef struct { uint16_t d; int8_t qs[32]; } block_q8_0;
/* 16 groups of 16: y = d*(scales&15)*q - dmin*(scales>>4); weight 128h+32j+l: qs[32h+l]>>2j & 3 */
typedef struct { uint8_t scales[16]; uint8_t qs[64]; uint16_t d, dmin; } block_q2_k;
/* 16 groups of 16: y = d*(sc-32)*q, q in -4..3: low two bits as Q2_K; bit 4h+j of hmask[l]
 * set means +0, clear means -4. sc of group g has 6 bits, as block_k3_scale unpacks them */
typedef struct { uint8_t hmask[32]; uint8_t qs[64]; uint8_t scales[12]; uint16_t d; } block_q3_k;
/* 8 groups of 32: y = d*sc*q - dmin*mn; weight 64h+l: qs[32h+l]&15, 64h+32+l: >>4;
 * sc and mn are 6 bits, packed in scales as block_k4_scale unpacks them */
typedef struct { uint16_t d, dmin; uint8_t scales[12]; uint8_t qs[128]; } block_q4_k;
/* as Q4_K with a fifth bit: weight 32g+l has it in bit g of qh[l] */
typedef struct {
    uint16_t d, dmin;
    uint8_t scales[12], qh[32], qs[128];
} block_q5_k;
/* 16 groups of 16: y = d*sc*(q-32); for half h: low nibbles ql[64h+l], ql[64h+32+l], high
 * nibbles of the same for weights +64, +96; two top bits in qh[32h+l] >> 0, 2, 4, 6 */
typedef struct { uint8_t ql[128]; uint8_t qh[64]; int8_t scales[16]; uint16_t d; } block_q6_k;

_Static_assert(sizeof(block_q4_0) == 18 && sizeof(block_q4_1) == 20, "Q4 layout");
_Static_assert(sizeof(block_q5_0) == 22 && sizeof(block_q5_1) == 24, "Q5 layout");
_Static_assert(sizeof(block_q8_0) == 34, "Q8_0 layout");
_Static_assert(sizeof(block_q2_k) == 84 && sizeof(block_q3_k) == 110, "Q2_K, Q3_K layout");
_Static_assert(sizeof(block_q4_k) == 144 && sizeof(block_q5_k) == 176, "Q4_K, Q5_K layout");
_Static_assert(sizeof(block_q6_k) == 210, "Q6_K layout");

/* The 6-bit scale and minimum of group g of a Q4_K or Q5_K super-block. */
static inline void block_k4_scale(const uint8_t *s, int g, int *sc, int *mn)
{
    if (g < 4) {
        *sc = s[g] & 63, *mn = s[g + 4] & 63;
    } else {
        *sc = (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
        *mn = (s[g + 4] >> 4) | (s[g] >> 6) << 4;
    }
}

/* The 6-bit scale of group g of a Q3_K super-block, 0..63: low nibbles in bytes 0..7, top two
 * bits in bytes 8..11. */
static inline int block_k3_scale(const uint8_t *s, int g)
{
    return (s[g % 8] >> g / 8 * 4 & 15) | (s[8 + g % 4] >> g / 4 * 2 & 3) << 4;
}
#endif
