/* carry_meta.c - Meta's params.json. */
#include "pack/carry_priv.h"

int carry_params_json(const pack_job *j, const layout *p, buf *out, dr_err *e)
{
    (void)p, (void)out;
    return err_set(e, DR_EUNSUPPORTED, "%s: Meta's form is not written yet by this version",
                   tensors_path(j->src->ts));
}
