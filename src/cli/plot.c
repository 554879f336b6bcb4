/* plot.c - see plot.h. gnuplot gets its commands and the data on its standard input. */
#define _GNU_SOURCE
#include "cli/plot.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/os.h"
#include "format/json.h"
#include "train/log.h"

extern char **environ;

/* The points of one key as a data block. Returns how many. */
static int points(buf *b, const char *name, const char *key, const char *p, size_t n)
{
    int k = 0;
    buf_printf(b, "$%s << EOD\n", name);
    for (const char *end; n && (end = memchr(p, '\n', n)); n -= (size_t)(end - p) + 1, p = end + 1) {
        json_t *j = json_read(p, (size_t)(end - p), 1 << 16, "log", NULL);
        const json_t *v = json_object_get(j, key);
        if (json_is_number(v)) {
            buf_printf(b, "%" JSON_INTEGER_FORMAT " %.6g\n",
                       json_integer_value(json_object_get(j, "step")), json_number_value(v));
            k++;
        }
        json_decref(j);
    }
    buf_puts(b, "EOD\n");
    return k;
}

/* Send all of it to gnuplot; its exit status. */
static int gnuplot(const buf *b, dr_err *e)
{
    static const char *const argv[] = { "gnuplot", "-", NULL };
    posix_spawn_file_actions_t fa;
    int fd[2], status = 0;
    pid_t pid;
    if (pipe2(fd, O_CLOEXEC)) return err_set(e, DR_EIO, "cannot make a pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, fd[0], 0);
    posix_spawn_file_actions_adddup2(&fa, 2, 1);
    int err = posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    close(fd[0]);
    if (err) {
        close(fd[1]);
        return err_set(e, DR_EUNSUPPORTED, "the curve needs gnuplot, which is not here: apt-get install "
                       "-y gnuplot-nox");
    }
    void (*was)(int) = signal(SIGPIPE, SIG_IGN);
    for (size_t at = 0; at < b->n;) {
        ssize_t w = write(fd[1], b->p + at, b->n - at);
        if (w > 0) at += (size_t)w;
        else if (errno != EINTR) break;
    }
    close(fd[1]);
    signal(SIGPIPE, was);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) break;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return DR_OK;
    return err_set(e, DR_EIO, "gnuplot ended with status %d", status);
}

int plot_run(const char *dir, const char *out, dr_err *e)
{
    char path[4096];
    os_file f = {0};
    size_t n = strlen(out);
    bool png = n > 4 && !strcmp(out + n - 4, ".png");
    if (strpbrk(out, "'\n"))
        return err_set(e, DR_EINVAL, "a quote or line end in the file name %s", out);
    int rc = log_path(path, sizeof path, dir, "log.jsonl", e);
    if (rc == DR_OK) rc = os_map(&f, path, e);
    if (rc != DR_OK) return rc;
    buf b = { .cap_max = (size_t)64 << 20 };
    int loss = points(&b, "loss", "loss", (const char *)f.p, f.n);
    int eval = points(&b, "eval", "eval_loss", (const char *)f.p, f.n);
    points(&b, "lr", "lr", (const char *)f.p, f.n);
    buf_printf(&b, "set terminal %s size 900,500\nset output '%s'\n", png ? "pngcairo" : "svg", out);
    buf_puts(&b, "set xlabel 'step'\nset ylabel 'loss, nats a token'\nset y2label 'learning rate'\n"
                 "set y2tics\nset ytics nomirror\nset grid\nset key top right\n"
                 "plot $loss with lines lc rgb '#8fb3d9' title 'training'");
    if (eval) buf_puts(&b, ", $eval with linespoints pt 7 ps 0.5 lc rgb '#c0392b' title 'evaluation'");
    buf_puts(&b, ", $lr axes x1y2 with lines dt 2 lc rgb '#999999' title 'learning rate'\n");
    os_unmap(&f);
    if (!loss) rc = err_set(e, DR_EINVAL, "%s has no steps yet", path);
    else if (b.bad) rc = err_nomem(e, b.n, "curve");
    if (rc == DR_OK) rc = gnuplot(&b, e);
    buf_free(&b);
    return rc;
}
