/* log.c - see log.h. */
#define _GNU_SOURCE                              /* flock */
#include "train/log.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/os.h"
#include "format/json.h"

int log_path(char *s, size_t n, const char *dir, const char *file, dr_err *e)
{
    int k = snprintf(s, n, "%s/%s", dir, file);
    return k > 0 && (size_t)k < n ? DR_OK : err_set(e, DR_EINVAL, "the path %.100s… is too long", dir);
}

int log_open(run_log *l, const char *dir, dr_err *e)
{
    char path[4096];
    *l = (run_log){ .lock = -1 };
    int rc = os_mkdirs(dir, e);
    if (rc == DR_OK) rc = log_path(path, sizeof path, dir, "lock", e);
    if (rc != DR_OK) return rc;
    l->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (l->lock < 0) return err_set(e, DR_EIO, "cannot open %s: %s", path, strerror(errno));
    if (flock(l->lock, LOCK_EX | LOCK_NB)) {
        rc = errno == EWOULDBLOCK ?
             err_set(e, DR_EINVAL, "another process trains in %s", dir) :
             err_set(e, DR_EIO, "cannot lock %s: %s", path, strerror(errno));
        log_close(l);
        return rc;
    }
    l->dir = mem_strdup(dir);
    if (l->dir) return DR_OK;
    log_close(l);
    return err_nomem(e, strlen(dir), "path");
}

/* The length of the lines up to `step`; a line that was cut by a crash ends them too. */
static size_t lines_until(const char *p, size_t n, int64_t step)
{
    static const char head[] = "{\"step\": ";
    size_t at = 0, k = sizeof head - 1;
    for (const char *end; at < n && (end = memchr(p + at, '\n', n - at)); at = (size_t)(end - p) + 1) {
        if ((size_t)(end - p) - at < k + 1 || memcmp(p + at, head, k)) break;
        if (strtoll(p + at + k, NULL, 10) > step) break;
    }
    return at;
}

int log_resume(run_log *l, int64_t step, int64_t every, bool tb, dr_err *e)
{
    char path[4096], dir[4096];
    os_file f = {0};
    size_t keep = 0;
    l->every = every;
    int rc = log_path(path, sizeof path, l->dir, "log.jsonl", e);
    if (rc == DR_OK) rc = log_path(dir, sizeof dir, l->dir, "tb", e);
    if (rc == DR_OK && os_exists(path)) {
        rc = os_map(&f, path, e);
        if (rc == DR_OK) keep = lines_until((const char *)f.p, f.n, step);
        os_unmap(&f);
        if (rc == DR_OK && truncate(path, (off_t)keep))
            rc = err_set(e, DR_EIO, "cannot cut %s: %s", path, strerror(errno));
    }
    if (rc != DR_OK) return rc;
    l->f = fopen(path, "a");
    if (!l->f) return err_set(e, DR_EIO, "cannot open %s: %s", path, strerror(errno));
    if (tb) rc = os_mkdirs(dir, e);
    if (rc == DR_OK && tb) rc = events_open(&l->tb, dir, step + 1, e);
    return rc;
}

static void put_real(FILE *f, const char *key, double v)
{
    /* JSON has no NaN and no infinity */
    if (isfinite(v)) fprintf(f, ", \"%s\": %.9g", key, v);
    else fprintf(f, ", \"%s\": null", key);
}

static void put_line(FILE *f, const log_line *x)
{
    fprintf(f, "{\"step\": %" PRId64 ", \"tokens\": %" PRId64, x->step, x->tokens);
    put_real(f, "loss", x->loss);
    put_real(f, "grad_norm", x->norm);
    put_real(f, "lr", x->lr);
    put_real(f, "seconds", x->seconds);
    put_real(f, "tokens_per_s", x->tok_s);
    put_real(f, "mfu_causal", x->mfu);
    put_real(f, "mfu_full", x->mfu_full);
    if (!isnan(x->eval_loss)) put_real(f, "eval_loss", x->eval_loss);
    if (x->event) fprintf(f, ", \"event\": \"%s\"", x->event);
    fprintf(f, ", \"time\": %" PRId64, (int64_t)time(NULL));
}

