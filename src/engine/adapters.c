/* adapters.c - see adapters.h. A table of places; a place whose adapter was unloaded while in use has no
 * name and is given back by the last put. */
#include "engine/adapters.h"
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include "base/mem.h"

typedef struct {
    lora *l;                    /* NULL: the place is free, or (number > 0) being loaded */
    char *name, *path;          /* name NULL: unloaded */
    float scale;
    int number, in_use;
    uint64_t key;
} place;

struct adapters {
    const model *m;
    pthread_mutex_t lock;
    place at[ADAPTERS_MAX];
    int last;                   /* number given last */
};

adapters *adapters_new(const model *m, dr_err *e)
{
    adapters *a = mem_zalloc(1, sizeof *a);
    if (!a) {
        err_nomem(e, sizeof *a, "adapters");
        return NULL;
    }
    a->m = m;
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

static void clear(place *p)
{
    lora_close(p->l);
    mem_free(p->name), mem_free(p->path);
    *p = (place){0};
}

void adapters_free(adapters *a)
{
    if (!a) return;
    for (int i = 0; i < ADAPTERS_MAX; i++) {
        DR_ASSERT(a->at[i].in_use == 0);
        clear(&a->at[i]);
    }
    pthread_mutex_destroy(&a->lock);
    mem_free(a);
}

static place *by_name(adapters *a, const char *name)
{
    for (int i = 0; i < ADAPTERS_MAX; i++)
        if (a->at[i].name && !strcmp(a->at[i].name, name)) return &a->at[i];
    return NULL;
}

static place *by_number(adapters *a, int number)
{
    for (int i = 0; number > 0 && i < ADAPTERS_MAX; i++)
        if (a->at[i].number == number) return &a->at[i];
    return NULL;
}

/* A place for the name, taken but not to be found; NULL: *e says why not. */
static place *take(adapters *a, const char *name, dr_err *e)
{
    place *p = NULL;
    if (by_name(a, name)) {
        err_set(e, DR_EINVAL, "an adapter \"%.200s\" is loaded already", name);
        return NULL;
    }
    for (int i = 0; i < ADAPTERS_MAX && !p; i++)
        if (a->at[i].number == 0) p = &a->at[i];
    if (!p) err_set(e, DR_EBUSY, "%d adapters are loaded or in use, the most there may be", ADAPTERS_MAX);
    else if (a->last == INT_MAX) err_set(e, DR_EBUSY, "no numbers for adapters are left"), p = NULL;
    else {
        p->name = mem_strdup(name);
        if (!p->name) err_nomem(e, strlen(name), "an adapter's name"), p = NULL;
        else p->number = ++a->last;
    }
    return p;
}

/* FNV-1a over 8 bytes at a time: tells adapters apart, promises nothing against those who forge them. */
static uint64_t digest(const lora *l)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < n_weights * l->L; i++) {
        const wmat *part[] = { &l->mat[i].a, &l->mat[i].b };
        for (int k = 0; l->mat[i].a.data && k < 2; k++) {
            const char *p = part[k]->data;
            size_t n = (size_t)part[k]->rows * part[k]->row_bytes;
            h = (h ^ (uint64_t)i ^ (uint64_t)part[k]->rows << 32) * 0x100000001b3u;
            for (size_t at = 0; at < n; at += 4) {          /* f32: a multiple of 4 */
                uint32_t x;
                memcpy(&x, p + at, 4);
                h = (h ^ x) * 0x100000001b3u;
                h ^= h >> 29;
            }
        }
    }
    return h ? h : 1;
}

