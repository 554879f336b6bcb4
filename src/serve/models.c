/* models.c - see models.h.
 *
 * Every model has a slot for as long as the process lives: what is known without opening it, and while it
 * is open all of it. A slot's state changes under the lock; opening and closing go on outside, in the
 * states OPENING and CLOSING, which everybody else waits for. What is held is never closed. */
#define _GNU_SOURCE
#include "serve/models.h"
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/mem.h"
#include "base/os.h"
#include "base/rng.h"
#include "gen/beside.h"
#include "model/plan.h"

enum { NAME_MAX_BYTES = 512, PATH_CAP = 4096 };

typedef enum { SHUT, OPENING, OPEN, CLOSING } slot_state;

typedef struct adapter {
    char *name, *path;
    float scale;
    struct adapter *next;
} adapter;

typedef struct {
    served s;                   /* first: models_put gets its address */
    char *arg;                  /* as it was given */
    int64_t file_bytes;         /* of the file, or of the folder's files */
    slot_state state;
    int holds;
    int64_t used_ns;            /* when it was last asked for; how long a reply took, its engine knows */
    chat_template *template;
    adapter *adapters;
} slot;

struct models {
    pthread_mutex_t lock;
    pthread_cond_t change;
    slot *slot;
    int n;
    models_opt o;
    bool draining, closer_runs, end;
    pthread_t closer;           /* closes what models_tick found idle */
};

static void say(models *ms, const char *fmt, ...) DR_PRINTF(2, 3);
static void say(models *ms, const char *fmt, ...)
{
    char line[NAME_MAX_BYTES + 600];
    va_list ap;
    if (!ms->o.log) return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    ms->o.log(ms->o.log_arg, line);
}

/* ---- what is known without opening */

/* The name's last part without ".gguf", the number of a split file's part and the like. */
static char *id_of(const char *path)
{
    static const char *const ending[] = { ".gguf", ".safetensors", ".pth", ".bin" };
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from && path[from - 1] != '/') from--;
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
        size_t k = strlen(ending[i]);
        if (n - from <= k || memcmp(path + n - k, ending[i], k)) continue;
        n -= k;
        break;
    }
    int a, b, end = 0;
    const char *part = n - from > 15 ? path + n - 15 : NULL;       /* "-00001-of-00003" */
    if (part && sscanf(part, "-%5d-of-%5d%n", &a, &b, &end) == 2 && end == 15) n -= 15;
    return mem_strndup(path + from, n - from);
}

/* 64 hex digits that change with the file: a name, no proof. */
static void digest_of(char out[65], const char *path, const struct stat *st)
{
    uint64_t k = 0xcbf29ce484222325u;
    for (const char *p = path; *p; p++) k = (k ^ (unsigned char)*p) * 0x100000001b3u;
    for (uint64_t half = 0; half < 2; half++) {
        uint32_t w[4];
        rng_philox(w, k + half, (uint64_t)st->st_size, (uint64_t)st->st_mtime);
        snprintf(out + 32 * half, 33, "%08" PRIx32 "%08" PRIx32 "%08" PRIx32 "%08" PRIx32, w[0], w[1], w[2],
                 w[3]);
    }
}

static int64_t bytes_of(const char *path, const struct stat *st)
{
    struct stat x;
    int64_t n = 0;
    if (!S_ISDIR(st->st_mode)) return st->st_size;
    DIR *d = opendir(path);
    for (struct dirent *f; d && (f = readdir(d));)
        if (!fstatat(dirfd(d), f->d_name, &x, 0) && S_ISREG(x.st_mode)) n += x.st_size;
    if (d) closedir(d);
    return n;
}

