/* yaml.c - see yaml.h. libyaml hands out events; its own memory is a few pages and what the longest
 * token takes, which the limit on the text bounds. */
#include "train/yaml.h"
#include <string.h>
#include <yaml.h>
#include "base/dl.h"
#include "base/mem.h"

static struct {
    int (*init)(yaml_parser_t *);
    void (*drop)(yaml_parser_t *);
    void (*input)(yaml_parser_t *, const unsigned char *, size_t);
    int (*parse)(yaml_parser_t *, yaml_event_t *);
    void (*drop_event)(yaml_event_t *);
    bool ready;
} lib;

static int load(dr_err *e)
{
    static const char *const so[] = { "libyaml-0.so.2", "libyaml.so", NULL };
    const dl_sym syms[] = {
        { "yaml_parser_initialize", &lib.init }, { "yaml_parser_delete", &lib.drop },
        { "yaml_parser_set_input_string", &lib.input }, { "yaml_parser_parse", &lib.parse },
        { "yaml_event_delete", &lib.drop_event }, { NULL, NULL }
    };
    if (lib.ready) return DR_OK;
    int rc = dl_load(so, "libyaml-0-2", syms, e);
    lib.ready = rc == DR_OK;
    return rc;
}

/* Strings are in one block, as long as the text and then some: an escape never becomes longer. */
typedef struct {
    yaml *y;
    const char *what;
    size_t used, room;
    struct { int node, last; const char *key; int key_line; } at[YAML_MAX_DEPTH];
    int depth;
    bool done;                   /* the root is complete */
} reader;

static const char *keep(reader *r, const void *p, size_t n)
{
    if (r->room - r->used < n + 1 || memchr(p, 0, n)) return NULL;
    char *s = r->y->text + r->used;
    memcpy(s, p, n);
    s[n] = 0;
    r->used += n + 1;
    return s;
}

static int refuse(const reader *r, int line, const char *why, dr_err *e)
{
    return err_set(e, DR_EFORMAT, "%s:%d: %s", r->what, line, why);
}

/* A node at the place where the events are; *at becomes its number. */
static int add(reader *r, ynode_kind kind, int line, int *at, dr_err *e)
{
    yaml *y = r->y;
    if (r->done) return refuse(r, line, "one document is wanted", e);
    if (y->n == YAML_MAX_NODES) return refuse(r, line, "too many values", e);
    if (y->n == y->cap) {
        int cap = y->cap ? 2 * y->cap : 64;
        ynode *more = mem_realloc(y->node, (size_t)cap * sizeof *more);
        if (!more) return err_nomem(e, (size_t)cap * sizeof *more, "recipe");
        y->node = more, y->cap = cap;
    }
    *at = y->n++;
    y->node[*at] = (ynode){ .kind = kind, .line = line, .first = -1, .next = -1 };
    if (!r->depth) return DR_OK;
    int up = r->at[r->depth - 1].node, last = r->at[r->depth - 1].last;
    if (y->node[up].kind == YAML_MAP) {
        y->node[*at].key = r->at[r->depth - 1].key;
        y->node[*at].line = r->at[r->depth - 1].key_line;
        r->at[r->depth - 1].key = NULL;
    }
    if (last < 0) y->node[up].first = *at;
    else y->node[last].next = *at;
    r->at[r->depth - 1].last = *at;
    return DR_OK;
}

static int take_key(reader *r, const char *text, int line, dr_err *e)
{
    int map = r->at[r->depth - 1].node;
    if (!text || !*text) return refuse(r, line, "a key is empty", e);
    if (yaml_child(r->y, map, text) >= 0)
        return err_set(e, DR_EFORMAT, "%s:%d: key %.64s is given twice", r->what, line, text);
    r->at[r->depth - 1].key = text;
    r->at[r->depth - 1].key_line = line;
    return DR_OK;
}

static bool wants_key(const reader *r)
{
    return r->depth && r->y->node[r->at[r->depth - 1].node].kind == YAML_MAP &&
           !r->at[r->depth - 1].key;
}

