/* web.h - the web page: its files as they lie in the program, and the routes that hand them out.
 *
 *     web/ --tools/embed.sh--> build/…/web_data.c --> web_routes: "/" and "/web/" + name
 *
 * The page is the same for everybody and holds nothing of anybody, so its routes are open; all that it asks
 * for afterwards goes through the API's routes, with the key that its user gives it.
 * Threads: constant data. */
#ifndef SERVE_WEB_H
#define SERVE_WEB_H
#include <stddef.h>
#include "serve/http.h"

typedef struct {
    const char *name, *type;
    const char *tag, *tag_gz;   /* ETags, quoted: of the file as it is, and compressed */
    const unsigned char *raw;
    size_t n_raw;
    const unsigned char *gz;    /* the same through gzip */
    size_t n_gz;
} web_file;
extern const web_file web_files[];                          /* ends with name NULL */

/* "/" is index.html; "/web/NAME" each of the files. */
extern const http_route web_routes[];
#endif
