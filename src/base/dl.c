/* dl.c - see dl.h. */
#include "base/dl.h"
#include <dlfcn.h>
#include <string.h>

int dl_load(const char *const *sonames, const char *package, const dl_sym *syms, dr_err *e)
{
    void *lib = NULL;
    for (int i = 0; sonames[i] && !lib; i++) lib = dlopen(sonames[i], RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return err_set(e, DR_EUNSUPPORTED, "this needs the library %s: install %s", sonames[0],
                       package);
    for (; syms->name; syms++) {
        void *f = dlsym(lib, syms->name);
        if (!f)
            return err_set(e, DR_EUNSUPPORTED, "%s has no function %s: it is too old", sonames[0],
                           syms->name);
        memcpy(syms->to, &f, sizeof f);      /* ISO C has no cast from object to function */
    }
    return DR_OK;
}
