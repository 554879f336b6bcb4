/* block.c - the table of weight types. */
#include "base/block.h"
#include <strings.h>

const type_info type_table[] = {
    { DT_F32,  "F32",  1,   4 },
    { DT_F16,  "F16",  1,   2 },
    { DT_BF16, "BF16", 1,   2 },
    { DT_Q4_0, "Q4_0", 32,  sizeof(block_q4_0) },
    { DT_Q4_1, "Q4_1", 32,  sizeof(block_q4_1) },
    { DT_Q5_0, "Q5_0", 32,  sizeof(block_q5_0) },
    { DT_Q5_1, "Q5_1", 32,  sizeof(block_q5_1) },
    { DT_Q8_0, "Q8_0", 32,  sizeof(block_q8_0) },
    { DT_Q2_K, "Q2_K", 256, sizeof(block_q2_k) },
    { DT_Q3_K, "Q3_K", 256, sizeof(block_q3_k) },
    { DT_Q4_K, "Q4_K", 256, sizeof(block_q4_k) },
    { DT_Q5_K, "Q5_K", 256, sizeof(block_q5_k) },
    { DT_Q6_K, "Q6_K", 256, sizeof(block_q6_k) },
    { DT_IQ4_NL,  "IQ4_NL",  32,  sizeof(block_iq4_nl) },
    { DT_IQ4_XS,  "IQ4_XS",  256, sizeof(block_iq4_xs) },
    { DT_IQ3_S,   "IQ3_S",   256, sizeof(block_iq3_s) },
    { DT_IQ3_XXS, "IQ3_XXS", 256, sizeof(block_iq3_xxs) },
    { DT_IQ2_S,   "IQ2_S",   256, sizeof(block_iq2_s) },
    { DT_IQ2_XS,  "IQ2_XS",  256, sizeof(block_iq2_xs) },
    { DT_IQ2_XXS, "IQ2_XXS", 256, sizeof(block_iq2_xxs) },
    { DT_MXFP4,   "MXFP4",   32,  sizeof(block_mxfp4) },
    { DT_F8_E4M3, "F8_E4M3", 1,   1 },
};
const int n_types = sizeof type_table / sizeof *type_table;

const type_info *type_get(int type)
{
    for (int i = 0; i < n_types; i++)
        if ((int)type_table[i].type == type) return &type_table[i];
    return NULL;
}

const type_info *type_by_name(const char *name)
{
    for (int i = 0; i < n_types; i++)
        if (!strcasecmp(type_table[i].name, name)) return &type_table[i];
    return NULL;
}

size_t type_row_bytes(int type, int64_t K)
{
    const type_info *t = type_get(type);
    if (!t || K < 0 || K % t->elems) return 0;
    return (size_t)(K / t->elems) * (size_t)t->bytes;
}
