/* work.c - see work.h. */
#include "pack/work.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/mem.h"
#include "base/os.h"

static const char magic[16] = "drover journal 1";
static const char journal_name[] = "journal";
typedef struct { char magic[16]; uint64_t key; uint32_t done, zero; } head;
enum { CHECKS_MAX = 1 << 28, LOCK_TRIES = 50 };
enum { CLEARING = 1, MOVING = 2 };               // head.done: the steps of work_finish

static int path_of(char *s, size_t n, const char *folder, const char *name, dr_err *e)
{
    if (snprintf(s, n, "%s/%s", folder, name) < (int)n) return DR_OK;
    return err_set(e, DR_EINVAL, "the path %.200s… is too long", folder);
}

static int io(dr_err *e, const char *what, const char *dir, const char *name)
{
    return err_set(e, DR_EIO, "cannot %s %s%s%s: %s", what, dir, name ? "/" : "",
                   name ? name : "", strerror(errno));
}

/* Every file in a folder but the journal; fn returns DR_OK to go on. */
static int each(const char *folder, int (*fn)(void *arg, const char *name, dr_err *e), void *arg,
                dr_err *e)
{
    DIR *d = opendir(folder);
    if (!d) return io(e, "read", folder, NULL);
    int rc = DR_OK;
    for (struct dirent *f; rc == DR_OK && (f = readdir(d));)
        if (strcmp(f->d_name, ".") && strcmp(f->d_name, "..") && strcmp(f->d_name, journal_name))
            rc = fn(arg, f->d_name, e);
    closedir(d);
    return rc;
}

static int remove_one(void *arg, const char *name, dr_err *e)
{
    const work *w = arg;
    char path[4096];
    int rc = path_of(path, sizeof path, w->dir, name, e);
    if (rc == DR_OK && unlink(path)) rc = io(e, "remove", path, NULL);
    return rc;
}

/* ---- the journal ---- */

static bool all(ssize_t n, size_t want) { return n >= 0 && (size_t)n == want; }

static int journal_new(work *w, uint64_t key, dr_err *e)
{
    head h = { .key = key };
    memcpy(h.magic, magic, sizeof magic);
    w->done = 0, w->n_check = w->n_written = 0;
    if (ftruncate(w->journal, 0) || !all(pwrite(w->journal, &h, sizeof h, 0), sizeof h))
        return io(e, "write", w->dir, journal_name);
    return DR_OK;
}

static int journal_load(work *w, uint64_t key, dr_err *e)
{
    head h;
    off_t size = lseek(w->journal, 0, SEEK_END);
    ssize_t got = pread(w->journal, &h, sizeof h, 0);
    if (got >= 0 && (size_t)got < sizeof h && !memcmp(&h, magic, (size_t)got < 16 ? (size_t)got : 16))
        return journal_new(w, key, e);           // stopped at its first step
    if (!all(got, sizeof h) || memcmp(h.magic, magic, sizeof magic))
        return err_set(e, DR_EINVAL, "%s is in the way: its file %s is no journal of drover's",
                       w->dir, journal_name);
    if (h.key != key) {
        w->fresh = true;
        int rc = each(w->dir, remove_one, w, e);
        return rc == DR_OK ? journal_new(w, key, e) : rc;
    }
    int64_t n = (size - (off_t)sizeof h) / (off_t)sizeof *w->check;
    if (n > CHECKS_MAX) n = CHECKS_MAX;
    size_t bytes = (size_t)n * sizeof *w->check;
    w->check = mem_alloc(bytes + 1);
    if (!w->check) return err_nomem(e, bytes, "journal");
    if (!all(pread(w->journal, w->check, bytes, sizeof h), bytes))
        return io(e, "read", w->dir, journal_name);
    w->n_check = w->n_written = n;
    w->done = h.done;
    return DR_OK;
}

