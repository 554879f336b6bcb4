/* answer.c - see answer.h. */
#include "serve/answer.h"
#include <string.h>

served *answer_model(const http_req *r, http_reply *o, http_style style, const char *name, int *adapter)
{
    serve *all = r->arg;
    dr_err e = {0};
    served *s = models_get(all->models, name, adapter, &e);
    if (s) return s;
    if (e.code == DR_EBUSY) http_head(o, "Retry-After", "1");
    http_error(o, style, http_status(e.code), NULL, e.code == DR_ENOTFOUND ? "model_not_found" : NULL,
               e.code == DR_ENOTFOUND ? "model" : NULL, "%s", e.msg);
    return NULL;
}

void answer_let_go(const http_req *r, served *s)
{
    serve *all = r->arg;
    models_put(all->models, s);
}

void answer_wake(void *conn) { http_wake(conn); }

bool answer_begin(answer *a, const http_req *r, http_reply *o, http_style style, served *s, call_opt *c)
{
    serve *all = r->arg;
    dr_err e = {0};
    const char *param = NULL;
    int retry = 0;
    *a = (answer){ .ms = all->models, .s = s };
    c->req.tenant = r->tenant;
    c->req.wake = answer_wake, c->req.arg = r->conn;
    if (call_begin(s, c, &a->c, &retry, &param, &e) == DR_OK) return true;
    if (e.code == DR_EBUSY) http_head(o, "Retry-After", "%d", retry > 0 ? retry : 1);
    http_error(o, style, http_status(e.code), NULL, NULL, param, "%s", e.msg);
    a->c = NULL;
    answer_end(a);
    return false;
}

void answer_end(answer *a)
{
    call_end(a->c);
    if (a->s) models_put(a->ms, a->s);
    *a = (answer){0};
}

void answer_error(http_reply *o, buf *out, http_style style, int code, const char *msg)
{
    http_reply own = { .body.cap_max = 1 << 16 };
    http_error(&own, style, http_status(code), NULL, NULL, NULL, "%s", msg);
    o->status = own.status, o->type = own.type;
    buf_put(out, own.body.p, own.body.n);
    buf_free(&own.body);
}

const char *answer_why(const call_event *done)
{
    return done->ev && done->ev->msg && *done->ev->msg ? done->ev->msg : "the reply could not be finished";
}
