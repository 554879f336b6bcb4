/* verify_data.h - the built-in references of verify.c; made by tools/golden/verify.py. */
#ifndef EVAL_VERIFY_DATA_H
#define EVAL_VERIFY_DATA_H

enum { VERIFY_STRINGS = 200 };
typedef struct { int n; const char *p; } verify_string;
extern const verify_string verify_strings[VERIFY_STRINGS];
extern const char verify_text[];

/* SHA-256 over the ids of all the strings: for each a count, then the ids, all i32. */
typedef struct { const char *name, *ids_sha256; } verify_vocab;
extern const verify_vocab verify_vocabs[];             /* ends with a NULL name */

extern const int verify_smollm2_n;
extern const float verify_smollm2[];
#endif
