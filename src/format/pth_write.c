/* pth_write.c - see pth_write.h; pickle.c and pth.c read the same back.
 *
 * Members are laid out as torch.save lays them out: stored, their data at multiples of 64 by a
 * padding field in the header, their CRC behind the data, so that nothing is written twice. */
#include "format/pth_write.h"
#include <inttypes.h>
#include <string.h>
#include <zlib.h>
#include "base/block.h"
#include "base/buf.h"
#include "base/mem.h"

enum { TENSORS_MAX = 1 << 20, MAX_DIMS = 4, ALIGN = 64, BATCH = 1000, NAME_MAX_BYTES = 1024 };
#define BIG 0xffffffffu

typedef struct { uint64_t header_at, size; uint32_t crc; } member;

typedef struct {
    size_t name;                     /* in names */
    int type, n_dims, storage;
    int64_t dim[MAX_DIMS];
} entry;

struct pth_writer {
    char *top;
    buf names, entries, sizes;       /* 0-ended texts; entry; uint64_t bytes of each storage */
    buf pickle, dir;
    uint64_t at;                     /* bytes of the file so far */
    uint64_t left;                   /* bytes of the storage at hand still to come */
    int n_storages, next;            /* next: the storage whose header comes next */
    uint64_t n_members;
    member now;
    char now_name[NAME_MAX_BYTES];
    bool open;
    os_out out;
    write_fn fn;
    void *arg;
};

pth_writer *pth_write_new(const char *top, dr_err *e)
{
    pth_writer *w = mem_zalloc(1, sizeof *w);
    if (!w || !(w->top = mem_strdup(top))) {
        err_nomem(e, sizeof *w, "PyTorch writer");
        mem_free(w);
        return NULL;
    }
    buf *all[] = { &w->names, &w->entries, &w->sizes, &w->pickle, &w->dir };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) buf_init(all[i], 1 << 28);
    w->out.fd = -1;
    return w;
}

void pth_write_free(pth_writer *w)
{
    if (!w) return;
    os_out_drop(&w->out);
    buf *all[] = { &w->names, &w->entries, &w->sizes, &w->pickle, &w->dir };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) buf_free(all[i]);
    mem_free(w->top);
    mem_free(w);
}

/* ---- the list of tensors ---- */

static const entry *entries(const pth_writer *w, size_t *n)
{
    *n = w->entries.n / sizeof(entry);
    return (const entry *)(const void *)w->entries.p;
}

static const char *name_of(const pth_writer *w, const entry *x) { return w->names.p + x->name; }

static int add(pth_writer *w, const char *name, entry x, dr_err *e)
{
    size_t n;
    entries(w, &n);
    if (n >= TENSORS_MAX || !*name || strlen(name) > NAME_MAX_BYTES / 2)
        return err_set(e, DR_EINVAL, "tensor '%.60s': too many, or no name for one", name);
    x.name = w->names.n;
    buf_put(&w->names, name, strlen(name) + 1);
    buf_put(&w->entries, &x, sizeof x);
    return w->names.bad || w->entries.bad || w->sizes.bad ?
           err_nomem(e, w->names.n + w->entries.n, "list of tensors") : DR_OK;
}

/* The classes of torch that say what a storage holds; v3: an untyped one and a type. */
static const struct { int type; const char *storage, *dtype; } classes[] = {
    { DT_F32, "torch\nFloatStorage\n", NULL }, { DT_F16, "torch\nHalfStorage\n", NULL },
    { DT_BF16, "torch\nBFloat16Storage\n", NULL },
    { DT_F8_E4M3, "torch.storage\nUntypedStorage\n", "torch\nfloat8_e4m3fn\n" },
};
enum { N_CLASSES = sizeof classes / sizeof *classes };

static int class_of(int type)
{
    int i = 0;
    while (i < N_CLASSES && classes[i].type != type) i++;
    return i;
}

int pth_add_tensor(pth_writer *w, const char *name, int type, int n_dims, const int64_t *dim,
                   dr_err *e)
{
    const type_info *ti = type_get(type);
    if (!ti || class_of(type) == N_CLASSES || n_dims < 0 || n_dims > MAX_DIMS)
        return err_set(e, DR_EINVAL, "tensor %s: PyTorch files hold F32, F16, BF16 and F8_E4M3 of "
                       "up to %d dimensions, not %s of %d", name, MAX_DIMS,
                       ti ? ti->name : "this type", n_dims);
    entry x = { .type = type, .n_dims = n_dims, .storage = w->n_storages };
    uint64_t bytes = (uint64_t)ti->bytes;
    for (int i = 0; i < n_dims; i++) {
        x.dim[i] = dim[i];
        if (dim[i] < 0 || __builtin_mul_overflow(bytes, (uint64_t)dim[i], &bytes))
            return err_set(e, DR_EINVAL, "tensor %s: dimension %" PRId64, name, dim[i]);
    }
    buf_put(&w->sizes, &bytes, sizeof bytes);
    w->n_storages++;
    return add(w, name, x, e);
}

