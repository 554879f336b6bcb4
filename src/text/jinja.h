/* jinja.h - chat templates: the Jinja that transformers runs them in (immutable sandbox,
 * trim_blocks, lstrip_blocks, break and continue, tojson as json.dumps), or a sentence that names
 * the line and what is not known. docs/chat.md says what is supported.
 * Every byte of the result says whether the template wrote it or it came in with a variable, so
 * that what a user writes never becomes a control token.
 * A template is untrusted: nesting, steps, memory and output are bounded. */
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H
#include <jansson.h>
#include "base/buf.h"
#include "base/span.h"

typedef struct jinja jinja;         /* a parsed template; immutable: share freely */

/* DR_EFORMAT: broken syntax; DR_EUNSUPPORTED: more than drover knows. The text is copied. */
jinja *jinja_parse(span text, dr_err *e);
void jinja_free(jinja *t);                                   /* NULL is fine */

typedef enum {
    JINJA_TREE,                 /* json: a value that the caller holds */
    JINJA_JSON,                 /* text: JSON, numbers of any size, later keys win as in Python */
    JINJA_STRING,               /* text: a string from outside */
    JINJA_OWN                   /* text: a string of the program's, such as the BOS; control tokens
                                   in it are live */
} jinja_kind;

typedef struct {
    const char *name;
    jinja_kind kind;
    const json_t *json;
    span text;
    /* Of a list of messages. roles: a role that every format knows ("user", "tool", …) counts as
     * the template's own text, because templates build control tokens of it. calls: a tool call's
     * arguments that are JSON text become an object that still prints as the text it was. */
    bool roles, calls;
} jinja_var;

/* 0 stands for the default of each bound. */
typedef struct {
    uint64_t steps;             /* of evaluation; a step touches a bounded number of bytes */
    size_t memory, output;      /* bytes */
    int64_t now;                /* for strftime_now, seconds since 1970; 0: the clock */
} jinja_opt;

/* mark.p[i] is 1 where text.p[i] came in with a variable. Both are the caller's to free; zeroed
 * is valid. */
typedef struct { buf text, mark; } jinja_out;
void jinja_out_free(jinja_out *o);

/* Append the rendered text. Of variables with one name the last counts. DR_EINVAL: the template
 * itself refuses (raise_exception), or fails as it would in Python; DR_EUNSUPPORTED: it wants more
 * than drover knows, or than a bound allows. */
int jinja_render(const jinja *t, const jinja_var *v, int n, const jinja_opt *o, jinja_out *out,
                 dr_err *e);
#endif
