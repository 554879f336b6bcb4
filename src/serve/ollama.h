/* ollama.h - what the files of Ollama's API share. */
#ifndef SERVE_OLLAMA_H
#define SERVE_OLLAMA_H
#include "serve/answer.h"
#include "serve/json_out.h"

/* A name without ":latest", which every name of theirs has. out: of n bytes. "" for NULL. */
const char *ollama_name(const char *name, char *out, size_t n);
enum { OLLAMA_NAME = 512 };
/* "2026-01-31T12:00:00.123456789Z", of nanoseconds since 1970. */
enum { OLLAMA_TIME = 40 };
void ollama_time(char out[OLLAMA_TIME], int64_t ns);
int64_t ollama_now(void);

/* The "options" of a request into *c and its request; stop: room for OLLAMA_STOPS strings. Whatever
 * touches the text is honoured or refused; what places the model in memory is the server's own affair. */
enum { OLLAMA_STOPS = 64 };
int ollama_options(const json_t *v, const served *s, call_opt *c, const char **stop, const char **param,
                   dr_err *e);

#endif