int pth_add_alias(pth_writer *w, const char *name, const char *of, dr_err *e)
{
    size_t n;
    const entry *x = entries(w, &n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name_of(w, &x[i]), of)) return add(w, name, x[i], e);
    return err_set(e, DR_EINVAL, "tensor %s: there is no %s to share", name, of);
}

/* ---- data.pkl ---- */

static void put_int(buf *b, int64_t x)
{
    uint8_t le[8];
    int n = 0;
    for (uint64_t v = (uint64_t)x; n < 8; v >>= 8) le[n++] = (uint8_t)v;
    if (x < 256) buf_putc(b, 'K'), n = 1;
    else if (x < 65536) buf_putc(b, 'M'), n = 2;
    else if (x <= INT32_MAX) buf_putc(b, 'J'), n = 4;
    else buf_put(b, "\x8a\x08", 2);
    buf_put(b, le, (size_t)n);
}

static void put_text(buf *b, const char *s)
{
    uint32_t n = (uint32_t)strlen(s);
    uint8_t le[4] = { (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24) };
    buf_putc(b, 'X');
    buf_put(b, le, 4);
    buf_put(b, s, n);
}

static void put_tuple(buf *b, const int64_t *x, int n)
{
    if (n) buf_putc(b, '(');
    for (int i = 0; i < n; i++) put_int(b, x[i]);
    buf_putc(b, n ? 't' : ')');
}

static void put_entry(buf *b, const char *name, const entry *x)
{
    int c = class_of(x->type);
    bool v3 = classes[c].dtype;
    int64_t count = 1, stride[MAX_DIMS];
    char key[16];
    for (int i = x->n_dims; i-- > 0;) {
        stride[i] = count;
        count *= x->dim[i];
    }
    put_text(b, name);
    buf_puts(b, v3 ? "ctorch._utils\n_rebuild_tensor_v3\n((" : "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(b, "storage");
    buf_printf(b, "c%s", classes[c].storage);
    snprintf(key, sizeof key, "%d", x->storage);
    put_text(b, key);
    put_text(b, "cpu");
    put_int(b, count);               // bytes of the untyped one: its elements are bytes
    buf_puts(b, "tQK");
    buf_putc(b, 0);
    put_tuple(b, x->dim, x->n_dims);
    put_tuple(b, stride, x->n_dims);
    buf_puts(b, "\x89" "ccollections\nOrderedDict\n)R");
    if (v3) buf_printf(b, "c%s", classes[c].dtype);
    buf_puts(b, "tR");
}

static int make_pickle(pth_writer *w, buf *b, dr_err *e)
{
    size_t n;
    const entry *x = entries(w, &n);
    buf_reset(b);
    buf_puts(b, "\x80\x02}");
    for (size_t i = 0; i < n; i++) {
        if (i % BATCH == 0) buf_putc(b, '(');
        put_entry(b, name_of(w, &x[i]), &x[i]);
        if (i % BATCH == BATCH - 1 || i + 1 == n) buf_putc(b, 'u');
    }
    buf_putc(b, '.');
    return b->bad ? err_nomem(e, b->n, "pickle") : DR_OK;
}

/* ---- the archive ---- */

static void put_le(buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++, v >>= 8) buf_putc(b, (char)v);
}

/* What a member of `size` bytes takes in front of its data when its header is at `at`. */
static size_t head_bytes(uint64_t at, size_t name, uint64_t size, size_t *pad)
{
    size_t n = 30 + name + (size >= BIG ? 20 : 0) + 4;
    *pad = (size_t)((ALIGN - (at + n) % ALIGN) % ALIGN);
    return n + *pad;
}

static size_t tail_bytes(uint64_t size) { return size >= BIG ? 24 : 16; }

static int put(pth_writer *w, const void *p, size_t n, dr_err *e)
{
    int rc = w->fn ? w->fn(w->arg, p, n, e) : os_out_put(&w->out, p, n, e);
    w->at += n;
    return rc;
}

