/* sink.c - see sink.h. */
#include "pack/sink.h"

int sink_new(sink *s, container kind, dr_err *e)
{
    *s = (sink){0};
    if (kind == CONTAINER_GGUF) s->gguf = gguf_write_new(e);
    else if (kind == CONTAINER_SAFETENSORS) s->st = st_write_new(e);
    else return err_set(e, DR_EUNSUPPORTED, "Meta's consolidated.*.pth is not written yet by this "
                        "version");
    return s->gguf || s->st ? DR_OK : DR_ENOMEM;
}

void sink_free(sink *s)
{
    gguf_write_free(s->gguf);
    st_write_free(s->st);
    *s = (sink){0};
}

int sink_add(sink *s, const pack_tensor *t, dr_err *e)
{
    int64_t slow[2] = { t->rows, t->cols }, fast[2] = { t->cols, t->rows };
    if (s->gguf) return gguf_add_tensor(s->gguf, t->name, t->type, t->n_dims, fast, e);
    return st_add_tensor(s->st, t->name, t->type, t->n_dims, slow + 2 - t->n_dims, e);
}

uint64_t sink_size(const sink *s)
{
    return s->gguf ? gguf_write_size(s->gguf) : st_write_size(s->st);
}

int sink_start(sink *s, write_fn put, void *arg, dr_err *e)
{
    return s->gguf ? gguf_write_start_to(s->gguf, put, arg, e)
                   : st_write_start_to(s->st, put, arg, e);
}

int sink_data(sink *s, const void *p, size_t n, dr_err *e)
{
    return s->gguf ? gguf_write_data(s->gguf, p, n, e) : st_write_data(s->st, p, n, e);
}

int sink_end(sink *s, dr_err *e)
{
    return s->gguf ? gguf_write_end(s->gguf, e) : st_write_end(s->st, e);
}
