/* test_sandbox.c - what is denied is denied, to threads too, and what a server does still works; each in a process
 * of its own, since nothing of it can be taken back. And what the service manager is told (notify.h). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/notify.h"
#include "base/os.h"
#include "serve/sandbox.h"

static char dir[] = "/tmp/drover-sandbox-XXXXXX", mine[64], theirs[64], kept[64];

/* 0: fine; else the line that failed. */
#define WANT(x) do { if (!(x)) return __LINE__; } while (0)

static void in_child(int (*fn)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int line = fn();
        if (line) fprintf(stderr, "line %d, errno %s\n", line, strerror(errno));
        _exit(line ? 1 : 0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) fail_msg("the child ended with %#x", (unsigned)status);
}

static bool reads(const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static bool makes(const char *folder, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (fd < 0) return false;
    close(fd);
    return unlink(path) == 0;
}

static int tcp(int how, int port)               /* 0: bind, 1: connect; errno, 0 done */
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) return errno;
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int rc = how ? connect(fd, (struct sockaddr *)&a, sizeof a) : bind(fd, (struct sockaddr *)&a, sizeof a);
    int why = rc ? errno : 0;
    close(fd);
    return why;
}

static void *in_thread(void *arg)
{
    *(bool *)arg = !reads(theirs) && errno == EACCES && reads(mine);
    return NULL;
}

static int files(void)
{
    dr_err e = {0};
    char inside[80], beside[80], link_to[80];
    snprintf(inside, sizeof inside, "%s/file", mine), snprintf(beside, sizeof beside, "%s/file", theirs);
    snprintf(link_to, sizeof link_to, "%s/link", mine);
    WANT(reads(inside) && reads(beside) && symlink(beside, link_to) == 0 && reads(link_to));
    int held = open(beside, O_RDONLY);
    const sandbox_path p[] = { { mine, SANDBOX_READ }, { kept, SANDBOX_WRITE }, { "/nowhere", SANDBOX_READ } };
    WANT(sandbox_files(p, 3, 7301, &e) == DR_OK);
    WANT(reads(inside) && reads(mine));
    WANT(!reads(beside) && errno == EACCES);
    WANT(!reads(link_to) && errno == EACCES);   /* where it leads counts */
    WANT(!reads("/etc/passwd") && errno == EACCES);
    WANT(!reads("/root") && errno == EACCES);
    WANT(!reads("/proc/1/status"));
    WANT(reads("/proc/self/status") && reads("/proc/meminfo") && reads("/dev/urandom"));
    WANT(open(inside, O_WRONLY) < 0 && errno == EACCES);
    WANT(truncate(inside, 0) != 0);
    WANT(!makes(mine, "new") && errno == EACCES && unlink(inside) != 0 && !makes("/tmp", "drover-new"));
    WANT(makes(kept, "new"));
    char c;
    WANT(held >= 0 && read(held, &c, 1) == 1);   /* what is open stays so */
    int bind_else = tcp(0, 7302), call = tcp(1, 7301);
    WANT(tcp(0, 7301) == 0 && bind_else == EACCES && call == EACCES);
    pthread_t t;
    bool same = false;
    WANT(pthread_create(&t, NULL, in_thread, &same) == 0);
    pthread_join(t, NULL);
    WANT(same);
    unlink(link_to);                            /* refused: the parent removes it */
    return 0;
}

static pthread_barrier_t both;
static int thread_line;

static int denied(void)
{
    char name[] = "true", *const argv[] = { name, NULL };
    WANT(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
    WANT(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EPERM);
    WANT(execv("/bin/true", argv) < 0 && errno == EPERM);
    WANT(fork() < 0);
    WANT(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) < 0 && errno == EPERM);
    WANT(kill(getppid(), 0) < 0 && errno == EPERM);
    WANT(syscall(SYS_ptrace, 0, 0, 0, 0) < 0 && errno == EPERM);
    WANT(chmod(mine, 0700) < 0 && errno == EPERM);
    WANT(syscall(SYS_memfd_create, "x", 0) < 0 && errno == ENOSYS);
    return 0;
}

static void *waits_then_tries(void *arg)         /* started before: bound, too */
{
    (void)arg;
    pthread_barrier_wait(&both);
    pthread_barrier_wait(&both);
    thread_line = denied();
    return NULL;
}

static void *twice(void *arg) { *(int *)arg *= 2; return NULL; }