static int put_buf(pth_writer *w, buf *b, dr_err *e)
{
    int rc = b->bad ? err_nomem(e, b->n, "zip header") : put(w, b->p, b->n, e);
    buf_free(b);
    return rc;
}

static int begin_member(pth_writer *w, const char *name, uint64_t size, dr_err *e)
{
    static const char z[ALIGN];
    size_t pad;
    int n = snprintf(w->now_name, sizeof w->now_name, "%s/%s", w->top, name);
    buf b = { .cap_max = 4096 };
    w->now = (member){ w->at, size, 0 };
    head_bytes(w->at, (size_t)n, size, &pad);
    buf_put(&b, "PK\3\4", 4);
    put_le(&b, size >= BIG ? 45 : 20, 2), put_le(&b, 0x0808, 2);     // UTF-8; CRC behind the data
    put_le(&b, 0, 2 + 4 + 4);                                        // stored, no time
    put_le(&b, 0, 8);                                                // sizes
    put_le(&b, (uint64_t)n, 2), put_le(&b, (size >= BIG ? 20 : 0) + 4 + pad, 2);
    buf_put(&b, w->now_name, (size_t)n);
    if (size >= BIG) put_le(&b, 1, 2), put_le(&b, 16, 2), put_le(&b, 0, 8), put_le(&b, 0, 8);
    buf_put(&b, "FB", 2), put_le(&b, pad, 2), buf_put(&b, z, pad);
    return put_buf(w, &b, e);
}

static int member_data(pth_writer *w, const void *p, size_t n, dr_err *e)
{
    for (size_t at = 0; at < n; at += 1u << 30) {
        size_t k = n - at < 1u << 30 ? n - at : 1u << 30;
        w->now.crc = (uint32_t)crc32(w->now.crc, (const Bytef *)p + at, (uInt)k);
    }
    return put(w, p, n, e);
}

static void dir_entry(pth_writer *w)
{
    const member *m = &w->now;
    bool size = m->size >= BIG, at = m->header_at >= BIG;
    size_t n = strlen(w->now_name), extra = (size ? 16 : 0) + (at ? 8 : 0);
    buf *b = &w->dir;
    buf_put(b, "PK\1\2", 4);
    put_le(b, 0, 2), put_le(b, size || at ? 45 : 20, 2), put_le(b, 0x0808, 2), put_le(b, 0, 2 + 4);
    put_le(b, m->crc, 4), put_le(b, size ? BIG : m->size, 4), put_le(b, size ? BIG : m->size, 4);
    put_le(b, n, 2), put_le(b, extra ? extra + 4 : 0, 2), put_le(b, 0, 2 + 2 + 2), put_le(b, 0, 4);
    put_le(b, at ? BIG : m->header_at, 4);
    buf_put(b, w->now_name, n);
    if (!extra) return;
    put_le(b, 1, 2), put_le(b, extra, 2);
    if (size) put_le(b, m->size, 8), put_le(b, m->size, 8);
    if (at) put_le(b, m->header_at, 8);
}

static int end_member(pth_writer *w, dr_err *e)
{
    buf b = { .cap_max = 64 };
    int wide = w->now.size >= BIG ? 8 : 4;
    buf_put(&b, "PK\7\10", 4);
    put_le(&b, w->now.crc, 4), put_le(&b, w->now.size, wide), put_le(&b, w->now.size, wide);
    dir_entry(w);
    w->n_members++;
    return put_buf(w, &b, e);
}

static int whole_member(pth_writer *w, const char *name, const void *p, size_t n, dr_err *e)
{
    int rc = begin_member(w, name, n, e);
    if (rc == DR_OK) rc = member_data(w, p, n, e);
    return rc == DR_OK ? end_member(w, e) : rc;
}

static uint64_t storage_bytes(const pth_writer *w, int i)
{
    uint64_t n;
    memcpy(&n, w->sizes.p + (size_t)i * sizeof n, sizeof n);
    return n;
}

/* End what is complete and begin the next storage that has bytes. */
static int turn(pth_writer *w, dr_err *e)
{
    int rc = DR_OK;
    while (rc == DR_OK && w->left == 0) {
        if (w->open && (rc = end_member(w, e)) != DR_OK) break;
        w->open = false;
        if (w->next == w->n_storages) break;
        char name[32];
        w->left = storage_bytes(w, w->next);
        snprintf(name, sizeof name, "data/%d", w->next++);
        rc = begin_member(w, name, w->left, e);
        w->open = true;
    }
    return rc;
}

