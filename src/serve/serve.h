/* serve.h - the server as a whole: models, APIs and HTTP put together. `drover serve` is a face of it.
 *
 * To add an API: src/serve/api_NAME.c with a table of http_route, its name in the list below and in serve.c's
 * list. Its handlers find this struct in http_req.arg. */
#ifndef SERVE_SERVE_H
#define SERVE_SERVE_H
#include "serve/http.h"
#include "serve/models.h"

typedef struct serve {
    models *models;
    http *http;
    const char *version;
    int64_t started_ns;                 /* os_now_ns() */
    atomic_bool opened, draining;       /* the first model is open; the end was asked for */
    void (*log)(void *arg, const char *line);
    void *log_arg;
} serve;

typedef struct {
    http_opt http;                      /* routes and arg are set here */
    models_opt models;
    int grace_s;                        /* for what runs when the end is asked for; 0: 30 */
    bool sandbox;                       /* give up what a server does not need: sandbox.h, confine.h */
    const char *const *allow;           /* NULL-ended: more that may be read then (adapters to come); NULL: none */
    bool public_without_key;            /* other addresses than loopback, and no key */
    void (*ready)(void *arg, serve *s); /* listening; NULL: none */
    void *arg;
} serve_opt;

/* Open, serve until serve_stop or a signal, close. The calling thread becomes the I/O thread. */
int serve_run(const serve_opt *o, dr_err *e);
/* From a signal handler. The first ends in peace, the second at once. */
void serve_stop(void);
void serve_reload(void);                /* keys again, at the next tick */

void serve_get_ready(const http_req *r, http_reply *o);      /* the handler of /ready */

/* ---- the APIs' routes */
extern const http_route serve_routes[], openai_routes[], text_routes[], anthropic_routes[],
    ollama_routes[], ollama_model_routes[], metrics_routes[], admin_routes[];
#endif
