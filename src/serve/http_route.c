/* http_route.c - which handler a method and a path have. */
#include <string.h>
#include "serve/http_priv.h"

/* Does the route's path match, and with what rest? */
static bool matches(const char *want, const char *path, const char **rest)
{
    size_t n = strlen(want);
    if (n && want[n - 1] == '*') {
        if (strncmp(want, path, n - 1) || !path[n - 1]) return false;
        *rest = path + n - 1;
        return true;
    }
    *rest = "";
    return !strcmp(want, path);
}

const http_route *route_find(const http *h, const char *method, const char *path, const char **rest,
                             int *status, char *allow, size_t n_allow)
{
    const http_route *best = NULL;
    size_t n_best = 0, at = 0;
    *status = 404;
    *allow = 0;
    if (!strcmp(method, "HEAD")) method = "GET";
    for (const http_route *const *t = h->o.routes; t && *t; t++)
        for (const http_route *r = *t; r->method; r++) {
            const char *left;
            if (!matches(r->path, path, &left)) continue;
            if (strcmp(r->method, method)) {
                int k = snprintf(allow + at, n_allow - at, "%s%s", at ? ", " : "", r->method);
                if (k > 0 && at + (size_t)k < n_allow) at += (size_t)k;
                *status = best ? *status : 405;
                continue;
            }
            /* of several that match, the longest: a path in full before one with a rest */
            size_t n = strlen(r->path) + !*left;
            if (best && n <= n_best) continue;
            best = r, n_best = n, *rest = left;
        }
    if (best) *status = 200;
    return best;
}

/* How an error is said where no route was found: as the routes beside it would. */
http_style route_style(const http *h, const char *path)
{
    size_t n_best = 0;
    http_style style = HTTP_OPENAI;
    for (const http_route *const *t = h->o.routes; t && *t; t++)
        for (const http_route *r = *t; r->method; r++) {
            size_t n = 0;
            while (path[n] && path[n] == r->path[n]) n++;
            if (n > n_best) n_best = n, style = r->style;
        }
    return style;
}
