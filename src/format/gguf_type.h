/* gguf_type.h - every weight type a GGUF file may name, those that do not run included, so
 * that sizes can be checked and messages can say "IQ4_XS" and not "type 23". */
#ifndef FORMAT_GGUF_TYPE_H
#define FORMAT_GGUF_TYPE_H
#include <stdint.h>

typedef struct { uint32_t type; const char *name; int elems, bytes; } gguf_type_info;

/* NULL: not known to this program. */
const gguf_type_info *gguf_type_find(uint32_t type);
#endif
