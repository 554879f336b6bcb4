/* confine.h - the sandbox of a server: which files it may open, from what it was asked to serve. */
#ifndef SERVE_CONFINE_H
#define SERVE_CONFINE_H
#include "serve/serve.h"

/* Models, adapters, the adapters' folder, certificates and what o->allow names can be read, o->models.engine.store written; nothing else
 * (sandbox.h). A model in one file: that file; in a folder or in parts: the folder, and where links in it lead.
 * Keys: their folder, for a file that is replaced is another file. Before the first thread is started. */
int confine_files(const serve_opt *o, dr_err *e);
#endif
