/* text_in.c - see text_in.h. */
#include "train/text_in.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include "base/dl.h"
#include "base/mem.h"

enum { IN = 1 << 17, HEAD = 512 };
typedef enum { PLAIN, GZ, ZST } packing;

static struct {
    ZSTD_DStream *(*make)(void);
    size_t (*drop)(ZSTD_DStream *);
    size_t (*step)(ZSTD_DStream *, ZSTD_outBuffer *, ZSTD_inBuffer *);
    unsigned (*is_error)(size_t);
    const char *(*error_name)(size_t);
    bool ready;
} zst;

struct text_in {
    char *path;
    int fd;
    packing how;
    bool end, open;              /* no more in the file; a member of it is unfinished */
    z_stream gz;
    ZSTD_DStream *zs;
    uint64_t taken;
    size_t at, n;                /* in[at..n) is not used yet */
    uint8_t in[IN];
};

static int load_zstd(dr_err *e)
{
    static const char *const so[] = { "libzstd.so.1", "libzstd.so", NULL };
    const dl_sym syms[] = {
        { "ZSTD_createDStream", &zst.make }, { "ZSTD_freeDStream", &zst.drop },
        { "ZSTD_decompressStream", &zst.step }, { "ZSTD_isError", &zst.is_error },
        { "ZSTD_getErrorName", &zst.error_name }, { NULL, NULL }
    };
    if (zst.ready) return DR_OK;
    int rc = dl_load(so, "libzstd1", syms, e);
    zst.ready = rc == DR_OK;
    return rc;
}

/* zlib's and zstd's memory is counted with ours where they let us say so. */
static voidpf z_alloc(voidpf arg, uInt n, uInt size)
{
    (void)arg;
    return mem_zalloc(n, size);
}

static void z_free(voidpf arg, voidpf p)
{
    (void)arg;
    mem_free(p);
}

/* What begins with these bytes is no text, and what to do about it; %s is the path. */
static const struct { const char *magic; size_t n, at; const char *says; } not_text[] = {
    { "PAR1", 4, 0, "%1$s is Parquet, which is not read. This makes JSON lines of it (pip install "
      "pandas pyarrow): python3 -c \"import pandas; pandas.read_parquet('%1$s')"
      ".to_json('%1$s.jsonl', orient='records', lines=True, force_ascii=False)\"" },
    { "ARROW1", 6, 0, "%1$s is Arrow, which is not read. This makes JSON lines of it (pip install "
      "pandas pyarrow): python3 -c \"import pandas; pandas.read_feather('%1$s')"
      ".to_json('%1$s.jsonl', orient='records', lines=True, force_ascii=False)\"" },
    { "\xfd" "7zXZ", 5, 0, "%1$s is packed by xz, which is not read: xz -dk '%1$s'" },
    { "BZh", 3, 0, "%1$s is packed by bzip2, which is not read: bzip2 -dk '%1$s'" },
    { "PK\3\4", 4, 0, "%1$s is a zip archive, which is not read: unzip '%1$s'" },
    { "ustar", 5, 257, "%1$s is a tar archive, which is not read: tar xf '%1$s'" },
    { "%PDF", 4, 0, "%1$s is PDF, which is not read: pdftotext '%1$s'" },
    { "GGUF", 4, 0, "%1$s is a model, not text" },
    { "drshard\n", 8, 0, "%1$s is a token shard: it has been prepared already" },
};

static int fill(text_in *t, dr_err *e)
{
    if (t->at < t->n || t->end) return DR_OK;
    ssize_t k;
    do k = read(t->fd, t->in, IN);
    while (k < 0 && errno == EINTR);
    if (k < 0) return err_set(e, DR_EIO, "cannot read %s: %s", t->path, strerror(errno));
    t->at = 0, t->n = (size_t)k, t->end = k == 0;
    t->taken += (uint64_t)k;
    return DR_OK;
}

