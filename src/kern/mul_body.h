/* mul_body.h - products of one float weight type, for one level. Included once a type by
 * kern_body.h, which has defined:
 *
 *     MUL(name)       names of this type
 *     WT, XT          elements of weights and of inputs
 *     WV, XV          registers of them
 *     W_LOAD(p), W_LOAD_N(p, n), X_LOAD, X_LOAD_N, MAC(w, x, acc), STEP elements in a register
 *
 * k lies in lanes: an element's sixteen partial sums are one register. A tile of MUL_R weight
 * rows by MUL_C inputs runs over a block of K; longer K leave their partial sums in P between
 * blocks. Nothing of this changes an element's order of operations. */

static inline __attribute__((always_inline)) void MUL(tile)(int R, int C, const WT *w, size_t ldw,
                                                            const XT *x, size_t ldx, int K,
                                                            vf *P, bool first, bool last,
                                                            float *y, size_t ldy)
{
    vf acc[MUL_R * MUL_C];
    UNROLL(32)
    for (int i = 0; i < R * C; i++) acc[i] = first ? v_set(0) : P[i];
    int k = 0;
    for (; k + STEP <= K; k += STEP) {
        WV a[MUL_R];
        UNROLL(8)
        for (int r = 0; r < R; r++) a[r] = W_LOAD(w + (size_t)r * ldw + k);
        UNROLL(8)
        for (int c = 0; c < C; c++) {
            XV b = X_LOAD(x + (size_t)c * ldx + k);
            UNROLL(8)
            for (int r = 0; r < R; r++) acc[r * C + c] = MAC(a[r], b, acc[r * C + c]);
        }
    }
    if (k < K) {
        UNROLL(8)
        for (int r = 0; r < R; r++) {
            WV a = W_LOAD_N(w + (size_t)r * ldw + k, K - k);
            UNROLL(8)
            for (int c = 0; c < C; c++)
                acc[r * C + c] = MAC(a, X_LOAD_N(x + (size_t)c * ldx + k, K - k), acc[r * C + c]);
        }
    }
    if (!last) {
        UNROLL(32)
        for (int i = 0; i < R * C; i++) P[i] = acc[i];
        return;
    }
    int c = 0;
#ifdef V_TREES
    if (R == MUL_R && C >= 4) v_tree_4x4(y, ldy, acc, C), c = 4;
    if (R == MUL_R && C - c >= 2) v_tree_4x2(y + (size_t)c * ldy, ldy, acc + c, C), c += 2;
#endif
    UNROLL(8)
    for (; c < C; c++)
        UNROLL(8)
        for (int r = 0; r < R; r++) y[(size_t)c * ldy + (size_t)r] = v_tree(acc[r * C + c]);
}

/* R rows by C inputs, R being MUL_R or 1: each pair its own code. */
static __attribute__((noinline)) void MUL(tiles)(int R, int C, const WT *w, size_t ldw,
                                                 const XT *x, size_t ldx, int K, vf *P,
                                                 bool first, bool last, float *y, size_t ldy)
{
#define CASE(r, c) \
    case (r) * 8 + (c): \
        if ((c) <= MUL_C) MUL(tile)(r, c, w, ldw, x, ldx, K, P, first, last, y, ldy); \
        break;
    switch (R * 8 + C) {
    CASE(1, 1) CASE(1, 2) CASE(1, 3) CASE(1, 4) CASE(1, 5) CASE(1, 6)
    CASE(MUL_R, 1) CASE(MUL_R, 2) CASE(MUL_R, 3) CASE(MUL_R, 4) CASE(MUL_R, 5) CASE(MUL_R, 6)
    }
#undef CASE
}

/* How many inputs the next tile takes of `left`: never a lone one beside a full tile. */
static int MUL(take)(int left)
{
    return left >= 2 * MUL_C || left <= MUL_C ? (left < MUL_C ? left : MUL_C) : (left + 1) / 2;
}

/* One block of K for a block of rows and inputs, inputs outside: theirs stay in the first cache
 * while the rows pass, `rows` (1 or MUL_R) at a time. */
static void MUL(block)(const WT *w, size_t ldw, int R, int rows, const XT *x, size_t ldx, int N,
                       int K, vf *P, bool first, bool last, float *y, size_t ldy)
{
    for (int n = 0; n < N;) {
        int C = MUL(take)(N - n), r = 0;
        while (r < R) {
            int rr = r + rows <= R ? rows : 1;
            MUL(tiles)(rr, C, w + (size_t)r * ldw, ldw, x + (size_t)n * ldx, ldx, K, P, first,
                       last, y + (size_t)n * ldy + (size_t)r, ldy);
            r += rr, P += rr * C;
        }
        n += C;
    }
}

#undef MUL
#undef WT
#undef XT
#undef WV
#undef XV
#undef W_LOAD
#undef W_LOAD_N
#undef X_LOAD
#undef X_LOAD_N
#undef MAC
#undef STEP
