/* engine_priv.h - the inside of the engine, for engine.c, ticket.c, batch.c and engine_stats.c.
 *
 * Who touches what: a ticket's ring has one writer, the engine's thread, and one reader, the ticket's owner;
 * head and tail are all that they share. The schedule and the list of tickets are under engine.lock.
 * Everything else of a ticket belongs to the engine's thread from turns_add until ticket_over.
 * Locks are taken in the order ticket.lock, engine.lock; wake is called under ticket.lock alone. */
#ifndef ENGINE_ENGINE_PRIV_H
#define ENGINE_ENGINE_PRIV_H
#include <pthread.h>
#include <stdatomic.h>
#include "base/arena.h"
#include "engine/adapters.h"
#include "engine/engine.h"
#include "engine/guess.h"
#include "engine/prefix.h"
#include "engine/sched.h"
#include "engine/store.h"
#include "gen/reply.h"

enum {
    PICKS = SPEC_MAX + 1,           /* tokens of one sequence in one step at most */
    OUT_SPARE = 64,                 /* rows of logits beyond one for each sequence */
    RING_TOKENS = 64,               /* events that a reader may be behind, and a few for each reply more */
    STOP_BYTES = 1024,              /* of one stop string */
    SECONDS = 8                     /* over which speed is told */
};

typedef struct { int32_t id; float logprob; int n_top; sample_prob top[ENGINE_TOP_MAX]; } picked;

/* One reply. Invariant between steps: kv.len == turn.len <= turn.known; tok[0..known) are prompt and reply. */
typedef struct seq {
    turn turn;
    ticket *t;
    int sample;
    gen_reply r;
    kv_seq kv;
    int32_t *tok;                   /* (max_len + PICKS,), from its first admission on */
    bool here, finished;            /* tok is filled in; FINISH was sent */
    int asked;                      /* context for which r.allowed, forced and over hold; -1: none */
    int32_t forced;
    bool over;
    unsigned asked_store;           /* engine.store_asked when it was asked for this one's prompt */
    bool coming;                    /* it is on its way from there */
    int n_shown;                    /* tokens that were sent */
    int64_t last_ns;                /* when the last one was */
    /* in this step */
    int rows, n_guess, out0, n_out; /* rows evaluated, the last n_guess of them guesses; their logits */
    int hid0;                       /* where its hidden states begin */
    int may;                        /* tokens that there is room for in the ring */
    picked *pick;                   /* (PICKS,) */
    int n_pick, n_match;            /* picked; of them guesses that came, from the first on */
    dr_err err;
} seq;

struct ticket {
    pthread_mutex_t lock;           /* of closed and g, and held while wake runs */
    engine *g;                      /* NULL: the request has ended */
    bool closed;                    /* ticket_free was called */
    atomic_int refs;                /* owner and engine */
    atomic_bool cancelled;
    engine_req req;                 /* its pointers into this ticket's memory */
    arena mem;

    char *ring;                     /* (n_slots,slot_bytes) */
    size_t slot_bytes, text_max;
    unsigned n_slots;
    atomic_uint head, tail;         /* written, read; modulo 2^32 */
    atomic_bool starved;            /* the engine wants to be told when there is room */
    bool reading, prompt_now;       /* reader: the slot at tail is out; prompt tokens are handed out */
    int prompt_at;

    matcher *match;                 /* of the constraint, from the first admission to the end; NULL: none */
    pthread_mutex_t match_lock;     /* replies of one ticket may be picked by several threads */
    seq *seq;                       /* (req.n_samples,) */
    picked *prompt;                 /* (n_prompt,) with prompt_probs; else NULL */
    double *sum;                    /* (C,) embedding */
    float *vec;

    /* the engine's thread */
    ticket *next, **from;           /* in engine.all */
    ticket *wake_next;              /* in engine.to_wake, with a hold of its own */
    int root;                       /* in the prefix tree; -1: none */
    int n_left;                     /* replies that have not finished */
    bool begun, news, over;         /* BEGIN was sent; it is in to_wake; it has ended */
    int64_t submit_ns, admit_ns, begin_ns;      /* 0: not yet */
    engine_usage usage;
    char msg[sizeof ((dr_err *)0)->msg];
};

struct engine {
    model *m;
    const tokenizer *tok;
    engine_opt o;
    int n_ctx, n_out;
    size_t token_bytes;
    kv_cache kv;
    workspace ws;
    prefix *prefix;
    store *store;                   /* of root 0; NULL: none */
    unsigned store_asked;           /* how often what waits has been asked for there */
    adapters *adapters;
    guess *guess;                   /* NULL: no speculation */
    bool decodes;                   /* this step has neither prompts nor forced tokens: its time tells of guesses */
    sampler **smp;                  /* (threads,) */
    buf text;
    /* one step */
    int32_t *row_tok, *out, *hid;   /* (step_tokens,) (n_out,) (step_tokens,) */
    seq_run *run;                   /* (max_running,) */
    const lora **lora;              /* (max_running,) */
    seq **in;                       /* (max_running,) those in the step */
    int n_in;
    ticket *to_wake;

    pthread_t thread;
    bool started;
    pthread_mutex_t lock;           /* of what follows */
    pthread_cond_t cond;
    turns turns;
    bool turns_made;
    struct { int number, users; bool stale; } root[1 + ADAPTERS_MAX];   /* whose each root of the tree is */
    ticket *all;                    /* that have not ended */
    int n_all;
    bool kick, quit, draining;
    bool store_news;
    engine_stats st;
    struct { int64_t second; uint64_t gen, prompt; } per_s[SECONDS];
    int64_t idle_since;
};

/* ---- ticket.c ---- */
/* Everything that the request will need; not yet in the engine. */
int ticket_new(engine *g, const engine_req *r, ticket **out, dr_err *e);
void ticket_unref(ticket *t);
unsigned ticket_room(const ticket *t);          /* free slots beyond those for the ends of its replies */
/* The next slot to fill, then ticket_put. Text and top go into the slot's own memory. */
engine_event *ticket_slot(ticket *t, engine_kind k, int sample);
void ticket_slot_text(ticket *t, engine_event *ev, span text);
void ticket_slot_top(ticket *t, engine_event *ev, const picked *p);
void ticket_put(ticket *t);                     /* it is filled; engine.to_wake has the ticket now */
void ticket_wake(ticket *t);

/* ---- batch.c: the engine's thread ---- */
/* Evaluate the rows that turns_step planned; returns how many. Without lock. */
int batch_eval(engine *g, int64_t *ns);
/* What came of it: tokens to their tickets. Under lock. */
void batch_share_out(engine *g, int64_t now);

/* ---- engine.c ---- */
/* Reply s is complete. Under lock, as the next two. */
void seq_finish(engine *g, seq *s, engine_finish f);
/* The ticket ends: replies not finished with f; code DR_OK or what went wrong. */
void ticket_over(engine *g, ticket *t, engine_finish f, int code, const char *msg);
void seq_keep(engine *g, seq *s);               /* on disk, if there is a store */
void seq_leave_prefix(engine *g, seq *s, bool whole_pages);

/* ---- engine_stats.c: under lock ---- */
void hist_put(engine_hist *h, double seconds);
void stats_step(engine *g, int64_t now, uint64_t gen, uint64_t prompt);
void stats_memory(engine *g);
#endif
