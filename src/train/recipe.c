/* recipe.c - see recipe.h. */
#include "train/recipe.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "base/buf.h"
#include "base/mem.h"
#include "base/near.h"
#include "base/os.h"

/* ---- --set: what the command line changes of the tree */

/* A new child of map or list `up`; the nodes' array has room for it. */
static int grow(yaml *y, int up, ynode n)
{
    int at = y->n++, *link = &y->node[up].first;
    n.first = n.next = -1;
    y->node[at] = n;
    while (*link >= 0) link = &y->node[*link].next;
    *link = at;
    return at;
}

static int nth(const yaml *y, int list, int i)
{
    int at = y->node[list].first;
    while (at >= 0 && i-- > 0) at = y->node[at].next;
    return at;
}

/* One step of the path, made when it is not there. -1: cannot be. */
static int step_into(yaml *y, int at, const char *word, int line)
{
    if (y->node[at].kind == YAML_SCALAR) return -1;
    if (y->node[at].kind == YAML_LIST)
        return isdigit((unsigned char)*word) && strlen(word) < 4 ?
               nth(y, at, (int)strtol(word, NULL, 10)) : -1;
    int k = yaml_child(y, at, word);
    return k >= 0 ? k : grow(y, at, (ynode){ .kind = YAML_MAP, .line = line, .key = word });
}

/* sets[i] into the tree; its line is -(i+1). *words takes the path's pieces. */
static int apply(recipe *r, const char *set, int i, char *words, dr_err *e)
{
    yaml *y = &r->y;
    const char *eq = strchr(set, '=');
    if (!eq || eq == set || eq - set >= RECIPE_KEY_MAX)
        return err_set(e, DR_EINVAL, "--set %.64s: key=value is wanted", set);
    memcpy(words, set, (size_t)(eq - set));
    words[eq - set] = 0;
    int at = 0;
    for (char *w = words; w;) {
        char *dot = strchr(w, '.');
        if (dot) *dot = 0;
        at = *w ? step_into(y, at, w, -(i + 1)) : -1;
        if (at < 0) return err_set(e, DR_EINVAL, "--set %.64s: there is no such place", set);
        w = dot ? dot + 1 : NULL;
    }
    y->node[at].kind = YAML_SCALAR, y->node[at].line = -(i + 1), y->node[at].first = -1;
    y->node[at].text = eq + 1, y->node[at].quoted = false;
    return DR_OK;
}

static int apply_all(recipe *r, const char *const *sets, int n, char **words, dr_err *e)
{
    int room = r->y.n + n * (RECIPE_KEY_MAX / 2 + 1);
    ynode *more = mem_realloc(r->y.node, (size_t)room * sizeof *more);
    if (more) r->y.node = more, r->y.cap = room;
    *words = mem_alloc((size_t)n * RECIPE_KEY_MAX);
    if (!more || !*words) return err_nomem(e, (size_t)room * sizeof *more, "--set");
    r->sets = sets;
    int rc = DR_OK;
    for (int i = 0; i < n && rc == DR_OK; i++)
        rc = apply(r, sets[i], i, *words + (size_t)i * RECIPE_KEY_MAX, e);
    return rc;
}

/* ---- from the tree into the struct */

static void where(const recipe *r, int line, char *s, size_t n)
{
    if (line < 0) snprintf(s, n, "--set %.80s", r->sets[-line - 1]);
    else if (line > 0) snprintf(s, n, "%s:%d", r->file, line);
    else snprintf(s, n, "%s", r->file);
}

static int bad(const recipe *r, int node, const char *path, const char *want, dr_err *e)
{
    char at[256];
    const ynode *n = &r->y.node[node];
    where(r, n->line, at, sizeof at);
    if (n->kind == YAML_SCALAR)
        return err_set(e, DR_EINVAL, "%s: %s is \"%.64s\", %s is wanted", at, path, n->text, want);
    return err_set(e, DR_EINVAL, "%s: %s is a %s, %s is wanted", at, path,
                   n->kind == YAML_MAP ? "map" : "list", want);
}