static int slot_init(models *ms, slot *s, const char *arg, dr_err *e)
{
    buf path = { .cap_max = PATH_CAP };
    struct stat st;
    int rc = DR_OK;
    if (ms->o.resolve) rc = ms->o.resolve(arg, &path, e);
    else buf_puts(&path, arg);
    char real[PATH_MAX];
    if (rc == DR_OK && (!realpath(buf_str(&path), real) || stat(real, &st)))
        rc = err_set(e, DR_EIO, "there is no file or folder %.200s", arg);
    if (rc == DR_OK) {
        s->arg = mem_strdup(arg), s->s.path = mem_strdup(real), s->s.id = id_of(real);
        if (!s->arg || !s->s.path || !s->s.id) rc = err_nomem(e, 2 * strlen(real), "a model's name");
    }
    if (rc == DR_OK && !*s->s.id) rc = err_set(e, DR_EINVAL, "%.200s gives a model no name", arg);
    if (rc == DR_OK) {
        s->s.created = (int64_t)st.st_mtime;
        s->file_bytes = bytes_of(real, &st);
        digest_of(s->s.digest, real, &st);
    }
    for (slot *x = ms->slot; rc == DR_OK && x < s; x++)
        if (!strcmp(x->s.id, s->s.id))
            rc = err_set(e, DR_EINVAL, "%.200s and %.200s would both be called %.60s", x->arg, arg, s->s.id);
    buf_free(&path);
    return rc;
}

static void adapter_free(adapter *a)
{
    if (!a) return;
    mem_free(a->name);
    mem_free(a->path);
    mem_free(a);
}

static adapter *adapter_new(const char *name, const char *path, float scale)
{
    adapter *a = mem_zalloc(1, sizeof *a);
    if (a) a->name = mem_strdup(name), a->path = mem_strdup(path), a->scale = scale;
    if (a && a->name && a->path) return a;
    adapter_free(a);
    return NULL;
}

static adapter **adapter_at(slot *s, const char *name)
{
    adapter **at = &s->adapters;
    while (*at && strcmp((*at)->name, name)) at = &(*at)->next;
    return at;
}

static slot *slot_named(models *ms, const char *name)
{
    if (!name || !*name) return ms->slot;
    for (int i = 0; i < ms->n; i++)
        if (!strcmp(ms->slot[i].s.id, name)) return &ms->slot[i];
    for (int i = 0; i < ms->n; i++)
        if (!strcmp(ms->slot[i].arg, name) || !strcmp(ms->slot[i].s.path, name)) return &ms->slot[i];
    return NULL;
}

/* The model of this name, or of this adapter; *a NULL: no adapter. */
static slot *find(models *ms, const char *name, adapter **a)
{
    slot *s = slot_named(ms, name);
    *a = NULL;
    if (s) return s;
    const char *colon = strrchr(name, ':');
    for (int i = 0; i < ms->n; i++) {
        s = &ms->slot[i];
        size_t n = strlen(s->s.id);
        const char *own = colon && (size_t)(colon - name) == n && !memcmp(name, s->s.id, n) ? colon + 1 : name;
        if ((*a = *adapter_at(s, own))) return s;
    }
    return NULL;
}

static int unknown(const char *name, dr_err *e)
{
    return err_set(e, DR_ENOTFOUND, "there is no model \"%.100s\"", name);
}

/* ---- opening and closing, without the lock */

static void slot_shut(slot *s)
{
    engine_free(s->s.eng);
    chat_template_free(s->template);
    vtrie_free(s->s.vt);
    tok_free(s->s.tok);
    model_close(s->s.m);
    s->template = NULL, s->s.chat = (chat_opt){0}, s->s.no_chat = (dr_err){0};
    s->s.eng = NULL, s->s.vt = NULL, s->s.tok = NULL, s->s.m = NULL;
}

static int slot_chat(slot *s)
{
    served *v = &s->s;
    int rc = chat_detect(v->tok, &v->chat.kind, &v->no_chat);
    if (rc == DR_OK && v->chat.kind == CHAT_JINJA) {
        v->chat.template = s->template = chat_template_open(v->tok, (span){ "", 0 }, &v->no_chat);
        if (!s->template) rc = v->no_chat.code;
    }
    return rc == DR_OK || rc == DR_ENOMEM ? rc : DR_OK;     /* a model without a chat format is one, too */
}

/* Each model that may be open has its share of the budget: its positions are what is left of that beside
 * what it needs anyway. So what is open together never exceeds it, in whatever order it is opened. */
