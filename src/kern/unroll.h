/* unroll.h - UNROLL(n) before a loop of at most n turns, known when it is compiled: all of them
 * one after the other, so that arrays of registers are registers. clang takes gcc's pragma for
 * a step, and keeps the loop unless its turns divide by n. Under gcc's sanitizers loops stay loops: each turn
 * carries checks, and kern_avx512_direct.c took ten minutes to compile. */
#ifndef KERN_UNROLL_H
#define KERN_UNROLL_H
#define UNROLL_TEXT(x) _Pragma(#x)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNROLL(n) UNROLL_TEXT(GCC unroll 1)
#elif defined(__clang__)
#define UNROLL(n) UNROLL_TEXT(clang loop unroll(full))
#else
#define UNROLL(n) UNROLL_TEXT(GCC unroll n)
#endif
#endif