/* 1.5M and the like: decimal, as tokens are counted. */
static bool number(const char *s, bool suffix, double *v)
{
    static const char letter[] = "KMBT";
    char *end;
    errno = 0;
    if (!*s || isspace((unsigned char)*s)) return false;
    *v = strtod(s, &end);
    if (end == s || errno || !isfinite(*v) || strpbrk(s, "xXpP")) return false;
    const char *l = suffix && *end ? strchr(letter, *end) : NULL;
    if (l) {
        for (const char *k = letter; k <= l; k++) *v *= 1000;
        end++;
    }
    return !*end;
}

static int take_number(const recipe *r, const recipe_key *k, int node, const char *path, void *to,
                       dr_err *e)
{
    double v;
    char want[128];
    bool whole = k->kind == RK_INT || k->kind == RK_COUNT, limits = k->lo != 0 || k->hi != 0;
    const ynode *n = &r->y.node[node];
    const char *what = whole ? "a whole number" : "a number";
    if (limits) snprintf(want, sizeof want, "%s from %.10g to %.10g", what, k->lo, k->hi);
    else snprintf(want, sizeof want, "%s", what);
    if (n->kind != YAML_SCALAR || !number(n->text, whole, &v) || (whole && v != floor(v)) ||
        (limits && (v < k->lo || v > k->hi)) || (whole && fabs(v) > 9e18))
        return bad(r, node, path, want, e);
    if (k->kind == RK_INT) *(int *)to = (int)v;
    else if (k->kind == RK_COUNT) *(int64_t *)to = (int64_t)v;
    else *(double *)to = v;
    return DR_OK;
}

static int take_choice(const recipe *r, const recipe_key *k, int node, const char *path, int *to,
                       dr_err *e)
{
    char want[160];
    const ynode *n = &r->y.node[node];
    const char *s = k->help, *colon = strchr(s, ':');
    for (int i = 0; n->kind == YAML_SCALAR && s < colon; i++) {
        const char *end = memchr(s, '|', (size_t)(colon - s));
        if (!end) end = colon;
        if (strlen(n->text) == (size_t)(end - s) && !memcmp(n->text, s, (size_t)(end - s))) {
            *to = i;
            return DR_OK;
        }
        s = end + 1;
    }
    snprintf(want, sizeof want, "one of %.*s", (int)(colon - k->help), k->help);
    return bad(r, node, path, want, e);
}

static int take_bool(const recipe *r, int node, const char *path, bool *to, dr_err *e)
{
    static const char *const word[] = { "false", "true", "no", "yes", "off", "on" };
    const ynode *n = &r->y.node[node];
    for (int i = 0; n->kind == YAML_SCALAR && i < 6; i++)
        if (!strcmp(n->text, word[i])) {
            *to = i & 1;
            return DR_OK;
        }
    return bad(r, node, path, "true or false", e);
}

static int take_map(recipe *r, const recipe_key *keys, int node, const char *path, char *base,
                    dr_err *e);

static int take_values(const recipe *r, const recipe_key *k, int node, const char *path, void *to,
                       dr_err *e)
{
    const yaml *y = &r->y;
    recipe_strs *s = to;
    recipe_reals *v = to;
    int n = 0, max = k->kind == RK_STRS ? RECIPE_STRS : LOADER_SOURCES, rc = DR_OK;
    if (y->node[node].kind != YAML_LIST) return bad(r, node, path, "a list", e);
    for (int i = y->node[node].first; i >= 0 && rc == DR_OK; i = y->node[i].next, n++) {
        recipe_key one = { .kind = RK_REAL, .lo = k->lo, .hi = k->hi };
        if (n == max) return bad(r, node, path, "a shorter list", e);
        if (k->kind == RK_REALS) rc = take_number(r, &one, i, path, &v->v[n], e);
        else if (y->node[i].kind != YAML_SCALAR) rc = bad(r, i, path, "a text", e);
        else s->v[n] = y->node[i].text;
    }
    if (k->kind == RK_STRS) s->n = n;
    else v->n = n;
    return rc;
}

