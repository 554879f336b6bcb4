/* http.c - see http.h. */
#define CURL_DISABLE_TYPECHECK
#include "cli/http.h"
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/dl.h"
#include "base/mem.h"
#include "base/os.h"

enum { MAX_HOPS = 8, TAG_MAX = 200, NOTE_MAX = 300 };

static struct {
    CURLcode (*global)(long);
    CURL *(*make)(void);
    CURLcode (*set)(CURL *, CURLoption, ...);
    CURLcode (*perform)(CURL *);
    CURLcode (*info)(CURL *, CURLINFO, ...);
    void (*drop)(CURL *);
    const char *(*text)(CURLcode);
    struct curl_slist *(*add)(struct curl_slist *, const char *);
    void (*drop_list)(struct curl_slist *);
    CURL *handle;                /* kept: connections are used again */
} lib;

static int load(dr_err *e)
{
    static const char *const so[] = { "libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.so", NULL };
    const dl_sym syms[] = {
        { "curl_global_init", &lib.global }, { "curl_easy_init", &lib.make },
        { "curl_easy_setopt", &lib.set }, { "curl_easy_perform", &lib.perform },
        { "curl_easy_getinfo", &lib.info }, { "curl_easy_cleanup", &lib.drop },
        { "curl_easy_strerror", &lib.text }, { "curl_slist_append", &lib.add },
        { "curl_slist_free_all", &lib.drop_list }, { NULL, NULL }
    };
    if (lib.handle) return DR_OK;
    int rc = dl_load(so, "libcurl4", syms, e);
    if (rc != DR_OK) return rc;
    if (lib.global(CURL_GLOBAL_DEFAULT) == CURLE_OK) lib.handle = lib.make();
    return lib.handle ? DR_OK : err_nomem(e, 1 << 16, "libcurl");
}

/* One answer as it arrives. Text goes to `body`, a file to `fd`. */
typedef struct {
    const http_want *w;
    buf *body;
    int fd;
    hash sum;
    int64_t from, at;            /* where the answer was asked to start; bytes held now */
    int64_t limit;               /* more than this is a lie; -1: no limit known */
    int status;
    bool started;                /* the first byte of this answer was seen */
    int64_t length, range_from, range_total;      /* what its headers say; -1: nothing */
    char tag[TAG_MAX];           /* strong ETag */
    char linked[HASH_HEX];       /* X-Linked-Etag that is a SHA-256 */
    char note[NOTE_MAX];         /* X-Error-Message, or the start of an error's body */
    char next[2048];
    int wait_s;                  /* Retry-After */
    int rc;
    dr_err *e;
} answer;

static void copy_text(char *to, size_t cap, const char *s, size_t n)
{
    if (n >= cap) n = cap - 1;
    for (size_t i = 0; i < n; i++) to[i] = s[i] >= ' ' && s[i] < 127 ? s[i] : ' ';
    to[n] = 0;
}

static void copy_hash(char hex[HASH_HEX], const char *s, size_t n)
{
    if (n == 66 && s[0] == '"') s++, n -= 2;
    if (n != 64 || strspn(s, "0123456789abcdef") < 64) return;
    memcpy(hex, s, 64);
    hex[64] = 0;
}

/* <URL>; rel="next" */
static void copy_next(answer *a, const char *s, size_t n)
{
    const char *end = n > 2 && s[0] == '<' ? memchr(s, '>', n) : NULL;
    if (!end || (size_t)(end - s) >= sizeof a->next) return;
    size_t rest = n - (size_t)(end - s);
    for (const char *p = end; rest >= 10; p++, rest--)
        if (!memcmp(p, "rel=\"next\"", 10)) { copy_text(a->next, sizeof a->next, s + 1,
                                                        (size_t)(end - s - 1)); return; }
}

