/* main.c - find the command and run it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "cli/cmd.h"

static int no_such(const char *name)
{
    enum { MAX = 64 };
    const char *names[MAX];
    int n = 0;
    while (n < MAX && cmd_table[n]) names[n] = cmd_table[n]->name, n++;
    const char *m = near_miss(name, names, n);
    fprintf(stderr, "drover: there is no command \"%.80s\"%s%s%s (drover help lists them)\n", name,
            m ? "; did you mean " : "", m ? m : "", m ? "?" : "");
    return 2;
}

int main(int argc, char **argv)
{
    static char help[] = "help";
    static char *help_argv[] = { help, NULL };
    signal(SIGPIPE, SIG_IGN);            /* a closed pipe is a failed write, and is said */
    signal(SIGXFSZ, SIG_IGN);            /* so is a file that grows past the shell's limit */
    if (argc < 2) {
        cmd_help.run(&cmd_help, 1, help_argv);
        return 2;
    }
    const char *a = argv[1];
    if (!strcmp(a, "--version") || !strcmp(a, "-V")) {
        puts("drover " DR_VERSION);
        return cmd_done(&cmd_help);
    }
    if (!strcmp(a, "--help") || !strcmp(a, "-h")) return cmd_help.run(&cmd_help, 1, help_argv);
    const command *c = cmd_find(a);
    if (c) return c->run(c, argc - 1, argv + 1);
    if (a[0] == '-') {
        fprintf(stderr, "drover: the command comes before its options: drover COMMAND %.80s … "
                        "(drover help lists them)\n", a);
        return 2;
    }
    return no_such(a);
}
