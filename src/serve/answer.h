/* answer.h - what every API does around a call: hold the model, begin, say what went wrong, let go.
 * Threads: answer_model and answer_begin in a worker, the rest in the I/O thread. */
#ifndef SERVE_ANSWER_H
#define SERVE_ANSWER_H
#include "serve/call.h"
#include "serve/serve.h"

/* A call and the model that it holds. Zeroed: nothing. */
typedef struct {
    models *ms;
    served *s;
    call *c;
} answer;

/* The model of that name, held; NULL: *o is the error, in the style's form. adapter may be NULL. */
served *answer_model(const http_req *r, http_reply *o, http_style style, const char *name, int *adapter);
void answer_let_go(const http_req *r, served *s);           /* of answer_model, where no answer was begun */
/* Submit *c for the client of r, whose reply it wakes. False: *o is the error and the model was let go. */
bool answer_begin(answer *a, const http_req *r, http_reply *o, http_style style, served *s, call_opt *c);
void answer_wake(void *conn);                               /* engine_req.wake: the http_conn in engine_req.arg */
void answer_end(answer *a);                                 /* cancels what runs */

/* The reply becomes an error, for a source that has written nothing yet: its body is appended to *out. */
void answer_error(http_reply *o, buf *out, http_style style, int code, const char *msg);
/* What a finished call's code means; a sentence is there even if the engine gave none. */
const char *answer_why(const call_event *done);
#endif
