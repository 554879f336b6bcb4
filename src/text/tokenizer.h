/* tokenizer.h - text to token ids and back, for every tokenizer that Llama's family ships.
 * Immutable once open: share freely between threads. */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "format/gguf.h"

typedef struct tokenizer tokenizer;

/* Growable ids. Zeroed is valid and empty; ids_free releases. */
typedef struct { int32_t *p; int64_t n, cap; } ids;
int ids_put(ids *v, int32_t id, dr_err *e);
void ids_free(ids *v);

/* path: tokenizer.model (tiktoken text or SentencePiece), tokenizer.json, a GGUF file, or a
 * folder that holds one of them. The kind is found from the bytes. */
tokenizer *tok_open(const char *path, dr_err *e);
tokenizer *tok_from_gguf(const gguf *g, dr_err *e);
void tok_free(tokenizer *t);                                   /* NULL is fine */

enum { TOK_BOS = 1,          /* put the BOS first, exactly one, if this model wants one */
       TOK_SPECIAL = 2 };    /* control tokens written in the text count as such */
/* Append the ids of text. Control tokens in text are ordinary text unless TOK_SPECIAL. Any
 * bytes are accepted; what happens to broken UTF-8 is stated in docs/tokenizer.md. */
int tok_encode(const tokenizer *t, span text, int flags, ids *out, dr_err *e);

/* The same, but where mark[i] is not 0 (a byte for each of the text) a byte is never part of a
 * control token. mark NULL: none is marked. */
int tok_encode_marked(const tokenizer *t, span text, const uint8_t *mark, int flags, ids *out,
                      dr_err *e);

/* Append the exact bytes of one token. Control tokens write their text only if `special`. */
int tok_decode_one(const tokenizer *t, int32_t id, bool special, buf *out, dr_err *e);
/* All of them, with the tokenizer's own treatment of a leading space. */
int tok_decode(const tokenizer *t, const int32_t *id, int64_t n, bool special, buf *out, dr_err *e);

/* Streaming decode: whole UTF-8 characters only. */
typedef struct { uint8_t held[4]; int n_held; bool started; } tok_stream;
int tok_stream_put(const tokenizer *t, tok_stream *s, int32_t id, bool special, buf *out,
                   dr_err *e);
void tok_stream_end(tok_stream *s, buf *out);       /* what is still held, as it is */

int32_t tok_count(const tokenizer *t);              /* V of the tokenizer */
int32_t tok_bos(const tokenizer *t);                /* -1: none */
bool tok_wants_bos(const tokenizer *t);
int32_t tok_eos(const tokenizer *t);                /* -1: none */
/* End of generation: eos, eot, eom and their kin. */
bool tok_is_eog(const tokenizer *t, int32_t id);
bool tok_is_control(const tokenizer *t, int32_t id);
int32_t tok_find(const tokenizer *t, span text);    /* id of exactly this token or control
                                                       token; -1: none */
span tok_text(const tokenizer *t, int32_t id);      /* bytes (control: its name); borrowed */
const char *tok_kind(const tokenizer *t);           /* "byte-level BPE, llama3 splitter", … */
/* The chat template that travels with the tokenizer (GGUF key, tokenizer_config.json,
 * chat_template.jinja); n = 0: none. Borrowed. */
span tok_chat_template(const tokenizer *t);
/* One of several by name ("tool_use", "rag"; "default" is the one above); n = 0: none. */
span tok_chat_template_named(const tokenizer *t, const char *name);
#endif
