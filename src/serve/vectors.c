/* vectors.c - see vectors.h. */
#include "serve/vectors.h"
#include <string.h>
#include "base/mem.h"

/* As many more as may run at once. Where the queue is full, those that run make room. */
static int more(vectors *v, int *retry_s, const char **param, dr_err *e)
{
    while (v->next < v->n && v->running < VECTORS_AT_ONCE) {
        dr_err own = {0};
        call_opt c = v->c;
        c.ids = v->text[v->next].p, c.n_ids = (int)v->text[v->next].n;
        c.req.max_tokens = 0;
        int rc = call_begin(v->s, &c, &v->call[v->next], retry_s, param, &own);
        if (rc == DR_EBUSY && v->running) return DR_OK;
        if (rc != DR_OK) return err_set(e, rc, "%s", own.msg);
        v->next++, v->running++;
    }
    return DR_OK;
}

static void stop(vectors *v)
{
    for (int i = 0; v->call && i < v->n; i++) {
        call_end(v->call[i]);
        v->call[i] = NULL;
    }
    v->running = 0, v->next = v->n;
}

static void failed(vectors *v, int code, const char *why)
{
    v->code = code;
    snprintf(v->why, sizeof v->why, "%s", why && *why ? why : "the embedding could not be made");
    stop(v);
}

int vectors_begin(vectors *v, ids *text, int n, int *retry_s, const char **param, dr_err *e)
{
    v->text = text, v->n = n, v->next = v->running = 0;
    v->call = mem_zalloc((size_t)n, sizeof *v->call);
    if (!v->call) return err_nomem(e, (size_t)n * sizeof *v->call, "embeddings");
    return more(v, retry_s, param, e);
}

static void done(vectors *v, int at, const engine_event *ev)
{
    dr_err e = {0};
    const char *param;
    int retry;
    if (ev->code) {
        failed(v, ev->code, ev->msg);
        return;
    }
    v->tokens += ev->usage.n_prompt;
    call_end(v->call[at]);
    v->call[at] = NULL;
    v->running--;
    if (more(v, &retry, &param, &e) != DR_OK) failed(v, e.code, e.msg);
}

bool vectors_step(vectors *v)
{
    call_event ev;
    for (int i = 0; i < v->next; i++)
        while (v->call[i] && call_next(v->call[i], &ev)) {
            if (ev.kind == CALL_VECTOR) v->put(v->arg, i, ev.ev->vec, ev.ev->n_vec);
            else if (ev.kind == CALL_DONE) done(v, i, ev.ev);
        }
    return !v->running && v->next == v->n;
}

void vectors_end(vectors *v)
{
    stop(v);
    for (int i = 0; i < v->n; i++) ids_free(&v->text[i]);
    mem_free(v->text);
    mem_free(v->call);
    v->text = NULL, v->call = NULL, v->n = v->next = 0;
}