static int take_scalar(reader *r, const yaml_event_t *ev, int line, dr_err *e)
{
    int at, rc;
    const char *s = keep(r, ev->data.scalar.value, ev->data.scalar.length);
    if (ev->data.scalar.anchor || ev->data.scalar.tag)
        return refuse(r, line, "anchors and tags are not read", e);
    if (!s) return refuse(r, line, "a text with a zero byte in it", e);
    if (wants_key(r)) return take_key(r, s, line, e);
    if ((rc = add(r, YAML_SCALAR, line, &at, e)) != DR_OK) return rc;
    r->y->node[at].text = s;
    r->y->node[at].quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    r->done = !r->depth;
    return DR_OK;
}

static int enter(reader *r, ynode_kind kind, bool decorated, int line, dr_err *e)
{
    int at, rc;
    if (decorated) return refuse(r, line, "anchors and tags are not read", e);
    if (wants_key(r)) return refuse(r, line, "a key must be a word", e);
    if (r->depth == YAML_MAX_DEPTH) return refuse(r, line, "nested too deeply", e);
    if ((rc = add(r, kind, line, &at, e)) != DR_OK) return rc;
    r->at[r->depth].node = at, r->at[r->depth].last = -1, r->at[r->depth].key = NULL;
    r->depth++;
    return DR_OK;
}

static int take(reader *r, const yaml_event_t *ev, dr_err *e)
{
    int line = (int)ev->start_mark.line + 1;
    switch (ev->type) {
    case YAML_SCALAR_EVENT: return take_scalar(r, ev, line, e);
    case YAML_MAPPING_START_EVENT:
        return enter(r, YAML_MAP, ev->data.mapping_start.anchor || ev->data.mapping_start.tag, line,
                     e);
    case YAML_SEQUENCE_START_EVENT:
        return enter(r, YAML_LIST, ev->data.sequence_start.anchor || ev->data.sequence_start.tag,
                     line, e);
    case YAML_MAPPING_END_EVENT: case YAML_SEQUENCE_END_EVENT:
        r->done = --r->depth == 0;
        return DR_OK;
    case YAML_ALIAS_EVENT: return refuse(r, line, "aliases are not read", e);
    default: return DR_OK;
    }
}

static int parse(reader *r, yaml_parser_t *p, dr_err *e)
{
    for (bool end = false; !end;) {
        yaml_event_t ev;
        if (!lib.parse(p, &ev)) {
            if (p->error == YAML_MEMORY_ERROR) return err_nomem(e, YAML_MAX_BYTES, "YAML");
            return err_set(e, DR_EFORMAT, "%s:%d: %.100s", r->what, (int)p->problem_mark.line + 1,
                           p->problem ? p->problem : "this is not YAML");
        }
        end = ev.type == YAML_STREAM_END_EVENT;
        int rc = take(r, &ev, e);
        lib.drop_event(&ev);
        if (rc != DR_OK) return rc;
    }
    int at;
    if (!r->y->n) return add(r, YAML_MAP, 1, &at, e);
    return r->y->node[0].kind == YAML_MAP ? DR_OK :
           refuse(r, r->y->node[0].line, "a map is wanted: key: value", e);
}

int yaml_parse(yaml *y, const char *what, const void *bytes, size_t n, dr_err *e)
{
    *y = (yaml){0};
    if (n > YAML_MAX_BYTES)
        return err_set(e, DR_EFORMAT, "%s has %zu bytes, at most %d are read", what, n,
                       YAML_MAX_BYTES);
    int rc = load(e);
    if (rc != DR_OK) return rc;
    /* each string costs its 0 besides, and each has a byte of the text to itself */
    reader r = { .y = y, .what = what, .room = 3 * n + 64 };
    yaml_parser_t p;
    if (!(y->text = mem_alloc(r.room))) return err_nomem(e, r.room, "recipe");
    if (!lib.init(&p)) {
        yaml_free(y);
        return err_nomem(e, 1 << 16, "YAML parser");
    }
    lib.input(&p, bytes, n);
    rc = parse(&r, &p, e);
    lib.drop(&p);
    if (rc != DR_OK) yaml_free(y);
    return rc;
}

void yaml_free(yaml *y)
{
    mem_free(y->node);
    mem_free(y->text);
    *y = (yaml){0};
}

int yaml_child(const yaml *y, int map, const char *key)
{
    for (int i = y->node[map].first; i >= 0; i = y->node[i].next)
        if (y->node[i].key && !strcmp(y->node[i].key, key)) return i;
    return -1;
}