static int in_budget(const models *ms, const model *m, engine_opt *o, dr_err *e)
{
    if (!ms->o.budget || o->kv_positions) return DR_OK;
    const hparams *h = &m->h;
    int open = ms->o.max_open && ms->o.max_open < ms->n ? ms->o.max_open : ms->n;
    int running = o->max_running ? o->max_running : 64;
    plan_opt p = { .n_ctx = o->n_ctx ? o->n_ctx : h->n_ctx, .n_seqs = 1, .n_out = running + 64,
                   .n_rows = o->step_tokens ? o->step_tokens : 512, .kv = o->kv_set ? o->kv : KV_F16 };
    plan needs;
    plan_make(&needs, m, &p);
    size_t share = ms->o.budget / (size_t)open, page = kv_bytes(p.kv, h->L, h->nkv, h->hs, KV_PAGE);
    size_t fixed = needs.private_total - needs.kv + (m->copy.mem ? m->copy.bytes : 0);
    int64_t pages = share > fixed ? (int64_t)((share - fixed) / page) : 0;
    if (pages < 1)
        return err_set(e, DR_EINVAL, "%.1f MB of --memory for each of %d models are too little: %.1f MB is the least",
                       (double)share / 1e6, open, (double)(fixed + page) / 1e6);
    o->kv_positions = pages * KV_PAGE;
    if (o->kv_positions < p.n_ctx) o->n_ctx = (int)o->kv_positions;
    return DR_OK;
}

static int slot_open(models *ms, slot *s, dr_err *e)
{
    engine_opt o = ms->o.engine;
    served *v = &s->s;
    int64_t start = os_now_ns();
    v->m = model_open(v->path, &ms->o.dev, e);
    if (!v->m) return e->code;
    for (char *w = buf_str(&v->m->warnings), *end; *w; w = *end ? end + 1 : end) {
        end = strchrnul(w, '\n');
        say(ms, "%s: %.*s", v->id, (int)(end - w), w);
    }
    if (!(v->tok = beside_tokenizer(v->m, e))) return e->code;
    int rc = slot_chat(s);
    if (rc != DR_OK) return err_set(e, rc, "%s", v->no_chat.msg);
    if (v->no_chat.code) say(ms, "%s has no chat format: %s", v->id, v->no_chat.msg);
    rc = beside_sample(&v->sample, v->m->ts, e);
    if (rc != DR_OK) return err_wrap(e, rc, "the model's generation configuration");
    if (!(v->vt = vtrie_new(v->tok, e))) return e->code;
    if ((rc = in_budget(ms, v->m, &o, e))) return rc;
    if (!(v->eng = engine_new(v->m, v->tok, &o, e))) return e->code;
    for (adapter *a = s->adapters; a; a = a->next)
        if ((rc = engine_adapter_load(v->eng, a->name, a->path, a->scale, e))) return rc;
    if (ms->o.opened) ms->o.opened(ms->o.opened_arg, v);
    say(ms, "%s: opened in %.2f s, %d positions of context", v->id, (double)(os_now_ns() - start) / 1e9,
        engine_ctx(v->eng));
    return DR_OK;
}

/* ---- with the lock held */

static void set(models *ms, slot *s, slot_state st)
{
    s->state = st;
    pthread_cond_broadcast(&ms->change);
}

/* Open one that is shut: out of the lock meanwhile. */
static int open_now(models *ms, slot *s, dr_err *e)
{
    dr_err own = {0};
    set(ms, s, OPENING);
    pthread_mutex_unlock(&ms->lock);
    int rc = slot_open(ms, s, &own);
    if (rc != DR_OK) {
        slot_shut(s);
        say(ms, "%s: cannot be opened: %s", s->s.id, own.msg);
        err_set(e, rc, "%s", own.msg);
    }
    pthread_mutex_lock(&ms->lock);
    s->used_ns = os_now_ns();
    set(ms, s, rc == DR_OK ? OPEN : SHUT);
    return rc;
}

static void close_now(models *ms, slot *s)
{
    set(ms, s, CLOSING);
    pthread_mutex_unlock(&ms->lock);
    slot_shut(s);
    say(ms, "%s: closed", s->s.id);
    pthread_mutex_lock(&ms->lock);
    set(ms, s, SHUT);
}

static bool may_close(const slot *s) { return s->state == OPEN && s->holds == 0 && engine_idle(s->s.eng); }

/* Does one more fit beside those that are open or being opened? */
static bool fits(const models *ms, const slot *s)
{
    int open = 0;
    for (int i = 0; i < ms->n; i++) open += ms->slot[i].state != SHUT && &ms->slot[i] != s;
    return !ms->o.max_open || open < ms->o.max_open;
}

