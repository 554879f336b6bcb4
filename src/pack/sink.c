/* sink.c - see sink.h. */
#include "pack/sink.h"
#include <string.h>

int sink_new(sink *s, container kind, const char *name, dr_err *e)
{
    char top[64];
    const char *dot = strrchr(name, '.');
    *s = (sink){0};
    snprintf(top, sizeof top, "%.*s", (int)(dot ? dot - name : (long)strlen(name)), name);
    if (kind == CONTAINER_GGUF) s->gguf = gguf_write_new(e);
    else if (kind == CONTAINER_SAFETENSORS) s->st = st_write_new(e);
    else s->pth = pth_write_new(top, e);
    return s->gguf || s->st || s->pth ? DR_OK : DR_ENOMEM;
}

void sink_free(sink *s)
{
    gguf_write_free(s->gguf);
    st_write_free(s->st);
    pth_write_free(s->pth);
    *s = (sink){0};
}

int sink_add(sink *s, const pack_tensor *t, dr_err *e)
{
    int64_t slow[2] = { t->rows, t->cols }, fast[2] = { t->cols, t->rows };
    if (s->gguf) return gguf_add_tensor(s->gguf, t->name, t->type, t->n_dims, fast, e);
    if (s->pth && t->alias) return pth_add_alias(s->pth, t->name, "tok_embeddings.weight", e);
    if (s->pth && t->scale) return pth_add_tensor(s->pth, t->name, t->type, 1, slow, e);
    return s->st ? st_add_tensor(s->st, t->name, t->type, t->n_dims, slow + 2 - t->n_dims, e)
                 : pth_add_tensor(s->pth, t->name, t->type, t->n_dims, slow + 2 - t->n_dims, e);
}

uint64_t sink_size(const sink *s)
{
    return s->gguf ? gguf_write_size(s->gguf) : s->st ? st_write_size(s->st)
                                                      : pth_write_size(s->pth);
}

int sink_start(sink *s, write_fn put, void *arg, dr_err *e)
{
    return s->gguf ? gguf_write_start_to(s->gguf, put, arg, e) :
           s->st ? st_write_start_to(s->st, put, arg, e) : pth_write_start_to(s->pth, put, arg, e);
}

int sink_data(sink *s, const void *p, size_t n, dr_err *e)
{
    return s->gguf ? gguf_write_data(s->gguf, p, n, e) : s->st ? st_write_data(s->st, p, n, e)
                                                               : pth_write_data(s->pth, p, n, e);
}

int sink_end(sink *s, dr_err *e)
{
    return s->gguf ? gguf_write_end(s->gguf, e) : s->st ? st_write_end(s->st, e)
                                                        : pth_write_end(s->pth, e);
}
