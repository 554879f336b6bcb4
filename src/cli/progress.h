/* progress.h - one line on stderr that says how far a download is: share, bytes, speed, time
 * left. Silent when stderr is not a terminal. Threads: one at a time. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char what[64];
    int64_t total, done;        /* bytes; total 0: unknown */
    int64_t shown_at, shown_done;
    double rate;                /* bytes a second, of the last seconds */
    bool on, started;
} progress;

void progress_begin(progress *p, const char *what, int64_t total);
void progress_set(progress *p, int64_t done);    /* may also go back: a restart */
/* Wipe the line, so that something else can be written. */
void progress_end(progress *p);

/* "98.4 MB": decimal units, as networks and disks are sold. Returns s. */
enum { SIZE_TEXT = 24 };
char *size_text(char s[SIZE_TEXT], double bytes);
#endif