static int journal_open(work *w, bool is_new, dr_err *e)
{
    char path[4096];
    int rc = path_of(path, sizeof path, w->dir, journal_name, e);
    if (rc != DR_OK) return rc;
    if (!is_new && !os_exists(path))
        return err_set(e, DR_EINVAL, "%s is in the way: it is not the folder of a conversion that "
                       "was stopped; remove it or name another output", w->dir);
    w->journal = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (w->journal < 0) return io(e, "create", path, NULL);
    /* a process that was just killed may take a moment to let go */
    w->ours = true;
    for (int k = 0; k < LOCK_TRIES; k++) {
        struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        if (fcntl(w->journal, F_SETLK, &l) == 0) return DR_OK;
        if (errno != EACCES && errno != EAGAIN) return DR_OK;    // a file system without locks
        nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    }
    w->ours = false;
    return err_set(e, DR_EIO, "another process is writing %s now", w->out);
}

static int write_checks(work *w, const uint32_t *check, int n, dr_err *e)
{
    off_t at = (off_t)(sizeof(head) + (size_t)w->n_written * sizeof *check);
    size_t bytes = (size_t)n * sizeof *check;
    if (n && !all(pwrite(w->journal, check, bytes, at), bytes))
        return io(e, "write", w->dir, journal_name);
    w->n_written += n;
    return DR_OK;
}

static int write_held(work *w, dr_err *e);

int work_check(work *w, uint32_t check, dr_err *e)
{
    if (!w->n_held) return write_checks(w, &check, 1, e);
    w->due[w->n_due++] = check;
    return w->n_due < WORK_DUE ? DR_OK : write_held(w, e);
}

int work_forget(work *w, int64_t n, dr_err *e)
{
    if (n >= w->n_written) return DR_OK;
    w->n_check = w->n_written = n;
    if (ftruncate(w->journal, (off_t)(sizeof(head) + (size_t)n * sizeof *w->check)))
        return io(e, "write", w->dir, journal_name);
    return DR_OK;
}

/* ---- the folder ---- */

/* What stands at the output's place must be of its kind, and may be replaced only if asked. */
static int check_out(const work *w, dr_err *e)
{
    if (!os_exists(w->out)) return DR_OK;
    if (os_is_dir(w->out) != w->folder)
        return err_set(e, DR_EINVAL, "%s is a %s, but a %s would be written", w->out,
                       w->folder ? "file" : "folder", w->folder ? "folder" : "file");
    if (w->force) return DR_OK;
    return err_set(e, DR_EINVAL, "%s is there already; --force replaces it", w->out);
}

static int begin(work *w, uint64_t key, dr_err *e)
{
    if (os_exists(w->dir)) {
        if (!os_is_dir(w->dir))
            return err_set(e, DR_EINVAL, "%s is in the way: a folder of this name is needed while "
                           "%s is written", w->dir, w->out);
        int rc = journal_open(w, false, e);
        if (rc == DR_OK) rc = journal_load(w, key, e);
        return rc == DR_OK && !w->done ? check_out(w, e) : rc;
    }
    int rc = check_out(w, e);
    if (rc == DR_OK) rc = os_mkdirs(w->dir, e);
    if (rc == DR_OK) rc = journal_open(w, true, e);
    return rc == DR_OK ? journal_new(w, key, e) : rc;
}

int work_open(work *w, const char *out, bool folder, bool force, uint64_t key, dr_err *e)
{
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    *w = (work){ .folder = folder, .force = force, .journal = -1, .fd = -1 };
    w->out = mem_strndup(out, n);
    w->dir = mem_alloc(n + 6);
    if (!w->out || !w->dir) return err_nomem(e, 2 * n, "file name");
    snprintf(w->dir, n + 6, "%s.part", w->out);
    return begin(w, key, e);
}

static int any_file(void *arg, const char *name, dr_err *e)
{
    (void)arg, (void)name, (void)e;
    return DR_ECANCEL;
}

