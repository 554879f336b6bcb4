/* http_mhd.c - see http_mhd.h. */
#include "serve/http_mhd.h"
#include "base/dl.h"

mhd_lib mhd;

int mhd_load(dr_err *e)
{
    static const char *const so[] = { "libmicrohttpd.so.12", "libmicrohttpd.so", NULL };
    const dl_sym syms[] = {
#define X(name) { "MHD_" #name, &mhd.name },
        MHD_EACH(X)
#undef X
        { NULL, NULL }
    };
    return mhd.run ? DR_OK : dl_load(so, "libmicrohttpd12", syms, e);
}
