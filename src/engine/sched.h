/* sched.h - whose turn it is: which sequences run, with how many rows of the next step, who waits, who
 * gives its memory back. Policy on plain data: no model, no clock, no cache; the engine asks and does.
 *
 *     add --> waiting --turns_admit--> running --turns_remove--> gone
 *                ^------turns_back-------'
 *
 * A sequence is a list of tokens that are known, of which the first len are evaluated. One that lacks one
 * row decodes; one that lacks more is in its prompt, or begins again after it gave its memory back. So a
 * step is: turns_expired until NULL; turns_preempt until NULL; turns_admit until NULL; turns_step.
 *
 * Between tenants: the one that got least (tokens by weight) is next, also for the slots and pages that
 * others hold, of which it may have its share taken back. Within a tenant: the larger priority, then the
 * older. Sequences whose prompt another is evaluating just now wait for it, to share its pages.
 * docs/decisions/054, 055.
 *
 * Ownership: turns are the caller's, in lists while added. Threads: one at a time. No call allocates but
 * turns_init. */
#ifndef ENGINE_SCHED_H
#define ENGINE_SCHED_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum { TURN_TENANTS = 256 };
typedef enum { TURN_NONE, TURN_WAITING, TURN_RUNNING } turn_state;

/* One sequence. */
typedef struct turn {
    /* set before turns_add */
    void *owner;
    int tenant, priority;
    int64_t arrived_ns;         /* of its request; the older goes first, after a preemption too */
    int64_t deadline_ns;        /* 0: none */
    int root;                   /* sequences of different roots share nothing; -1: shares with nobody */
    bool extra;                 /* one more reply to a request: not counted in the room for requests */
    /* kept up to date by the caller */
    const int32_t *tok;         /* (known,) */
    int known, len;             /* tokens, and how many are evaluated: len < known */
    int max_len;                /* positions it has at its end at most */
    int guesses;                /* rows that it wants beyond one when it decodes */
    bool stalled;               /* its reader is slow: nothing is to be done with it now */
    /* answers */
    turn_state state;
    int rows;                   /* of the step that turns_step planned: 0: none; when it decodes 1 and as
                                   many guesses; else the next rows of its prompt */
    int n_preempted;
    /* the schedule's own */
    struct turn *next, *prev;
    int at;                     /* in run[] */
    uint64_t number;
} turn;

typedef struct {
    int max_running;            /* sequences in a step, at least 1 */
    int max_waiting;            /* requests that wait, those not counted for whom a slot is free */
    int step_rows;              /* of a step, at least max_running */
    double mixed_s;             /* a step in which somebody decodes should not take longer: prompts are
                                   cut to that, but not below 64 rows; 0: no such wish */
    int64_t n_pages;            /* of the cache */
    /* Pages that must be free, or be freed, before q holds positions [0,upto): the caller knows what of
     * them q has, may have from the prefix cache, or must copy. Of a waiting sequence pages that only
     * the prefix cache holds count, since they are no longer to be had then. */
    int64_t (*need)(void *arg, const turn *q, int upto);
    /* Positions that the prefix cache would give to q, which waits. */
    int (*match)(void *arg, const turn *q);
    void *arg;
} turns_opt;

typedef struct {
    turn *first, *last;         /* waiting, in order */
    int waiting, running;
    int requests;               /* waiting, extra ones not counted */
    double weight, served;      /* tokens by weight; in relation to others only */
    bool known;
} turn_tenant;

typedef struct {
    turns_opt o;
    turn **run;                 /* (n_run,) in no order */
    int n_run, n_wait, n_requests;
    turn_tenant t[TURN_TENANTS];
    int n_tenants;              /* known ones */
    double idle_served;         /* of the tenant that had turns last */
    uint64_t number;
    double row_s, rows_s;       /* seconds of a row; rows in a second, of the last steps; 0: unknown */
    double gen_mean;            /* tokens of a reply */
} turns;

int turns_init(turns *s, const turns_opt *o, dr_err *e);
void turns_free(turns *s);                          /* no turn is in it */
/* A tenant's share is weight / weights of those who want something. 1 unless set; > 0. */
void turns_weight(turns *s, int tenant, double weight);

/* Is there room for one more request of this tenant? Where several tenants are known, one alone cannot
 * fill it. false: *retry_s is when there may be, from 1 on. */
bool turns_room(const turns *s, int tenant, int *retry_s);
void turns_add(turns *s, turn *q);                  /* NONE -> WAITING; turns_room is not asked */
void turns_remove(turns *s, turn *q);               /* whatever it is -> NONE */

/* Somebody whose deadline has come, waiting or running; the caller removes it. */
turn *turns_expired(const turns *s, int64_t now_ns);
/* `pages` below: free ones and those that only the prefix cache holds.
 * Somebody who has to give its pages back, since those who run need them for their next row, or since
 * the next to be admitted has the better right to them; NULL: nobody. The caller frees them, then
 * turns_back: RUNNING -> WAITING with len as it is then. */
turn *turns_preempt(turns *s, int64_t pages);
void turns_back(turns *s, turn *q);
/* Who begins now: WAITING -> RUNNING; NULL: nobody waits or nothing fits. The caller takes what the
 * prefix cache has for it, at least as much as `match` said, before it asks again. */
turn *turns_admit(turns *s, int64_t pages);
/* Plan the next step: sets rows of all that run, which need no more than `pages`. Their sum; 0: nobody can
 * do anything. */
int turns_step(turns *s, int64_t pages);
/* What became of q's rows: prompt rows evaluated, tokens generated (guesses that came included). */
void turns_ran(turns *s, turn *q, int prompt_rows, int generated);
/* A step of so many rows took so long. */
void turns_took(turns *s, int rows, int64_t ns);
/* A reply has ended with so many tokens: what turns_room's estimate counts with. */
void turns_ended(turns *s, int generated);
#endif
