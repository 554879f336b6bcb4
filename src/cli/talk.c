/* talk.c - see talk.h. */
#include "cli/talk.h"
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "cli/opt.h"

enum { REPLY_MAX = 64 << 20, FILE_MAX = 64 << 20 };

void talk_init(talk *t, const talk_model *m, FILE *out, FILE *err)
{
    *t = (talk){ .model = *m, .out = out, .err = err };
    buf_init(&t->text, REPLY_MAX);
}

static void drop(talk *t, int n)                       /* turns from n on */
{
    while (t->n > n) {
        t->n--;
        mem_free(t->t[t->n].role);
        mem_free(t->t[t->n].content);
    }
}

void talk_free(talk *t)
{
    drop(t, 0);
    mem_free(t->t);
    mem_free(t->system);
    buf_free(&t->text);
    *t = (talk){0};
}

int talk_system(talk *t, const char *text, dr_err *e)
{
    char *copy = text && *text ? mem_strdup(text) : NULL;
    if (text && *text && !copy) return err_nomem(e, strlen(text), "the system prompt");
    mem_free(t->system);
    t->system = copy;
    return DR_OK;
}

static int add(talk *t, const char *role, const char *content, dr_err *e)
{
    if (t->n == t->cap) {
        int cap = t->cap ? t->cap * 2 : 16;
        turn *p = mem_realloc(t->t, (size_t)cap * sizeof *p);
        if (!p) return err_nomem(e, (size_t)cap * sizeof *p, "the conversation");
        t->t = p, t->cap = cap;
    }
    turn x = { mem_strdup(role), mem_strdup(content) };
    if (!x.role || !x.content) {
        mem_free(x.role);
        mem_free(x.content);
        return err_nomem(e, strlen(content), "the conversation");
    }
    t->t[t->n++] = x;
    return DR_OK;
}

void talk_clean(FILE *f, span s)
{
    size_t from = 0;
    for (size_t i = 0; i <= s.n; i++) {
        unsigned char c = i < s.n ? (unsigned char)s.p[i] : 0;
        bool bad = i < s.n && ((c < ' ' && c != '\n' && c != '\t') || c == 127);
        if (i < s.n && !bad) continue;
        fwrite(s.p + from, 1, i - from, f);
        from = i + 1;
    }
}

static void on_piece(void *to, span s)
{
    talk *t = to;
    buf_put(&t->text, s.p, s.n);
    if (t->plain) talk_clean(t->out, s);
    else fwrite(s.p, 1, s.n, t->out);
    fflush(t->out);
}

void talk_speed(FILE *f, const talk_stats *st)
{
    int fresh = st->n_prompt - st->n_reused;
    fprintf(f, "[prompt %d token%s", st->n_prompt, st->n_prompt == 1 ? "" : "s");
    if (st->n_reused) fprintf(f, " (%d kept)", st->n_reused);
    if (fresh > 0 && st->prompt_s > 0) fprintf(f, ", %.1f tok/s", fresh / st->prompt_s);
    fprintf(f, "; reply %d token%s", st->n_gen, st->n_gen == 1 ? "" : "s");
    if (st->n_gen > 0 && st->gen_s > 0) fprintf(f, ", %.1f tok/s", st->n_gen / st->gen_s);
    if (st->n_drafted) fprintf(f, ", %d of %d guesses accepted", st->n_accepted, st->n_drafted);
    fprintf(f, "%s%s]\n", strcmp(st->finish, "stop") ? "; ended by " : "",
            !strcmp(st->finish, "stop") ? ""
            : !strcmp(st->finish, "cancel") ? "Ctrl-C"
            : !strcmp(st->finish, "length") ? "-n" : "the full context");
}

/* The model's turn, after the user's. */
static void answer(talk *t)
{
    dr_err e = {0};
    talk_stats st = { .finish = "stop" };
    int n = 0, rc = DR_OK;
    chat_msg *m = mem_zalloc((size_t)t->n + 1, sizeof *m);
    if (!m) {
        rc = err_nomem(&e, ((size_t)t->n + 1) * sizeof *m, "the conversation");
    } else {
        if (t->system) m[n++] = (chat_msg){ .role = "system", .content = t->system };
        for (int i = 0; i < t->n; i++)
            m[n++] = (chat_msg){ .role = t->t[i].role, .content = t->t[i].content };
        buf_reset(&t->text);
        rc = t->model.reply(t->model.arg, m, n, t->attempt, on_piece, t, &st, &e);
    }
    mem_free(m);
    if (t->text.n && t->text.p[t->text.n - 1] != '\n') fputc('\n', t->out);
    fflush(t->out);
    bool cancelled = !strcmp(st.finish, "cancel");
    if (rc == DR_OK && !(cancelled && !t->text.n)) rc = add(t, "assistant", buf_str(&t->text), &e);
    if (rc != DR_OK) {
        fprintf(t->err, "[%s; the message was taken back]\n", e.msg);
        drop(t, t->n - 1);
    } else if (cancelled && !t->text.n) {
        fprintf(t->err, "[stopped before the answer began; the message was taken back]\n");
        drop(t, t->n - 1);
    } else if (!t->quiet) {
        talk_speed(t->err, &st);
    }
    if (rc == DR_OK && !strcmp(st.finish, "context"))
        fprintf(t->err, "[the context is full: /clear or /undo make room; drover run "
                        "--context-full shift goes on without the oldest part]\n");
}