static const char order[] = "little", version[] = "3\n";

uint64_t pth_write_size(const pth_writer *w)
{
    pth_writer *mut = (pth_writer *)(uintptr_t)w;      // the pickle is made here, to be measured
    dr_err e = {0};
    size_t pad, top = strlen(w->top) + 1;
    if (make_pickle(mut, &mut->pickle, &e) != DR_OK) return 0;
    uint64_t at = 0, dir = 0, n_dir = 0;
    for (int i = -2; i <= w->n_storages; i++) {
        char name[32];
        uint64_t size = i == -2 ? w->pickle.n : i == -1 ? sizeof order - 1 :
                        i == w->n_storages ? sizeof version - 1 : storage_bytes(w, i);
        if (i == -2) snprintf(name, sizeof name, "data.pkl");
        else if (i == -1) snprintf(name, sizeof name, "byteorder");
        else if (i == w->n_storages) snprintf(name, sizeof name, "version");
        else snprintf(name, sizeof name, "data/%d", i);
        size_t n = top + strlen(name);
        n_dir = (size >= BIG ? 16 : 0) + (at >= BIG ? 8 : 0);
        dir += 46 + n + n_dir + (n_dir ? 4 : 0);
        at += head_bytes(at, n, size, &pad) + size + tail_bytes(size);
    }
    return at + dir + 56 + 20 + 22;
}

static int start(pth_writer *w, dr_err *e)
{
    int rc = make_pickle(w, &w->pickle, e);
    if (rc == DR_OK) rc = whole_member(w, "data.pkl", w->pickle.p, w->pickle.n, e);
    if (rc == DR_OK) rc = whole_member(w, "byteorder", order, sizeof order - 1, e);
    return rc == DR_OK ? turn(w, e) : rc;
}

int pth_write_start(pth_writer *w, const char *path, dr_err *e)
{
    int rc = os_out_open(&w->out, path, e);
    return rc != DR_OK ? rc : start(w, e);
}

int pth_write_start_to(pth_writer *w, write_fn fn, void *arg, dr_err *e)
{
    w->fn = fn, w->arg = arg;
    return start(w, e);
}

int pth_write_data(pth_writer *w, const void *p, size_t n, dr_err *e)
{
    const char *from = p;
    int rc = DR_OK;
    while (rc == DR_OK && n) {
        size_t k = w->left < n ? (size_t)w->left : n;
        if (!k) return err_set(e, DR_EINVAL, "%zu bytes of data behind the last tensor", n);
        rc = member_data(w, from, k, e);
        w->left -= k, from += k, n -= k;
        if (rc == DR_OK) rc = turn(w, e);
    }
    return rc;
}

int pth_write_end(pth_writer *w, dr_err *e)
{
    if (w->open || w->left)
        return err_set(e, DR_EINVAL, "%" PRIu64 " bytes of storage %d were not written", w->left,
                       w->next - 1);
    int rc = whole_member(w, "version", version, sizeof version - 1, e);
    if (rc != DR_OK) return rc;
    uint64_t dir_at = w->at, n = w->n_members, dir_n = w->dir.n;
    buf b = { .cap_max = 256 };
    put_le(&b, 0x06064b50, 4), put_le(&b, 44, 8), put_le(&b, 45, 2), put_le(&b, 45, 2);
    put_le(&b, 0, 8), put_le(&b, n, 8), put_le(&b, n, 8), put_le(&b, dir_n, 8), put_le(&b, dir_at, 8);
    put_le(&b, 0x07064b50, 4), put_le(&b, 0, 4), put_le(&b, dir_at + dir_n, 8), put_le(&b, 1, 4);
    put_le(&b, 0x06054b50, 4), put_le(&b, 0, 4);
    put_le(&b, n < 0xffff ? n : 0xffff, 2), put_le(&b, n < 0xffff ? n : 0xffff, 2);
    put_le(&b, dir_n < BIG ? dir_n : BIG, 4), put_le(&b, dir_at < BIG ? dir_at : BIG, 4);
    put_le(&b, 0, 2);
    if (w->dir.bad) rc = err_nomem(e, w->dir.n, "zip directory");
    else rc = put(w, w->dir.p, w->dir.n, e);
    int rc2 = put_buf(w, &b, rc == DR_OK ? e : NULL);
    if (rc == DR_OK) rc = rc2;
    if (rc == DR_OK && !w->fn) rc = os_out_keep(&w->out, e);
    return rc;
}
