/* verify.h - prove that a model file is read right: one line a check, each able to fail. */
#ifndef EVAL_VERIFY_H
#define EVAL_VERIFY_H
#include "gen/session.h"
#include "text/tokenizer.h"

typedef enum { VERIFY_OK, VERIFY_FAIL, VERIFY_SKIP } verify_status;
typedef struct { const char *check; verify_status status; char text[512]; } verify_line;
typedef void verify_fn(void *arg, const verify_line *l);

/* Every check that this model allows; fn gets each line as it is done. t NULL: the tokenizer
 * could not be read, tok_why says why. *n_failed counts VERIFY_FAIL. The error is for what
 * stopped the checks themselves. */
int verify_run(model *m, const tokenizer *t, const char *tok_why, int n_threads, verify_fn *fn,
               void *arg, int *n_failed, dr_err *e);

/* Log-probabilities of the built-in text to a JSON file, and a model held against one. Passes
 * when the mean difference is at most VERIFY_MEAN nats a token. */
int verify_make(model *m, const tokenizer *t, const char *path, dr_err *e);
int verify_against(model *m, const tokenizer *t, const char *path, verify_line *l, dr_err *e);
#define VERIFY_MEAN 0.1
#endif