static void say(talk *t, const char *arg)
{
    dr_err e = {0};
    t->attempt = 0;
    if (add(t, "user", arg, &e) != DR_OK) fprintf(t->err, "[%s]\n", e.msg);
    else answer(t);
}

static void do_help(talk *t, const char *arg);

static int to_buf(const char *p, size_t n, void *arg) { buf_put(arg, p, n); return 0; }

static void do_save(talk *t, const char *arg)
{
    dr_err e = {0};
    json_t *list = json_array(), *o;
    for (int i = 0; i < t->n; i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "role", t->t[i].role, "content",
                                              t->t[i].content));
    o = json_pack("{s:s*, s:o}", "system", t->system, "messages", list);
    buf text = { .cap_max = FILE_MAX };
    if (o) json_dump_callback(o, to_buf, &text, JSON_INDENT(1));
    buf_putc(&text, '\n');
    if (!o || text.bad || json_array_size(list) != (size_t)t->n)
        err_nomem(&e, FILE_MAX, "the conversation's text");
    else os_write(arg, text.p, text.n, &e);
    if (e.code) fprintf(t->err, "[%s]\n", e.msg);
    else fprintf(t->err, "[%d message%s saved in %s]\n", t->n, t->n == 1 ? "" : "s", arg);
    buf_free(&text);
    json_decref(o);
}

/* {"system": …, "messages": [{"role", "content"}, …]} or the array alone. */
static int read_turns(talk *to, const json_t *o, dr_err *e)
{
    const json_t *list = json_is_array(o) ? o : json_object_get(o, "messages"), *x;
    const char *system = json_string_value(json_object_get(o, "system"));
    size_t i;
    if (!json_is_array(list))
        return err_set(e, DR_EFORMAT, "a list of messages is wanted");
    json_array_foreach((json_t *)(uintptr_t)list, i, x) {
        const char *role = json_string_value(json_object_get(x, "role"));
        const char *content = json_string_value(json_object_get(x, "content"));
        if (!role || !content)
            return err_set(e, DR_EFORMAT, "message %zu has no role and content", i + 1);
        bool is_system = !strcmp(role, "system");
        if (is_system && i == 0) { system = content; continue; }
        if (is_system || (strcmp(role, "user") && strcmp(role, "assistant")))
            return err_set(e, DR_EFORMAT, "message %zu has role %.40s; user and assistant are known",
                           i + 1, role);
        int rc = add(to, role, content, e);
        if (rc != DR_OK) return rc;
    }
    return talk_system(to, system, e);
}

static void do_load(talk *t, const char *arg)
{
    dr_err e = {0};
    json_error_t je;
    talk new = {0};
    buf text = { .cap_max = FILE_MAX };
    int rc = os_read(&text, arg, &e);
    json_t *o = rc == DR_OK ? json_loadb(buf_str(&text), text.n, 0, &je) : NULL;
    if (rc == DR_OK && !o) rc = err_set(&e, DR_EFORMAT, "not JSON: line %d: %s", je.line, je.text);
    if (rc == DR_OK) rc = read_turns(&new, o, &e);
    if (rc != DR_OK) {
        fprintf(t->err, "[%s: %s]\n", arg, e.msg);
        talk_free(&new);
    } else {
        drop(t, 0);
        mem_free(t->t);
        mem_free(t->system);
        t->t = new.t, t->n = new.n, t->cap = new.cap, t->system = new.system;
        fprintf(t->err, "[%d message%s loaded]\n", t->n, t->n == 1 ? "" : "s");
    }
    json_decref(o);
    buf_free(&text);
}

static void do_system(talk *t, const char *arg)
{
    dr_err e = {0};
    if (!*arg) fprintf(t->err, "[system prompt: %s]\n", t->system ? t->system : "none");
    else if (talk_system(t, strcmp(arg, "none") ? arg : "", &e) != DR_OK)
        fprintf(t->err, "[%s]\n", e.msg);
    else fprintf(t->err, "[system prompt %s; the conversation goes on with it]\n",
                 t->system ? "set" : "removed");
}

static void do_clear(talk *t, const char *arg)
{
    (void)arg;
    drop(t, 0);
    fprintf(t->err, "[a new conversation%s]\n", t->system ? ", the system prompt stays" : "");
}