static size_t on_header(char *s, size_t size, size_t n, void *arg)
{
    answer *a = arg;
    size_t all = size * n;
    char line[2200];
    copy_text(line, sizeof line, s, all);
    if (!strncmp(line, "HTTP/", 5)) {                 /* a new head (after a 100, say) */
        const char *sp = strchr(line, ' ');
        a->status = sp ? (int)strtol(sp, NULL, 10) : 0;
        a->length = a->range_from = a->range_total = -1, a->tag[0] = 0;
        return all;
    }
    char *v = strchr(line, ':');
    if (!v) return all;
    *v++ = 0;
    v += strspn(v, " ");
    size_t len = strlen(v);
    while (len && v[len - 1] == ' ') v[--len] = 0;
    if (!strcasecmp(line, "content-length")) a->length = strtoll(v, NULL, 10);
    else if (!strcasecmp(line, "etag") && v[0] == '"') copy_text(a->tag, TAG_MAX, v, len);
    else if (!strcasecmp(line, "x-linked-etag")) copy_hash(a->linked, v, len);
    else if (!strcasecmp(line, "x-error-message")) copy_text(a->note, NOTE_MAX, v, len);
    else if (!strcasecmp(line, "retry-after")) a->wait_s = (int)strtol(v, NULL, 10);
    else if (!strcasecmp(line, "link")) copy_next(a, v, len);
    else if (!strcasecmp(line, "content-range") && !strncasecmp(v, "bytes ", 6)) {
        const char *total = strchr(v, '/');
        a->range_from = v[6] == '*' ? -1 : strtoll(v + 6, NULL, 10);
        a->range_total = total && total[1] != '*' ? strtoll(total + 1, NULL, 10) : -1;
    }
    return all;
}

/* Nothing held any more: the answer, or what is on disk, starts from byte 0. */
static int start_over(answer *a)
{
    a->at = 0;
    hash_drop(&a->sum);
    int rc = hash_begin(&a->sum, HASH_SHA256, a->e);
    if (rc == DR_OK && (ftruncate(a->fd, 0) || lseek(a->fd, 0, SEEK_SET) < 0))
        rc = err_set(a->e, DR_EIO, "cannot empty a file: %s", strerror(errno));
    return rc;
}

/* The head is complete: does the body belong where we are? */
static int first_byte(answer *a)
{
    a->started = true;
    if (a->status == 206 && a->range_from != a->from)
        return err_set(a->e, DR_EFORMAT, "the server sent another part of the file than asked");
    if (a->status == 200 && a->from && a->fd >= 0) {
        int rc = start_over(a);                       /* the server does not know Range */
        if (rc != DR_OK) return rc;
    }
    int64_t total = a->status == 206 ? a->range_total : a->length;
    if (a->limit >= 0 && total >= 0 && total != a->limit)
        return err_set(a->e, DR_EFORMAT, "the server offers %lld bytes, the listing says %lld",
                       (long long)total, (long long)a->limit);
    return DR_OK;
}

static size_t on_body(char *s, size_t size, size_t n, void *arg)
{
    answer *a = arg;
    n *= size;
    if (a->status != 200 && a->status != 206) {
        if (!a->note[0] && s[0] != '<') copy_text(a->note, NOTE_MAX, s, n);
        return n;
    }
    if (!a->started) a->rc = first_byte(a);
    if (a->rc == DR_OK && a->limit >= 0 && (int64_t)n > a->limit - a->at)
        a->rc = err_set(a->e, DR_EFORMAT, "the server sends more than the %lld bytes of the file",
                        (long long)a->limit);
    if (a->rc != DR_OK) return 0;
    if (a->body) {
        buf_put(a->body, s, n);
        if (a->body->bad)
            a->rc = err_set(a->e, DR_ENOMEM, "the answer is larger than %zu bytes",
                            a->body->cap_max);
    } else {
        for (size_t done = 0; a->rc == DR_OK && done < n;) {
            ssize_t k = write(a->fd, s + done, n - done);
            if (k > 0) done += (size_t)k;
            else if (errno != EINTR)
                a->rc = err_set(a->e, DR_EIO, "cannot write: %s", strerror(errno));
        }
        if (a->rc == DR_OK) a->rc = hash_put(&a->sum, s, n, a->e);
    }
    if (a->rc != DR_OK) return 0;
    a->at += (int64_t)n;
    if (a->w && a->w->bar) progress_set(a->w->bar, a->w->bar_at + a->at);
    return n;
}

/* Length of "scheme://host:port" in a URL; 0: not one of ours. */
static size_t origin(const char *url)
{
    size_t n = !strncasecmp(url, "https://", 8) ? 8 : !strncasecmp(url, "http://", 7) ? 7 : 0;
    return n ? n + strcspn(url + n, "/?#") : 0;
}

static bool is_loopback(const char *url)
{
    const char *h = strstr(url, "://") + 3;
    size_t n = strcspn(h, ":/?#");
    return (n == 9 && !strncasecmp(h, "localhost", 9)) || !strncmp(h, "127.", 4)
        || !strncmp(h, "[::1]", 5);
}

