/* http_keys.c - who may ask. A key belongs to a name, and the name has a number as long as the server runs:
 * a new key for the same name is the same tenant. */
#include <string.h>
#include <strings.h>
#include "base/mem.h"
#include "base/os.h"
#include "serve/http_priv.h"

enum { KEY_MIN = 8, KEY_FILE_MAX = 1 << 20 };

/* The tenant of this name, new if need be; -1: there are too many. */
static int tenant_of(http *h, const char *name, double weight)
{
    int t = 1;
    pthread_mutex_lock(&h->tenant_lock);
    while (t < h->n_tenants && strcmp(h->tenant_name[t], name)) t++;
    if (t < HTTP_TENANTS) {
        if (t == h->n_tenants) {
            snprintf(h->tenant_name[t], HTTP_NAME_MAX, "%s", name);
            h->n_tenants++;
        }
        h->tenant_weight[t] = weight;
    }
    pthread_mutex_unlock(&h->tenant_lock);
    return t < HTTP_TENANTS ? t : -1;
}

/* One line: KEY, NAME:KEY or NAME:KEY:WEIGHT. Nothing of a key goes into a message. */
static int add(http *h, http_keys *ks, char *line, const char *from, int no, dr_err *e)
{
    char *name = line, *key = strchr(line, ':'), *weight = NULL, own[32];
    double w = 1;
    if (key) {
        *key++ = 0;
        weight = strchr(key, ':');
    } else {
        key = line;
        snprintf(own, sizeof own, "key%d", ks->n + 1);
        name = own;
    }
    if (weight) {
        char *end;
        *weight++ = 0;
        w = strtod(weight, &end);
        if (end == weight || *end || !(w > 0 && w <= 1e6))
            return err_set(e, DR_EINVAL, "%s, key %d: the weight is not a number above 0", from, no);
    }
    if (!*name || strlen(name) >= HTTP_NAME_MAX)
        return err_set(e, DR_EINVAL, "%s, key %d: a name of 1 to %d bytes is wanted", from, no,
                       HTTP_NAME_MAX - 1);
    if (strlen(key) < KEY_MIN)
        return err_set(e, DR_EINVAL, "%s, key %d: a key has %d bytes at least", from, no, KEY_MIN);
    for (const char *s = key; *s; s++)
        if (*s <= ' ' || *s == 127)
            return err_set(e, DR_EINVAL, "%s, key %d: a key has neither spaces nor control bytes", from, no);
    int tenant = tenant_of(h, name, w);
    if (tenant < 0)
        return err_set(e, DR_EINVAL, "%s: more than %d names of keys", from, HTTP_TENANTS - 1);
    http_key *v = mem_realloc(ks->v, (size_t)(ks->n + 1) * sizeof *v);
    if (!v) return err_nomem(e, sizeof *v, "keys");
    ks->v = v;
    v[ks->n] = (http_key){ mem_strdup(key), tenant };
    if (!v[ks->n].key) return err_nomem(e, strlen(key), "keys");
    ks->n++;
    return DR_OK;
}

static int add_file(http *h, http_keys *ks, const char *path, dr_err *e)
{
    buf b = { .cap_max = KEY_FILE_MAX };
    int rc = os_read(&b, path, e), no = 0;
    char *s = buf_str(&b);
    if (rc == DR_OK && strlen(s) != b.n) rc = err_set(e, DR_EFORMAT, "%s holds a zero byte", path);
    while (rc == DR_OK && *s) {
        size_t n = strcspn(s, "\n");
        char *next = s + n + (s[n] == '\n');
        s[n] = 0;
        s[strcspn(s, "#\r")] = 0;
        s += strspn(s, " \t");
        for (size_t k = strlen(s); k && (s[k - 1] == ' ' || s[k - 1] == '\t'); k--) s[k - 1] = 0;
        if (*s) rc = add(h, ks, s, path, ++no, e);
        s = next;
    }
    if (rc == DR_OK && !no) rc = err_set(e, DR_EFORMAT, "%s holds no key", path);
    if (b.p) memset(b.p, 0, b.n);
    buf_free(&b);
    return rc;
}

void keys_free(http_keys *k)
{
    for (int i = 0; i < k->n; i++) {
        memset(k->v[i].key, 0, strlen(k->v[i].key));
        mem_free(k->v[i].key);
    }
    mem_free(k->v);
    *k = (http_keys){0};
}

int keys_load(http *h, dr_err *e)
{
    http_keys ks = {0};
    int rc = DR_OK, no = 0;
    for (const char *const *k = h->o.keys; rc == DR_OK && k && *k; k++) {
        char *line = mem_strdup(*k);
        rc = line ? add(h, &ks, line, "the given keys", ++no, e) : err_nomem(e, strlen(*k), "keys");
        mem_free(line);
    }
    if (rc == DR_OK && h->o.key_file) rc = add_file(h, &ks, h->o.key_file, e);
    if (rc != DR_OK) return keys_free(&ks), rc;
    keys_free(&h->keys);
    h->keys = ks;
    return DR_OK;
}

/* In time that depends on the lengths alone. */
static bool same(const char *a, size_t n, const char *b)
{
    size_t m = strlen(b);
    unsigned diff = n != m;
    for (size_t i = 0; i < n; i++) diff |= (unsigned char)a[i] ^ (unsigned char)b[m ? i % m : 0];
    return !diff;
}

int keys_check(const http *h, struct MHD_Connection *mc)
{
    const char *s = mhd.lookup_connection_value(mc, MHD_HEADER_KIND, "x-api-key");
    const char *a = mhd.lookup_connection_value(mc, MHD_HEADER_KIND, "Authorization");
    int found = -1;
    if (!h->keys.n) return 0;
    if (a && !strncasecmp(a, "Bearer ", 7)) s = a + 7 + strspn(a + 7, " ");
    if (!s) return -1;
    size_t n = strlen(s);
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\t')) n--;
    for (int i = 0; i < h->keys.n; i++)
        if (same(s, n, h->keys.v[i].key)) found = h->keys.v[i].tenant;
    return found;
}

int http_reload(http *h, dr_err *e) { return keys_load(h, e); }

int http_tenants(const http *h)
{
    http *w = (http *)h;
    pthread_mutex_lock(&w->tenant_lock);
    int n = h->n_tenants;
    pthread_mutex_unlock(&w->tenant_lock);
    return n;
}

double http_tenant_weight(const http *h, int tenant)
{
    http *w = (http *)h;
    pthread_mutex_lock(&w->tenant_lock);
    double v = tenant >= 0 && tenant < h->n_tenants ? h->tenant_weight[tenant] : 1;
    pthread_mutex_unlock(&w->tenant_lock);
    return v;
}