static int take_list(recipe *r, const recipe_key *k, int node, const char *path, char *base,
                     dr_err *e)
{
    const yaml *y = &r->y;
    char at[RECIPE_KEY_MAX];
    int n = 0, rc = DR_OK;
    if (y->node[node].kind != YAML_LIST) return bad(r, node, path, "a list of maps (- key: value)", e);
    for (int i = y->node[node].first; i >= 0 && rc == DR_OK; i = y->node[i].next, n++) {
        if (n == k->max) return bad(r, node, path, "a shorter list", e);
        snprintf(at, sizeof at, "%.64s.%d", path, n);
        rc = take_map(r, k->sub, i, at, base + k->at + (size_t)n * k->size, e);
    }
    *(int *)(base + k->count) = n;
    return rc;
}

static int take(recipe *r, const recipe_key *k, int node, const char *path, char *base, dr_err *e)
{
    void *to = base + k->at;
    const ynode *n = &r->y.node[node];
    switch (k->kind) {
    case RK_STR:
        if (n->kind != YAML_SCALAR || !*n->text) return bad(r, node, path, "a text", e);
        *(const char **)to = n->text;
        return DR_OK;
    case RK_INT: case RK_COUNT: case RK_REAL: return take_number(r, k, node, path, to, e);
    case RK_BOOL: return take_bool(r, node, path, to, e);
    case RK_CHOICE: return take_choice(r, k, node, path, to, e);
    case RK_STRS: case RK_REALS: return take_values(r, k, node, path, to, e);
    case RK_MAP: return take_map(r, k->sub, node, path, to, e);
    case RK_LIST: return take_list(r, k, node, path, base, e);
    }
    return DR_OK;
}

static int unknown(const recipe *r, const recipe_key *keys, int node, const char *path, dr_err *e)
{
    const char *word[64];
    char at[256];
    int n = 0;
    for (const recipe_key *k = keys; k->name && n < 64; k++) word[n++] = k->name;
    const ynode *y = &r->y.node[node];
    const char *near = near_miss(y->key, word, n);
    where(r, y->line, at, sizeof at);
    return err_set(e, DR_EINVAL, "%s: there is no key %s%s%.48s%s%s%s", at, path, *path ? "." : "",
                   y->key, near ? "; is " : "", near ? near : "", near ? " meant?" : "");
}

static int take_map(recipe *r, const recipe_key *keys, int node, const char *path, char *base,
                    dr_err *e)
{
    const yaml *y = &r->y;
    char at[RECIPE_KEY_MAX];
    int rc = DR_OK;
    if (y->node[node].kind != YAML_MAP) return bad(r, node, path, "a map (key: value)", e);
    for (int i = y->node[node].first; i >= 0 && rc == DR_OK; i = y->node[i].next) {
        const recipe_key *k = keys;
        while (k->name && strcmp(k->name, y->node[i].key)) k++;
        if (!k->name) return unknown(r, keys, i, path, e);
        snprintf(at, sizeof at, "%.64s%s%s", path, *path ? "." : "", k->name);
        rc = take(r, k, i, at, base, e);
    }
    return rc;
}

void recipe_where(const recipe *r, const char *key, char *s, size_t n)
{
    char word[RECIPE_KEY_MAX];
    int at = 0;
    for (const char *p = key; *p && at >= 0;) {
        size_t k = strcspn(p, ".");
        snprintf(word, sizeof word, "%.*s", (int)(k < sizeof word ? k : sizeof word - 1), p);
        at = r->y.node[at].kind == YAML_LIST ? nth(&r->y, at, (int)strtol(word, NULL, 10)) :
             r->y.node[at].kind == YAML_MAP ? yaml_child(&r->y, at, word) : -1;
        p += k + (p[k] == '.');
    }
    where(r, at > 0 ? r->y.node[at].line : 0, s, n);
}

/* ---- what no single key can say */

