/* cmd_help.c - drover help: the commands, one command, or lines for shell completion. */
#include <stdio.h>
#include <string.h>
#include "cli/cmd.h"

typedef struct { bool all, complete; } args;

static const opt opts[] = {
    { 0, "all", OPT_FLAG, offsetof(args, all), NULL, "list everything, seldom used included" },
    { 0, "complete", OPT_FLAG, offsetof(args, complete), NULL,
      "lines of command, option, argument and help with tabs between", .hidden = true },
    OPT_END
};

static void list(FILE *f, bool all)
{
    fprintf(f, "usage: drover COMMAND [options] …\n\nLlama models on your own machine.\n");
    for (int g = 0; g < GROUP_N; g++) {
        bool head = false;
        for (int i = 0; cmd_table[i]; i++) {
            const command *c = cmd_table[i];
            if ((int)c->group != g || (c->hidden && !all)) continue;
            if (!head) fprintf(f, "\n%s\n", cmd_group_name[g]);
            head = true;
            fprintf(f, "  %-12s %s\n", c->name, c->summary);
        }
    }
    fprintf(f, "\nA MODEL is a GGUF file, a folder of safetensors or of Meta's .pth, or a name that\n"
               "`drover get` knows. `drover help COMMAND` says more%s.\n",
            all ? "" : "; `drover help --all` lists every command");
}

static bool complete_row(void *arg, const opt *o, size_t base)
{
    const command *c = arg;
    (void)base;
    if (o->kind == OPT_HEAD || o->hidden) return true;
    printf("%s\t", c->name);
    if (o->ch) printf("-%c%s", o->ch, o->name ? "," : "");
    if (o->name) printf("--%s", o->name);
    printf("\t%s\t%s\n", o->arg ? o->arg : "", o->help);
    return true;
}

/* A line with an empty option is the command itself: its operands and its summary. */
static void complete(void)
{
    for (int i = 0; cmd_table[i]; i++) {
        const command *c = cmd_table[i];
        printf("%s\t\t%s\t%s\n", c->name, c->synopsis, c->summary);
        opt_each(c->opts, 0, complete_row, (void *)c);
        printf("%s\t-h,--help\t\tprint this and end\n", c->name);
    }
}

static int run(const command *c, int argc, char **argv)
{
    args a = {0};
    argc = cmd_parse(c, &a, argc, argv);
    if (a.complete) {
        complete();
    } else if (argc) {
        const command *of = cmd_find(argv[0]);
        if (!of) return cmd_misuse(c, "there is no command \"%.80s\"", argv[0]);
        cmd_usage(stdout, of, a.all);
    } else {
        list(stdout, a.all);
    }
    return cmd_done(c);
}

const command cmd_help = {
    .name = "help", .group = GROUP_HELP, .synopsis = "[--all] [COMMAND]",
    .summary = "list the commands, or say what one does", .max_args = 1, .opts = opts, .run = run,
};
