/* engine.h - many replies at once over one model: continuous batching. The program under `drover serve`
 * and under whatever asks for many answers.
 *
 *     requests --submit--> waiting --admit--> running --step--> events --next--> their owner
 *
 * One thread, the engine's own, evaluates: each step is one forward pass over at most step_tokens rows,
 * a row for every sequence that decodes (more where guesses are evaluated) and chunks of prompts in what
 * is left. What a request gets does not depend on what else is in the step, on how its prompt was cut, on
 * what the prefix cache held, or on speculation (docs/numerics.md).
 *
 * Ownership: the engine borrows model and tokenizer. A request's fields are copied by engine_submit, but
 * for the grammar, which is held by count (grammar_hold).
 * Threads: engine_submit, the tickets' functions and what is marked (any) may be called from any thread;
 * one ticket by one thread at a time. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H
#include "gen/generate.h"
#include "model/model.h"

typedef struct {
    int n_ctx;                  /* positions of one sequence at most; 0: the model's own, what fits */
    int64_t kv_positions;       /* of all sequences and of the prefix cache together; 0: n_ctx times
                                   what fits, at least 1 */
    bool kv_set;                /* false: F16 */
    kv_type kv;
    int step_tokens;            /* rows of one step; 0: 512 */
    int max_running;            /* sequences in a step at most; 0: 64 */
    int max_waiting;            /* requests that wait at most, refused after that; 0: 256 */
    spec_kind spec;             /* guesses evaluated ahead while few sequences run */
    int spec_max;
    int spec_min;               /* guesses wherever something can be guessed, whether they pay or not; 0: none */
    const model *draft;         /* SPEC_DRAFT */
    const char *store;          /* folder in which prefixes outlive the process; NULL: none */
    int64_t store_bytes;        /* of it at most; 0: 8 GB */
} engine_opt;

typedef struct engine engine;
typedef struct ticket ticket;

/* Everything is allocated here: nothing is while tokens are made. Starts the thread. */
engine *engine_new(model *m, const tokenizer *t, const engine_opt *o, dr_err *e);
/* Ends the thread; requests still there end as cancelled. No ticket may be used afterwards but to free it. */
void engine_free(engine *g);                                /* NULL is fine */
int engine_ctx(const engine *g);                            /* (any) positions of one sequence */

typedef enum { ENGINE_GENERATE, ENGINE_EMBED_MEAN, ENGINE_EMBED_LAST } engine_task;

enum { ENGINE_TOP_MAX = 20, ENGINE_SAMPLES_MAX = 128 };

typedef struct {
    engine_task task;
    const int32_t *prompt;
    int n_prompt;               /* at least 1 */
    int n_samples;              /* replies to the same prompt, sample numbers 0 … n-1; 0: 1 */
    sample_opt sample;          /* seed, filters, n_probs <= ENGINE_TOP_MAX */
    int max_tokens;             /* of each reply; 0: none (the prompt alone); -1: until the context is full */
    int min_tokens;             /* no end before so many */
    const char *const *stop;
    int n_stop;
    const int32_t *end;         /* ids that end a reply besides the vocabulary's own ends */
    int n_end;
    bool show_special, ignore_eos, keep_stop;               /* keep_stop: the stop string is part of the text */
    bool no_cache;              /* neither reads nor leaves a prefix */
    grammar *constraint;        /* NULL: anything */
    int prompt_probs;           /* -1: none; 0 … ENGINE_TOP_MAX: log-probability of each prompt token but
                                   the first, with so many of the best beside it */
    int adapter;                /* engine_adapter_find's answer; 0: the model alone */
    int tenant;                 /* whose request it is: 0 … ENGINE_TENANTS - 1 */
    int priority;               /* larger first; 0 is usual */
    int64_t deadline_ns;        /* os_now_ns() at which it ends, finished or not; 0: none */
    /* Something new for this ticket; called from the engine's thread, holding nothing, and never after
     * ticket_free returned. Must be quick and must not call the engine. NULL: none. */
    void (*wake)(void *arg);
    void *arg;
} engine_req;
void engine_req_init(engine_req *r);                        /* defaults: one reply, no limits */

/* DR_EBUSY: too many wait already, *retry_s says in how many seconds it may be worth trying. DR_EINVAL:
 * it can never run: the sentence says which figure is too large. */
int engine_submit(engine *g, const engine_req *r, ticket **out, int *retry_s, dr_err *e);

