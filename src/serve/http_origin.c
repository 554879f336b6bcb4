/* http_origin.c - requests that a browser makes for somebody else's page.
 *
 * A server on one's own machine needs no key, but every page that one's browser shows can send it requests, and
 * with a name of its own that it lets point to 127.0.0.1 even read the replies. So a page's origin must be this
 * server's own or allowed, and without keys the name that the request asks must be one of this machine. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "serve/http_priv.h"

bool origin_allowed(const http *h, const char *origin, const char *host)
{
    if (!origin) return true;
    for (const char *const *o = h->o.origins; o && *o; o++)
        if (!strcmp(*o, "*") || !strcasecmp(*o, origin)) return true;
    const char *own = strstr(origin, "://");
    return own && host && !strcasecmp(own + 3, host);
}

static bool ends(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && !strcasecmp(s + n - k, end);
}

bool host_allowed(const http *h, const char *host)
{
    static const char *const local[] = { ".localhost", ".local", ".internal", ".localdomain" };
    char name[256], own[256] = "";
    struct in6_addr a;
    if (!h->loopback || h->keys.n || !host) return true;
    if (strlen(host) >= sizeof name) return false;
    if (*host == '[') {
        snprintf(name, sizeof name, "%s", host + 1);
        name[strcspn(name, "]")] = 0;
        return inet_pton(AF_INET6, name, &a) == 1;
    }
    snprintf(name, sizeof name, "%s", host);
    name[strcspn(name, ":")] = 0;
    if (inet_pton(AF_INET, name, &a) == 1 || !strcasecmp(name, "localhost")) return true;
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if (ends(name, local[i])) return true;
    for (const char *const *n = h->o.names; n && *n; n++)
        if (!strcasecmp(name, *n)) return true;
    return !gethostname(own, sizeof own - 1) && !strcasecmp(name, own);
}
