/* records.h - a file of text cut into records, a record into its document's text.
 *
 *     records *r = records_open("a.jsonl.gz", &opt, e);
 *     while ((rc = records_next(r, &c, 1 << 17, e)) > 0) …     // chunks of records, in one thread
 *     record_text(&c, i, &text, e)                             // in any thread, each its chunk
 */
#ifndef TRAIN_RECORDS_H
#define TRAIN_RECORDS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"

typedef enum { RECORDS_AUTO, RECORDS_JSONL, RECORDS_CSV, RECORDS_TSV, RECORDS_TEXT } records_format;
typedef enum { SPLIT_FILE, SPLIT_LINE, SPLIT_BLANK } records_split;

typedef struct {
    records_format format;       /* auto: JSON lines where the file begins with {, CSV and TSV by the
                                    ending of its name, text else */
    const char *field;           /* of JSON lines, or a column: where the text is */
    records_split split;         /* text: a document is the file, each line, or what stands between
                                    blank lines; */
    const char *separator;       /* or between lines that are this. NULL: by split */
} records_opt;

/* The longest record that is read. */
enum { RECORD_MAX = 1 << 30 };

/* A file's name and what was found out about it: what its records need to be read. */
typedef struct records_file records_file;
void records_file_free(records_file *f);        /* NULL is fine */

/* Where in the chunk's text, and the number of its first line in the file. */
typedef struct { const records_file *from; size_t at, n; int64_t line; } record;

/* Some records, of one file or several. Zeroed is empty; chunk_reset keeps the storage. */
typedef struct {
    char *text;
    size_t n, cap;
    record *rec;
    int64_t n_rec, rec_cap;
} chunk;

typedef struct records records;

records *records_open(const char *path, const records_opt *o, dr_err *e);
/* Add records to the chunk until it has `want` bytes. 1: there may be more; 0: that
 * was the last, what the chunk has is good; negative: what it has is good, then comes this error. */
int records_next(records *r, chunk *c, size_t want, dr_err *e);
uint64_t records_taken(const records *r);       /* bytes of the file read so far */
/* Close the file. What its records need stays until they are done with, and is then to be freed. NULL
 * gives NULL. */
records_file *records_close(records *r);

/* The text of record i, put in place of what *text has. A broken record is refused with the file's name
 * and its line. */
int record_text(const chunk *c, int64_t i, buf *text, dr_err *e);
void chunk_reset(chunk *c);
void chunk_free(chunk *c);
#endif