int log_put(run_log *l, const log_line *x, dr_err *e)
{
    bool due = x->step % l->every == 0 || x->event || !isnan(x->eval_loss) || x->step == x->steps;
    if (!due) return DR_OK;
    put_line(l->f, x);
    if (fputs("}\n", l->f) < 0 || fflush(l->f))
        return err_set(e, DR_EIO, "cannot write %s/log.jsonl: %s", l->dir, strerror(errno));
    event_value v[8] = {
        { "train/loss", x->loss }, { "train/grad_norm", x->norm }, { "train/lr", x->lr },
        { "speed/tokens_per_s", x->tok_s }, { "speed/mfu_causal", x->mfu },
        { "speed/mfu_full", x->mfu_full }, { "eval/loss", x->eval_loss },
    };
    int from = x->step ? 0 : 6, n = isnan(x->eval_loss) ? 6 : 7;
    return l->tb.f ? events_put(&l->tb, x->step, v + from, n - from, e) : DR_OK;
}

int log_status(run_log *l, const log_line *x, const char *state, dr_err *e)
{
    int64_t now = os_now_ns();
    bool end = strcmp(state, "training") != 0;
    if (!end && l->status_at && now - l->status_at < 1000000000) return DR_OK;
    l->status_at = now;
    char path[4096], tmp[4096 + 8];
    int rc = log_path(path, sizeof path, l->dir, "status.json", e);
    if (rc != DR_OK) return rc;
    /* beside it and renamed, but not flushed: a status that a loss of power takes is no loss */
    snprintf(tmp, sizeof tmp, "%s.new", path);
    FILE *f = fopen(tmp, "w");
    if (!f) return err_set(e, DR_EIO, "cannot create %s: %s", tmp, strerror(errno));
    put_line(f, x);
    fprintf(f, ", \"steps\": %" PRId64, x->steps);
    put_real(f, "seconds_left", x->left);
    fprintf(f, ", \"state\": \"%s\", \"pid\": %d}\n", state, (int)getpid());
    bool ok = !ferror(f);
    if (fclose(f)) ok = false;
    if (ok && !rename(tmp, path)) return DR_OK;
    return err_set(e, DR_EIO, "cannot write %s: %s", path, strerror(errno));
}

int log_sample(run_log *l, int64_t step, const char *prompt, const char *text, size_t n, dr_err *e)
{
    char path[4096];
    int rc = log_path(path, sizeof path, l->dir, "samples.txt", e);
    FILE *f = rc == DR_OK ? fopen(path, "a") : NULL;
    if (rc != DR_OK) return rc;
    bool ok = f && fprintf(f, "---- step %" PRId64 "\n%s", step, prompt) > 0 &&
              fwrite(text, 1, n, f) == n && fputc('\n', f) != EOF;
    if (f && fclose(f)) ok = false;
    return ok ? DR_OK : err_set(e, DR_EIO, "cannot write %s: %s", path, strerror(errno));
}

void log_close(run_log *l)
{
    if (l->f) fclose(l->f);
    events_close(&l->tb);
    if (l->lock >= 0) close(l->lock);            // the lock goes with it
    mem_free(l->dir);
    *l = (run_log){ .lock = -1 };
}

json_t *log_read_status(const char *dir, dr_err *e)
{
    char path[4096], lock[4096];
    if (log_path(path, sizeof path, dir, "status.json", e) != DR_OK ||
        log_path(lock, sizeof lock, dir, "lock", e) != DR_OK) return NULL;
    if (!os_exists(path)) {
        err_set(e, DR_EIO, "%s has no status.json: no training has run there", dir);
        return NULL;
    }
    json_t *j = json_read_file(path, 1 << 16, e);
    if (!j) return NULL;
    int fd = open(lock, O_RDWR | O_CLOEXEC);
    bool running = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0;
    if (fd >= 0) close(fd);
    if (json_object_set_new(j, "running", json_boolean(running))) {
        json_decref(j);
        err_nomem(e, 64, "status");
        return NULL;
    }
    return j;
}
