/* adapters.h - the LoRA adapters of a running engine by name: loaded, listed, unloaded at any time, counted
 * while requests use them. What the engine's loop gives to model_eval for each run comes from here.
 *
 *     n = adapters_find(a, name)                      0 < n; -1: none of that name
 *     adapters_hold(a, n)                             a request begins …
 *     step.lora[i] = adapters_at(a, n)                … is part of steps …
 *     adapters_put(a, n)                              … and ends
 *
 * Numbers are never given twice, so a number found before an unloading never means another adapter. Keys and
 * values that an adapter took part in are its alone: whoever keeps them tells them apart by adapters_key,
 * which is the same for the same adapter after a restart.
 *
 * Ownership: borrows the model. Threads: any; locked inside, never while a file is read. */
#ifndef ENGINE_ADAPTERS_H
#define ENGINE_ADAPTERS_H
#include "model/model.h"

enum {
    ADAPTERS_MAX = 64,          /* loaded at once, those counted that were unloaded in use */
    ADAPTERS_RANK = 256         /* the largest rank; a step's scratch is made for it (workspace_init_rank) */
};

typedef struct adapters adapters;
adapters *adapters_new(const model *m, dr_err *e);
void adapters_free(adapters *a);                            /* all held were put; NULL is fine */

/* Load one under a name: its number, or DR_EINVAL: the name is empty or taken, or scale no number; DR_EBUSY: all
 * places are taken; else what lora_open says. */
int adapters_load(adapters *a, const char *name, const char *path, float scale, dr_err *e);
/* Nobody finds it any more; freed when the last that holds it puts it. DR_EINVAL: no such name. */
int adapters_unload(adapters *a, const char *name, dr_err *e);
int adapters_find(adapters *a, const char *name);

/* DR_ENOTFOUND: it was unloaded since it was found. Number 0 is the model alone: held and put by nothing. */
int adapters_hold(adapters *a, int number, dr_err *e);
void adapters_put(adapters *a, int number);
/* Of a number that the caller holds. 0: NULL. */
const lora *adapters_at(adapters *a, int number);
/* A digest of the matrices and the factor, of a number that the caller holds. 0: 0; else never 0. */
uint64_t adapters_key(adapters *a, int number);

/* Call fn, which must not call back, with each that can be found, and how many hold it. */
typedef struct { const char *name, *path; float scale; int number, rank, in_use; size_t bytes; } adapters_row;
void adapters_each(adapters *a, void (*fn)(void *arg, const adapters_row *row), void *arg);
size_t adapters_bytes(adapters *a);                         /* of all, those counted that were unloaded in use */
#endif
