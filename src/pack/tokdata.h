/* tokdata.h - a tokenizer as data, from any file that holds one into any other: GGUF metadata,
 * tokenizer.json, tokenizer.model (tiktoken text or SentencePiece).
 *
 * What a file does not say is not made up, except where every reader would: the control tokens
 * behind tiktoken's ranks, merges that follow from ranks or scores. */
#ifndef PACK_TOKDATA_H
#define PACK_TOKDATA_H
#include <jansson.h>
#include "format/gguf_write.h"

typedef struct { size_t at, n; } tok_place;      /* in tokdata.text, which moves while it grows */

typedef enum { TOKD_NONE, TOKD_BPE, TOKD_SPM } tokd_kind;   /* bytes with merges; pieces, scores */
enum { TOKD_NORMAL = 1, TOKD_UNKNOWN, TOKD_CONTROL, TOKD_USER, TOKD_UNUSED, TOKD_BYTE };

typedef struct {
    tokd_kind kind;
    buf text, merges;                /* merges: tok_place each, "a b" in GPT-2's byte letters */
    tok_place *tok;                  /* (V,) n 0: no such token */
    int32_t *type;                   /* (V,) TOKD_* */
    float *score;                    /* (V,) SentencePiece */
    int64_t V, n;                    /* rows of the model; 1 + the largest id given */
    char pre[40];                    /* llama.cpp's name of the splitter: "llama-bpe" */
    bool whole;                      /* a piece that is a token is not merged */
    bool no_prefix;                  /* SentencePiece: no space in front of the text */
    int add_bos;                     /* 1, 0; -1: nothing says it */
    int64_t bos, eos, unk, pad, eot, eom;    /* -1: none */
    buf chat;                        /* chat template; n 0: none */
    /* What a tokenizer.model has beyond its tokens. raw: the whole file, where tokens and tail
     * do not give it back byte for byte. */
    buf tail, raw;
} tokdata;

/* V: rows of the model's embedding; a tokenizer that has more is refused. */
int tokdata_init(tokdata *m, int64_t V, dr_err *e);
void tokdata_free(tokdata *m);                   /* a zeroed one is fine */

/* The bytes of a tokenizer.model or tokenizer.json. */
int tokdata_read(tokdata *m, span file, dr_err *e);
int tokdata_from_gguf(tokdata *m, const gguf *g, dr_err *e);
/* tokenizer_config.json: the named tokens, add_bos_token, the chat template. */
int tokdata_config_file(tokdata *m, span file, dr_err *e);
/* Tokens that a tokenizer.json adds behind those that are there. */
int tokdata_added(tokdata *m, span json, dr_err *e);
/* Keep the first V tokens alone, and the merges that make them. DR_EINVAL: a control token or a byte
 * would be lost. */
int tokdata_cut(tokdata *m, int64_t V, dr_err *e);
int64_t tokdata_find(const tokdata *m, const char *text);   /* -1: no such token */

/* As metadata; ids without a token become [PADn]. */
int tokdata_put_gguf(const tokdata *m, gguf_writer *w, dr_err *e);
int tokdata_json(const tokdata *m, buf *out, dr_err *e);            /* tokenizer.json */
int tokdata_config_json(const tokdata *m, int64_t n_ctx, buf *out, dr_err *e);
/* tokenizer.model. DR_EUNSUPPORTED: the tokenizer cannot be said in that form. */
int tokdata_model(const tokdata *m, buf *out, dr_err *e);

/* JSON text of a string; bytes that are not UTF-8 become U+FFFD. */
void tokdata_json_str(buf *b, span s);
#endif
