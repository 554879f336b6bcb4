/* sum.h - a checksum about as fast as memory, against accidents: a write that was torn, another
 * file's bytes. It keeps nobody out who means to forge it; base/hash.h does. */
#ifndef BASE_SUM_H
#define BASE_SUM_H
#include <stddef.h>
#include <stdint.h>

/* Of n bytes at any address. The same on every little-endian machine. */
uint32_t sum_bytes(const void *p, size_t n);
#endif
