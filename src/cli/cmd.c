/* cmd.c - the table of commands and what all of them share. See cmd.h. */
#include "cli/cmd.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "text/utf8.h"

const command *const cmd_table[] = {
    &cmd_run,
    &cmd_serve,
    &cmd_get,
    &cmd_list,
    &cmd_rm,
    &cmd_info,
    &cmd_convert,
    &cmd_merge,
    &cmd_quantize,
    &cmd_imatrix,
    &cmd_prep,
    &cmd_train,
    &cmd_bench,
    &cmd_chat_render,
    &cmd_logits,
    &cmd_perplexity,
    &cmd_synth,
    &cmd_tokenize,
    &cmd_verify,
    &cmd_grammar_check,
    &cmd_help,
    NULL
};

const char *const cmd_group_name[GROUP_N] = {
    [GROUP_RUN] = "Run a model",
    [GROUP_FILES] = "Models on this machine",
    [GROUP_TRAIN] = "Train a model",
    [GROUP_MEASURE] = "Check and measure",
    [GROUP_PLUMBING] = "For scripts and tests",
    [GROUP_HELP] = "Help",
};

const command *cmd_find(const char *name)
{
    for (int i = 0; cmd_table[i]; i++)
        if (!strcmp(cmd_table[i]->name, name)) return cmd_table[i];
    return NULL;
}

void cmd_usage(FILE *f, const command *c, bool all)
{
    fprintf(f, "usage: drover %s%s%s\n\n%s\n", c->name, *c->synopsis ? " " : "", c->synopsis,
            c->summary);
    if (c->details) fprintf(f, "\n%s\n", c->details);
    fprintf(f, "\nOptions:\n");
    opt_print(f, c->opts, all);
}

/* How many operands are wanted, in words. */
static void wanted(const command *c, int n, char *s, size_t len)
{
    if (n < c->min_args)
        snprintf(s, len, n ? "%d more operand%s wanted" : "%d operand%s wanted",
                 c->min_args - n, c->min_args - n == 1 ? " is" : "s are");
    else if (!c->max_args) snprintf(s, len, "no operand is wanted");
    else snprintf(s, len, "at most %d operand%s wanted", c->max_args,
                  c->max_args == 1 ? " is" : "s are");
}

int cmd_parse(const command *c, void *to, int argc, char **argv)
{
    dr_err e = {0};
    bool help = false;
    int n = 0, rc = opt_read(c->opts, to, argc, argv, &n, &help, &e);
    if (rc != DR_OK) exit(cmd_misuse(c, "%s", e.msg));
    if (help) {
        cmd_usage(stdout, c, false);
        exit(cmd_done(c));
    }
    if (n < c->min_args || (c->max_args >= 0 && n > c->max_args)) {
        char s[64];
        wanted(c, n, s, sizeof s);
        exit(cmd_misuse(c, "%s: drover %s %s", s, c->name, c->synopsis));
    }
    return n;
}

int cmd_fail(const command *c, const dr_err *e)
{
    fflush(stdout);
    fprintf(stderr, "drover %s: %s\n", c->name, e->msg);
    return 1;
}

int cmd_misuse(const command *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "drover %s: ", c->name);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, " (drover %s -h lists the options)\n", c->name);
    va_end(ap);
    return 2;
}

void cmd_warn(const command *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "drover %s: warning: ", c->name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

int cmd_done(const command *c)
{
    if (!ferror(stdout) && !fflush(stdout)) return 0;
    fprintf(stderr, "drover %s: cannot write to stdout: %s\n", c->name, strerror(errno));
    return 1;
}

int cmd_json(const command *c, json_t *o)
{
    int rc = o ? json_dumpf(o, stdout, JSON_REAL_PRECISION(9)) : -1;
    json_decref(o);
    if (rc && !ferror(stdout)) {
        fprintf(stderr, "drover %s: no memory for the JSON answer\n", c->name);
        return 1;
    }
    fputc('\n', stdout);
    return cmd_done(c);
}

json_t *cmd_json_text(const char *p, size_t n)
{
    json_t *s = json_stringn(p ? p : "", n);
    if (s) return s;
    buf b = { .cap_max = n * 3 + 1 };
    const uint8_t *at = (const uint8_t *)p, *end = at + n;
    for (int k; at < end; at += k) {
        if (utf8_get(at, end, &k) == UTF8_BAD) buf_puts(&b, "\xef\xbf\xbd");
        else buf_put(&b, at, (size_t)k);
    }
    if (!b.bad) s = json_stringn(buf_str(&b), b.n);
    buf_free(&b);
    return s;
}
