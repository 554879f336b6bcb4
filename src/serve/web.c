/* web.c - hands out the page: compressed where the client takes it, and not again where it has it. */
#include "serve/web.h"
#include <string.h>
#include <strings.h>

/* Everything comes from here, runs from files and talks to here. What a model writes can neither load nor
 * send anything, even if the page had a hole. */
static const char policy[] =
    "default-src 'self'; object-src 'none'; frame-src 'none'; media-src 'none'; worker-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
_Static_assert(sizeof policy <= sizeof ((http_reply *)0)->head[0].value, "the policy fits a header");

static const struct { const char *name, *value; } heads[] = {
    { "Content-Security-Policy", policy },
    { "Referrer-Policy", "no-referrer" },
    { "Cross-Origin-Opener-Policy", "same-origin" },
    { "Cache-Control", "no-cache" },                        // kept, but asked about: 304
    { "Vary", "Accept-Encoding" },
};

/* Whether a header that is a list has this word, not refused by ";q=0". */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p && *p; p = strchr(p, ',')) {
        p += strspn(p, ", \t");
        if (!strncasecmp(p, word, n)) {
            const char *q = p + n + strspn(p + n, " \t");
            if (!*q || *q == ',')
                return true;
            if (*q == ';') {
                q += 1 + strspn(q + 1, " \t");
                if (strncasecmp(q, "q=0", 3))
                    return true;
                q += 3;
                if (*q == '.' && strspn(q + 1, "0") < strspn(q + 1, "0123456789"))
                    return true;
            }
        }
        if (!*p)
            break;
    }
    return false;
}

static void put_file(const http_req *r, http_reply *o, const char *name)
{
    const web_file *f = web_files;
    while (f->name && strcmp(f->name, name))
        f++;
    if (!f->name) {
        http_error(o, HTTP_PLAIN, 404, NULL, NULL, NULL, "the page has no file of this name");
        return;
    }
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        http_head(o, heads[i].name, "%s", heads[i].value);
    bool gz = has_word(http_header(r, "Accept-Encoding"), "gzip");
    const char *tag = gz ? f->tag_gz : f->tag, *known = http_header(r, "If-None-Match");
    http_head(o, "ETag", "%s", tag);
    o->type = f->type;
    if (known && strstr(known, tag)) {
        o->status = 304;
        return;
    }
    if (gz)
        http_head(o, "Content-Encoding", "gzip");
    buf_put(&o->body, gz ? f->gz : f->raw, gz ? f->n_gz : f->n_raw);
}

static void get_index(const http_req *r, http_reply *o)
{
    put_file(r, o, "index.html");
}

static void get_file(const http_req *r, http_reply *o)
{
    put_file(r, o, r->rest);
}

static void get_openapi(const http_req *r, http_reply *o)
{
    put_file(r, o, "openapi.yaml");
}

const http_route web_routes[] = {
    { "GET", "/openapi.yaml", HTTP_PLAIN, HTTP_OPEN | HTTP_INLINE, get_openapi },
    { "GET", "/", HTTP_PLAIN, HTTP_OPEN | HTTP_INLINE, get_index },
    { "GET", "/web/*", HTTP_PLAIN, HTTP_OPEN | HTTP_INLINE, get_file },
    { 0 }
};
