/* cmd_imatrix.c - drover imatrix: which inputs of each matrix matter, from text or chats. */
#include <string.h>
#include <unistd.h>
#include "base/os.h"
#include "cli/model_arg.h"
#include "pack/imatrix_make.h"
#include "text/chat.h"

enum { INPUT_MAX = 1 << 30, TURNS_MAX = 4096 };

typedef struct {
    dev_args dev;
    const char *file, *chat, *out;
    int ctx, format;
    int64_t chunks;
    bool head, special, quiet;
} args;

static const opt opts[] = {
    { 'f', "file", OPT_STR, offsetof(args, file), "FILE", "a text (- for stdin)" },
    { 0, "chat", OPT_STR, offsetof(args, chat), "JSONL",
      "or conversations, a line each: {\"messages\": [{\"role\", \"content\"}, …]}" },
    { 'o', "out", OPT_STR, offsetof(args, out), "FILE", "the importance matrix" },
    { 'c', "ctx", OPT_INT, offsetof(args, ctx), "N", "ids in a window (default 512)", 2, 1 << 20 },
    { 0, "chunks", OPT_INT64, offsetof(args, chunks), "N", "at most N windows (default: all)", 1,
      1e15 },
    { 0, "format", OPT_CHOICE, offsetof(args, format), "auto|gguf|dat",
      "of FILE (default: dat when its name ends so, else gguf)" },
    { 0, "process-output", OPT_FLAG, offsetof(args, head), NULL, "the head's inputs too" },
    { 0, "special", OPT_FLAG, offsetof(args, special), NULL,
      "control tokens written in the text count as such" },
    { 'q', "quiet", OPT_FLAG, offsetof(args, quiet), NULL, "no progress on stderr" },
    { .kind = OPT_SUB, .at = offsetof(args, dev), .sub = dev_opts },
    OPT_END
};

/* ---- ids ---- */

static const char *member(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* One conversation's ids after those that are there. */
static int add_chat(const tokenizer *t, chat_kind kind, const json_t *line, ids *v, dr_err *e)
{
    static chat_msg msg[TURNS_MAX];
    const json_t *list = json_is_object(line) ? json_object_get(line, "messages") : line;
    size_t n = json_array_size(list);
    if (!n || n > TURNS_MAX)
        return err_set(e, DR_EFORMAT, "%zu messages; 1 to %d were expected", n, TURNS_MAX);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, i), *calls = json_object_get(m, "tool_calls");
        msg[i] = (chat_msg){ member(m, "role"), member(m, "content"), calls,
                             member(m, "tool_call_id") };
        if (!msg[i].role || (!msg[i].content && !calls))
            return err_set(e, DR_EFORMAT, "message %zu has no role, or no content", i + 1);
    }
    chat_opt o = { .kind = kind, .tools = json_object_get(line, "tools"),
                   .no_generation_prompt = true };
    return chat_encode(t, &o, msg, (int)n, v, e);
}

static int read_chats(const tokenizer *t, span text, ids *v, dr_err *e)
{
    chat_kind kind;
    int rc = chat_detect(t, &kind, e), number = 0;
    while (rc == DR_OK && text.n) {
        const char *nl = memchr(text.p, '\n', text.n);
        size_t n = nl ? (size_t)(nl - text.p) : text.n;
        json_error_t why;
        number++;
        size_t blank = 0;
        while (blank < n && (text.p[blank] == ' ' || text.p[blank] == '\r')) blank++;
        if (blank < n) {
            json_t *line = json_loadb(text.p, n, JSON_ALLOW_NUL, &why);
            rc = line ? add_chat(t, kind, line, v, e) :
                 err_set(e, DR_EFORMAT, "%s at column %d", why.text, why.column);
            json_decref(line);
            if (rc != DR_OK) return err_wrap(e, rc, "line %d", number);
        }
        text = nl ? (span){ nl + 1, text.n - n - 1 } : (span){ text.p, 0 };
    }
    return rc;
}