/* Close the one idle for longest until there is room for s. */
static int make_room(models *ms, const slot *s, dr_err *e)
{
    while (!fits(ms, s)) {
        slot *old = NULL;
        for (int i = 0; i < ms->n; i++)
            if (may_close(&ms->slot[i]) && (!old || ms->slot[i].used_ns < old->used_ns)) old = &ms->slot[i];
        if (!old)
            return err_set(e, DR_EBUSY, "there is no room for %.100s while other models are in use", s->s.id);
        close_now(ms, old);
    }
    return DR_OK;
}

/* Make it open and hold it. */
static int hold(models *ms, slot *s, dr_err *e)
{
    int rc = DR_OK;
    while (rc == DR_OK && s->state != OPEN) {
        if (ms->draining) rc = err_set(e, DR_EBUSY, "the server is ending");
        else if (s->state != SHUT) pthread_cond_wait(&ms->change, &ms->lock);
        else if ((rc = make_room(ms, s, e)) == DR_OK && s->state == SHUT) rc = open_now(ms, s, e);
    }
    if (rc == DR_OK) s->holds++, s->used_ns = os_now_ns();
    return rc;
}

/* ---- the interface */

static void *closer(void *arg)
{
    models *ms = arg;
    pthread_mutex_lock(&ms->lock);
    while (!ms->end) {
        slot *s = NULL;
        int64_t now = os_now_ns(), idle = (int64_t)ms->o.idle_s * 1000000000;
        for (int i = 0; i < ms->n && !s; i++)
            if (may_close(&ms->slot[i]) && now - ms->slot[i].used_ns >= idle &&
                engine_idle_ns(ms->slot[i].s.eng) >= idle) s = &ms->slot[i];
        if (s) close_now(ms, s);
        else pthread_cond_wait(&ms->change, &ms->lock);
    }
    pthread_mutex_unlock(&ms->lock);
    return NULL;
}

/* "NAME=PATH[:SCALE]", of the first model. */
static int adapter_parse(models *ms, const char *text, dr_err *e)
{
    char path[PATH_CAP];
    lora_ref r;
    const char *eq = strchr(text, '=');
    if (!eq || eq == text || (size_t)(eq - text) > NAME_MAX_BYTES)
        return err_set(e, DR_EINVAL, "an adapter wants NAME=PATH[:SCALE], not \"%.100s\"", text);
    int rc = lora_ref_parse(&r, eq + 1, path, sizeof path, e);
    if (rc != DR_OK) return rc;
    char *name = mem_strndup(text, (size_t)(eq - text));
    adapter *a = NULL, *x;
    if (!name || !(a = adapter_new(name, r.path, r.scale))) rc = err_nomem(e, strlen(text), "an adapter");
    else if (find(ms, name, &x))
        rc = err_set(e, DR_EINVAL, "two models or adapters would be called \"%.100s\"", name);
    mem_free(name);
    if (rc == DR_OK) *adapter_at(ms->slot, a->name) = a;
    else adapter_free(a);
    return rc;
}

models *models_new(const models_opt *o, dr_err *e)
{
    models *ms = mem_zalloc(1, sizeof *ms);
    if (!ms || !(ms->slot = mem_zalloc((size_t)o->n, sizeof *ms->slot))) {
        err_nomem(e, (size_t)o->n * sizeof *ms->slot, "the list of models");
        mem_free(ms);
        return NULL;
    }
    pthread_mutex_init(&ms->lock, NULL);
    pthread_cond_init(&ms->change, NULL);
    ms->o = *o;
    int rc = o->n < 1 ? err_set(e, DR_EINVAL, "no model was given") : DR_OK;
    for (int i = 0; rc == DR_OK && i < o->n; i++) {
        ms->n = i + 1;
        rc = slot_init(ms, &ms->slot[i], o->path[i], e);
    }
    for (int i = 0; rc == DR_OK && o->adapters && o->adapters[i]; i++) rc = adapter_parse(ms, o->adapters[i], e);
    if (rc == DR_OK && !o->lazy) {
        pthread_mutex_lock(&ms->lock);
        rc = open_now(ms, ms->slot, e);
        pthread_mutex_unlock(&ms->lock);
    }
    if (rc == DR_OK && o->idle_s > 0) {
        if (pthread_create(&ms->closer, NULL, closer, ms)) rc = err_set(e, DR_EIO, "no thread can be started");
        else ms->closer_runs = true;
    }
    if (rc == DR_OK) return ms;
    models_free(ms);
    return NULL;
}