void work_close(work *w)
{
    if (w->fd >= 0) {
        write_held(w, NULL);                     // a run that stops in order keeps all it made
        close(w->fd);
    }
    /* refused before a file was begun: nothing is left to go on with */
    char path[4096];
    if (w->ours && w->n_written == 0 && !w->done && each(w->dir, any_file, NULL, NULL) == DR_OK &&
        path_of(path, sizeof path, w->dir, journal_name, NULL) == DR_OK && unlink(path) == 0)
        rmdir(w->dir);
    if (w->journal >= 0) close(w->journal);      // and its lock
    mem_free(w->out);
    mem_free(w->dir);
    mem_free(w->check);
    mem_free(w->name);
    mem_pages_free(w->held, OS_HUGE);
    *w = (work){ .journal = -1, .fd = -1 };
}

typedef struct { const work *w; uint64_t bytes; } adder;
static int add_bytes(void *arg, const char *name, dr_err *e)
{
    adder *a = arg;
    char path[4096];
    struct stat st;
    if (path_of(path, sizeof path, a->w->dir, name, e) == DR_OK && stat(path, &st) == 0)
        a->bytes += (uint64_t)st.st_blocks * 512;
    return DR_OK;
}

uint64_t work_bytes(const work *w)
{
    adder a = { w, 0 };
    each(w->dir, add_bytes, &a, NULL);
    return a.bytes;
}

/* ---- files ---- */

int work_begin(work *w, const char *name, dr_err *e)
{
    char path[4096];
    int rc = path_of(path, sizeof path, w->dir, name, e);
    if (rc != DR_OK) return rc;
    mem_free(w->name);
    w->name = mem_strdup(name);
    if (!w->name) return err_nomem(e, strlen(name), "file name");
    w->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    w->pos = 0, w->skip = 0;
    return w->fd < 0 ? io(e, "create", path, NULL) : DR_OK;
}

static int write_at(const work *w, const char *p, size_t n, uint64_t pos, dr_err *e)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = pwrite(w->fd, p + at, n - at, (off_t)(pos + at));
        if (k > 0) at += (size_t)k;
        else if (k == 0 || errno != EINTR) {
            if (k == 0) errno = EIO;
            return io(e, "write", w->dir, w->name);
        }
    }
    return DR_OK;
}

/* What is held, and then the entries that wait for it. */
static int write_held(work *w, dr_err *e)
{
    size_t n = w->n_held;
    int due = w->n_due, rc = n ? write_at(w, w->held, n, w->pos - n, e) : DR_OK;
    w->n_held = 0, w->n_due = 0;
    return rc == DR_OK ? write_checks(w, w->due, due, e) : rc;
}

int work_put(void *arg, const void *p, size_t n, dr_err *e)
{
    work *w = arg;
    const char *s = p;
    uint64_t there = w->skip < n ? w->skip : n;
    int rc = there ? write_held(w, e) : DR_OK;
    w->skip -= there;
    w->pos += there;
    s += there, n -= (size_t)there;
    while (rc == DR_OK && n) {
        size_t left = OS_HUGE - w->pos % OS_HUGE, k = n < left ? n : left;
        if (!w->n_held && n >= left) {           // whole pieces need no copy
            k = n - (w->pos + n) % OS_HUGE;
            rc = write_at(w, s, k, w->pos, e);
            w->pos += k;
        } else if (!w->held && !(w->held = mem_pages(OS_HUGE))) {
            rc = write_at(w, s, k, w->pos, e);   // without the memory, as they come
            w->pos += k;
        } else {
            memcpy(w->held + w->n_held, s, k);
            w->n_held += k, w->pos += k;
            if (k == left) rc = write_held(w, e);
        }
        s += k, n -= k;
    }
    return rc;
}

bool work_get(work *w, void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = pread(w->fd, (char *)p + at, n - at, (off_t)(w->pos + at));
        if (k > 0) at += (size_t)k;
        else if (k == 0 || errno != EINTR) return false;
    }
    return true;
}

bool work_same(work *w, const void *p, size_t n)
{
    char have[65536];
    uint64_t pos = w->pos;
    bool same = true;
    for (size_t at = 0; same && at < n; at += sizeof have, w->pos += sizeof have) {
        size_t k = n - at < sizeof have ? n - at : sizeof have;
        same = work_get(w, have, k) && !memcmp(have, (const char *)p + at, k);
    }
    w->pos = pos;
    return same;
}