static int wanted(const recipe *r, bool there, const char *key, dr_err *e)
{
    return there ? DR_OK : err_set(e, DR_EINVAL, "%s: key %s is wanted", r->file, key);
}

static int refuse(const recipe *r, const char *key, dr_err *e, const char *why)
{
    char at[256];
    recipe_where(r, key, at, sizeof at);
    return err_set(e, DR_EINVAL, "%s: %s: %s", at, key, why);
}

static int check_phase(const recipe *r, int i, dr_err *e)
{
    const recipe_phase *p = &r->phase[i];
    char key[64];
    int rc = DR_OK;
#define NAME(k) (snprintf(key, sizeof key, "phases.%d." k, i), key)
    if (rc == DR_OK) rc = wanted(r, p->until_tokens > 0, NAME("until_tokens"), e);
    if (rc == DR_OK) rc = wanted(r, p->seq > 0, NAME("seq"), e);
    if (rc == DR_OK) rc = wanted(r, p->batch_tokens > 0, NAME("batch_tokens"), e);
    if (rc == DR_OK && p->law != SCHED_KEEP && i == 0)
        rc = wanted(r, p->peak > 0, NAME("peak"), e);
    if (rc == DR_OK && p->mix.n && p->mix.n != r->n_sources)
        rc = refuse(r, NAME("mix"), e, "a weight for each source of data is wanted");
    if (rc == DR_OK && p->batch_tokens % p->seq)
        rc = refuse(r, NAME("batch_tokens"), e, "a multiple of seq is wanted");
    if (rc == DR_OK && r->micro_tokens && r->micro_tokens < p->seq)
        rc = refuse(r, "micro_tokens", e, "less than a phase's seq: a row is not cut");
#undef NAME
    return rc;
}

static int check(const recipe *r, dr_err *e)
{
    int rc = wanted(r, r->model.init || r->model.shape, "model.init or model.shape", e);
    if (rc == DR_OK && r->model.init && r->model.shape)
        rc = refuse(r, "model.shape", e, "model.init has a shape already: one of both is wanted");
    if (rc == DR_OK) rc = wanted(r, r->n_phases > 0, "phases", e);
    for (int i = 0; i < r->n_phases && rc == DR_OK; i++) rc = check_phase(r, i, e);
    for (int i = 0; i < r->n_sources && rc == DR_OK; i++) {
        char key[32];
        snprintf(key, sizeof key, "data.%d.path", i);
        rc = wanted(r, r->source[i].path != NULL, key, e);
    }
    if (rc == DR_OK && r->eval.every && !r->eval.path)
        rc = refuse(r, "eval.every", e, "eval.path, shards to evaluate on, is wanted with it");
    if (rc == DR_OK && r->sample.every && !r->sample.prompts.n)
        rc = refuse(r, "sample.every", e, "sample.prompts, a list of texts, is wanted with it");
    sched *s = mem_alloc(sizeof *s);
    optim_opt o;
    if (rc == DR_OK && !s) rc = err_nomem(e, sizeof *s, "schedule");
    if (rc == DR_OK) rc = recipe_sched(r, s, e);
    if (rc == DR_OK) rc = recipe_optim(r, &o, e);
    mem_free(s);
    return rc;
}

int recipe_sched(const recipe *r, sched *s, dr_err *e)
{
    sched_phase p[SCHED_PHASES];
    dr_err why = {0};
    for (int i = 0; i < r->n_phases; i++) {
        const recipe_phase *q = &r->phase[i];
        p[i] = (sched_phase){ .until_tokens = q->until_tokens, .seq = q->seq,
                              .batch_tokens = q->batch_tokens, .mix = i, .law = (sched_law)q->law,
                              .by_tokens = q->by_tokens, .peak = q->peak, .end = q->end,
                              .warmup = q->warmup, .decay = q->decay, .length = q->length };
    }
    int rc = sched_init(s, p, r->n_phases, &why);
    if (rc == DR_OK) return DR_OK;
    char at[256];
    recipe_where(r, "phases", at, sizeof at);
    return err_set(e, rc, "%s: %s", at, why.msg);
}

