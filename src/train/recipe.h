/* recipe.h - what a training run is: a YAML file, read by the table recipe_keys.
 *
 * Everything that can be known to be wrong is refused with the file's line before anything is
 * allocated: an unknown key (with the likeliest meant one), a value outside its limits, keys that
 * are wanted and missing, a file that is not there.
 * Ownership: a recipe owns its text, which all its strings point into; values of --set are borrowed.
 * Immutable once read. */
#ifndef TRAIN_RECIPE_H
#define TRAIN_RECIPE_H
#include <stddef.h>
#include <stdio.h>
#include "train/loader.h"
#include "train/optim.h"
#include "train/sched.h"
#include "train/yaml.h"

enum { RECIPE_STRS = 32, RECIPE_KEY_MAX = 96 };

typedef struct { const char *v[RECIPE_STRS]; int n; } recipe_strs;
typedef struct { double v[LOADER_SOURCES]; int n; } recipe_reals;

typedef enum { PRECISION_BF16, PRECISION_F32 } recipe_precision;
typedef enum { GUARD_SKIP, GUARD_REWIND, GUARD_STOP, GUARD_OFF } recipe_guard;

typedef struct { const char *name, *path; double weight; } recipe_source;

typedef struct {
    int64_t until_tokens, batch_tokens;
    int seq;
    recipe_reals mix;            /* a weight for each source; none: the sources' own */
    int law, by_tokens;
    double peak, end;
    int64_t warmup, decay, length;
    int tp, cp, pp;              /* of the printed recipes; a run here has 1 of each */
} recipe_phase;

typedef struct {
    const char *name, *out, *summary;
    recipe_strs open;            /* what the source of the recipe leaves open */
    int64_t seed;
    int precision, recompute;
    int64_t micro_tokens;        /* tokens of a micro-batch */
    struct {
        const char *init, *shape;
        bool random;
        double std;
    } model;
    recipe_source source[LOADER_SOURCES];
    int n_sources;
    struct {
        int rule, rest, adjust, ns_steps;
        double beta1, beta2, eps, decay, momentum, dampening, rest_lr, clip;
        bool nesterov, decay_embedding, decay_head, decay_vectors;
    } optim;
    recipe_phase phase[SCHED_PHASES];
    int n_phases;
    struct {
        const char *path;
        int64_t every, tokens;
        int seq;
    } eval;
    struct {
        recipe_strs prompts;
        int tokens;
        int64_t every;
        double temperature;
    } sample;
    struct { int64_t every; int keep_last, keep_best; } checkpoint;
    struct { int action, window, max; double sigmas, factor; } guard;
    struct { int64_t every; bool tensorboard, curve; } log;
    double peak_tflops;          /* what MFU is a share of; 0: measured at the start */
    yaml y;
    char *file, *words;
    const char *const *sets;
} recipe;

typedef enum {
    RK_STR, RK_INT, RK_COUNT, RK_REAL, RK_BOOL, RK_CHOICE, RK_STRS, RK_REALS,
    RK_MAP,                      /* keys of `sub`, whose offsets start at `at` */
    RK_LIST                      /* a list of maps: elements of `size` bytes at `at`, `max` at most,
                                    their number, an int, at `count` */
} recipe_kind;

typedef struct recipe_key {
    const char *name;
    recipe_kind kind;
    size_t at;
    const char *help;            /* one line; a choice: "WORD|WORD: help" */
    double lo, hi;               /* of a number; both 0: any */
    const struct recipe_key *sub;
    size_t size, count;
    int max;
} recipe_key;

/* The whole language; a row with name NULL ends each table. */
extern const recipe_key recipe_keys[];
/* "until_tokens" and its kin with their kind, default and help, one a line, to f: cli's --keys. */
void recipe_each_key(void (*fn)(void *arg, const char *path, const recipe_key *k), void *arg);
const char *recipe_kind_name(recipe_kind k);

/* Read the file and then sets[0..n_sets), each "a.b=value" (lists by number: "phases.0.seq=512").
 * On failure *r is zeroed. */
int recipe_read(recipe *r, const char *path, const char *const *sets, int n_sets, dr_err *e);
int recipe_parse(recipe *r, const char *file, const void *bytes, size_t n,
                 const char *const *sets, int n_sets, dr_err *e);
void recipe_free(recipe *r);                 /* a zeroed one is fine */
/* "FILE:LINE" or "--set a.b=…" of a key that was given ("phases.0.seq"), "FILE" of one that was not. */
void recipe_where(const recipe *r, const char *key, char *s, size_t n);
/* The phases as the schedule has them, with mix i for phase i, and the optimiser. */
int recipe_sched(const recipe *r, sched *s, dr_err *e);
int recipe_optim(const recipe *r, optim_opt *o, dr_err *e);
#endif
