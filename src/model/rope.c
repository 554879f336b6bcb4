/* rope.c - see rope.h. f32 throughout: a table in double differs by 1e-3 in the logits at
 * position 8,700 from what every model was trained and evaluated with. */
#include "model/rope.h"
#include <math.h>

static float llama3(float inv, const rope_spec *r)
{
    float factor = (float)r->factor, low = (float)r->low, high = (float)r->high,
          ctx = (float)r->orig_ctx;
    float len = (float)TWO_PI / inv;
    if (len < ctx / high) return inv;
    if (len > ctx / low) return inv / factor;
    float s = (ctx / len - low) / (high - low);
    return (1 - s) * inv / factor + s * inv;
}

void rope_inv_freq(float *inv, const rope_spec *r, int hs)
{
    for (int i = 0; i < hs / 2; i++) {
        float ex = (float)(2 * i) / (float)hs;
        float f = 1.0f / (float)pow(r->theta, ex);
        switch (r->kind) {
        case ROPE_PLAIN:   break;
        case ROPE_LLAMA3:  f = llama3(f, r); break;
        case ROPE_LINEAR:  f = f / (float)r->factor; break;
        case ROPE_FACTORS: f = f / r->divisor[i]; break;
        }
        inv[i] = f;
    }
}

/* cf. llama.cpp conversion/llama.py, generate_extra_tensors: torch f32 scalars against Python
 * doubles, so that each operation rounds to f32. */
static float divisor(float freq, const rope_spec *r)
{
    float wave = (float)TWO_PI / freq;
    if ((double)wave < r->orig_ctx / r->high) return 1;
    if ((double)wave > r->orig_ctx / r->low) return (float)r->factor;
    float s = ((float)r->orig_ctx / wave - (float)r->low) / (float)(r->high - r->low);
    return 1 / ((1 - s) / (float)r->factor + s);
}

void rope_divisors(float *div, const rope_spec *r, int hs)
{
    for (int i = 0; i < hs / 2; i++) {
        float ex = (float)(2 * i) / (float)hs, freq = 1 / (float)pow(r->theta, ex);
        div[i] = r->kind == ROPE_LLAMA3 ? divisor(freq, r) :
                 r->kind == ROPE_FACTORS ? r->divisor[i] : 1;
    }
}

void rope_rows(float *cs, const float *inv, int hs, int p0, int n)
{
    for (int p = p0; p < p0 + n; p++)
        for (int i = 0; i < hs / 2; i++, cs += 2) {
            float a = (float)p * inv[i];
            cs[0] = cosf(a), cs[1] = sinf(a);
        }
}
