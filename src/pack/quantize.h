/* quantize.h - a model in fewer bits: pipeline.h with a mix of types and importances. */
#ifndef PACK_QUANTIZE_H
#define PACK_QUANTIZE_H
#include "pack/mix.h"
#include "pack/pipeline.h"

/* Tensors whose GGUF name matches get a type of their own. The pattern is a regular expression
 * that is searched for, as llama-quantize's; the first that matches counts. */
typedef struct { const char *pattern; int type; } quantize_rule;
enum { QUANTIZE_RULES_MAX = 64 };

typedef struct {
    const char *in, *out;
    container to;
    const char *type;                /* a mix, a type, or "FP8" */
    const char *imatrix;             /* file; NULL: none */
    int head_type, embd_type;        /* -1: as the mix says */
    quantize_rule rule[QUANTIZE_RULES_MAX];
    int n_rules;
    bool pure;                       /* every matrix of the mix's base type */
    bool search;                     /* search where llama.cpp only rounds */
    int n_files;
    uint64_t file_bytes;
    bool force;
    /* Called for each tensor, in the file's order, once all types are chosen; with dry nothing
     * is written. NULL: none. */
    void (*plan)(void *arg, const pack_tensor *t);
    bool dry;
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void (*note)(void *arg, const char *sentence);
    void *arg;
} quantize_opt;

/* "blk\.0\.=Q8_0" into o->rule. */
int quantize_rule_add(quantize_opt *o, const char *text, dr_err *e);
/* The name of a type that a matrix can have; -1 and a sentence otherwise. */
int quantize_type(const char *name, dr_err *e);
int quantize(const quantize_opt *o, pool *p, dr_err *e);
#endif