void models_free(models *ms)
{
    if (!ms) return;
    pthread_mutex_lock(&ms->lock);
    ms->end = true;
    pthread_cond_broadcast(&ms->change);
    pthread_mutex_unlock(&ms->lock);
    if (ms->closer_runs) pthread_join(ms->closer, NULL);
    for (int i = 0; i < ms->n; i++) {
        slot *s = &ms->slot[i];
        slot_shut(s);
        for (adapter *a = s->adapters, *next; a; a = next) next = a->next, adapter_free(a);
        mem_free(s->arg);
        mem_free(s->s.id);
        mem_free(s->s.path);
    }
    pthread_cond_destroy(&ms->change);
    pthread_mutex_destroy(&ms->lock);
    mem_free(ms->slot);
    mem_free(ms);
}

served *models_get(models *ms, const char *name, int *number, dr_err *e)
{
    adapter *a;
    pthread_mutex_lock(&ms->lock);
    slot *s = find(ms, name, &a);
    char *own = a ? mem_strdup(a->name) : NULL;     /* a may be gone when the model is open */
    int rc = !s ? unknown(name, e) : a && !own ? err_nomem(e, 64, "an adapter's name") : hold(ms, s, e);
    pthread_mutex_unlock(&ms->lock);
    int k = 0;
    if (rc == DR_OK && own && (k = engine_adapter_find(s->s.eng, own)) < 0) {
        rc = unknown(name, e);
        models_put(ms, &s->s);
    }
    mem_free(own);
    if (rc != DR_OK) return NULL;
    if (number) *number = k;
    return &s->s;
}

served *models_peek(models *ms, const char *name)
{
    adapter *a;
    pthread_mutex_lock(&ms->lock);
    slot *s = find(ms, name, &a);
    if (s && s->state == OPEN) s->holds++;
    else s = NULL;
    pthread_mutex_unlock(&ms->lock);
    return s ? &s->s : NULL;
}

void models_put(models *ms, served *v)
{
    slot *s = (slot *)(void *)v;
    if (!v) return;
    pthread_mutex_lock(&ms->lock);
    DR_ASSERT(s->holds > 0);
    s->holds--;
    pthread_mutex_unlock(&ms->lock);
}

void models_each(models *ms, void (*fn)(void *arg, const models_row *row), void *arg)
{
    pthread_mutex_lock(&ms->lock);
    for (int i = 0; i < ms->n; i++) {
        const slot *s = &ms->slot[i];
        bool open = s->state == OPEN;
        fn(arg, &(models_row){ s->s.id, NULL, s->s.path, s->s.created, open });
        for (const adapter *a = s->adapters; a; a = a->next)
            fn(arg, &(models_row){ a->name, s->s.id, a->path, s->s.created, open });
    }
    pthread_mutex_unlock(&ms->lock);
}

int models_file_of(models *ms, const char *name, models_file *out)
{
    adapter *a;
    pthread_mutex_lock(&ms->lock);
    const slot *s = find(ms, name, &a);
    if (s) {
        out->bytes = s->file_bytes;
        snprintf(out->digest, sizeof out->digest, "%s", s->s.digest);
    }
    pthread_mutex_unlock(&ms->lock);
    return s ? DR_OK : DR_ENOTFOUND;
}

int models_load(models *ms, const char *name, dr_err *e)
{
    served *s = models_get(ms, name, NULL, e);
    if (!s) return e->code;
    models_put(ms, s);
    return DR_OK;
}

int models_unload(models *ms, const char *name, dr_err *e)
{
    pthread_mutex_lock(&ms->lock);
    slot *s = slot_named(ms, name);
    int rc = s ? DR_OK : unknown(name, e);
    while (rc == DR_OK && (s->state == OPENING || s->state == CLOSING)) pthread_cond_wait(&ms->change, &ms->lock);
    if (rc == DR_OK && s->state == OPEN && !may_close(s)) rc = err_set(e, DR_EBUSY, "%.100s is in use", s->s.id);
    if (rc == DR_OK && s->state == OPEN) close_now(ms, s);
    pthread_mutex_unlock(&ms->lock);
    return rc;
}

