/* merge.h - one model from several things: adapters added to a base, or the average of N models. It
 * is a conversion (convert.h) whose rows are changed on their way, so that input and output may be
 * of any container, and memory does not grow with the model's size. Sums are in double, rounded to
 * f32 and then to the output's type. */
#ifndef PACK_MERGE_H
#define PACK_MERGE_H
#include "model/lora.h"
#include "pack/convert.h"

typedef struct {
    convert_opt conv;                /* conv.in is the base, or the first of the models */
    const lora_ref *lora;            /* added to the base in this order */
    int n_lora;
    const char *const *more;         /* the other models */
    int n_more;
    const double *weight;            /* (1 + n_more): shares; NULL: equal. Their sum counts as 1 */
} merge_opt;

/* Adapters and averaging exclude each other. All models have the same shape, rope and, where two
 * have one, tokenizer; the sentence says what differs. */
int merge(const merge_opt *o, pool *p, dr_err *e);
#endif
