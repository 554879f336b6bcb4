/* kern_amx_probe.c - the peaks of AMX: four accumulating tiles. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#include "kern/probe_body.h"

enum { ROUNDS = 50000 };

/* Constant data, because gcc's _tile_loadconfig tells the compiler of eight bytes only: a
 * configuration on the stack loses its other stores. */
static const struct {
    uint8_t palette, start, pad[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} cfg = { .palette = 1, .colsb = { 64, 64, 64, 64, 64, 64, 64, 64 },
          .rows = { 16, 16, 16, 16, 16, 16, 16, 16 } };

static void tiles(void)
{
    _tile_loadconfig(&cfg);
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    _tile_zero(4); _tile_zero(5); _tile_zero(6); _tile_zero(7);
}

static double burst_int8(void)
{
    tiles();
    for (int i = 0; i < ROUNDS; i++) {
        _tile_dpbssd(0, 4, 5); _tile_dpbssd(1, 4, 7); _tile_dpbssd(2, 6, 5); _tile_dpbssd(3, 6, 7);
    }
    _tile_release();
    return ROUNDS * 4.0 * 16 * 16 * 64 * 2;
}

static double burst_bf16(void)
{
    tiles();
    for (int i = 0; i < ROUNDS; i++) {
        _tile_dpbf16ps(0, 4, 5); _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 6, 5); _tile_dpbf16ps(3, 6, 7);
    }
    _tile_release();
    return ROUNDS * 4.0 * 16 * 16 * 32 * 2;
}

static double int8(double s) { return probe_rate(burst_int8, s); }
static double bf16(double s) { return probe_rate(burst_bf16, s); }
void probe_init_amx(probe *p) { p->int8 = int8, p->bf16 = bf16; }
#endif