static void do_undo(talk *t, const char *arg)
{
    (void)arg;
    int n = t->n;
    while (n > 0 && strcmp(t->t[n - 1].role, "user")) n--;
    if (n == 0) {
        fprintf(t->err, "[there is nothing to take back]\n");
        return;
    }
    drop(t, n - 1);
    fprintf(t->err, "[the last message and its answer are taken back]\n");
}

static void do_regen(talk *t, const char *arg)
{
    (void)arg;
    int n = t->n;
    while (n > 0 && strcmp(t->t[n - 1].role, "user")) n--;
    if (n == 0) {
        fprintf(t->err, "[there is no answer to make again]\n");
        return;
    }
    drop(t, n);
    t->attempt++;
    answer(t);
}

static void do_set(talk *t, const char *arg)
{
    char name[64];
    dr_err e = {0};
    size_t n = strcspn(arg, " \t=");
    if (!*arg) {
        t->model.show(t->model.arg, t->err);
        return;
    }
    snprintf(name, sizeof name, "%.*s", (int)(n < 63 ? n : 63), arg);
    for (char *s = name; *s; s++) if (*s == '_') *s = '-';
    if (t->model.set(t->model.arg, name, arg + n + strspn(arg + n, " \t="), &e) != DR_OK)
        fprintf(t->err, "[%s]\n", e.msg);
    else fprintf(t->err, "[%s]\n", arg);
}

static void do_show(talk *t, const char *arg)
{
    (void)arg;
    fprintf(t->err, "system prompt: %s\nmessages: %d\n", t->system ? t->system : "none", t->n);
    t->model.show(t->model.arg, t->err);
}

typedef struct {
    const char *name, *arg, *help;
    bool needs_arg;
    void (*run)(talk *t, const char *arg);      /* NULL: ends the chat */
} command_row;

static const command_row rows[] = {
    { "help", "", "these lines", false, do_help },
    { "system", "TEXT", "set the system prompt (none removes it)", false, do_system },
    { "set", "NAME VALUE", "a sampling option: /set temp 0.7; alone shows them", false, do_set },
    { "show", "", "system prompt, settings, how much is used", false, do_show },
    { "regen", "", "answer the last message again, otherwise", false, do_regen },
    { "undo", "", "take back the last message and its answer", false, do_undo },
    { "clear", "", "begin a new conversation", false, do_clear },
    { "save", "FILE", "the conversation as JSON", true, do_save },
    { "load", "FILE", "go on with a saved conversation", true, do_load },
    { "bye", "", "end (so does Ctrl-D)", false, NULL },
};
enum { N_ROWS = sizeof rows / sizeof *rows };

static void do_help(talk *t, const char *arg)
{
    (void)arg;
    for (int i = 0; i < N_ROWS; i++)
        fprintf(t->err, "  /%-6s %-11s %s\n", rows[i].name, rows[i].arg, rows[i].help);
    fprintf(t->err, "  \"\"\" begins and ends a text of several lines; so does a \\ at a line's end.\n"
                    "  Ctrl-C stops an answer. A line that begins with a space is never a "
                    "command.\n");
}

/* "/set temp 1": run it. False: the user wants to end. */
static bool command(talk *t, const char *s)
{
    const char *names[N_ROWS];
    char word[32];
    size_t n = strcspn(s, " \t\n"), end;
    snprintf(word, sizeof word, "%.*s", (int)(n < 31 ? n : 31), s);
    char *arg = mem_strdup(s + n + strspn(s + n, " \t\n"));
    if (!arg) return true;
    for (end = strlen(arg); end && strchr(" \t\n", arg[end - 1]);) arg[--end] = 0;
    if (!strcmp(word, "?")) snprintf(word, sizeof word, "help");
    if (!strcmp(word, "exit") || !strcmp(word, "quit")) snprintf(word, sizeof word, "bye");
    const command_row *r = NULL;
    for (int i = 0; i < N_ROWS; i++) {
        names[i] = rows[i].name;
        if (!strcmp(rows[i].name, word)) r = &rows[i];
    }
    bool go_on = !r || r->run;
    if (!r) {
        const char *m = near_miss(word, names, N_ROWS);
        fprintf(t->err, "[there is no /%s%s%s%s; /help lists what there is]\n", word,
                m ? "; did you mean /" : "", m ? m : "", m ? "?" : "");
    } else if (r->needs_arg && !*arg) {
        fprintf(t->err, "[/%s wants a %s]\n", r->name, r->arg);
    } else if (r->run) {
        r->run(t, arg);
    }
    mem_free(arg);
    return go_on;
}

bool talk_text(talk *t, const char *text)
{
    if (text[0] == '/') return command(t, text + 1);
    const char *s = text + strspn(text, " \t\n");
    if (*s) say(t, text);
    return true;
}
