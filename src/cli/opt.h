/* opt.h - command-line options as a table; parsing, help and completion read the same table.
 *
 *     typedef struct { int n, threads; bool json; const char *out; opt_list stop; } args;
 *     static const opt opts[] = {
 *         { 'n', "tokens", OPT_INT, offsetof(args, n), "N", "generate at most N", 0, 1 << 20 },
 *         { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
 *         OPT_END
 *     };
 *
 * Accepted: --name value, --name=value, -n 5, -n5; -- ends the options; options and operands
 * may be mixed. Whole numbers may end in K, M, G or T (1024s). -h and --help are always there. */
#ifndef CLI_OPT_H
#define CLI_OPT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/near.h"

typedef enum {
    OPT_FLAG = 1,     /* bool */
    OPT_STR,          /* const char *, borrowed from argv */
    OPT_INT,          /* int */
    OPT_INT64,        /* int64_t */
    OPT_UINT64,       /* uint64_t */
    OPT_SIZE,         /* size_t, bytes: 4096, 64K, 1.5G */
    OPT_FLOAT,        /* float */
    OPT_CHOICE,       /* int: which of the words of `arg`, "stop|shift" */
    OPT_LIST,         /* opt_list: the value of every mention, in order */
    OPT_INTS,         /* opt_ints: one value that is a list, "512,4K,64" */
    OPT_HEAD,         /* no option: a heading in the help; `help` is its text */
    OPT_SUB           /* no option: the rows of `sub`, whose offsets start at `at` */
} opt_kind;

enum { OPT_LIST_MAX = 64, OPT_INTS_MAX = 64 };
typedef struct { const char *v[OPT_LIST_MAX]; int n; } opt_list;
typedef struct { int64_t v[OPT_INTS_MAX]; int n; } opt_ints;

typedef struct opt {
    char ch;                    /* one-letter name, or 0 */
    const char *name;           /* long name without dashes */
    opt_kind kind;
    size_t at;                  /* offsetof the field that it sets */
    const char *arg, *help;     /* "N", "FILE", … (NULL for a flag); one line */
    double lo, hi;              /* allowed range of a number; both 0: any */
    const struct opt *sub;      /* OPT_SUB */
    bool hidden;                /* works, but is only in `drover help --all` */
} opt;
#define OPT_END { .kind = 0 }

/* Read argv[1..] into the struct at `to`, which holds the defaults. Operands move to
 * argv[0..*n_left-1]. *help is set (and reading stops) when -h or --help is met. */
int opt_read(const opt *o, void *to, int argc, char **argv, int *n_left, bool *help, dr_err *e);
/* Set one option by its long name, as the chat's /set does. A flag takes on, off or nothing. */
int opt_set(const opt *o, void *to, const char *name, const char *value, dr_err *e);

/* Call fn for every row, subtables flattened; base is what the row's `at` adds to. Stops when
 * fn returns false. */
void opt_each(const opt *o, size_t base, bool (*fn)(void *arg, const opt *row, size_t base),
              void *arg);
/* The options as help text: one line each, headings between. */
void opt_print(FILE *f, const opt *o, bool all);
#endif
