/* cmd_rm.c - drover rm: remove models from the cache. */
#include <unistd.h>
#include "cli/cache.h"
#include "cli/cmd.h"
#include "cli/progress.h"

static const opt opts[] = { OPT_END };

static const char *waiting_for;
static void waiting(void)
{
    fprintf(stderr, "drover rm: another process is at %s; waiting for it\n", waiting_for);
}

static int run(const command *c, int argc, char **argv)
{
    int status = 0, n = cmd_parse(c, NULL, argc, argv);
    for (int i = 0; i < n; i++) {
        dr_err e = {0};
        cached x = {0};
        bool found;
        int64_t bytes = 0;
        char size[SIZE_TEXT];
        waiting_for = argv[i];
        int lock = cache_lock(argv[i], waiting, &e), rc = lock < 0 ? lock : DR_OK;
        if (rc == DR_OK) rc = cache_find(argv[i], &x, &found, &e);
        /* what broke off has no entry but takes room: removed as well */
        if (rc == DR_OK || rc == DR_EFORMAT) {
            e = (dr_err){0};
            rc = cache_remove(argv[i], &bytes, &e);
        }
        if (rc == DR_OK && !found && !bytes)
            rc = err_set(&e, DR_EINVAL, "%s is not in the cache (drover list shows what is)",
                         argv[i]);
        if (rc != DR_OK) status = cmd_fail(c, &e);
        else fprintf(stderr, "drover rm: removed %s (%s)\n", argv[i], size_text(size, (double)bytes));
        cached_free(&x);
        if (lock >= 0) close(lock);
    }
    return status;
}

const command cmd_rm = {
    .name = "rm", .group = GROUP_FILES, .synopsis = "NAME...",
    .summary = "remove models fetched with drover get",
    .details =
        "NAME is a name that drover list shows, or one whose download broke off. Files elsewhere\n"
        "are never touched.",
    .min_args = 1, .max_args = -1, .opts = opts, .run = run,
};
