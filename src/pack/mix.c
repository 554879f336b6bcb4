/* mix.c - see mix.h. */
#include "pack/mix.h"
#include <strings.h>

const mix mix_table[] = {
    { "F32", DT_F32, 0 }, { "F16", DT_F16, 1 }, { "BF16", DT_BF16, 32 },
    { "Q4_0", DT_Q4_0, 2 }, { "Q4_1", DT_Q4_1, 3 }, { "Q5_0", DT_Q5_0, 8 }, { "Q5_1", DT_Q5_1, 9 },
    { "Q8_0", DT_Q8_0, 7 }, { "Q2_K", DT_Q2_K, 10 }, { "Q2_K_S", DT_Q2_K, 21 },
    { "Q3_K_S", DT_Q3_K, 11 }, { "Q3_K_M", DT_Q3_K, 12 }, { "Q3_K_L", DT_Q3_K, 13 },
    { "Q4_K_S", DT_Q4_K, 14 }, { "Q4_K_M", DT_Q4_K, 15 }, { "Q5_K_S", DT_Q5_K, 16 },
    { "Q5_K_M", DT_Q5_K, 17 }, { "Q6_K", DT_Q6_K, 18 }, { "IQ2_XXS", DT_IQ2_XXS, 19 },
    { "IQ2_XS", DT_IQ2_XS, 20 }, { "IQ2_S", DT_IQ2_XS, 28 }, { "IQ2_M", DT_IQ2_S, 29 },
    { "IQ3_XXS", DT_IQ3_XXS, 23 }, { "IQ3_XS", DT_IQ3_S, 22 }, { "IQ3_S", DT_IQ3_S, 26 },
    { "IQ3_M", DT_IQ3_S, 27 }, { "IQ4_NL", DT_IQ4_NL, 25 }, { "IQ4_XS", DT_IQ4_XS, 30 },
    { "MXFP4", DT_MXFP4, 38 }, { "MXFP4_MOE", DT_MXFP4, 38 },
};
const int n_mixes = sizeof mix_table / sizeof *mix_table;

/* Sets of mixes, by file type. */
#define M(ftype) (1ull << (ftype))
#define IQ2_LOW (M(19) | M(20))              /* IQ2_XXS IQ2_XS */
#define IQ2_HIGH (M(28) | M(29))             /* IQ2_S IQ2_M */
#define IQ4 (M(25) | M(30))
#define MORE_MIXES (M(15) | M(17))           /* Q4_K_M Q5_K_M */

/* Conditions; all that are set must hold. i: the layer, n: how many there are. */
enum {
    GQA4 = 1,                        /* four query heads or more a key head */
    NO_IMATRIX = 2, IMATRIX = 4,
    EIGHTH = 8,                      /* i < n/8 */
    SIXTEENTH = 16,                  /* i < n/16 */
    FIRST2 = 32, FIRST4 = 64,
    MORE = 128,                      /* the first and last eighth, and each third between */
    MIDDLE = 256,                    /* neither in the first nor in the last eighth */
    TIED = 512, UNTIED = 1024
};

static const struct { mix_part part; uint64_t mixes; int when; dtype type; } rules[] = {
    { MIX_EMBD, IQ2_LOW, UNTIED, DT_Q2_K },
    { MIX_EMBD, IQ2_HIGH | M(23), UNTIED, DT_IQ3_S },
    { MIX_V, IQ2_LOW | IQ2_HIGH, GQA4, DT_Q4_K },
    { MIX_V, IQ2_HIGH, 0, DT_IQ3_S },
    { MIX_V, IQ2_LOW, 0, DT_Q2_K },
    { MIX_V, M(10) | M(21) | M(23) | M(22) | M(26), GQA4, DT_Q4_K },
    { MIX_V, M(10), 0, DT_Q3_K },
    { MIX_V, M(23), NO_IMATRIX, DT_IQ3_S },
    { MIX_V, M(27), 0, DT_Q4_K },
    { MIX_V, M(12), FIRST2, DT_Q5_K },
    { MIX_V, M(12), 0, DT_Q4_K },
    { MIX_V, M(13), 0, DT_Q5_K },
    { MIX_V, IQ4, GQA4, DT_Q5_K },
    { MIX_V, MORE_MIXES, MORE, DT_Q6_K },
    { MIX_V, M(14), FIRST4, DT_Q5_K },
    { MIX_K, M(22), 0, DT_IQ3_XXS },
    { MIX_K, M(23), 0, DT_IQ2_S },
    { MIX_Q, M(22), 0, DT_IQ3_XXS },
    { MIX_Q, M(23), 0, DT_IQ2_S },
    { MIX_DOWN, IQ2_HIGH, EIGHTH, DT_IQ3_S },
    { MIX_DOWN, IQ2_LOW, EIGHTH, DT_Q2_K },
    { MIX_DOWN, M(10), 0, DT_Q3_K },
    { MIX_DOWN, M(21), EIGHTH, DT_Q4_K },
    { MIX_DOWN, M(23), EIGHTH | NO_IMATRIX, DT_Q4_K },
    { MIX_DOWN, M(23), NO_IMATRIX, DT_Q3_K },
    { MIX_DOWN, M(12), SIXTEENTH, DT_Q5_K },
    { MIX_DOWN, M(12), 0, DT_Q4_K },
    { MIX_DOWN, M(27), EIGHTH, DT_Q4_K },
    { MIX_DOWN, M(13), 0, DT_Q5_K },
    { MIX_DOWN, MORE_MIXES, MORE, DT_Q6_K },
    { MIX_DOWN, IQ4, EIGHTH | NO_IMATRIX, DT_Q5_K },
    { MIX_DOWN, M(14), EIGHTH, DT_Q5_K },
    { MIX_DOWN, M(2), EIGHTH | IMATRIX, DT_Q4_1 },
    { MIX_DOWN, M(8), EIGHTH | IMATRIX, DT_Q5_1 },
    { MIX_O, IQ2_HIGH, 0, DT_IQ3_S },
    { MIX_O, M(10), 0, DT_Q3_K },
    { MIX_O, M(23), 0, DT_IQ3_S },
    { MIX_O, M(12), 0, DT_Q4_K },
    { MIX_O, M(13), 0, DT_Q5_K },
    { MIX_O, M(27), 0, DT_Q4_K },
    { MIX_GATE, M(22), MIDDLE, DT_IQ3_XXS },
    { MIX_UP, M(22), MIDDLE, DT_IQ3_XXS },
};

