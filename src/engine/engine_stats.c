/* engine_stats.c - counts of what the engine did. */
#include <math.h>
#include "base/os.h"
#include "engine/engine_priv.h"

double engine_bound(int i) { return i >= ENGINE_BUCKETS - 1 ? INFINITY : 1e-3 * pow(2, i / 2.0); }

void hist_put(engine_hist *h, double seconds)
{
    int i = 0;
    while (i < ENGINE_BUCKETS - 1 && seconds > engine_bound(i)) i++;
    for (; i < ENGINE_BUCKETS; i++) h->count[i]++;
    h->sum += seconds;
}

void stats_step(engine *g, int64_t now, uint64_t gen, uint64_t prompt)
{
    int64_t second = now / 1000000000;
    int i = (int)(second % SECONDS);
    if (g->per_s[i].second != second) {
        g->per_s[i].second = second;
        g->per_s[i].gen = g->per_s[i].prompt = 0;
    }
    g->per_s[i].gen += gen;
    g->per_s[i].prompt += prompt;
    g->st.gen_tokens += gen;
    g->st.steps++;
}

void stats_memory(engine *g)
{
    g->st.kv_positions = (int64_t)g->kv.n_pages * KV_PAGE;
    g->st.kv_cached = (int64_t)prefix_idle(g->prefix) * KV_PAGE;
    g->st.kv_used = g->st.kv_positions - (int64_t)g->kv.n_free * KV_PAGE - g->st.kv_cached;
}

void engine_stats_get(engine *g, engine_stats *out)
{
    int64_t second = os_now_ns() / 1000000000;
    double gen = 0, prompt = 0;
    pthread_mutex_lock(&g->lock);
    *out = g->st;
    out->waiting = g->turns.n_requests;
    out->running = g->n_all - g->turns.n_requests;
    for (int i = 0; i < SECONDS; i++) {          /* whole seconds only */
        if (g->per_s[i].second >= second || g->per_s[i].second < second - (SECONDS - 1)) continue;
        gen += (double)g->per_s[i].gen;
        prompt += (double)g->per_s[i].prompt;
    }
    pthread_mutex_unlock(&g->lock);
    out->tok_s = gen / (SECONDS - 1);
    out->prompt_tok_s = prompt / (SECONDS - 1);
    out->bytes = g->kv.bytes + g->ws.mem_bytes + g->ws.cs_bytes + adapters_bytes(g->adapters) + guess_bytes(g->guess);
}
