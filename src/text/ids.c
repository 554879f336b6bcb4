/* ids.c - the growable list of token ids of tokenizer.h. */
#include "base/mem.h"
#include "text/tokenizer.h"

int ids_put(ids *v, int32_t id, dr_err *e)
{
    if (v->n == v->cap) {
        int64_t cap = v->cap ? v->cap * 2 : 256;
        int32_t *p = mem_realloc(v->p, (size_t)cap * sizeof *p);
        if (!p) return err_nomem(e, (size_t)cap * sizeof *p, "token ids");
        v->p = p, v->cap = cap;
    }
    v->p[v->n++] = id;
    return DR_OK;
}

void ids_free(ids *v)
{
    mem_free(v->p);
    *v = (ids){0};
}