/* May the token go to `url`, when it belongs to the origin of `home`? */
static bool may_see_token(const char *url, const char *home)
{
    size_t n = origin(home);
    if (origin(url) != n || strncasecmp(url, home, n) || memchr(url, '@', n)) return false;
    return !strncasecmp(url, "https://", 8) || is_loopback(url);
}

static CURLcode hop(const http_opt *o, answer *a, const char *url, bool token)
{
    CURL *c = lib.handle;
    struct curl_slist *head = NULL;
    char line[TAG_MAX + 1024];
    const char *ca = getenv("CURL_CA_BUNDLE");
    if (token && o->token) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", o->token);
        head = lib.add(head, line);
    }
    if (a->from) {
        snprintf(line, sizeof line, "Range: bytes=%lld-", (long long)a->from);
        head = lib.add(head, line);
        if (a->tag[0]) {
            snprintf(line, sizeof line, "If-Range: %s", a->tag);
            head = lib.add(head, line);
        }
    }
    lib.set(c, CURLOPT_URL, url);
    lib.set(c, CURLOPT_HTTPHEADER, head);
    lib.set(c, CURLOPT_USERAGENT, "drover/" DR_VERSION);
    lib.set(c, CURLOPT_NOSIGNAL, 1L);
    lib.set(c, CURLOPT_FOLLOWLOCATION, 0L);
    lib.set(c, CURLOPT_CONNECTTIMEOUT, 20L);
    lib.set(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    lib.set(c, CURLOPT_LOW_SPEED_TIME, (long)(o->stall_s ? o->stall_s : 30));
    lib.set(c, CURLOPT_HEADERFUNCTION, on_header);
    lib.set(c, CURLOPT_HEADERDATA, a);
    lib.set(c, CURLOPT_WRITEFUNCTION, on_body);
    lib.set(c, CURLOPT_WRITEDATA, a);
    lib.set(c, CURLOPT_BUFFERSIZE, 1L << 18);
    if (ca && *ca) lib.set(c, CURLOPT_CAINFO, ca);
    CURLcode r = lib.perform(c);
    lib.set(c, CURLOPT_HTTPHEADER, (struct curl_slist *)NULL);
    lib.drop_list(head);
    return r;
}

/* One try: every redirect, then the body. `tag` is sent as If-Range. */
static CURLcode try_once(const http_opt *o, answer *a, const char *url, const char *tag)
{
    char *at = mem_strdup(url);
    CURLcode r = CURLE_OUT_OF_MEMORY;
    for (int hops = 0; at; hops++) {
        a->status = 0, a->started = false, a->next[0] = a->note[0] = 0, a->wait_s = 0;
        snprintf(a->tag, sizeof a->tag, "%s", tag);
        r = hop(o, a, at, may_see_token(at, url));
        char *to = NULL;
        if (r != CURLE_OK || a->status < 300 || a->status > 399 || a->status == 304) break;
        lib.info(lib.handle, CURLINFO_REDIRECT_URL, &to);
        if (!to || !origin(to) || hops == MAX_HOPS
            || (!strncasecmp(at, "https:", 6) && strncasecmp(to, "https:", 6))) {
            a->rc = err_set(a->e, DR_EFORMAT, "%s",
                            !to ? "the server redirects to nowhere"
                            : hops == MAX_HOPS ? "the server redirects in a circle"
                                               : "the server redirects to what is not https");
            break;
        }
        char *copy = mem_strdup(to);
        mem_free(at);
        at = copy;
        r = CURLE_OUT_OF_MEMORY;
    }
    mem_free(at);
    return r;
}

/* A sentence for an answer that is not the file. */
static int refused(const http_opt *o, const answer *a, dr_err *e)
{
    const char *sep = a->note[0] ? ": " : "";
    switch (a->status) {
    case 401:
        if (o->token)
            return err_set(e, DR_EIO, "the token in HF_TOKEN is not accepted (401)%s%s", sep,
                           a->note);
        return err_set(e, DR_EIO, "not found, or only with a token (401): set HF_TOKEN%s%s", sep,
                       a->note);
    case 403:
        return err_set(e, DR_EIO, "access refused (403): accept the licence on the model's page "
                       "with the account of %s%s%s", o->token ? "HF_TOKEN" : "a token and set HF_TOKEN",
                       sep, a->note);
    case 404: return err_set(e, DR_EIO, "not found (404)%s%s", sep, a->note);
    case 429: return err_set(e, DR_EIO, "the server has had too many requests (429): try later");
    default: return err_set(e, DR_EIO, "the server answers %d%s%s", a->status, sep, a->note);
    }
}

