/* pth.c - see pth.h. */
#include "format/pth.h"
#include <inttypes.h>
#include "base/buf.h"
#include "base/mem.h"
#include "format/gguf.h"
#include "format/pickle.h"
#include "format/zip.h"

bool pth_looks_like(const void *bytes, size_t n)
{
    return n >= 4 && !memcmp(bytes, "PK\3\4", 4);
}

/* ---- the archive's members by name ---- */

enum { DIR_BYTES = 46 };                 /* of a directory entry, in front of its name */

typedef struct {
    zip z;
    span *name;                          /* of each member, in the archive's directory */
    name_index index;
    void *mem;
    size_t bytes;
} members;

static int list_members(members *m, dr_err *e)
{
    uint64_t n = m->z.n_entries, k = 0;
    if (n >= 1u << 30) return err_set(e, DR_EFORMAT, "the archive has too many members");
    m->bytes = (size_t)n * sizeof *m->name + names_slots(n) * sizeof(uint32_t);
    m->mem = mem_zalloc(m->bytes, 1);
    if (!m->mem) return err_nomem(e, m->bytes, "list of members");
    m->name = m->mem;
    m->index = names_make((uint32_t *)(void *)(m->name + n), n);
    zip_entry x;
    for (size_t at = 0; k < n && zip_next(&m->z, &at, &x);) {
        m->name[k] = x.name;
        uint32_t *slot = names_at(&m->index, m->name, sizeof *m->name, x.name);
        if (*slot)
            return err_set(e, DR_EFORMAT, "the archive has two members " SPAN_FMT,
                           SPAN_ARG(x.name));
        *slot = (uint32_t)++k;
    }
    if (k == n) return DR_OK;
    return err_set(e, DR_EFORMAT, "the archive's directory is broken behind member %" PRIu64
                   " of %" PRIu64, k, n);
}

static bool member(const members *m, span top, const char *dir, span key, zip_entry *x)
{
    char name[512];
    size_t n = strlen(dir);
    if (top.n + n + key.n > sizeof name) return false;
    memcpy(name, top.p, top.n);
    memcpy(name + top.n, dir, n);
    memcpy(name + top.n + n, key.p, key.n);
    uint32_t *slot = names_at(&m->index, m->name, sizeof *m->name,
                              (span){ name, top.n + n + key.n });
    if (!*slot) return false;
    size_t at = (size_t)((const uint8_t *)m->name[*slot - 1].p - m->z.p) - m->z.dir_at - DIR_BYTES;
    return zip_next(&m->z, &at, x);
}

/* The folder all members lie in: the one with data.pkl, without its slash. */
static int find_top(const members *m, span *top, dr_err *e)
{
    static const char pkl[] = "/data.pkl";
    for (uint64_t i = 0; i < m->z.n_entries; i++) {
        span s = m->name[i];
        if (s.n <= sizeof pkl - 1 || memcmp(s.p + s.n - (sizeof pkl - 1), pkl, sizeof pkl - 1))
            continue;
        *top = (span){ s.p, s.n - (sizeof pkl - 1) };
        zip_entry x;
        if (member(m, *top, "/", span_of("constants.pkl"), &x))
            return err_set(e, DR_EUNSUPPORTED, "this is a TorchScript program, which is not run; "
                           "a file of tensors (torch.save of a state_dict) is wanted");
        return DR_OK;
    }
    return err_set(e, DR_EFORMAT, "this zip archive is no PyTorch file: it holds no data.pkl");
}

static int add_bytes(void *b, const void *p, size_t n)
{
    (void)b, (void)p, (void)n;
    return DR_OK;
}

/* A small member's bytes, its CRC checked; absent: n 0 and p NULL. */
static int small(const members *m, span top, const char *name, span *s, dr_err *e)
{
    zip_entry x;
    const uint8_t *p;
    *s = (span){ NULL, 0 };
    if (!member(m, top, "/", span_of(name), &x)) return DR_OK;
    int rc = zip_stored(&m->z, &x, &p, e);
    if (rc == DR_OK) rc = zip_read(&m->z, &x, add_bytes, NULL, e);
    if (rc == DR_OK) *s = (span){ (const char *)p, (size_t)x.size };
    return rc;
}

static int check_order(const members *m, span top, dr_err *e)
{
    span order, version;
    int rc = small(m, top, "byteorder", &order, e);
    if (rc != DR_OK || (rc = small(m, top, "version", &version, e)) != DR_OK) return rc;
    if (order.p && !span_is(order, "little"))
        return err_set(e, DR_EUNSUPPORTED, "its byte order is \"" SPAN_FMT "\"; only little-endian "
                       "files are read", SPAN_ARG(order));
    if (!version.p) return err_set(e, DR_EFORMAT, "the archive holds no version: it is no PyTorch "
                                   "file, or damaged");
    return DR_OK;
}