typedef enum {
    ENGINE_BEGIN,               /* the prompt is evaluated: n_prompt, n_cached, prompt_ns are there */
    ENGINE_PROMPT_TOKEN,        /* id, logprob and best of prompt token `pos`, in order, after BEGIN */
    ENGINE_TOKEN,               /* a token of reply `sample`; text: what can be shown with it, may be empty */
    ENGINE_FINISH,              /* reply `sample` is complete: finish; text: what was held back */
    ENGINE_VECTOR,              /* an embedding, normalised: vec (n_vec,) */
    ENGINE_DONE                 /* the last event: usage; or code and msg */
} engine_kind;

typedef enum { ENGINE_STOP, ENGINE_LENGTH, ENGINE_CONTEXT, ENGINE_CANCELLED, ENGINE_DEADLINE } engine_finish;

typedef struct {
    int n_prompt, n_cached;     /* prompt tokens, and those of them found in the prefix cache */
    int n_gen;                  /* of all replies, end tokens included */
    int n_drafted, n_accepted;
    int n_preempted;            /* how often it gave its memory to others and began again */
    int64_t wait_ns, prompt_ns, gen_ns;
} engine_usage;

typedef struct {
    engine_kind kind;
    int sample, pos;
    int32_t id;
    span text;
    float logprob;              /* where asked for */
    int n_top;
    const sample_prob *top;     /* best first */
    engine_finish finish;
    const char *stop;           /* ENGINE_FINISH by a stop string: which; else NULL */
    const float *vec;
    int n_vec;
    engine_usage usage;         /* BEGIN, DONE */
    int code;                   /* DONE: DR_OK, or what went wrong */
    const char *msg;
} engine_event;

/* The next event; false: none yet. What it points to is valid until the next call. A reader that is slow
 * stops its own sequence once its events fill their room, nobody else's. */
bool ticket_next(ticket *t, engine_event *ev);
/* Ends the request if it has not ended: its memory is free within one step. NULL is fine. */
void ticket_free(ticket *t);

/* ---- adapters, all (any). Requests for different ones share a step. ---- */
enum { ENGINE_ADAPTERS = 64 };
/* Load a LoRA adapter under a name. DR_EINVAL: the name is taken. */
int engine_adapter_load(engine *g, const char *name, const char *path, float scale, dr_err *e);
/* No new request finds it; freed when the last one that uses it has ended. DR_EINVAL: no such name. */
int engine_adapter_unload(engine *g, const char *name, dr_err *e);
int engine_adapter_find(engine *g, const char *name);       /* > 0; -1: no such name */
/* Call fn with each name, path and the number of requests that use it. */
void engine_adapter_each(engine *g, void (*fn)(void *arg, const char *name, const char *path, int in_use),
                         void *arg);

/* ---- tenants, all (any): whose share of tokens is how large when there is not enough for all ---- */
enum { ENGINE_TENANTS = 256 };
void engine_tenant(engine *g, int tenant, double weight);   /* 1 unless set */

/* ---- what is going on (any) ---- */
enum { ENGINE_BUCKETS = 24 };
/* Counts of observations up to 1 ms * 2^(i/2)…; the last bucket is all. The bounds are engine_bound(i). */
typedef struct { uint64_t count[ENGINE_BUCKETS]; double sum; } engine_hist;
double engine_bound(int i);                                 /* seconds; the last is INFINITY */
typedef struct {
    int running, waiting;
    int64_t kv_positions, kv_used, kv_cached;               /* in sequences; kept by the prefix cache alone */
    uint64_t steps, requests, finished[5];                  /* by engine_finish */
    uint64_t refused, failed, preempted;
    uint64_t prompt_tokens, cached_tokens, gen_tokens, drafted, accepted;
    uint64_t prefix_queries, prefix_hits;                   /* in tokens */
    engine_hist first_token, per_token, whole, queue;       /* seconds */
    double tok_s, prompt_tok_s;                             /* of the last seconds */
    size_t bytes;                                           /* that the engine holds */
} engine_stats;
void engine_stats_get(engine *g, engine_stats *out);
/* Finish what runs and waits, refuse what comes (DR_EBUSY); returns at once. */
void engine_drain(engine *g);
bool engine_idle(engine *g);                                /* nothing runs or waits */
int64_t engine_idle_ns(engine *g);                          /* for how long */
#endif
