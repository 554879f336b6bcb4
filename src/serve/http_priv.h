/* http_priv.h - shared by http*.c alone.
 *
 * A connection's request goes through these states, all changed in the I/O thread:
 *
 *     IDLE -uri-> HEAD -access-> BODY -> JOB (a worker has it) -> FILL (its source is asked for the first
 *     bytes) -> REPLY (can be queued) -> STREAM (libmicrohttpd asks for bytes) -> IDLE
 *
 * In JOB and FILL, and in STREAM while there is nothing to write, libmicrohttpd's connection is suspended: it
 * neither reads nor notices that the client left. h->poll watches all sockets for that.
 *
 * Ownership: a http_conn lives as long as its socket. libmicrohttpd frees no suspended connection, so a worker
 * that holds one may use it until it put it on h->woken. */
#ifndef SERVE_HTTP_PRIV_H
#define SERVE_HTTP_PRIV_H
#include <pthread.h>
#include "serve/http.h"
#include "serve/http_mhd.h"

enum { HTTP_TENANTS = 256, HTTP_NAME_MAX = 64, HTTP_PATH_MAX = 2048, HTTP_METHOD_MAX = 16,
       HTTP_ADDR_MAX = 64, HTTP_OUT_MAX = 1 << 20 };

typedef enum { CONN_IDLE, CONN_HEAD, CONN_BODY, CONN_JOB, CONN_FILL, CONN_REPLY, CONN_STREAM } conn_state;

struct http_conn {
    http *h;
    struct MHD_Connection *mc;
    int fd;
    http_conn *prev, *next;             /* h->conns */
    http_conn *next_woken;              /* h->woken, h->jobs: under h->lock */
    bool woken, job_done;               /* under h->lock */
    conn_state state;
    bool suspended, watched;
    bool half, gone, cut;               /* no more comes from it; its request is given up; shut down by us */
    char addr[HTTP_ADDR_MAX];
    int64_t since;                      /* os_now_ns of the state's begin: IDLE, HEAD */
    int64_t written;                    /* of the last bytes that the source gave */

    /* the request */
    const http_route *route;            /* NULL: refused */
    http_style style;
    http_req req;
    char method[HTTP_METHOD_MAX];
    buf path, body;
    size_t held;                        /* of h->body_bytes */
    uint64_t n_in, n_out;
    int64_t begun, head_at;             /* head_at: when the reply's head was queued */
    bool active, inlined;
    char origin[160];                   /* for CORS: allowed, "" none */

    http_reply reply;
    bool open;                          /* reply.source has not been closed */
    buf out;
    size_t out_at;
    bool out_end, head_sent;
};

typedef struct { char *key; int tenant; } http_key;
typedef struct { http_key *v; int n; } http_keys;

struct http {
    http_opt o;
    struct MHD_Daemon *d;
    int poll, wake, mhd_fd, listen, port;
    bool loopback;                      /* it listens there, and nowhere else */
    char *unix_path;                    /* made by us, to be removed */
    http_conn *conns;
    int n_conns;
    size_t body_bytes;                  /* held by all requests */
    uint64_t number;
    int n_active;                       /* requests between access and completion */
    int64_t last_look, last_tick;
    bool draining, quiet;               /* quiet: the listening socket is closed */
    int64_t drain_until;
    atomic_int stop;                    /* grace_s + 1; 0: none asked for. Set by signals and threads */

    pthread_mutex_t lock;               /* of what follows */
    pthread_cond_t work;
    http_conn *woken, *jobs, *jobs_tail;
    int n_jobs;
    uint64_t n_taken, taken_before;     /* jobs that workers took; when work_look looked last */
    bool end;
    pthread_t *worker;
    int n_workers;

    http_keys keys;                     /* I/O thread */
    pthread_mutex_t tenant_lock;        /* of what follows; names stay where they are */
    char tenant_name[HTTP_TENANTS][HTTP_NAME_MAX];
    double tenant_weight[HTTP_TENANTS];
    int n_tenants;                      /* tenant 0 is nobody's */
    pthread_mutex_t stat_lock;
    http_stats stats;
};

/* http_keys.c */
int keys_load(http *h, dr_err *e);
void keys_free(http_keys *k);
/* The tenant of the key that the request gives; -1: none that is known. 0 where no key is asked for. */
int keys_check(const http *h, struct MHD_Connection *mc);

/* http_route.c */
/* NULL: *status is 404 or 405, and *allow the methods that there are. */
const http_route *route_find(const http *h, const char *method, const char *path, const char **rest,
                             int *status, char *allow, size_t n_allow);
http_style route_style(const http *h, const char *path);

/* http_origin.c: requests that a browser makes for somebody else's page */
/* Whether a page of this origin (may be NULL) may ask the server that is called `host`. */
bool origin_allowed(const http *h, const char *origin, const char *host);
bool host_allowed(const http *h, const char *host);     /* host: with or without a port */

/* http_work.c */
int work_start(http *h, dr_err *e);
void work_stop(http *h);
bool work_push(http *h, http_conn *c);          /* false: too many wait */
void work_look(http *h);                        /* one worker more, where all wait for a model to open */

/* http_conn.c: libmicrohttpd's callbacks, and what the loop calls */
enum MHD_Result conn_access(void *arg, struct MHD_Connection *mc, const char *url, const char *method,
                            const char *version, const char *data, size_t *n, void **con);
void conn_notify(void *arg, struct MHD_Connection *mc, void **socket_context,
                 enum MHD_ConnectionNotificationCode code);
void conn_completed(void *arg, struct MHD_Connection *mc, void **con, enum MHD_RequestTerminationCode why);
void *conn_uri(void *arg, const char *uri, struct MHD_Connection *mc);
void conn_woken(http_conn *c, bool job_done);
void conn_left(http_conn *c);                   /* its client is gone */
void conn_look(http *h, int64_t now);           /* time limits and pings */
void conn_cut(http_conn *c);                    /* end it, whatever it does */

/* http_log.c */
void log_request(http_conn *c, int status);

/* http_reply.c */
void reply_free(http_reply *o);
bool reply_json(buf *b, const json_t *v);       /* append; false: no memory */
#endif
