/* tok_priv.h - what a tokenizer is made of; for the files that fill one (tok_<format>.c) and
 * the ones that use it (tokenizer.c, encode.c). Nobody else includes this. */
#ifndef TEXT_TOK_PRIV_H
#define TEXT_TOK_PRIV_H
#include "text/bpe.h"
#include "text/split.h"

/* Added tokens: found in the text before anything else happens to it. */
enum { AT_SPECIAL = 1, AT_LSTRIP = 2, AT_RSTRIP = 4, AT_WORD = 8 };
typedef struct { const char *p; uint32_t n; int32_t id; uint8_t flags; } added_tok;
typedef struct {
    added_tok *v;                 /* sorted by bytes once added_sort is done */
    int32_t n, cap;
    int32_t first[257];           /* v[first[b]..first[b+1]) begin with byte b */
} added_set;
int added_put(added_set *s, span text, int32_t id, int flags, dr_err *e);    /* text is borrowed */
void added_sort(added_set *s);
/* The leftmost, then longest token at or after text.p + from; NULL: none. */
const added_tok *added_next(const added_set *s, span text, size_t from, size_t *at);
int32_t added_find(const added_set *s, span text);
void added_free(added_set *s);

/* Normalisers, in order, each over the whole section. */
typedef enum { NORM_PREPEND, NORM_REPLACE, NORM_SQUEEZE, NORM_CHARSMAP,
               NORM_TRIM_MARKS } norm_kind;
typedef struct { norm_kind kind; span a, b; } norm_step;   /* spans borrow from t->strings */

/* Pre-tokenisers, in order, each over the pieces that the one before left. */
typedef enum { PRE_LLAMA3, PRE_RE, PRE_STRING, PRE_DIGITS, PRE_PREFIX, PRE_METASPACE } pre_kind;
typedef enum { CUT_REMOVED, CUT_ISOLATED, CUT_PREVIOUS, CUT_NEXT, CUT_CONTIGUOUS } cut_kind;
enum { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };
typedef struct {
    pre_kind kind;
    cut_kind cut;
    bool invert;
    int digits;                   /* PRE_LLAMA3: the longest run of numbers; METASPACE: PREPEND_* */
    bool split;                   /* METASPACE */
    split_re *re;
    span str;                     /* PRE_STRING: what; METASPACE: the replacement */
} pre_step;

enum { TOK_STEPS = 8 };
typedef struct tokenizer {
    vocab v;
    merges m;
    bool bytes;                   /* byte-level BPE: symbols are bytes; else characters */
    bool spm;                     /* SentencePiece's own rules for characters it lacks */
    bool whole;                   /* a piece that is a token is not merged ("ignore_merges") */
    bool byte_fallback, fuse_unk;
    bool drop_space;              /* tok_decode leaves out one leading space */
    bool glue[256];               /* characters: some token has a word's mark after this byte */
    int32_t byte_id[256];         /* -1: none */
    bool all_bytes;               /* every byte has an id */
    int32_t unk, bos, eos;
    bool wants_bos;
    added_set raw, norm;          /* looked for before and after normalising */
    norm_step norms[TOK_STEPS];
    int n_norms;
    pre_step pres[TOK_STEPS];
    int n_pres;
    char **owned;                 /* what spans above point to */
    int n_owned;
    const uint32_t *shown_at, *shown_len;    /* tokens as they are written out */
    const uint8_t *shown;
    uint32_t *shown_mem;
    uint8_t *eog;                 /* 1 bit per id */
    span chat_template;           /* of `owned`, as are the named ones */
    struct { span name, text; } *chat_named;
    int n_chat_named;
    char kind[96];
} tokenizer;

/* Copy bytes into memory that the tokenizer owns. */
int tok_keep(tokenizer *t, span s, span *out, dr_err *e);
int tok_add_re(tokenizer *t, const char *regex, cut_kind cut, dr_err *e);
/* Keep a chat template; a later one of the same name counts. "" and "default": the template. */
int tok_keep_template(tokenizer *t, span name, span text, dr_err *e);
/* Run the normalisers; *text ends as the result, which may live in `work`. */
int tok_normalise(const tokenizer *t, buf work[2], span *text, dr_err *e);
/* Everything that follows from vocab, types and steps. Call last. */
int tok_finish(tokenizer *t, const char *model_name, const char *pre_name, dr_err *e);
tokenizer *tok_new(dr_err *e);

/* Any of them: the bytes say which. */
tokenizer *tok_from_bytes(span file, dr_err *e);
tokenizer *tok_from_tiktoken(span file, dr_err *e);
tokenizer *tok_from_spm(span file, dr_err *e);
tokenizer *tok_from_json(span file, dr_err *e);
/* tokenizer_config.json: BOS, EOS, chat template. */
int tok_read_config(tokenizer *t, span file, dr_err *e);
/* The splitter that a GGUF file names. */
int tok_set_pre(tokenizer *t, span name, dr_err *e);
/* Priorities from scores: the highest merges first. */
int tok_rank_scores(tokenizer *t, const float *score, dr_err *e);
/* The word for a token in GPT-2's byte alphabet, back to bytes; false: not in it. out has room
 * for n bytes. */
bool tok_unbyte(const char *p, size_t n, uint8_t *out, size_t *n_out);
/* The list of merges that a file holds, in order. merge_end takes what the reading came to. */
enum { MERGE_BATCH = 32 };
typedef struct { uint64_t key[3]; uint32_t at, left, all; } merge_key;
typedef struct {
    tokenizer *t;
    buf text;
    merge_key q[MERGE_BATCH];
    int k;
    uint32_t first;
    bool replace;                 /* a pair listed twice: the last counts, not the first */
} merge_reader;
int merge_begin(merge_reader *r, tokenizer *t, uint32_t n, size_t max_bytes, bool replace,
                dr_err *e);
int merge_put(merge_reader *r, span left, span right, dr_err *e);
int merge_end(merge_reader *r, int rc, dr_err *e);

#define TOK_MARK "\xe2\x96\x81"   /* U+2581, SentencePiece's space */
#endif
