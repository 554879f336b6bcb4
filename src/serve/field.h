/* field.h - a request's JSON object read by a table: each field honoured, or refused by name.
 * Threads: any. */
#ifndef SERVE_FIELD_H
#define SERVE_FIELD_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"

typedef enum {
    FIELD_BOOL,         /* bool */
    FIELD_INT,          /* int, from lo to hi (0 and 0: any) */
    FIELD_INT64,        /* int64_t, the same */
    FIELD_FLOAT,        /* float, the same */
    FIELD_TEXT,         /* const char *, borrowed; lo, hi: its bytes */
    FIELD_LIST,         /* const json_t *, borrowed: an array; lo, hi: its length */
    FIELD_OBJECT,       /* const json_t *, borrowed: an object */
    FIELD_ANY,          /* const json_t *, borrowed */
    FIELD_UNUSED,       /* any value: it changes nothing here, and the documents say so */
    FIELD_REFUSED,      /* none but null, false, 0, "", [], {} and the words of `also`; why: what the error
                           says of it */
    FIELD_SET           /* by a function */
} field_kind;

typedef struct field {
    const char *name;
    field_kind kind;
    size_t at;          /* of the value in the struct that is filled */
    double lo, hi;
    bool must;
    const char *why;
    const char *also;   /* FIELD_REFUSED: words that mean nothing here, "auto|default"; NULL: none */
    int (*set)(void *to, const struct field *f, json_t *v, dr_err *e);
    unsigned of;        /* bits: in which requests there is such a field; 0: in all that read the table */
} field;                /* tables end with name NULL */

/* Set in *to what `o` gives; null leaves a field as it was. DR_EINVAL: a name that the table does not have
 * (*param: borrowed from o), a value of another kind or range, one that must be there and is not;
 * DR_EUNSUPPORTED: one that is refused. inside: what stands before the name in the sentence ("options."),
 * or "". */
int fields_read(const field *table, const json_t *o, void *to, const char *inside, const char **param,
                dr_err *e);

/* The same of a table for several requests: `of` is the bit of this one. */
int fields_read_of(const field *table, unsigned of, const json_t *o, void *to, const char *inside,
                   const char **param, dr_err *e);

/* Append text as a JSON string; bytes that are not UTF-8 become U+FFFD. */
void field_text(buf *out, span text);
#endif
