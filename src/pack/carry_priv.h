/* carry_priv.h - what carry's own files share. */
#ifndef PACK_CARRY_PRIV_H
#define PACK_CARRY_PRIV_H
#include "pack/carry.h"
#include "pack/tokdata.h"

/* The source's tokenizer; kind TOKD_NONE: it has none. *m is always safe to free. */
int carry_tokenizer(const pack_job *j, tokdata *m, dr_err *e);
int carry_put_tokenizer(const pack_job *j, gguf_writer *w, dr_err *e);
/* generation_config.json as general.sampling.*. */
int carry_put_sampling(const pack_job *j, gguf_writer *w, dr_err *e);
/* A file of the source's folder, mapped; false: there is none. */
bool carry_beside(const tensors *ts, const char *name, os_file *f);
int carry_config_json(const pack_job *j, const layout *p, const tokdata *m, buf *out, dr_err *e);
int carry_generation_json(const pack_job *j, const tokdata *m, buf *out, dr_err *e);
/* params.json: the model's own where it has one that says its numbers, else one made of them. */
int carry_params_json(const pack_job *j, buf *out, dr_err *e);
/* Its text as far as another form must keep it: not what params_json would make, too. */
int carry_params_text(const pack_job *j, buf *out, dr_err *e);
#define CARRY_PARAMS_GGUF "drover.meta.params_json"
#define CARRY_PARAMS_JSON "meta_params_json"
#endif
