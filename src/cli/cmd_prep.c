/* cmd_prep.c - drover prep: text into token shards. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/os.h"
#include "cli/cache.h"
#include "cli/cmd.h"
#include "cli/progress.h"
#include "train/prep.h"
#include "train/shard.h"
#include "train/shard_tok.h"

typedef struct {
    const char *out, *field, *separator, *end, *eval_out;
    int format, split, eval_every, threads;
    uint64_t shard_tokens;
    bool no_bos, check, force, json, quiet;
} args;

static const opt opts[] = {
    { 'o', "out", OPT_STR, offsetof(args, out), "DIR", "write shards into the folder DIR" },
    { .kind = OPT_HEAD, .help = "What a document is" },
    { 0, "format", OPT_CHOICE, offsetof(args, format), "auto|jsonl|csv|tsv|text",
      "of the files, unpacked (default: found out)" },
    { 0, "field", OPT_STR, offsetof(args, field), "NAME",
      "field of JSON lines, or column, that has the text (default: text)" },
    { 0, "split", OPT_CHOICE, offsetof(args, split), "file|line|blank",
      "text: each file, each line, or what is between blank lines is one (default: file)" },
    { 0, "separator", OPT_STR, offsetof(args, separator), "LINE",
      "text: what is between lines that are exactly LINE is one" },
    { 0, "no-bos", OPT_FLAG, offsetof(args, no_bos), NULL, "do not begin them with the BOS token" },
    { 0, "end", OPT_STR, offsetof(args, end), "TOKEN",
      "end them with this token, or none (default: <|end_of_text|> or its kin)" },
    { .kind = OPT_HEAD, .help = "What is written" },
    { 0, "shard-tokens", OPT_UINT64, offsetof(args, shard_tokens), "N",
      "about so many tokens in a shard (default: 256M)", 1, 1e15 },
    { 0, "eval-out", OPT_STR, offsetof(args, eval_out), "DIR",
      "write some of the documents into this folder instead, for evaluation" },
    { 0, "eval-every", OPT_INT, offsetof(args, eval_every), "N",
      "namely each Nth (default: 100)", 2, 1 << 30 },
    { 0, "force", OPT_FLAG, offsetof(args, force), NULL, "replace shards that are there" },
    { .kind = OPT_HEAD, .help = "Other" },
    { 0, "check", OPT_FLAG, offsetof(args, check), NULL,
      "no text: read every byte of the shards named, and say what they hold" },
    { 't', "threads", OPT_INT, offsetof(args, threads), "N", "threads (default: all cores)", 1, 4096 },
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
    { 'q', "quiet", OPT_FLAG, offsetof(args, quiet), NULL, "no progress" },
    OPT_END
};

static void tick(void *bar, uint64_t done, uint64_t total)
{
    (void)total;
    progress_set(bar, (int64_t)done);
}

static int end_token(const args *a, const tokenizer *t, int32_t *id, dr_err *e)
{
    *id = !a->end ? shard_end_of_text(t) : strcmp(a->end, "none") ? tok_find(t, span_of(a->end)) : -1;
    if (*id < 0 && a->end && strcmp(a->end, "none"))
        return err_set(e, DR_EINVAL, "the tokenizer has no token \"%s\"", a->end);
    return DR_OK;
}

static int say(const command *c, const args *a, const prep_stat *st, double s)
{
    if (a->json) {
        json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:i, s:i, s:f, s:f, s:f}",
                              "documents", (json_int_t)st->docs, "tokens", (json_int_t)st->tokens,
                              "bytes", (json_int_t)st->text_bytes, "empty", (json_int_t)st->empty,
                              "files", st->files, "shards", st->shards, "seconds", s,
                              "tok_s", (double)(st->tokens + st->eval_tokens) / s,
                              "mb_s", (double)st->text_bytes * 1e-6 / s);
        if (o && a->eval_out)
            json_object_set_new(o, "eval", json_pack("{s:I, s:I}", "documents",
                                (json_int_t)st->eval_docs, "tokens", (json_int_t)st->eval_tokens));
        return cmd_json(c, o);
    }
    printf("%s: %" PRIu64 " documents, %" PRIu64 " tokens, %d shard%s\n", a->out, st->docs, st->tokens,
           st->shards, st->shards == 1 ? "" : "s");
    if (a->eval_out)
        printf("%s: %" PRIu64 " documents, %" PRIu64 " tokens\n", a->eval_out, st->eval_docs,
               st->eval_tokens);
    char size[SIZE_TEXT];
    if (!a->quiet)
        fprintf(stderr, "[%s of text in %d file%s, %.1f s, %.1f MB/s%s]\n",
                size_text(size, (double)st->text_bytes), st->files, st->files == 1 ? "" : "s", s,
                (double)st->text_bytes * 1e-6 / s, st->empty ? "; some documents are empty" : "");
    return cmd_done(c);
}

static int check(const command *c, const args *a, int argc, char **argv)
{
    dr_err e = {0};
    json_t *list = a->json ? json_array() : NULL;
    for (int i = 0; i < argc; i++) {
        shard_set set;
        if (shards_open(&set, argv[i], &e)) return json_decref(list), cmd_fail(c, &e);
        int rc = DR_OK;
        for (int k = 0; k < set.n && !rc; k++) rc = shard_check(&set.s[k], &e);
        if (!rc && list)
            json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:i, s:i, s:s}", "path", argv[i],
                                  "documents", (json_int_t)set.n_docs, "tokens",
                                  (json_int_t)set.n_tok, "shards", set.n, "vocabulary",
                                  set.s[0].info.vocab, "tokenizer", set.s[0].info.tokenizer));
        else if (!rc)
            printf("%s: whole; %" PRIu64 " documents, %" PRIu64 " tokens, %d shard%s, vocabulary %d\n",
                   argv[i], set.n_docs, set.n_tok, set.n, set.n == 1 ? "" : "s", set.s[0].info.vocab);
        shards_close(&set);
        if (rc) return json_decref(list), cmd_fail(c, &e);
    }
    return a->json ? cmd_json(c, json_pack("{s:o}", "sets", list)) : cmd_done(c);
}

static int make(const command *c, const args *a, const tokenizer *t, int n_in, char **in, dr_err *e)
{
    prep_stat st;
    progress bar = {0};
    prep_opt o = {
        .tok = t, .in = (const char *const *)in, .n_in = n_in, .out = a->out,
        .records = { .format = (records_format)a->format, .split = (records_split)a->split,
                     .field = a->field, .separator = a->separator },
        .no_bos = a->no_bos, .shard_tokens = a->shard_tokens, .eval_out = a->eval_out,
        .eval_every = a->eval_every, .force = a->force, .tick = a->quiet ? NULL : tick, .arg = &bar,
    };
    file_list l;
    int rc = end_token(a, t, &o.end, e);
    if (!rc) rc = file_list_make(&l, o.in, n_in, e);      // for the bar's total
    if (rc) return rc;
    if (!a->quiet) progress_begin(&bar, "preparing", (int64_t)l.bytes);
    file_list_free(&l);
    pool *p = pool_new(a->threads, e);
    int64_t from = os_now_ns();
    rc = p ? prep(&o, p, &st, e) : e->code;
    double s = (double)(os_now_ns() - from) * 1e-9;
    pool_free(p);
    if (!a->quiet) progress_end(&bar);
    return rc ? rc : say(c, a, &st, s);
}

static int run(const command *c, int argc, char **argv)
{
    args a = { .eval_every = 100 };
    dr_err e = {0};
    argc = cmd_parse(c, &a, argc, argv);
    if (a.check) return check(c, &a, argc, argv);
    if (argc < 2) return cmd_misuse(c, "a tokenizer and files of text are wanted");
    if (!a.out) return cmd_misuse(c, "--out says where the shards go");
    if (a.eval_out && !strcmp(a.eval_out, a.out)) return cmd_misuse(c, "--eval-out is --out");
    if (a.separator && a.split) return cmd_misuse(c, "--split and --separator exclude each other");
    buf path = { .cap_max = CACHE_PATH_MAX };
    tokenizer *t = NULL;
    if (!model_resolve(argv[0], &path, &e)) t = tok_open(buf_str(&path), &e);
    buf_free(&path);
    if (!t) return cmd_fail(c, &e);
    int rc = make(c, &a, t, argc - 1, argv + 1, &e);
    tok_free(t);
    return rc < 0 ? cmd_fail(c, &e) : rc;
}

const command cmd_prep = {
    .name = "prep", .group = GROUP_TRAIN, .synopsis = "[options] TOKENIZER FILE... -o DIR",
    .summary = "text into token shards, for training",
    .details =
        "TOKENIZER is a model or a tokenizer alone, as of 'drover tokenize'. Each FILE is JSON lines,\n"
        "CSV, TSV or plain text, as it is or as .gz or .zst; a folder (all files in it); or - for\n"
        "standard input. Text is UTF-8; what is not is refused with its line, and so is Parquet, with\n"
        "the command that converts it.\n"
        "\n"
        "The shards have the documents' tokens in the order of the input, whatever the number of\n"
        "threads; training shuffles and packs them. Rows may be of any length then: documents are not\n"
        "cut here. Every byte is under a checksum; --check reads them all.",
    .min_args = 1, .max_args = -1, .opts = opts, .run = run,
};
