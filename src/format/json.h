/* json.h - JSON from bytes we do not trust, with a bound on what the tree may cost. A tree is
 * up to 80 times as large as its text ("[[],[],…"), so the text is measured before the library
 * sees it: one pass, no memory. */
#ifndef FORMAT_JSON_H
#define FORMAT_JSON_H
#include <jansson.h>
#include "base/err.h"
#include "base/span.h"

/* The most bytes that jansson can hold at once while it reads these, rounded up. */
size_t json_cost(const void *bytes, size_t n);
/* NULL on failure: broken, a key given twice, or costs more than `budget`. `what` names the
 * text in the message. Release with json_decref. */
json_t *json_read(const void *bytes, size_t n, size_t budget, const char *what, dr_err *e);
/* The same where whole numbers may have more than 64 bits (tokenizer_config.json's
 * model_max_length is 10^30): they all come as reals. */
json_t *json_read_wide(const void *bytes, size_t n, size_t budget, const char *what, dr_err *e);
/* The same for a file of at most max_bytes, with a budget of 4 MB and twice its size. */
json_t *json_read_file(const char *path, size_t max_bytes, dr_err *e);
#endif
