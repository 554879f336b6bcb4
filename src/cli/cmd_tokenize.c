/* cmd_tokenize.c - drover tokenize: text to token ids, or ids back to bytes. */
#include <stdio.h>
#include "base/os.h"
#include "cli/cache.h"
#include "cli/cmd.h"
#include "cli/ids_file.h"

typedef struct { const char *file; bool no_bos, special, decode; } args;

static const opt opts[] = {
    { 'f', "file", OPT_STR, offsetof(args, file), "F", "read F; without it, standard input" },
    { 0, "no-bos", OPT_FLAG, offsetof(args, no_bos), NULL, "do not begin with the BOS token" },
    { 0, "special", OPT_FLAG, offsetof(args, special), NULL,
      "control tokens written in the text count as such; --decode writes them" },
    { 'd', "decode", OPT_FLAG, offsetof(args, decode), NULL,
      "read ids with white space between, write their exact bytes" },
    OPT_END
};

static int decode(const tokenizer *t, const args *a, dr_err *e)
{
    ids v = {0};
    buf out = { .cap_max = (size_t)1 << 40 };
    int rc = ids_read(&v, a->file ? a->file : "-", e);
    if (!rc) rc = tok_decode(t, v.p, v.n, a->special, &out, e);
    if (!rc) fwrite(buf_str(&out), 1, out.n, stdout);
    buf_free(&out);
    ids_free(&v);
    return rc;
}

static int encode(const tokenizer *t, const args *a, dr_err *e)
{
    ids v = {0};
    buf text = { .cap_max = (size_t)4 << 30 };
    int flags = (a->no_bos ? 0 : TOK_BOS) | (a->special ? TOK_SPECIAL : 0);
    int rc = os_read(&text, a->file ? a->file : "-", e);
    if (!rc) rc = tok_encode(t, buf_span(&text), flags, &v, e);
    buf_free(&text);
    for (int64_t i = 0; i < v.n && !rc; i++) printf(i ? " %d" : "%d", v.p[i]);
    if (!rc) putchar('\n');
    ids_free(&v);
    return rc;
}

static int run(const command *c, int argc, char **argv)
{
    args a = {0};
    dr_err e = {0};
    cmd_parse(c, &a, argc, argv);
    buf path = { .cap_max = CACHE_PATH_MAX };
    tokenizer *t = NULL;
    if (!model_resolve(argv[0], &path, &e)) t = tok_open(buf_str(&path), &e);
    buf_free(&path);
    if (!t) return cmd_fail(c, &e);
    int rc = a.decode ? decode(t, &a, &e) : encode(t, &a, &e);
    tok_free(t);
    return rc ? cmd_fail(c, &e) : cmd_done(c);
}

const command cmd_tokenize = {
    .name = "tokenize", .group = GROUP_PLUMBING, .synopsis = "[options] MODEL",
    .summary = "text to token ids, or ids back to bytes",
    .details = "Writes the ids of a file's bytes (or standard input's) on one line. MODEL is a "
               "GGUF file,\na folder, or a tokenizer alone: tokenizer.json or tokenizer.model.",
    .min_args = 1, .max_args = 1, .opts = opts, .run = run,
};
