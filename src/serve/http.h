/* http.h - HTTP/1.1 over libmicrohttpd: connections, limits, keys, workers and streams; nothing of models.
 *
 *     I/O thread:    reads requests, checks limits and the key, finds the route, writes replies
 *     workers:       run the routes' handlers: JSON, templates, tokenising, compiling of grammars
 *     engine thread: wakes a reply when there is something to write
 *
 * A handler never waits: it answers at once, or hands over a source that is asked for bytes in the I/O
 * thread, when it was woken. A client that is gone is noticed at once, also while nothing is written to it.
 *
 * To add a route: a line in a table of http_route and its handler. */
#ifndef SERVE_HTTP_H
#define SERVE_HTTP_H
#include <jansson.h>
#include <stdatomic.h>
#include <stdint.h>
#include "base/buf.h"

typedef struct http http;
typedef struct http_conn http_conn;

/* Whose way of saying errors a route has. */
typedef enum { HTTP_OPENAI, HTTP_ANTHROPIC, HTTP_OLLAMA, HTTP_PLAIN } http_style;

typedef struct {
    const char *method, *path;  /* path without the query */
    const char *rest;           /* what a trailing * of the route's path matched; "" */
    span body;
    int tenant;                 /* number of the key that was given; 0: none is asked for */
    const char *tenant_name;    /* of the key, for logs; never the key */
    uint64_t number;            /* of the request, for logs and ids */
    http_conn *conn;
    void *arg;                  /* the route's */
} http_req;
/* (any name in any case); NULL: not there. Valid while the request is. */
const char *http_header(const http_req *r, const char *name);
const char *http_query(const http_req *r, const char *name);
/* The body as a JSON object, bounded in memory; NULL: a 400 is in *e. json_decref. */
json_t *http_json(const http_req *r, dr_err *e);

/* A source of bytes, for replies that take long. All its functions run in the I/O thread. */
typedef enum {
    HTTP_WAIT,                  /* nothing now; ask again after http_wake */
    HTTP_MORE,                  /* something was appended, ask again when it was written */
    HTTP_END                    /* what was appended is the last */
} http_state;
struct http_reply;
typedef struct {
    /* Append to *out, at most about 64 KB at a time. Until it first returns other than HTTP_WAIT
     * reply's status, type and headers may still be changed. */
    http_state (*fill)(void *src, struct http_reply *reply, buf *out);
    /* Appended to *out when nothing was written for ping_s seconds after the head; NULL: none. */
    void (*ping)(void *src, buf *out);
    /* Written or client gone: release all. After it no http_wake for this reply may come. */
    void (*close)(void *src);
} http_source;

typedef struct http_reply {
    int status;                 /* 200 unless set */
    const char *type;           /* "application/json" unless set; static */
    buf body;                   /* the whole reply, when there is no source */
    const http_source *source;
    void *src;
    struct { char name[32], value[160]; } head[8];
    int n_head;
} http_reply;
void http_head(http_reply *o, const char *name, const char *value, ...) DR_PRINTF(3, 4);
/* Body from JSON, which is released (NULL: no memory, 500). */
void http_put_json(http_reply *o, int status, json_t *v);
/* An error in the style's form. type and code: as OpenAI names them ("invalid_request_error",
 * "context_length_exceeded"), NULL: by the status; param: the field that is wrong, or NULL. */
void http_error(http_reply *o, http_style style, int status, const char *type, const char *code,
                const char *param, const char *fmt, ...) DR_PRINTF(7, 8);
/* The status of a drover error: the one table. DR_EINVAL, DR_EFORMAT, DR_EUNSUPPORTED 400, DR_EBUSY 429, … */
int http_status(int code);

/* There is something for the source of this reply. From any thread. */
void http_wake(http_conn *c);

enum { HTTP_OPEN = 1,           /* no key needed */
       HTTP_INLINE = 2 };       /* handled in the I/O thread: quick, and answered under any load */
typedef struct {
    const char *method, *path;  /* "/v1/models/ *" (without the space): the rest is in r->rest */
    http_style style;
    int flags;
    void (*handle)(const http_req *r, http_reply *o);
} http_route;                   /* tables end with method NULL */

/* Keys: NAME:KEY, NAME:KEY:WEIGHT or KEY, one a line; # begins a remark. */
typedef struct {
    const char *address;        /* "127.0.0.1" */
    int port;                   /* 0: any free one */
    const char *unix_path;      /* a socket in the file system instead; NULL: none */
    const char *const *keys;    /* NULL-ended list; NULL: none */
    const char *key_file;       /* read again by http_reload */
    const char *cert, *key;     /* TLS: PEM files; NULL: none */
    const char *const *origins; /* CORS: NULL-ended, "*" is any; NULL: none. Pages of others are refused */
    const char *const *names;   /* a server on loopback without keys is asked by these names of hosts too;
                                   NULL-ended; NULL: localhost, addresses and this machine's names alone */
    size_t max_body, max_body_all, max_header;              /* 0: 16 MB, 256 MB, 32 KB */
    int max_conns, max_conns_per_ip;                        /* 0: 16384, no limit */
    int idle_s, body_s, ping_s; /* 0: 120 (no request), 30 (a request's head and body), 15 */
    int workers, max_jobs;      /* 0: 2, 256; more workers, up to 32, while those take nothing */
    const http_route *const *routes;                        /* NULL-ended list of tables */
    void *arg;                  /* http_req.arg */
    void (*log)(void *arg, const char *line);               /* one line for each request; NULL: none */
    void *log_arg;
} http_opt;

http *http_new(const http_opt *o, dr_err *e);
void http_free(http *h);                                    /* NULL is fine */
int http_port(const http *h);
/* Serve until http_stop; the calling thread is the I/O thread. tick is called about ten times a second. */
int http_run(http *h, void (*tick)(void *arg), void *arg, dr_err *e);
/* Take no new connections and requests, finish what is there for at most `grace_s`; from a signal handler. */
void http_stop(http *h, int grace_s);
int http_reload(http *h, dr_err *e);                        /* keys; the old ones stay when it fails */
int http_tenants(const http *h);                            /* keys known, their weights to each: */
double http_tenant_weight(const http *h, int tenant);
typedef struct { uint64_t connections, requests, by_status[6], refused, bytes_in, bytes_out; int open, streams, jobs; } http_stats;
void http_stats_get(http *h, http_stats *out);
#endif
