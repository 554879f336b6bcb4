/* hash.c - see hash.h. */
#include "base/hash.h"
#include <openssl/evp.h>
#include <string.h>
#include "base/dl.h"
#include "base/os.h"

static struct {
    EVP_MD_CTX *(*make)(void);
    void (*drop)(EVP_MD_CTX *);
    int (*init)(EVP_MD_CTX *, const EVP_MD *, ENGINE *);
    int (*update)(EVP_MD_CTX *, const void *, size_t);
    int (*final)(EVP_MD_CTX *, unsigned char *, unsigned int *);
    const EVP_MD *(*sha256)(void);
    const EVP_MD *(*sha1)(void);
    bool ready;
} lib;

static int load(dr_err *e)
{
    static const char *const so[] = { "libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so", NULL };
    const dl_sym syms[] = {
        { "EVP_MD_CTX_new", &lib.make }, { "EVP_MD_CTX_free", &lib.drop },
        { "EVP_DigestInit_ex", &lib.init }, { "EVP_DigestUpdate", &lib.update },
        { "EVP_DigestFinal_ex", &lib.final }, { "EVP_sha256", &lib.sha256 },
        { "EVP_sha1", &lib.sha1 }, { NULL, NULL }
    };
    if (lib.ready) return DR_OK;
    int rc = dl_load(so, "libssl3", syms, e);
    lib.ready = rc == DR_OK;
    return rc;
}

int hash_begin(hash *h, hash_kind kind, dr_err *e)
{
    h->ctx = NULL;
    int rc = load(e);
    if (rc != DR_OK) return rc;
    h->ctx = lib.make();
    if (!h->ctx) return err_nomem(e, 256, "hash state");
    if (lib.init(h->ctx, kind == HASH_SHA1 ? lib.sha1() : lib.sha256(), NULL) == 1) return DR_OK;
    hash_drop(h);
    return err_set(e, DR_EUNSUPPORTED, "libcrypto refuses this hash");
}

int hash_put(hash *h, const void *p, size_t n, dr_err *e)
{
    if (lib.update(h->ctx, p, n) == 1) return DR_OK;
    return err_set(e, DR_EUNSUPPORTED, "libcrypto failed to hash");
}

int hash_end(hash *h, char hex[HASH_HEX], dr_err *e)
{
    unsigned char d[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    bool ok = lib.final(h->ctx, d, &n) == 1 && n <= 32;
    hash_drop(h);
    if (!ok) return err_set(e, DR_EUNSUPPORTED, "libcrypto failed to hash");
    for (unsigned int i = 0; i < n; i++) snprintf(hex + 2 * i, 3, "%02x", d[i]);
    return DR_OK;
}

void hash_drop(hash *h)
{
    if (h->ctx) lib.drop(h->ctx);
    h->ctx = NULL;
}

int hash_bytes(const void *p, size_t n, char hex[HASH_HEX], dr_err *e)
{
    hash h;
    int rc = hash_begin(&h, HASH_SHA256, e);
    if (rc != DR_OK) return rc;
    rc = hash_put(&h, p, n, e);
    if (rc == DR_OK) return hash_end(&h, hex, e);
    hash_drop(&h);
    return rc;
}

int hash_file(const char *path, char hex[HASH_HEX], dr_err *e)
{
    os_file f;
    int rc = os_map(&f, path, e);
    if (rc != DR_OK) return rc;
    rc = hash_bytes(f.p, f.n, hex, e);
    os_unmap(&f);
    return rc;
}
