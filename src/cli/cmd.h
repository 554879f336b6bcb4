/* cmd.h - the commands. To add one: src/cli/cmd_<name>.c that defines `const command
 * cmd_<name>`, a line at the end of this header, a line in the table in cmd.c,
 * man/drover-<name>.1, and a case in tests/e2e/.
 *
 *     static int run(const command *c, int argc, char **argv)
 *     {
 *         args a = { .n = 128 };
 *         argc = cmd_parse(c, &a, argc, argv);         // operands are now argv[0..argc-1]
 *         dr_err e = {0};
 *         if (work(argv[0], &a, &e) != DR_OK) return cmd_fail(c, &e);
 *         return 0;
 *     }
 *     const command cmd_example = {
 *         .name = "example", .group = GROUP_FILES, .synopsis = "[options] MODEL",
 *         .summary = "do this and that", .min_args = 1, .max_args = 1,
 *         .opts = opts, .run = run,
 *     };
 *
 * A command returns 0 done, 1 failed, 2 misuse. With --json it prints one object on stdout and
 * nothing else there; progress and warnings go to stderr. */
#ifndef CLI_CMD_H
#define CLI_CMD_H
#include <jansson.h>
#include "base/err.h"
#include "cli/opt.h"

typedef enum { GROUP_RUN, GROUP_FILES, GROUP_TRAIN, GROUP_MEASURE, GROUP_PLUMBING, GROUP_HELP, GROUP_N }
    cmd_group;

typedef struct command {
    const char *name;
    const char *synopsis;       /* what follows the name: "[options] MODEL [PROMPT]" */
    const char *summary;        /* one line, no full stop */
    const char *details;        /* paragraphs for `drover help NAME`, or NULL */
    cmd_group group;
    bool hidden;                /* listed by `drover help --all` only */
    int min_args, max_args;     /* operands; max -1: any number */
    const opt *opts;            /* ends with OPT_END; NULL: none */
    int (*run)(const struct command *c, int argc, char **argv);
} command;

extern const command *const cmd_table[];        /* ends with NULL */
extern const char *const cmd_group_name[GROUP_N];
const command *cmd_find(const char *name);      /* NULL: no such command */

/* Options into *to; returns how many operands are left in argv[0..]. Prints and ends the
 * process on --help (0) and misuse (2). */
int cmd_parse(const command *c, void *to, int argc, char **argv);
void cmd_usage(FILE *f, const command *c, bool all);
/* "drover NAME: sentence" on stderr; returns 1. */
int cmd_fail(const command *c, const dr_err *e);
/* The same for a wrong command line; returns 2. */
int cmd_misuse(const command *c, const char *fmt, ...) DR_PRINTF(2, 3);
/* "drover NAME: warning: sentence" on stderr. */
void cmd_warn(const command *c, const char *fmt, ...) DR_PRINTF(2, 3);
/* One JSON object and a newline on stdout; frees it. NULL is a failed allocation. Returns the
 * exit status: 1 when it could not be written. */
int cmd_json(const command *c, json_t *o);
/* A JSON string of n bytes; what is not UTF-8 in them becomes U+FFFD. NULL: no memory. */
json_t *cmd_json_text(const char *p, size_t n);
/* Flush stdout: the exit status to end with, 1 (said on stderr) when a write was lost. */
int cmd_done(const command *c);

extern const command cmd_bench;
extern const command cmd_convert;
extern const command cmd_quantize;
extern const command cmd_imatrix;
extern const command cmd_chat_render;
extern const command cmd_get;
extern const command cmd_grammar_check;
extern const command cmd_help;
extern const command cmd_info;
extern const command cmd_list;
extern const command cmd_logits;
extern const command cmd_merge;
extern const command cmd_perplexity;
extern const command cmd_prep;
extern const command cmd_train;
extern const command cmd_rm;
extern const command cmd_run;
extern const command cmd_serve;
extern const command cmd_synth;
extern const command cmd_tokenize;
extern const command cmd_verify;
#endif
