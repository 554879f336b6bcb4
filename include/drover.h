/* drover.h - run a Llama model from C.
 *
 *     dr_err e = {0};
 *     dr_model   *m = dr_model_open("llama-3.1-8b.gguf", NULL, &e);
 *     dr_session *s = m ? dr_session_new(m, NULL, &e) : NULL;
 *     if (!s) { fprintf(stderr, "%s\n", e.msg); return 1; }
 *     dr_chat_message msg = { "user", "Why is the sky blue?" };
 *     dr_chat(s, &msg, 1, NULL, print_piece, NULL, NULL, &e);
 *     dr_session_free(s);
 *     dr_model_close(m);
 *
 * Ownership: a model owns its weights (a read-only file mapping, or a copy) and its tokenizer; a session
 * owns its cache and borrows the model, so close the model last. What a function returns is
 * owned by its first argument unless its name ends in _new or _open, or it says otherwise.
 * Threads: an open model may be shared by threads that only read it (tokens, chat formats);
 * sessions of one model evaluate one at a time: the caller serialises dr_session_sync,
 * dr_generate and dr_chat on the same model. Nothing here keeps global state. */
#ifndef DROVER_H
#define DROVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DR_API __attribute__((visibility("default")))
#else
#define DR_API
#endif

enum {                      /* every int-returning function: 0, or one of these */
    DR_OK = 0, DR_EIO = -1, DR_EFORMAT = -2, DR_ENOMEM = -3,
    DR_EINVAL = -4, DR_EUNSUPPORTED = -5, DR_ECANCEL = -6, DR_EBUSY = -7, DR_ENOTFOUND = -8
};

typedef struct { int code; char msg[504]; } dr_err;   /* written only on failure; may be NULL */
typedef struct dr_model dr_model;
typedef struct dr_session dr_session;

DR_API const char *dr_version(void);

/* ---- model ---- */

typedef struct {            /* zero means the default, so {0} is always valid */
    const char *device;     /* "cpu" (default) */
    int n_threads;          /* 0: one per core that the process may use */
    const char *cpu_level;  /* cap the CPU kernels: "ref", "avx2", "avx512", "amx"; NULL: best */
    const dr_model *beside; /* use this model's device and threads, as a draft model should; its
                               owner closes it last. NULL: its own */
    bool copy;              /* weights into private memory, in huge pages, instead of mapping them */
    const char *numa;       /* "distribute" or "isolate": bind threads to cores and copy the weights to
                               their memory nodes; NULL or "off". The thread that opens the model is
                               one of them, and is free again when it closes it */
} dr_model_opt;

/* path: a GGUF file, a .safetensors file or a folder of them, or a folder of Meta's
 * consolidated.*.pth. opt may be NULL. NULL on failure. */
DR_API dr_model *dr_model_open(const char *path, const dr_model_opt *opt, dr_err *e);
DR_API void dr_model_close(dr_model *m);                     /* NULL is fine */
/* Add a LoRA adapter, a PEFT folder or a GGUF file, to what the model computes; scale 1 as it was
 * trained. Several add up in order. Before the model's first session: DR_EINVAL after it. */
DR_API int dr_model_lora(dr_model *m, const char *path, float scale, dr_err *e);
/* Lines that the user should see ("" : none), such as a rope table that had to be made. */
DR_API const char *dr_model_warnings(const dr_model *m);
/* Where the weights are: bytes of the files, what of them is in the page cache, what was copied, and
 * what of either is in huge pages. DR_EUNSUPPORTED: the system does not say. */
typedef struct { size_t mapped, cached, copied, huge; } dr_model_memory;
DR_API int dr_model_memory_now(const dr_model *m, dr_model_memory *out, dr_err *e);
DR_API int dr_model_vocab(const dr_model *m);                /* V: how many logits there are */
DR_API int dr_model_context(const dr_model *m);              /* positions it was trained for */

/* ---- tokens ---- */

enum { DR_BOS = 1, DR_SPECIAL = 2 };   /* begin with the model's BOS; control tokens in text count */

/* The ids of n bytes of text. *ids becomes an array of *n_ids, which dr_free releases. */
DR_API int dr_tokenize(const dr_model *m, const char *text, size_t n, int flags, int32_t **ids,
                       int *n_ids, dr_err *e);
