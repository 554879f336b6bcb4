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
    DT_Q2_K = 10, DT_Q3_K = 11, DT_Q4_K = 12, DT_Q5_K = 13, DT_Q6_K = 14, DT_IQ2_XXS = 16,
    DT_IQ2_XS = 17, DT_IQ3_XXS = 18, DT_IQ4_NL = 20, DT_IQ3_S = 21, DT_IQ2_S = 22,
    DT_IQ4_XS = 23, DT_BF16 = 30, DT_MXFP4 = 39,
    DT_F8_E4M3 = 64          /* no number of GGUF's: only safetensors and .pth hold it */
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

/* y = d * IQ4_VALUES[q]; nibbles as Q4_0. iq_grid.h has these values, the grids and iq_signs. */
typedef struct { uint16_t d; uint8_t qs[16]; } block_iq4_nl;
/* 8 groups of 32: y = d*(sc-32)*IQ4_VALUES[q], nibbles of a group as Q4_0; sc of group g:
 * nibble g of scales_l, two top bits at 2g of scales_h */
typedef struct { uint16_t d, scales_h; uint8_t scales_l[4], qs[128]; } block_iq4_xs;
/* y = e * MXFP4_VALUES[q], e the half of OCP's E8M0 (block_mxfp4_scale); nibbles as Q4_0 */
typedef struct { uint8_t e, qs[16]; } block_mxfp4;
/* 8 groups of 32, each two little-endian words: four points of eight weights, a byte each; then
 * four times seven bits of signs, and sc in the top four. y = d*(sc+1/2)/4 * (+-point) */
typedef struct { uint16_t d; uint8_t qs[64]; } block_iq2_xxs;
/* 16 groups of 16: y = d*(sc+1/2)/4 * (+-point), sc in nibble g of scales. Eight weights are
 * nine bits of point and seven of signs */
typedef struct { uint16_t d, qs[32]; uint8_t scales[8]; } block_iq2_xs;
/* as IQ2_XS, the signs whole: eight weights are point qs[i] with two top bits at 2(i%4) of
 * qh[i/4], and signs[i] */
typedef struct { uint16_t d; uint8_t qs[32], signs[32], qh[8], scales[8]; } block_iq2_s;
/* 8 groups of 32: y = d*(sc+1/2)/2 * (+-point); qs: points of four weights; sas: a word a group,
 * signs and sc as IQ2_XXS has them */
typedef struct { uint16_t d; uint8_t qs[64], sas[32]; } block_iq3_xxs;
/* 8 groups of 32: y = d*(1+2sc) * (+-point), sc in nibble g of scales. Four weights are point
 * qs[i] with its top bit at i%8 of qh[i/8]; bit j of signs[i]: weight 8i+j */
typedef struct { uint16_t d; uint8_t qs[64], qh[8], signs[32], scales[4]; } block_iq3_s;

_Static_assert(sizeof(block_q4_0) == 18 && sizeof(block_q4_1) == 20, "Q4 layout");
_Static_assert(sizeof(block_q5_0) == 22 && sizeof(block_q5_1) == 24, "Q5 layout");
_Static_assert(sizeof(block_q8_0) == 34, "Q8_0 layout");
_Static_assert(sizeof(block_q2_k) == 84 && sizeof(block_q3_k) == 110, "Q2_K, Q3_K layout");
_Static_assert(sizeof(block_q4_k) == 144 && sizeof(block_q5_k) == 176, "Q4_K, Q5_K layout");
_Static_assert(sizeof(block_q6_k) == 210, "Q6_K layout");
_Static_assert(sizeof(block_iq4_nl) == 18 && sizeof(block_iq4_xs) == 136, "IQ4 layout");
_Static_assert(sizeof(block_mxfp4) == 17, "MXFP4 layout");
_Static_assert(sizeof(block_iq3_xxs) == 98 && sizeof(block_iq3_s) == 110, "IQ3 layout");
_Static_assert(sizeof(block_iq2_xxs) == 66 && sizeof(block_iq2_xs) == 74, "IQ2_X layout");
_Static_assert(sizeof(block_iq2_s) == 82, "IQ2_S layout");

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

/* Half of E8M0's 2^(e-127): the values of MXFP4 are doubled. Subnormal for e = 0 and 1. As bits of
 * an f32. */
static inline uint32_t block_mxfp4_scale(uint8_t e)
{
    return e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
}

/* The 6-bit scale of group g of an IQ4_XS super-block, 0..63. */
static inline int block_iq4_scale(const block_iq4_xs *b, int g)
{
    return (b->scales_l[g / 2] >> g % 2 * 4 & 15) | (b->scales_h >> 2 * g & 3) << 4;
}

/* The 6-bit scale of group g of a Q3_K super-block, 0..63: low nibbles in bytes 0..7, top two
 * bits in bytes 8..11. */
static inline int block_k3_scale(const uint8_t *s, int g)
{
    return (s[g % 8] >> g / 8 * 4 & 15) | (s[8 + g % 4] >> g / 4 * 2 & 3) << 4;
}
/* Rows of a low-rank adapter's B that lie together: (rows/LOW_PANEL rounded up, rank, LOW_PANEL), so that sixteen
 * of its outputs are one register. */
enum { LOW_PANEL = 16 };
static inline size_t low_at(int row, int k, int rank)     /* where B's element (row,k) lies */
{
    return ((size_t)(row / LOW_PANEL) * (size_t)rank + (size_t)k) * LOW_PANEL + (size_t)(row % LOW_PANEL);
}
#endif
