/* cmd_list.c - drover list: the models in the cache. */
#include <string.h>
#include "base/mem.h"
#include "cli/cache.h"
#include "cli/cmd.h"
#include "cli/progress.h"

typedef struct { bool json; } args;

static const opt opts[] = {
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
    OPT_END
};

static json_t *to_json(const cached *l, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) {
        json_t *o = json_pack("{s:s, s:s, s:I, s:i, s:s, s:b}", "name", l[i].name, "path",
                              l[i].path, "bytes", (json_int_t)l[i].bytes, "files", l[i].n_files,
                              "source", l[i].source, "whole", !l[i].damage);
        if (l[i].damage) json_object_set_new(o, "damage", json_string(l[i].damage));
        json_array_append_new(a, o);
    }
    return json_pack("{s:o}", "models", a);
}

static void print(const cached *l, int n)
{
    char size[SIZE_TEXT];
    int width = 4;
    for (int i = 0; i < n; i++)
        if ((int)strlen(l[i].name) > width) width = (int)strlen(l[i].name);
    if (n) printf("%-*s  %9s  %s\n", width, "NAME", "SIZE", "PATH");
    else fprintf(stderr, "no models yet: drover get smollm2 is a small one to begin with\n");
    for (int i = 0; i < n; i++)
        printf("%-*s  %9s  %s%s%s\n", width, l[i].name, size_text(size, (double)l[i].bytes),
               l[i].path, l[i].damage ? "  DAMAGED: " : "", l[i].damage ? l[i].damage : "");
}

static int run(const command *c, int argc, char **argv)
{
    args a = {0};
    dr_err e = {0};
    cached *l;
    int n;
    cmd_parse(c, &a, argc, argv);
    int rc = cache_list(&l, &n, &e);
    if (rc == DR_OK && !a.json) print(l, n);
    rc = rc != DR_OK ? cmd_fail(c, &e) : a.json ? cmd_json(c, to_json(l, n)) : cmd_done(c);
    for (int i = 0; i < n; i++) cached_free(&l[i]);
    mem_free(l);
    return rc;
}

const command cmd_list = {
    .name = "list", .group = GROUP_FILES, .synopsis = "[options]",
    .summary = "list the models fetched with drover get: names, sizes, paths",
    .details =
        "The path is what other commands take as MODEL; the name does as well. A model whose files\n"
        "are gone or of another size than when they were fetched is marked as damaged; drover get\n"
        "fetches it again.",
    .max_args = 0, .opts = opts, .run = run,
};