/* The path within adapter_dir, links followed, into real (PATH_MAX,). */
static int adapter_path(const models *ms, const char *path, char *real, dr_err *e)
{
    char dir[PATH_MAX];
    buf b = { .cap_max = PATH_CAP };
    if (!ms->o.adapter_dir)
        return err_set(e, DR_EUNSUPPORTED, "adapters are loaded while the server runs from the folder of --lora-dir, "
                       "which was not given");
    if (*path != '/') buf_printf(&b, "%s/", ms->o.adapter_dir);
    buf_puts(&b, path);
    size_t n = realpath(ms->o.adapter_dir, dir) ? strlen(dir) : 0;
    bool in = n && !b.bad && realpath(buf_str(&b), real) && !strncmp(real, dir, n) && (real[n] == '/' || n == 1);
    buf_free(&b);
    return in ? DR_OK : err_set(e, DR_EINVAL, "there is no adapter %.200s in the folder of --lora-dir", path);
}

int models_adapter_load(models *ms, const char *of, const char *name, const char *path, float scale, dr_err *e)
{
    char real[PATH_MAX];
    int rc = adapter_path(ms, path, real, e);
    if (rc != DR_OK) return rc;
    path = real;
    adapter *a = adapter_new(name, path, scale), *x;
    if (!a) rc = err_nomem(e, strlen(name) + strlen(path), "an adapter");
    pthread_mutex_lock(&ms->lock);
    slot *s = slot_named(ms, of);
    if (rc == DR_OK && !s) rc = unknown(of, e);
    if (rc == DR_OK && !*name) rc = err_set(e, DR_EINVAL, "an adapter's name is empty");
    if (rc == DR_OK && find(ms, name, &x))
        rc = err_set(e, DR_EINVAL, "a model or adapter \"%.100s\" is there already", name);
    if (rc == DR_OK) rc = hold(ms, s, e);
    pthread_mutex_unlock(&ms->lock);
    if (rc != DR_OK) {
        adapter_free(a);
        return rc;
    }
    rc = engine_adapter_load(s->s.eng, name, path, scale, e);       /* two at once: the engine refuses one */
    pthread_mutex_lock(&ms->lock);
    if (rc == DR_OK) *adapter_at(s, name) = a;
    else adapter_free(a);
    pthread_mutex_unlock(&ms->lock);
    if (rc == DR_OK) say(ms, "%s: adapter %s loaded", s->s.id, name);
    models_put(ms, &s->s);
    return rc;
}

int models_adapter_unload(models *ms, const char *name, dr_err *e)
{
    adapter *a = NULL;
    slot *s = NULL;
    pthread_mutex_lock(&ms->lock);
    while (name && *name && (s = find(ms, name, &a)) && (s->state == OPENING || s->state == CLOSING))
        pthread_cond_wait(&ms->change, &ms->lock);
    int rc = a ? DR_OK : err_set(e, DR_ENOTFOUND, "there is no adapter \"%.100s\"", name ? name : "");
    if (rc == DR_OK && s->state == OPEN) rc = engine_adapter_unload(s->s.eng, a->name, e);
    if (rc == DR_OK) {
        *adapter_at(s, a->name) = a->next;
        adapter_free(a);
    }
    pthread_mutex_unlock(&ms->lock);
    return rc;
}

void models_tick(models *ms)
{
    if (ms->closer_runs && !pthread_mutex_trylock(&ms->lock)) {
        pthread_cond_broadcast(&ms->change);
        pthread_mutex_unlock(&ms->lock);
    }
}

bool models_ready(models *ms)
{
    pthread_mutex_lock(&ms->lock);
    bool ready = !ms->draining;
    pthread_mutex_unlock(&ms->lock);
    return ready;
}

void models_drain(models *ms)
{
    pthread_mutex_lock(&ms->lock);
    ms->draining = true;
    for (int i = 0; i < ms->n; i++)
        if (ms->slot[i].state == OPEN) engine_drain(ms->slot[i].s.eng);
    pthread_cond_broadcast(&ms->change);
    pthread_mutex_unlock(&ms->lock);
}

bool models_idle(models *ms)
{
    bool idle = true;
    pthread_mutex_lock(&ms->lock);
    for (int i = 0; i < ms->n; i++)
        if (ms->slot[i].state == OPEN && !engine_idle(ms->slot[i].s.eng)) idle = false;
    pthread_mutex_unlock(&ms->lock);
    return idle;
}
