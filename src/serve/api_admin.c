/* api_admin.c - models and adapters while the server runs.
 *
 *     POST /v1/load_lora_adapter    {lora_name, lora_path, model, scale}     as vLLM's
 *     POST /v1/unload_lora_adapter  {lora_name}
 *     GET  /lora-adapters           -> [{name, model, path, in_use}]
 *     POST /models/load, /models/unload  {model}                             as llama-server's
 *
 * An adapter is read from the folder that the server was started with (--lora-dir), or not at all: a key
 * opens no other file of the machine. */
#include <string.h>
#include "serve/answer.h"
#include "serve/field.h"

typedef struct {
    const char *name, *path, *model;
    float scale;
} asked;
#define AT(f) offsetof(asked, f)

enum { LOAD = 1, UNLOAD = 2, MODEL = 4 };
static const field FIELDS[] = {
    { "lora_name", FIELD_TEXT, AT(name), 1, 256, .of = LOAD | UNLOAD, .must = true },
    { "lora_path", FIELD_TEXT, AT(path), 1, 4000, .of = LOAD, .must = true },
    { "model", FIELD_TEXT, AT(model), .of = LOAD | MODEL },
    { "base_model_name", FIELD_TEXT, AT(model), .of = LOAD },
    { "scale", FIELD_FLOAT, AT(scale), -1000, 1000, .of = LOAD },
    { "lora_int_id", FIELD_UNUSED, .of = LOAD | UNLOAD },
    { .name = NULL }
};

static void post(const http_req *r, http_reply *o, unsigned api,
                 int (*act)(models *ms, const asked *a, dr_err *e), const char *status)
{
    serve *all = r->arg;
    asked a = { .scale = 1 };
    const char *param = NULL;
    dr_err e = {0};
    json_t *doc = http_json(r, &e);
    int rc = doc ? fields_read_of(FIELDS, api, doc, &a, "", &param, &e) : e.code;
    if (rc == DR_OK) rc = act(all->models, &a, &e);
    if (rc == DR_OK) http_put_json(o, 200, json_pack("{s:s}", "status", status));
    else if (rc == DR_EBUSY) http_error(o, HTTP_OPENAI, 409, NULL, "in_use", param, "%s", e.msg);
    else http_error(o, HTTP_OPENAI, http_status(rc), NULL, NULL, param, "%s", e.msg);
    json_decref(doc);
}

static int load_adapter(models *ms, const asked *a, dr_err *e)
{
    return models_adapter_load(ms, a->model, a->name, a->path, a->scale, e);
}
static int unload_adapter(models *ms, const asked *a, dr_err *e) { return models_adapter_unload(ms, a->name, e); }
static int load_model(models *ms, const asked *a, dr_err *e) { return models_load(ms, a->model, e); }
static int unload_model(models *ms, const asked *a, dr_err *e) { return models_unload(ms, a->model, e); }

static void post_load(const http_req *r, http_reply *o) { post(r, o, LOAD, load_adapter, "loaded"); }
static void post_unload(const http_req *r, http_reply *o) { post(r, o, UNLOAD, unload_adapter, "unloaded"); }
static void post_model_load(const http_req *r, http_reply *o) { post(r, o, MODEL, load_model, "loaded"); }
static void post_model_unload(const http_req *r, http_reply *o) { post(r, o, MODEL, unload_model, "unloaded"); }

/* ---- what is loaded */

static void note(void *arg, const models_row *row)
{
    if (row->parent)
        json_array_append_new(arg, json_pack("{s:s, s:s, s:s, s:i}", "name", row->id, "model", row->parent, "path",
                                             row->path, "in_use", 0));
}

typedef struct { json_t *list; const char *model; } counting;

/* How many requests use it: of a model that is closed, none. */
static void count(void *arg, const char *name, const char *path, int in_use)
{
    const counting *c = arg;
    (void)path;
    for (size_t i = 0; i < json_array_size(c->list); i++) {
        json_t *v = json_array_get(c->list, i);
        if (!strcmp(json_string_value(json_object_get(v, "name")), name) &&
            !strcmp(json_string_value(json_object_get(v, "model")), c->model))
            json_object_set_new(v, "in_use", json_integer(in_use));
    }
}

static void get_adapters(const http_req *r, http_reply *o)
{
    serve *all = r->arg;
    json_t *list = json_array();
    const char *before = "";
    models_each(all->models, note, list);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *of = json_string_value(json_object_get(json_array_get(list, i), "model"));
        served *s = strcmp(of, before) ? models_peek(all->models, of) : NULL;
        counting c = { list, of };
        if (s) engine_adapter_each(s->eng, count, &c);
        models_put(all->models, s);
        before = of;
    }
    http_put_json(o, 200, list);
}

const http_route admin_routes[] = {
    { "POST", "/v1/load_lora_adapter", HTTP_OPENAI, 0, post_load },
    { "POST", "/v1/unload_lora_adapter", HTTP_OPENAI, 0, post_unload },
    { "GET", "/lora-adapters", HTTP_OPENAI, 0, get_adapters },
    { "POST", "/models/load", HTTP_OPENAI, 0, post_model_load },
    { "POST", "/models/unload", HTTP_OPENAI, 0, post_model_unload },
    { .method = NULL }
};