/* The first HEAD bytes are in t->in, but for a shorter file. */
static int fill_head(text_in *t, dr_err *e)
{
    while (t->n < HEAD && !t->end) {
        ssize_t k = read(t->fd, t->in + t->n, IN - t->n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return err_set(e, DR_EIO, "cannot read %s: %s", t->path, strerror(errno));
        t->n += (size_t)k, t->end = k == 0;
        t->taken += (uint64_t)k;
    }
    return DR_OK;
}

/* Bytes of the text itself, packed or not. */
static int check_text(const char *path, const uint8_t *p, size_t n, dr_err *e)
{
    for (size_t i = 0; i < sizeof not_text / sizeof *not_text; i++)
        if (n >= not_text[i].at + not_text[i].n &&
            !memcmp(p + not_text[i].at, not_text[i].magic, not_text[i].n))
            return err_set(e, DR_EUNSUPPORTED, not_text[i].says, path);
    return DR_OK;
}

static int begin(text_in *t, dr_err *e)
{
    struct stat st;
    if (!strcmp(t->path, "-")) t->fd = dup(0);
    else t->fd = open(t->path, O_RDONLY | O_CLOEXEC);
    if (t->fd < 0) return err_set(e, DR_EIO, "cannot open %s: %s", t->path, strerror(errno));
    if (!fstat(t->fd, &st) && S_ISDIR(st.st_mode))
        return err_set(e, DR_EIO, "%s is a folder, a file is wanted", t->path);
    int rc = fill_head(t, e);
    if (rc) return rc;
    if (t->n > 2 && t->in[0] == 0x1f && t->in[1] == 0x8b) {
        t->how = GZ;
        t->gz = (z_stream){ .zalloc = z_alloc, .zfree = z_free };
        if (inflateInit2(&t->gz, 15 + 16) != Z_OK) return err_nomem(e, 1 << 16, "unpacking");
        return DR_OK;
    }
    if (t->n >= 4 && !memcmp(t->in, "\x28\xb5\x2f\xfd", 4)) {
        t->how = ZST;
        if ((rc = load_zstd(e))) return rc;
        if (!(t->zs = zst.make())) return err_nomem(e, 1 << 17, "unpacking");
        return DR_OK;
    }
    return check_text(t->path, t->in, t->n, e);
}

text_in *text_in_open(const char *path, dr_err *e)
{
    text_in *t = mem_zalloc(1, sizeof *t);
    if (!t || !(t->path = mem_strdup(path))) {
        mem_free(t);
        err_nomem(e, sizeof *t, "a file being read");
        return NULL;
    }
    t->fd = -1;
    if (!begin(t, e)) return t;
    text_in_close(t);
    return NULL;
}

void text_in_close(text_in *t)
{
    if (!t) return;
    if (t->how == GZ) inflateEnd(&t->gz);
    if (t->zs) zst.drop(t->zs);
    if (t->fd >= 0) close(t->fd);
    mem_free(t->path);
    mem_free(t);
}

static int broken(const text_in *t, const char *why, dr_err *e)
{
    return err_set(e, DR_EFORMAT, "%s is broken near byte %" PRIu64 " (%s)", t->path,
                   t->taken - (t->n - t->at), why);
}

/* Bytes unpacked of what is in t->in. t->open says whether a member goes on. */
static int64_t unpack_gz(text_in *t, void *dst, size_t n, dr_err *e)
{
    /* members may follow one another; zeros may fill up the last */
    while (!t->open && t->at < t->n && t->gz.total_in && t->in[t->at] == 0) t->at++;
    if (!t->open && t->at == t->n) return 0;
    if (!t->open && t->gz.total_in && inflateReset(&t->gz) != Z_OK) return broken(t, "gzip", e);
    t->gz.next_in = t->in + t->at, t->gz.avail_in = (uInt)(t->n - t->at);
    t->gz.next_out = dst, t->gz.avail_out = (uInt)(n < 1 << 30 ? n : 1 << 30);
    uInt room = t->gz.avail_out;
    int z = inflate(&t->gz, Z_NO_FLUSH);
    t->at = t->n - t->gz.avail_in;
    if (z == Z_MEM_ERROR) return err_nomem(e, 1 << 16, "unpacking");
    if (z != Z_OK && z != Z_STREAM_END && z != Z_BUF_ERROR)
        return broken(t, t->gz.msg ? t->gz.msg : "not gzip", e);
    t->open = z != Z_STREAM_END;
    return room - t->gz.avail_out;
}

static int64_t unpack_zst(text_in *t, void *dst, size_t n, dr_err *e)
{
    ZSTD_inBuffer in = { t->in, t->n, t->at };
    ZSTD_outBuffer out = { dst, n, 0 };
    size_t left = zst.step(t->zs, &out, &in);
    t->at = in.pos;
    if (zst.is_error(left)) return broken(t, zst.error_name(left), e);
    t->open = left != 0;
    return (int64_t)out.pos;
}

int64_t text_in_read(text_in *t, void *dst, size_t n, dr_err *e)
{
    for (;;) {
        int rc = fill(t, e);
        if (rc) return rc;
        size_t have = t->n - t->at;
        if (t->how == PLAIN) {
            size_t k = have < n ? have : n;
            memcpy(dst, t->in + t->at, k);
            t->at += k;
            return (int64_t)k;
        }
        if (!have && t->end && !t->open) return 0;
        size_t was = t->at;
        bool first = t->taken == t->n && t->at == 0;
        int64_t k = t->how == GZ ? unpack_gz(t, dst, n, e) : unpack_zst(t, dst, n, e);
        if (k > 0 && first && (rc = check_text(t->path, dst, (size_t)k, e))) return rc;
        if (k) return k;
        if (t->end && t->at == was)
            return err_set(e, DR_EFORMAT, "%s ends after %" PRIu64 " bytes in the middle: was it copied "
                           "only in part?", t->path, t->taken);
    }
}

uint64_t text_in_taken(const text_in *t) { return t->taken; }