static bool may_pass(const answer *a, CURLcode r)
{
    if (a->rc != DR_OK) return false;
    if (r == CURLE_OK)
        return a->status == 408 || a->status == 429 || a->status == 0 || a->status >= 500;
    return r != CURLE_URL_MALFORMAT && r != CURLE_UNSUPPORTED_PROTOCOL
        && r != CURLE_PEER_FAILED_VERIFICATION && r != CURLE_SSL_CACERT_BADFILE
        && r != CURLE_OUT_OF_MEMORY;
}

static void pause_ms(const http_opt *o, int n, int wait_s)
{
    int64_t ms = (int64_t)(o->wait_ms ? o->wait_ms : 500) << (n < 7 ? n : 7);
    if (wait_s > 0 && !o->wait_ms) ms = (int64_t)(wait_s < 60 ? wait_s : 60) * 1000;
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/* Try until it is done, hopeless, or out of tries. `tag` holds the validator of what is held
 * and is brought up to date. */
static int persist(const http_opt *o, answer *a, const char *url, char tag[TAG_MAX],
                   const char *tag_path)
{
    if (!origin(url)) return err_set(a->e, DR_EINVAL, "%.200s is not an http address", url);
    int max = o->tries ? o->tries : 6;
    for (int n = 0;; n++) {
        int64_t had = a->at;
        a->from = a->at;
        CURLcode r = try_once(o, a, url, a->from ? tag : "");
        bool good = a->status == 200 || a->status == 206;
        if (good && strcmp(tag, a->tag)) {
            memcpy(tag, a->tag, TAG_MAX);
            if (tag_path) os_write(tag_path, tag, strlen(tag), NULL);   /* without it: no resume */
        }
        if (a->rc != DR_OK) return a->rc;
        if (r == CURLE_OK && good && (a->limit < 0 || a->at == a->limit)) return DR_OK;
        if (r == CURLE_OK && a->status == 416 && a->from) {
            int rc = start_over(a);        /* what is held is not a beginning of theirs */
            if (rc != DR_OK) return rc;
            tag[0] = 0;
        } else if (!(r == CURLE_OK && good) && !may_pass(a, r)) {
            if (r != CURLE_OK) return err_set(a->e, DR_EIO, "%s", lib.text(r));
            return refused(o, a, a->e);
        }
        if (a->at > had) n = 0;
        if (n + 1 >= max) {
            if (r == CURLE_OK && !good) return refused(o, a, a->e);
            return err_set(a->e, DR_EIO, "gave up after %d tries: %s", max,
                           r != CURLE_OK ? lib.text(r) : "the server sends less than the file");
        }
        pause_ms(o, n, a->wait_s);
    }
}

int http_text(const http_opt *o, const char *url, buf *body, buf *next, dr_err *e)
{
    int rc = load(e);
    if (rc != DR_OK) return rc;
    answer a = { .body = body, .fd = -1, .limit = -1, .e = e };
    char tag[TAG_MAX] = "";
    int max = o->tries ? o->tries : 6;
    for (int n = 0; n < max; n++) {                  /* a text is never resumed: from 0 again */
        buf_reset(body);
        a.at = a.from = 0;
        CURLcode r = try_once(o, &a, url, tag);
        if (a.rc != DR_OK) return a.rc;
        if (r == CURLE_OK && a.status == 200) {
            if (next) buf_puts(next, a.next);
            return DR_OK;
        }
        if (!may_pass(&a, r) || n + 1 == max) {
            if (r != CURLE_OK) return err_set(e, DR_EIO, "%s", lib.text(r));
            return refused(o, &a, e);
        }
        pause_ms(o, n, a.wait_s);
    }
    return DR_EIO;
}

/* What an earlier call left: its size and validator. */
static int take_up(answer *a, const char *part, const char *tag_path, char tag[TAG_MAX])
{
    buf t = { .cap_max = TAG_MAX - 1 };
    tag[0] = 0;
    if (os_exists(tag_path) && os_read(&t, tag_path, NULL) == DR_OK)
        snprintf(tag, TAG_MAX, "%s", buf_str(&t));
    buf_free(&t);
    int rc = hash_begin(&a->sum, HASH_SHA256, a->e);
    if (rc != DR_OK) return rc;
    os_file f;
    struct stat st;
    if (fstat(a->fd, &st) || st.st_size == 0) return DR_OK;
    bool safe = tag[0] || a->w->hash[0];       /* a mix of two versions would be noticed */
    if (!safe || (a->limit >= 0 && st.st_size > a->limit)) return start_over(a);
    rc = os_map(&f, part, a->e);
    if (rc != DR_OK) return rc;
    rc = hash_put(&a->sum, f.p, f.n, a->e);
    a->at = (int64_t)f.n;
    os_unmap(&f);
    lseek(a->fd, 0, SEEK_END);
    return rc;
}

/* git's name of a blob: SHA-1 of "blob N\0" and the bytes. */
static int git_name(const char *path, char hex[HASH_HEX], dr_err *e)
{
    os_file f;
    hash h = { NULL };
    char head[32];
    int rc = os_map(&f, path, e);
    if (rc != DR_OK) return rc;
    int n = snprintf(head, sizeof head, "blob %zu", f.n);
    rc = hash_begin(&h, HASH_SHA1, e);
    if (rc == DR_OK) rc = hash_put(&h, head, (size_t)n + 1, e);
    if (rc == DR_OK) rc = hash_put(&h, f.p, f.n, e);
    if (rc == DR_OK) rc = hash_end(&h, hex, e);
    hash_drop(&h);
    os_unmap(&f);
    return rc;
}

/* Everything is here: is it what was promised? *again: it is not, but a clean start may be. */
static int judge(answer *a, const char *part, char sum[HASH_HEX], bool *again, dr_err *e)
{
    const http_want *w = a->w;
    char name[HASH_HEX];
    int rc = hash_end(&a->sum, sum, e);
    const char *have = sum, *want = w->hash[0] ? w->hash : a->linked;
    if (rc == DR_OK && w->git && w->hash[0]) rc = git_name(part, name, e), have = name;
    if (rc != DR_OK || !want[0] || !strcmp(have, want)) return rc;
    *again = true;
    return err_set(e, DR_EFORMAT, "the bytes that came are not the file: their hash is %.12s…, "
                   "%.12s… is wanted; nothing was kept", have, want);
}

static int fetch(const http_opt *o, answer *a, const char *part, const char *tag_path,
                 char sum[HASH_HEX], bool *again)
{
    char tag[TAG_MAX] = "";
    int rc = take_up(a, part, tag_path, tag);
    if (rc == DR_OK && !(a->limit >= 0 && a->at == a->limit))
        rc = persist(o, a, a->w->url, tag, tag_path);
    if (rc == DR_OK && fsync(a->fd))
        rc = err_set(a->e, DR_EIO, "cannot write %s: %s", part, strerror(errno));
    if (rc == DR_OK) rc = judge(a, part, sum, again, a->e);
    hash_drop(&a->sum);
    return rc;
}

int http_file(const http_opt *o, const http_want *w, const char *path, char got[HASH_HEX],
              dr_err *e)
{
    char sum[HASH_HEX] = "";
    buf part = { .cap_max = 4096 }, tag = { .cap_max = 4096 };
    int rc = load(e);
    if (rc != DR_OK) return rc;
    buf_printf(&part, "%s.part", path);
    buf_printf(&tag, "%s.part.tag", path);
    for (int n = 0; n < 2 && !part.bad && !tag.bad; n++) {
        dr_err why = {0};
        bool again = false;
        answer a = { .w = w, .limit = w->bytes, .e = &why };
        a.fd = open(buf_str(&part), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (a.fd < 0) {
            rc = err_set(e, DR_EIO, "cannot create %s: %s", buf_str(&part), strerror(errno));
            break;
        }
        rc = fetch(o, &a, buf_str(&part), buf_str(&tag), sum, &again);
        close(a.fd);
        if (rc == DR_OK && rename(buf_str(&part), path))
            rc = err_set(&why, DR_EIO, "cannot rename %s: %s", buf_str(&part), strerror(errno));
        /* what lies is thrown away; what broke off is kept for the next time */
        bool keep = rc != DR_OK && rc != DR_EFORMAT && a.at > 0;
        if (!keep) unlink(buf_str(&tag));
        if (!keep && rc != DR_OK) unlink(buf_str(&part));
        if (rc != DR_OK && !(again && n == 0)) err_set(e, rc, "%s", why.msg);
        if (!again) break;
    }
    if (part.bad || tag.bad) rc = err_set(e, DR_EINVAL, "the path %s is too long", path);
    if (rc == DR_OK && got) memcpy(got, sum, HASH_HEX);
    buf_free(&part);
    buf_free(&tag);
    return rc;
}
