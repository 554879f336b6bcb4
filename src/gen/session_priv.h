/* session_priv.h - the inside of a session, for session.c and state.c alone. */
#ifndef GEN_SESSION_PRIV_H
#define GEN_SESSION_PRIV_H
#include "gen/session.h"

struct session {
    const model *m;
    workspace ws;
    kv_cache kv;
    kv_seq seq;
    int n_ctx, n_rows, n_tok;
    int32_t *tok;
    int logits_at, n_logits;    /* row i of ws.logits belongs to the first logits_at + i tokens */
};
#endif