static int calls(void)
{
    dr_err e = {0};
    pthread_t t, u;
    int pair[2], n = 21;
    pthread_barrier_init(&both, NULL, 2);
    int listens = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof a;
    WANT(bind(listens, (struct sockaddr *)&a, sizeof a) == 0 && listen(listens, 4) == 0);
    WANT(getsockname(listens, (struct sockaddr *)&a, &len) == 0);
    connect(client, (struct sockaddr *)&a, sizeof a);
    WANT(pthread_create(&t, NULL, waits_then_tries, NULL) == 0);
    pthread_barrier_wait(&both);
    WANT(sandbox_calls(&e) == DR_OK);
    pthread_barrier_wait(&both);
    WANT(denied() == 0);
    pthread_join(t, NULL);
    if (thread_line) return thread_line;
    /* what a server does */
    int got = accept4(listens, NULL, NULL, SOCK_CLOEXEC);
    WANT(got >= 0 && send(got, "x", 1, 0) == 1);
    WANT(pipe(pair) == 0 && write(pair[1], "y", 1) == 1 && read(pair[0], &n, 1) == 1);
    n = 21;
    WANT(pthread_create(&u, NULL, twice, &n) == 0 && pthread_join(u, NULL) == 0 && n == 42);
    void *p = mem_pages(64 << 20);
    WANT(p);
    memset(p, 1, 64 << 20);
    mem_pages_free(p, 64 << 20);
    char path[96];
    snprintf(path, sizeof path, "%s/out", kept);
    WANT(os_write(path, "z", 1, &e) == DR_OK && unlink(path) == 0);
    nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    return 0;
}

static void files_are_confined(void **state)
{
    (void)state;
    if (syscall(444, NULL, 0, 1) < 6) { print_message("skip: Landlock of this kernel is too old\n"); skip(); }
    in_child(files);
    char path[80];
    snprintf(path, sizeof path, "%s/link", mine);
    assert_int_equal(unlink(path), 0);           /* the child could not */
}

static void calls_are_confined(void **state)
{
    (void)state;
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    skip();                                      /* their own calls are no server's */
#endif
    in_child(calls);
}

/* ---- the service manager */

static int told(int fd, char *s, size_t n)
{
    ssize_t k = recv(fd, s, n - 1, MSG_DONTWAIT);
    s[k > 0 ? k : 0] = 0;
    return (int)k;
}

static void manager_is_told(void **state)
{
    (void)state;
    dr_err e = {0};
    char s[256], path[100];
    for (int kind = 0; kind < 2; kind++) {       /* a file, and a name of Linux' own */
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        snprintf(path, sizeof path, kind ? "@%s/notify" : "%s/notify", dir);
        memcpy(a.sun_path, path, strlen(path));
        if (kind) a.sun_path[0] = 0;
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))), 0);
        setenv("NOTIFY_SOCKET", path, 1), setenv("WATCHDOG_USEC", "3000000", 1);
        snprintf(s, sizeof s, "%d", (int)getpid());
        setenv("WATCHDOG_PID", kind ? "1" : s, 1);
        if (notify_open(&e)) fail_msg("%s", e.msg);
        assert_null(getenv("NOTIFY_SOCKET"));
        assert_true(notify_watchdog_ns() == (kind ? 0 : 1500000000));    /* another process' is not ours */
        notify_send("READY=1\nSTATUS=x");
        assert_int_equal(told(fd, s, sizeof s), 16);
        assert_string_equal(s, "READY=1\nSTATUS=x");
        notify_reloading();
        assert_true(told(fd, s, sizeof s) > 0 && !strncmp(s, "RELOADING=1\nMONOTONIC_USEC=", 27));
        long long us = strtoll(s + 27, NULL, 10), now = os_now_ns() / 1000;
        assert_true(us <= now && us > now - 5000000);
        for (int i = 0; i < 5000; i++) notify_send("WATCHDOG=1");       /* nobody reads: it does not wait */
        close(fd);
        notify_send("STOPPING=1");               /* nor does it end the program */
        notify_close();
        if (!kind) unlink(path);
    }
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(notify_open(&e), DR_OK);    /* nobody listens */
    notify_send("READY=1");
    assert_true(notify_watchdog_ns() == 0);
    static const char *const bad[] = { "relative", "@", "/nowhere/socket" };
    for (int i = 0; i < 3; i++) {
        e = (dr_err){0};
        setenv("NOTIFY_SOCKET", bad[i], 1);
        assert_int_not_equal(notify_open(&e), DR_OK);
        assert_non_null(strstr(e.msg, bad[i]));
    }
    char longest[300];
    memset(longest, 'a', sizeof longest - 1), longest[0] = '/', longest[299] = 0;
    setenv("NOTIFY_SOCKET", longest, 1);
    assert_int_equal(notify_open(&e), DR_EINVAL);
}

static int set_up(void **state)
{
    (void)state;
    dr_err e = {0};
    if (!mkdtemp(dir)) return -1;
    char path[96];
    const struct { char *at; const char *name; } f[] = { { mine, "mine" }, { theirs, "theirs" }, { kept, "kept" } };
    for (int i = 0; i < 3; i++) {
        snprintf(f[i].at, 64, "%s/%s", dir, f[i].name);
        if (mkdir(f[i].at, 0700)) return -1;
        snprintf(path, sizeof path, "%s/file", f[i].at);
        if (os_write(path, "abc", 3, &e)) return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    const char *const f[] = { mine, theirs, kept };
    char path[96];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/file", f[i]);
        unlink(path), rmdir(f[i]);
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_confined), cmocka_unit_test(calls_are_confined),
        cmocka_unit_test(manager_is_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