static int read_ids(const args *a, const tokenizer *t, ids *v, dr_err *e)
{
    buf b = { .cap_max = INPUT_MAX };
    int rc = os_read(&b, a->chat ? a->chat : a->file, e);
    int flags = TOK_BOS | (a->special ? TOK_SPECIAL : 0);
    if (rc == DR_OK)
        rc = a->chat ? read_chats(t, buf_span(&b), v, e) :
             tok_encode(t, buf_span(&b), flags, v, e);
    buf_free(&b);
    return rc == DR_OK ? rc : err_wrap(e, rc, "%s", a->chat ? a->chat : a->file);
}

/* ---- the command ---- */

static void progress(void *arg, int64_t done, int64_t all)
{
    if (*(const bool *)arg)
        fprintf(stderr, "\rwindow %lld of %lld ", (long long)done, (long long)all);
}

static bool dat(const args *a)
{
    size_t n = strlen(a->out);
    return a->format ? a->format == 2 : n > 4 && !strcmp(a->out + n - 4, ".dat");
}

static int work(const command *c, const char *path, const args *a, dr_err *e)
{
    ids v = {0};
    imatrix im = {0};
    tokenizer *t = NULL;
    bool show = !a->quiet && isatty(2);
    model *m = model_arg_open(c, path, &a->dev, e);
    int rc = m ? DR_OK : e->code;
    if (rc == DR_OK) {
        const gguf *g = tensors_gguf(m->ts);
        t = g ? tok_from_gguf(g, e) : tok_open(m->path, e);
        rc = t ? read_ids(a, t, &v, e) : e->code;
    }
    if (rc == DR_OK) {
        if (a->ctx > m->h.n_ctx)
            cmd_warn(c, "windows of %d; the model was trained for %d positions", a->ctx,
                     m->h.n_ctx);
        imatrix_make_opt o = { .ctx = a->ctx, .windows = a->chunks, .head = a->head,
                               .bos = tok_wants_bos(t) ? tok_bos(t) : -1,
                               .dataset = a->chat ? a->chat : a->file, .progress = progress,
                               .arg = &show };
        rc = imatrix_make(m, v.p, v.n, &o, &im, e);
        if (show) fputs("\r\033[K", stderr);
    }
    if (rc == DR_OK) rc = imatrix_write(&im, a->out, dat(a), e);
    if (rc == DR_OK && !a->quiet)
        fprintf(stderr, "%s: %lld matrices, %u windows of %u ids\n", a->out,
                (long long)im.n_entries, im.chunks, im.chunk_size);
    imatrix_free(&im);
    tok_free(t);
    model_close(m);
    ids_free(&v);
    return rc;
}

static int run(const command *c, int argc, char **argv)
{
    args a = { .ctx = 512 };
    cmd_parse(c, &a, argc, argv);
    if (!a.file == !a.chat) return cmd_misuse(c, "one of --file FILE and --chat JSONL is needed");
    if (!a.out) return cmd_misuse(c, "--out FILE is wanted");
    dr_err e = {0};
    return work(c, argv[0], &a, &e) == DR_OK ? 0 : cmd_fail(c, &e);
}

const command cmd_imatrix = {
    .name = "imatrix", .group = GROUP_FILES,
    .synopsis = "[options] MODEL (--file TEXT | --chat JSONL) -o FILE",
    .summary = "find out which inputs of each matrix matter, for quantize",
    .details =
        "The model reads the text in windows, each on its own, and the mean square of every input of\n"
        "every matrix is written down. quantize weighs errors with it: --imatrix FILE. Conversations\n"
        "are rendered with the model's template and read one behind the other.\n"
        "\n"
        "FILE is in llama.cpp's formats; llama-quantize reads it, and quantize reads llama-imatrix's.\n"
        "The result does not depend on the number of threads. A few hundred windows of text like that\n"
        "the model is for are enough.",
    .min_args = 1, .max_args = 1, .opts = opts, .run = run,
};