/* ---- tensors ---- */

static int place(pth_tensor *to, const members *m, span top, const pickle_tensor *t,
                 const pickle_storage *s, dr_err *e)
{
    zip_entry x;
    const uint8_t *p;
    *to = (pth_tensor){ .name = t->name, .type = t->type, .n_dims = t->n_dims,
                        .data = (const uint8_t *)"" };
    memcpy(to->dim, t->dim, sizeof to->dim);
    if (!t->name.n) return err_set(e, DR_EFORMAT, "a tensor has no name");
    if (!t->contiguous)
        return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT " lies in its storage transposed or "
                       "with gaps, which is not read: save it after .contiguous()",
                       SPAN_ARG(t->name));
    if (!member(m, top, "/data/", s->key, &x))
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": its storage data/" SPAN_FMT " is "
                       "missing", SPAN_ARG(t->name), SPAN_ARG(s->key));
    int rc = zip_stored(&m->z, &x, &p, e);
    if (rc != DR_OK) return rc;
    if (x.size != s->bytes)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": its storage data/" SPAN_FMT " has %"
                       PRIu64 " bytes, %" PRIu64 " are wanted", SPAN_ARG(t->name),
                       SPAN_ARG(s->key), x.size, s->bytes);
    if (!t->count) return DR_OK;
    uint64_t one = (uint64_t)t->bits / 8;            // in range: the pickle's reader saw to it
    to->data = p + t->first * one;
    to->bytes = (size_t)(t->count * one);
    return DR_OK;
}

static int fill(pth *p, const members *m, const pickle *k, dr_err *e)
{
    size_t a = (size_t)k->n * sizeof *p->t, all = a + names_slots(k->n) * sizeof(uint32_t);
    if (k->n >= 1u << 30) return err_set(e, DR_EFORMAT, "too many tensors");
    p->mem = mem_zalloc(all, 1);
    if (!p->mem) return err_nomem(e, all, "table of tensors");
    p->t = p->mem;
    p->index = names_make((uint32_t *)(void *)((char *)p->mem + a), k->n);
    for (uint64_t i = 0; i < k->n; i++) {
        int rc = place(&p->t[i], m, p->top, &k->t[i], &k->storage[k->t[i].storage], e);
        if (rc != DR_OK) return rc;
        uint32_t *slot = names_at(&p->index, &p->t->name, sizeof *p->t, p->t[i].name);
        if (*slot)
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " appears twice",
                           SPAN_ARG(p->t[i].name));
        *slot = (uint32_t)i + 1;
        p->n++;
    }
    return DR_OK;
}

int pth_parse(pth *p, const void *bytes, size_t n, dr_err *e)
{
    *p = (pth){0};
    members m = {0};
    pickle k = {0};
    span pkl;
    int rc = gguf_check_lfs(bytes, n, e);
    if (rc != DR_OK) return rc;
    dr_err why = {0};
    if ((rc = zip_open(&m.z, bytes, n, &why)) != DR_OK)
        return err_set(e, rc, "this PyTorch file is damaged or cut short (%s); was it downloaded "
                       "only in part?", why.msg);
    rc = list_members(&m, e);
    if (rc == DR_OK) rc = find_top(&m, &p->top, e);
    if (rc == DR_OK) rc = check_order(&m, p->top, e);
    if (rc == DR_OK) rc = small(&m, p->top, "data.pkl", &pkl, e);
    /* The index of members takes at most 24 bytes for the 46 of a directory entry; fill's table
     * half of what the pickle's reader took at its most. */
    if (rc == DR_OK)
        rc = pickle_read(&k, pkl.p, pkl.n, ((size_t)5 << 19) + pkl.n / 8 * 7, e);
    if (rc == DR_OK) rc = fill(p, &m, &k, e);
    pickle_free(&k);
    mem_free(m.mem);
    if (rc != DR_OK) pth_free(p);
    return rc;
}

void pth_free(pth *p)
{
    mem_free(p->mem);
    *p = (pth){0};
}

const pth_tensor *pth_find(const pth *p, span name)
{
    if (!p->n) return NULL;
    uint32_t i = *names_at(&p->index, &p->t->name, sizeof *p->t, name);
    return i ? &p->t[i - 1] : NULL;
}
