/* session.h - one timeline of tokens over a model: what is in the cache, and the logits of the
 * next token. The engine under `drover run` and the public API.
 * Ownership: owns its cache and workspace, borrows the model. Threads: one at a time, and one
 * session of a model at a time inside a call. */
#ifndef GEN_SESSION_H
#define GEN_SESSION_H
#include "model/model.h"
#include "model/plan.h"

typedef struct {
    int n_ctx;                  /* 0: the model's own, but at most SESSION_CTX_DEFAULT */
    int n_rows;                 /* rows of one step (prompt chunk); 0: 512 */
    int n_logits;               /* rows whose logits a step can keep; 0: 1, the last */
    bool kv_set;                /* false: F16 */
    kv_type kv;
} session_opt;
enum { SESSION_CTX_DEFAULT = 8192, SESSION_ROWS_DEFAULT = 512, SESSION_LOGITS_MAX = 64 };

typedef struct session session;

session *session_new(const model *m, const session_opt *o, dr_err *e);
void session_free(session *s);                                    /* NULL is fine */
int session_ctx(const session *s);
int session_len(const session *s);                                /* positions held */
const int32_t *session_tokens(const session *s);                  /* (len,) */
const model *session_model(const session *s);

/* Make the session hold exactly tok[0..n): keep the common prefix with what it holds, evaluate
 * the rest in steps. Afterwards session_logits is the distribution of token n. *reused gets
 * the length kept (may be NULL). stop, when not NULL and set, ends between steps with
 * DR_ECANCEL; what was evaluated stays held. On another failure the session is unchanged. */
int session_sync(session *s, const int32_t *tok, int n, int *reused,
                 const volatile int *stop, dr_err *e);
/* Append tokens. */
int session_append(session *s, const int32_t *tok, int n, const volatile int *stop, dr_err *e);
/* The same, keeping the logits of the last `rows` tokens, 1 <= rows <= n and session_max_logits. */
int session_append_rows(session *s, const int32_t *tok, int n, int rows, const volatile int *stop,
                        dr_err *e);
int session_max_logits(const session *s);
/* Forget what comes after the first len tokens. Costs nothing, and the logits of what stays stay. */
void session_truncate(session *s, int len);
/* (V,) of token number len, when the last call evaluated token len - 1 and kept its row; NULL:
 * not at hand. Valid until tokens are appended. */
const float *session_logits_at(const session *s, int len);
/* (V,) of the next token, valid until the next call; NULL before anything was evaluated. */
const float *session_logits(const session *s);

/* Evaluate n tokens after what is held and hand the logits of each, step by step, to fn. */
int session_all_logits(session *s, const int32_t *tok, int n,
                       int (*fn)(void *arg, int first, int rows, const float *logits, dr_err *e),
                       void *arg, dr_err *e);

/* The timeline to a file and back: tokens, keys, values; checked against the model and the
 * cache type; a damaged or foreign file is refused. */
int session_save(const session *s, const char *path, dr_err *e);
int session_load(session *s, const char *path, dr_err *e);
#endif