const mix *mix_find(const char *name)
{
    static const struct { const char *name, *is; } alias[] = {
        { "Q3_K", "Q3_K_M" }, { "Q4_K", "Q4_K_M" }, { "Q5_K", "Q5_K_M" },
    };
    for (int i = 0; i < 3; i++)
        if (!strcasecmp(alias[i].name, name)) name = alias[i].is;
    for (int i = 0; i < n_mixes; i++)
        if (!strcasecmp(mix_table[i].name, name)) return &mix_table[i];
    return NULL;
}

int mix_ftype_of(dtype t)
{
    static const struct { dtype type; int ftype; } shared[] = {      /* the S of several */
        { DT_Q3_K, 11 }, { DT_Q4_K, 14 }, { DT_Q5_K, 16 }, { DT_IQ2_S, 28 },
    };
    for (int i = 0; i < 4; i++)
        if (shared[i].type == t) return shared[i].ftype;
    for (int i = 0; i < n_mixes; i++)
        if (mix_table[i].base == t && !strcasecmp(mix_table[i].name, type_get(t)->name))
            return mix_table[i].ftype;
    return -1;
}

static bool more_bits(int64_t i, int64_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static int holds(const mix_model *s, int64_t i)
{
    int64_t n = s->layers;
    int h = s->kv_heads > 0 && s->heads / s->kv_heads >= 4 ? GQA4 : 0;
    h |= s->imatrix ? IMATRIX : NO_IMATRIX;
    h |= s->tied ? TIED : UNTIED;
    if (i < n / 8) h |= EIGHTH;
    if (i < n / 16) h |= SIXTEENTH;
    if (i < 2) h |= FIRST2;
    if (i < 4) h |= FIRST4;
    if (more_bits(i, n)) h |= MORE;
    if (i >= n / 8 && i < 7 * n / 8) h |= MIDDLE;
    return h;
}

static bool is_float(dtype t) { return t == DT_F32 || t == DT_F16 || t == DT_BF16; }

dtype mix_type(const mix *m, const mix_model *s, mix_part part, int64_t layer, int64_t cols)
{
    if (is_float(m->base)) return m->base;
    bool moe = !strcasecmp(m->name, "MXFP4_MOE");        // MXFP4 is for experts; there are none
    if (part == MIX_HEAD || (part == MIX_EMBD && s->tied)) {
        if (moe || cols % type_get(m->base)->elems || m->base == DT_Q8_0) return DT_Q8_0;
        return (IQ2_LOW | IQ2_HIGH | M(23)) & M(m->ftype) ? DT_Q5_K : DT_Q6_K;
    }
    if (moe) return DT_Q8_0;
    int have = holds(s, layer);
    dtype t = m->base;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].part == part && rules[i].mixes & M(m->ftype) &&
            (rules[i].when & have) == rules[i].when) {
            t = rules[i].type;
            break;
        }
    /* 70B: eight query heads share a key head, so v is small and worth more bits */
    bool big = s->layers == 80 && s->heads != s->kv_heads;
    if (part == MIX_V && big && !((IQ2_LOW | IQ2_HIGH) & M(m->ftype)) &&
        (t == DT_Q3_K || t == DT_Q4_K)) t = DT_Q5_K;
    return t;
}

dtype mix_fit(dtype t, int64_t cols)
{
    if (cols % type_get(t)->elems == 0) return t;
    switch (t) {
    case DT_IQ2_XXS: case DT_IQ2_XS: case DT_IQ2_S: case DT_IQ3_XXS: case DT_IQ3_S:
    case DT_IQ4_XS: t = DT_IQ4_NL; break;
    case DT_Q2_K: case DT_Q3_K: t = DT_Q4_0; break;
    case DT_Q4_K: t = DT_Q5_0; break;
    case DT_Q5_K: t = DT_Q5_1; break;
    case DT_Q6_K: t = DT_Q8_0; break;
    default: break;
    }
    return cols % type_get(t)->elems ? DT_F16 : t;
}

bool mix_wants_imatrix(const mix *m, mix_part part, dtype t)
{
    if (part == MIX_EMBD || part == MIX_HEAD) return false;
    return t == DT_IQ3_XXS || t == DT_IQ2_XXS || t == DT_IQ2_XS || t == DT_IQ2_S ||
           (t == DT_Q2_K && m->ftype == 21);
}