/* The exact bytes of ids, 0-ended, which dr_free releases; *n_text without the 0, may be NULL. */
DR_API int dr_detokenize(const dr_model *m, const int32_t *ids, int n_ids, int flags, char **text,
                         size_t *n_text, dr_err *e);
DR_API void dr_free(void *p);

/* ---- chat format ---- */

typedef struct { const char *role, *content; } dr_chat_message;
/* The prompt of a conversation in the model's own format, ready for the reply. Contents are
 * plain text: nothing in them becomes a control token. */
DR_API int dr_chat_tokens(const dr_model *m, const dr_chat_message *msg, int n_msg, int32_t **ids,
                          int *n_ids, dr_err *e);

/* ---- session ---- */

typedef struct {            /* {0}: the defaults */
    int n_ctx;              /* positions; 0: the model's, at most 8192 */
    const char *kv_type;    /* "f16" (default), "bf16", "f32"; "q8_0", "q4_0": blocks of 32 */
    /* Guesses of the next tokens, evaluated several at a time; replies are the same without.
     * "ngram": from the text so far; "draft": from the draft model too; "none". NULL: "draft" when
     * there is one, else "ngram". docs/speculative.md. */
    const char *spec;
    dr_model *draft;        /* a smaller model of the same vocabulary, closed after the session */
    int draft_max;          /* guesses at a time, 1 to 31; 0: 15 */
} dr_session_opt;

DR_API dr_session *dr_session_new(dr_model *m, const dr_session_opt *opt, dr_err *e);
DR_API void dr_session_free(dr_session *s);                  /* NULL is fine */
DR_API int dr_session_length(const dr_session *s);           /* tokens it holds */

/* Make the session hold exactly tok[0..n): keep the common prefix with what it already holds,
 * evaluate the rest. Afterwards dr_session_logits() is the distribution of token n. */
DR_API int dr_session_sync(dr_session *s, const int32_t *tok, int n, dr_err *e);
/* (V,) logits of the next token, valid until the next call on s; NULL before the first. */
DR_API const float *dr_session_logits(const dr_session *s);
/* Tokens, keys and values to a file and back; a file of another model is refused. */
DR_API int dr_session_save(const dr_session *s, const char *path, dr_err *e);
DR_API int dr_session_load(dr_session *s, const char *path, dr_err *e);

/* ---- generation ---- */

typedef struct {            /* start from dr_gen_default(m): the model's own settings */
    int max_tokens;         /* 0: until the context is full */
    float temperature;      /* 0: always the best token */
    int top_k;              /* 0: off */
    float top_p, min_p, typical_p, repeat_penalty;           /* 1, 0, 1, 1: off */
    uint64_t seed;
    uint64_t sample;        /* which of several replies to the same prompt: 0, 1, … */
    const char *const *stop;/* the reply ends before any of these */
    int n_stop;
    const volatile int *cancel;  /* set to non-zero elsewhere to end the reply; NULL: none */
    /* The reply is a text of one of these; all NULL: anything. docs/constrained.md. What cannot be
     * enforced, or cannot fit into max_tokens and the context, is refused. */
    const char *json_schema, *grammar, *regex;
} dr_gen_opt;

DR_API dr_gen_opt dr_gen_default(const dr_model *m);

/* Called with each piece of whole UTF-8 characters; non-zero ends the reply. */
typedef int dr_piece_fn(void *arg, const char *text, size_t n);

typedef struct {
    const char *finish;     /* "stop", "length", "context", "cancel" */
    int n_prompt, n_reused, n_generated;
    double prompt_seconds, generate_seconds;
    bool satisfied;         /* with a constraint: the text is whole, not cut by a limit or stop */
    int n_drafted, n_accepted;   /* guesses that were evaluated; those that came true */
} dr_gen_stats;

/* The reply to these tokens, streamed to fn. opt and stats may be NULL. */
DR_API int dr_generate(dr_session *s, const int32_t *tok, int n, const dr_gen_opt *opt,
                       dr_piece_fn *fn, void *arg, dr_gen_stats *stats, dr_err *e);
/* dr_chat_tokens, then dr_generate. Turns already held are not evaluated again. */
DR_API int dr_chat(dr_session *s, const dr_chat_message *msg, int n_msg, const dr_gen_opt *opt,
                   dr_piece_fn *fn, void *arg, dr_gen_stats *stats, dr_err *e);

#ifdef __cplusplus
}
#endif
#endif