int work_end(work *w, dr_err *e)
{
    int rc = write_held(w, e), fd = w->fd;
    if (rc != DR_OK) return rc;
    w->fd = -1;
    bool bad = ftruncate(fd, (off_t)w->pos) || fsync(fd);
    int err = errno;
    if (close(fd) && !bad) bad = true, err = errno;
    errno = err;
    return bad ? io(e, "write", w->dir, w->name) : DR_OK;
}

int work_small(work *w, const char *name, const void *p, size_t n, dr_err *e)
{
    char path[4096];
    int rc = path_of(path, sizeof path, w->dir, name, e);
    return rc == DR_OK ? os_write(path, p, n, e) : rc;
}

/* ---- the end ---- */

typedef struct { const work *w; const char *to; } mover;

static int move_one(void *arg, const char *name, dr_err *e)
{
    const mover *m = arg;
    char from[4096], to[4096];
    int rc = path_of(from, sizeof from, m->w->dir, name, e);
    if (rc == DR_OK) rc = path_of(to, sizeof to, m->to, name, e);
    if (rc == DR_OK && rename(from, to)) rc = io(e, "rename", from, NULL);
    return rc;
}

/* Weights, index and tokenizer of the model that is replaced: with the new ones they would be
 * taken for one model. Other files stay. */
static int remove_stale(void *arg, const char *name, dr_err *e)
{
    static const char *const exact[] = { "tokenizer.json", "tokenizer.model", "params.json",
        "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "config.json",
        "generation_config.json" };
    const work *w = arg;
    size_t n = strlen(name);
    const char *const tails[] = { ".safetensors", ".safetensors.index.json", ".pth" };
    bool old = false;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        old |= n > strlen(tails[i]) && !strcmp(name + n - strlen(tails[i]), tails[i]);
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) old |= !strcmp(name, exact[i]);
    char path[4096];
    int rc = old ? path_of(path, sizeof path, w->out, name, e) : DR_OK;
    if (rc == DR_OK && old && unlink(path)) rc = io(e, "remove", path, NULL);
    return rc;
}

static int say_done(work *w, uint32_t step, dr_err *e)
{
    if (w->done >= step) return DR_OK;
    if (!all(pwrite(w->journal, &step, sizeof step, offsetof(head, done)), sizeof step) ||
        fsync(w->journal))
        return io(e, "write", w->dir, journal_name);
    w->done = step;
    return DR_OK;
}

static int drop_journal(const char *folder, dr_err *e)
{
    char path[4096];
    int rc = path_of(path, sizeof path, folder, journal_name, e);
    if (rc == DR_OK && unlink(path)) rc = io(e, "remove", path, NULL);
    return rc;
}

int work_finish(work *w, dr_err *e)
{
    int rc = say_done(w, CLEARING, e);
    if (rc != DR_OK) return rc;
    if (w->folder && !os_exists(w->out)) {
        if (rename(w->dir, w->out)) return io(e, "rename", w->dir, NULL);
        return drop_journal(w->out, e);
    }
    char *to = w->folder ? mem_strdup(w->out) : NULL;
    if (!w->folder) {
        const char *slash = strrchr(w->out, '/');
        to = slash ? mem_strndup(w->out, slash == w->out ? 1 : (size_t)(slash - w->out))
                   : mem_strdup(".");
    }
    if (!to) return err_nomem(e, strlen(w->out), "file name");
    if (w->folder && w->done == CLEARING) rc = each(w->out, remove_stale, w, e);
    if (rc == DR_OK) rc = say_done(w, MOVING, e);
    mover m = { w, to };
    if (rc == DR_OK) rc = each(w->dir, move_one, &m, e);
    if (rc == DR_OK) rc = drop_journal(w->dir, e);
    if (rc == DR_OK && rmdir(w->dir)) rc = io(e, "remove", w->dir, NULL);
    mem_free(to);
    return rc;
}
