/* limits.h - what the affinity mask and control groups leave of the machine to this process.
 *
 * `root` is put before every path that is read, "" for the system's own: tests bring a tree of
 * their own. What cannot be read is no limit. Both versions of control groups are understood, and
 * a group is looked at with all those that it lies in. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Cores among the CPUs 0..n-1 that have may[i], hyper-threads of one core counted once; not more
 * than the time that the groups allow is for, a part of a CPU counted as one. At least 1. */
int limits_cores(const char *root, const bool *may, int n);
/* Bytes that the groups still allow, their page cache counted as free; SIZE_MAX: no limit. */
size_t limits_memory(const char *root);
#endif
