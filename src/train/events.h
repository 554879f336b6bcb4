/* events.h - TensorBoard's event files: scalars by step, written by hand (a few fields of protocol
 * buffers, each record between checksums).
 * Ref: tensorflow/core/util/event.proto, framework/summary.proto; lib/io/record_writer: a record is
 * u64 length, masked CRC-32C of it, the bytes, masked CRC-32C of them. */
#ifndef TRAIN_EVENTS_H
#define TRAIN_EVENTS_H
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"

typedef struct { FILE *f; char *path; } events;    /* zeroed: none */
typedef struct { const char *tag; double value; } event_value;

/* A new file in dir. What other files there say of steps from `step` on is void: a resumed run takes
 * these again. */
int events_open(events *v, const char *dir, int64_t step, dr_err *e);
int events_put(events *v, int64_t step, const event_value *value, int n, dr_err *e);
void events_close(events *v);                /* a zeroed one is fine */
#endif