/* Was the key given? Others keep the rule's own default. */
static bool given(const recipe *r, const char *map, const char *key)
{
    int at = yaml_child(&r->y, 0, map);
    return at >= 0 && yaml_child(&r->y, at, key) >= 0;
}

int recipe_optim(const recipe *r, optim_opt *o, dr_err *e)
{
    dr_err why = {0};
    optim_opt_init(o, (optim_rule)r->optim.rule);
#define SET(key, field, value) if (given(r, "optimizer", key)) o->field = value
    SET("rest", rest, (optim_rule)r->optim.rest);
    SET("rest_lr", rest_lr, r->optim.rest_lr);
    SET("beta1", beta1, r->optim.beta1);
    SET("beta2", beta2, r->optim.beta2);
    SET("eps", eps, r->optim.eps);
    SET("weight_decay", decay, r->optim.decay);
    SET("momentum", momentum, r->optim.momentum);
    SET("dampening", dampening, r->optim.dampening);
    SET("nesterov", nesterov, r->optim.nesterov);
    SET("adjust", adjust, (muon_adjust)r->optim.adjust);
    SET("ns_steps", ns_steps, r->optim.ns_steps);
    SET("decay_embedding", decays[ROLE_EMBED], r->optim.decay_embedding);
    SET("decay_head", decays[ROLE_HEAD], r->optim.decay_head);
    SET("decay_vectors", decays[ROLE_VECTOR], r->optim.decay_vectors);
#undef SET
    int rc = optim_opt_check(o, &why);
    if (rc == DR_OK) return DR_OK;
    char at[256];
    recipe_where(r, "optimizer", at, sizeof at);
    return err_set(e, rc, "%s: optimizer: %s", at, why.msg);
}

/* ---- reading */

static void defaults(recipe *r)
{
    *r = (recipe){ .seed = 1, .micro_tokens = 0, .model.std = 0.02 };
    r->optim.clip = 1;
    for (int i = 0; i < SCHED_PHASES; i++) {
        recipe_phase *p = &r->phase[i];
        p->law = i ? SCHED_KEEP : SCHED_COSINE, p->peak = -1;
        p->tp = p->cp = p->pp = 1;
    }
    for (int i = 0; i < LOADER_SOURCES; i++) r->source[i].weight = 1;
    r->eval.tokens = 65536;
    r->sample.tokens = 64, r->sample.temperature = 0.8;
    r->checkpoint.every = 100, r->checkpoint.keep_last = 2, r->checkpoint.keep_best = 1;
    r->guard.window = 64, r->guard.max = 10, r->guard.sigmas = 6, r->guard.factor = 1.2;
    r->log.every = 1, r->log.tensorboard = r->log.curve = true;
}

int recipe_parse(recipe *r, const char *file, const void *bytes, size_t n,
                 const char *const *sets, int n_sets, dr_err *e)
{
    char *words = NULL;
    defaults(r);
    r->file = mem_strdup(file);
    int rc = r->file ? yaml_parse(&r->y, file, bytes, n, e) : err_nomem(e, strlen(file), "path");
    if (rc == DR_OK) rc = apply_all(r, sets, n_sets, &words, e);
    r->words = words;
    if (rc == DR_OK) rc = take_map(r, recipe_keys, 0, "", (char *)r, e);
    if (rc == DR_OK) rc = check(r, e);
    if (rc != DR_OK) recipe_free(r);
    return rc;
}

int recipe_read(recipe *r, const char *path, const char *const *sets, int n_sets, dr_err *e)
{
    buf b = { .cap_max = YAML_MAX_BYTES + 1 };
    int rc = os_read(&b, path, e);
    *r = (recipe){0};
    if (rc == DR_OK) rc = recipe_parse(r, path, buf_str(&b), b.n, sets, n_sets, e);
    buf_free(&b);
    return rc;
}

void recipe_free(recipe *r)
{
    yaml_free(&r->y);
    mem_free(r->file);
    mem_free(r->words);
    *r = (recipe){0};
}