int adapters_load(adapters *a, const char *name, const char *path, float scale, dr_err *e)
{
    if (!*name) return err_set(e, DR_EINVAL, "an adapter without a name");
    if (!isfinite(scale)) return err_set(e, DR_EINVAL, "an adapter's scale of %g", (double)scale);
    dr_err why = {0};
    pthread_mutex_lock(&a->lock);
    place *p = take(a, name, &why);
    pthread_mutex_unlock(&a->lock);
    if (!p) return err_set(e, why.code, "%s", why.msg);

    /* the place has a number but no l: nobody else touches it, and nobody finds it */
    char *copy = mem_strdup(path);
    lora *l = copy ? lora_open(&(lora_ref){ path, scale }, &a->m->h, a->m->h.adjacent, &why) : NULL;
    if (!copy) err_nomem(&why, strlen(path), "an adapter's path");
    if (l && l->r > ADAPTERS_RANK) {
        err_set(&why, DR_EUNSUPPORTED, "adapter %.200s has rank %d, at most %d is served", path, l->r,
                ADAPTERS_RANK);
        lora_close(l), l = NULL;
    }
    uint64_t key = l ? digest(l) : 0;
    pthread_mutex_lock(&a->lock);
    int number = p->number;
    if (l) p->l = l, p->path = copy, p->scale = scale, p->key = key;
    else clear(p), mem_free(copy);
    pthread_mutex_unlock(&a->lock);
    return l ? number : err_set(e, why.code, "%s", why.msg);
}

int adapters_unload(adapters *a, const char *name, dr_err *e)
{
    pthread_mutex_lock(&a->lock);
    place *p = by_name(a, name);
    bool loading = p && !p->l, is = p && p->l;
    if (is && p->in_use == 0) clear(p);
    else if (is) mem_free(p->name), p->name = NULL;
    pthread_mutex_unlock(&a->lock);
    if (loading) return err_set(e, DR_EBUSY, "the adapter \"%.200s\" is being loaded", name);
    return is ? DR_OK : err_set(e, DR_EINVAL, "no adapter \"%.200s\" is loaded", name);
}

int adapters_find(adapters *a, const char *name)
{
    pthread_mutex_lock(&a->lock);
    const place *p = by_name(a, name);
    int number = p && p->l ? p->number : -1;
    pthread_mutex_unlock(&a->lock);
    return number;
}

int adapters_hold(adapters *a, int number, dr_err *e)
{
    if (number == 0) return DR_OK;
    pthread_mutex_lock(&a->lock);
    place *p = by_number(a, number);
    bool is = p && p->l && p->name;
    if (is) p->in_use++;
    pthread_mutex_unlock(&a->lock);
    return is ? DR_OK : err_set(e, DR_ENOTFOUND, "the adapter was unloaded");
}

void adapters_put(adapters *a, int number)
{
    if (number == 0) return;
    pthread_mutex_lock(&a->lock);
    place *p = by_number(a, number);
    DR_ASSERT(p && p->in_use > 0);
    if (--p->in_use == 0 && !p->name) clear(p);
    pthread_mutex_unlock(&a->lock);
}

/* What a holder asks for; the place does not move or change while it is held. */
static const place *held(adapters *a, int number)
{
    if (number == 0) return NULL;
    pthread_mutex_lock(&a->lock);
    const place *p = by_number(a, number);
    DR_ASSERT(p && p->in_use > 0);
    pthread_mutex_unlock(&a->lock);
    return p;
}

const lora *adapters_at(adapters *a, int number)
{
    const place *p = held(a, number);
    return p ? p->l : NULL;
}

uint64_t adapters_key(adapters *a, int number)
{
    const place *p = held(a, number);
    return p ? p->key : 0;
}

void adapters_each(adapters *a, void (*fn)(void *arg, const adapters_row *row), void *arg)
{
    pthread_mutex_lock(&a->lock);
    for (int i = 0; i < ADAPTERS_MAX; i++) {
        const place *p = &a->at[i];
        if (!p->name || !p->l) continue;
        fn(arg, &(adapters_row){ .name = p->name, .path = p->path, .scale = p->scale, .number = p->number,
                                 .rank = p->l->r, .in_use = p->in_use, .bytes = lora_bytes(p->l) });
    }
    pthread_mutex_unlock(&a->lock);
}

size_t adapters_bytes(adapters *a)
{
    size_t n = 0;
    pthread_mutex_lock(&a->lock);
    for (int i = 0; i < ADAPTERS_MAX; i++) n += a->at[i].l ? lora_bytes(a->at[i].l) : 0;
    pthread_mutex_unlock(&a->lock);
    return n;
}
