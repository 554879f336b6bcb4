/* cmd_verify.c - drover verify: is this file read right? */
#include "cli/model_arg.h"
#include "eval/verify.h"

typedef struct {
    dev_args dev;
    const char *make, *against;
    bool json;
} args;

static const opt opts[] = {
    { 0, "make", OPT_STR, offsetof(args, make), "FILE",
      "write this model's log-probabilities of the built-in text" },
    { 0, "against", OPT_STR, offsetof(args, against), "FILE",
      "hold this model against such a file" },
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
    { .kind = OPT_SUB, .at = offsetof(args, dev), .sub = dev_opts },
    OPT_END
};



static void line(void *arg, const verify_line *l)
{
    static const char *const word[] = { "ok", "FAIL", "skip" };
    json_t *lines = arg;
    if (lines)
        json_array_append_new(lines, json_pack("{s:s, s:s, s:s}", "check", l->check, "status",
                                               word[l->status], "text", l->text));
    else
        printf("%-4s  %-10s %s\n", word[l->status], l->check, l->text);
    fflush(stdout);
}

static int work(const command *c, const char *path, const args *a, json_t *lines, int *failed,
                dr_err *e)
{
    model *m = model_arg_open(c, path, &a->dev, e);
    if (!m) return e->code;
    dr_err why = {0};
    const gguf *g = tensors_gguf(m->ts);
    tokenizer *t = g ? tok_from_gguf(g, &why) : tok_open(m->path, &why);
    int rc;
    if (!t && a->make) {
        rc = err_set(e, why.code, "%s", why.msg);
    } else if (a->make) {
        rc = verify_make(m, t, a->make, e);
    } else {
        rc = verify_run(m, t, why.msg, m->d->n_threads, line, lines, failed, e);
        verify_line l;
        if (!rc && a->against && !(rc = verify_against(m, t, a->against, &l, e))) {
            line(lines, &l);
            *failed += l.status == VERIFY_FAIL;
        }
    }
    tok_free(t);
    model_close(m);
    return rc;
}

static int run(const command *c, int argc, char **argv)
{
    args a = {0};
    argc = cmd_parse(c, &a, argc, argv);
    dr_err e = {0};
    json_t *lines = a.json ? json_array() : NULL;
    int failed = 0, rc = work(c, argv[0], &a, lines, &failed, &e);
    if (rc) {
        json_decref(lines);
        return cmd_fail(c, &e);
    }
    if (a.json) {
        int end = cmd_json(c, json_pack("{s:o, s:b}", "checks", lines, "ok", !failed));
        return end ? end : failed > 0;
    }
    if (failed) fprintf(stderr, "drover verify: %d checks failed\n", failed);
    return cmd_done(c) || failed > 0;
}

const command cmd_verify = {
    .name = "verify", .group = GROUP_MEASURE,
    .synopsis = "MODEL [--make FILE | --against FILE] [--json]",
    .summary = "prove that a model file is read right",
    .details = "Checks the tensors' shapes and values, the rope table, the tokenizer by 200 "
               "strings, the chat\ntemplate, the order of query and key rows by the perplexity of "
               "a built-in text, and, for models\nwith built-in reference vectors, their "
               "log-probabilities. Ends with 1 when a check fails.",
    .min_args = 1, .max_args = 1, .opts = opts, .run = run,
};
