/* models.h - the models that a server has: opened when they are asked for, closed when idle, each with an
 * engine, its tokenizer, its chat format and its defaults.
 * Threads: locked inside. */
#ifndef SERVE_MODELS_H
#define SERVE_MODELS_H
#include "engine/engine.h"
#include "text/chat.h"

typedef struct served {
    char *id, *path;            /* the id is the file's or folder's name without its ending */
    int64_t created;            /* seconds since 1970: the file's time */
    model *m;
    tokenizer *tok;
    vtrie *vt;                  /* for grammars */
    chat_opt chat;              /* kind, template; date, tools and kwargs are a request's */
    dr_err no_chat;             /* code not 0: it has no chat format, and why */
    sample_opt sample;          /* the model's own defaults (generation_config) */
    engine *eng;
    char digest[65];            /* for Ollama's listing: of the path, size and time */
} served;

typedef struct models models;
/* Strings and lists are borrowed for as long as the models live. */
typedef struct {
    const char *const *path;    /* files, folders or names, as on the command line */
    int n;
    int (*resolve)(const char *arg, buf *path, dr_err *e);  /* from a name to a path; NULL: as they are */
    dev_opt dev;
    engine_opt engine;          /* of each */
    bool lazy;                  /* open when asked for; false: the first at once, others when asked for */
    int idle_s;                 /* close after so long without a request; 0: never */
    int max_open;               /* at once; the one idle for longest makes room; 0: all */
    size_t budget;              /* private bytes of all open ones, in equal shares: a model's positions are what
                                   its share leaves; 0: what the engine finds free */
    const char *const *adapters;        /* NULL-ended, "NAME=PATH[:SCALE]", for the first model; NULL: none */
    const char *adapter_dir;            /* where adapters loaded at run time have to lie; NULL: none is */
    void (*log)(void *arg, const char *line);
    void *log_arg;
    void (*opened)(void *arg, served *s);       /* a model was opened, nobody has it yet; NULL: none */
    void *opened_arg;
} models_opt;

models *models_new(const models_opt *o, dr_err *e);
void models_free(models *ms);                               /* NULL is fine; all released before */
/* The model of this name (NULL or "": the first), opened if need be, held until models_put. An adapter's name
 * ("NAME", or "MODEL:NAME") is its model, *adapter its number. DR_ENOTFOUND: none of that name; DR_EBUSY: no
 * room for it while others are in use. May take seconds: workers call it. */
served *models_get(models *ms, const char *name, int *adapter, dr_err *e);
/* The same only if it is open already, at once; NULL: it is not. */
served *models_peek(models *ms, const char *name);
void models_put(models *ms, served *s);                     /* NULL is fine */
/* Call fn with each model and adapter: id, owner's id (adapters; else NULL), path, time, whether it is open.
 * It must not call anything of this file. */
typedef struct { const char *id, *parent, *path; int64_t created; bool open; } models_row;
void models_each(models *ms, void (*fn)(void *arg, const models_row *row), void *arg);
/* What is known of a model's (or of an adapter's model's) file without opening it. DR_ENOTFOUND. */
typedef struct { int64_t bytes; char digest[65]; } models_file;
int models_file_of(models *ms, const char *name, models_file *out);
/* Load and unload at run time: opens or closes a model by name; closing one in use is DR_EBUSY. */
int models_load(models *ms, const char *name, dr_err *e);
int models_unload(models *ms, const char *name, dr_err *e);
/* The same of an adapter of a model (NULL or "": the first), which is opened for it; path: in adapter_dir. It
 * is there again when the model was closed and is opened once more. DR_EINVAL: the name is taken, or the path
 * lies elsewhere. */
int models_adapter_load(models *ms, const char *of, const char *name, const char *path, float scale, dr_err *e);
int models_adapter_unload(models *ms, const char *name, dr_err *e);
void models_tick(models *ms);                               /* closes what was idle; never waits */
bool models_ready(models *ms);                              /* what is opened at the start is open */
void models_drain(models *ms);                              /* engine_drain of all */
bool models_idle(models *ms);
#endif
