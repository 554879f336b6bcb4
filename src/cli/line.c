/* line.c - see line.h. */
#define _GNU_SOURCE
#include "cli/line.h"
#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/os.h"

enum { HISTORY_LINES = 1000 };

volatile int interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    if (interrupted) _exit(130);       /* nobody looked at the first one: end at once */
    interrupted = 1;
}

void interrupt_catch(void)
{
    struct sigaction a = { .sa_handler = on_interrupt };      /* no SA_RESTART: reads end */
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
}

void interrupt_reset(void) { interrupted = 0; }

struct line_editor {
    EditLine *el;
    History *hist;
    HistEvent ev;
    char *path;
    const char *prompt;
};

static char *prompt(EditLine *el)
{
    line_editor *l = NULL;
    el_get(el, EL_CLIENTDATA, &l);
    return (char *)(uintptr_t)l->prompt;
}

line_editor *line_open(const char *file, dr_err *e)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8")) setlocale(LC_CTYPE, "C.UTF-8");
    line_editor *l = mem_zalloc(1, sizeof *l);
    if (l) l->el = el_init("drover", stdin, stdout, stderr);
    if (l) l->hist = history_init();
    if (l && file) l->path = mem_strdup(file);
    if (!l || !l->el || !l->hist || (file && !l->path)) {
        line_close(l);
        err_nomem(e, 1 << 16, "line editing");
        return NULL;
    }
    history(l->hist, &l->ev, H_SETSIZE, HISTORY_LINES);
    history(l->hist, &l->ev, H_SETUNIQUE, 1);
    if (l->path) history(l->hist, &l->ev, H_LOAD, l->path);
    el_set(l->el, EL_CLIENTDATA, l);
    el_set(l->el, EL_PROMPT, prompt);
    el_set(l->el, EL_EDITOR, "emacs");
    el_set(l->el, EL_SIGNAL, 0);
    el_set(l->el, EL_HIST, history, l->hist);
    el_set(l->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    return l;
}

void line_close(line_editor *l)
{
    if (!l) return;
    if (l->path && l->hist) {
        mode_t old = umask(077);            /* what was asked is the user's own */
        history(l->hist, &l->ev, H_SAVE, l->path);
        umask(old);
    }
    if (l->hist) history_end(l->hist);
    if (l->el) el_end(l->el);
    mem_free(l->path);
    mem_free(l);
}

/* A line without its newline; NULL at the end or when interrupted. */
static const char *read_line(line_editor *l, const char *with, int *n)
{
    l->prompt = with;
    errno = 0;
    el_set(l->el, EL_PREP_TERM, 1);     /* else the prompt is there before keys are its own */
    const char *s = el_gets(l->el, n);
    if (!s || *n <= 0 || interrupted) return NULL;
    return s;
}

static void remember(line_editor *l, const buf *text)
{
    if (text->n) history(l->hist, &l->ev, H_ENTER, text->p);
}

/* Lines up to one that ends in """; `text` holds what followed the opening ones. */
static line_event read_block(line_editor *l, buf *text)
{
    for (;;) {
        char *end = text->n >= 3 ? text->p + text->n - 3 : NULL;
        if (end && !memcmp(end, "\"\"\"", 3)) {
            text->n -= 3, text->p[text->n] = 0;
            return LINE_TEXT;
        }
        int n;
        const char *s = read_line(l, "... ", &n);
        if (!s) return interrupted ? LINE_INTERRUPT : LINE_END;
        if (text->n) buf_putc(text, '\n');
        buf_put(text, s, s[n - 1] == '\n' ? (size_t)n - 1 : (size_t)n);
    }
}

line_event line_read(line_editor *l, buf *text)
{
    const char *with = ">>> ";
    line_event ev = LINE_TEXT;
    buf_reset(text);
    interrupt_reset();
    for (;;) {
        int n;
        const char *s = read_line(l, with, &n);
        if (!s) { ev = interrupted ? LINE_INTERRUPT : LINE_END; break; }
        bool more = n >= 2 && s[n - 1] == '\n' && s[n - 2] == '\\';
        if (!text->n && !strncmp(s, "\"\"\"", 3)) {
            buf_put(text, s + 3, (size_t)(s[n - 1] == '\n' ? n - 4 : n - 3));
            if (text->n == 0) buf_puts(text, "");
            ev = read_block(l, text);
            break;
        }
        buf_put(text, s, (size_t)(more ? n - 2 : s[n - 1] == '\n' ? n - 1 : n));
        if (!more) break;
        buf_putc(text, '\n');
        with = "... ";
    }
    if (ev == LINE_TEXT) remember(l, text);
    else fputc('\n', stdout), fflush(stdout);
    interrupt_reset();
    return ev;
}

void line_history_path(buf *path)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/') buf_printf(path, "%s/drover", xdg);
    else if (home && *home) buf_printf(path, "%s/.local/state/drover", home);
    else return;
    if (path->bad || os_mkdirs(buf_str(path), NULL) != DR_OK) buf_reset(path);
    else buf_puts(path, "/history");
}
