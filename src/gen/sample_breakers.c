/* sample_breakers.c - DRY's sequence breakers: from strings to the tokens that contain them. */
#include <string.h>
#include "gen/sample.h"

int sample_dry_breakers(const tokenizer *t, const char *const *s, int n, ids *out, dr_err *e)
{
    for (int i = 0; i < n; i++) {
        size_t len = strlen(s[i]);
        if (!len) return err_set(e, DR_EINVAL, "an empty DRY sequence breaker");
        bool any = false;
        for (int32_t id = 0; id < tok_count(t); id++) {
            span w = tok_text(t, id);
            if (w.n < len) continue;
            size_t at = 0;
            while (at + len <= w.n && memcmp(w.p + at, s[i], len)) at++;
            if (at + len > w.n) continue;
            any = true;
            int rc = ids_put(out, id, e);
            if (rc) return rc;
        }
        if (!any)
            return err_set(e, DR_EINVAL, "no token contains the DRY sequence breaker '%.40s'",
                           s[i]);
    }
    return DR_OK;
}
