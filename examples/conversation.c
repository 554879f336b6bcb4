/* conversation.c - a chat: each line of standard input is a turn, each reply one paragraph.
 * usage: conversation MODEL <LINES
 * The whole conversation is given every time; what the session already holds is not read again. */
#include <drover.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = 64, REPLY = 8192 };
typedef struct { char text[REPLY]; size_t n; } reply;

static int keep(void *arg, const char *text, size_t n)
{
    reply *r = arg;
    if (n >= sizeof r->text - r->n) return 1;           /* full: end the reply here */
    memcpy(r->text + r->n, text, n);
    r->text[r->n += n] = 0;
    fwrite(text, 1, n, stdout);
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    dr_err e = {0};
    if (argc != 2) return fprintf(stderr, "usage: conversation MODEL <LINES\n"), 2;

    static char line[TURNS][1024];
    static reply answer[TURNS];
    static dr_chat_message msg[2 * TURNS];
    dr_model *m = dr_model_open(argv[1], NULL, &e);
    dr_session *s = m ? dr_session_new(m, NULL, &e) : NULL;
    int rc = s ? DR_OK : e.code;
    for (int t = 0; rc == DR_OK && t < TURNS && fgets(line[t], sizeof line[t], stdin); t++) {
        line[t][strcspn(line[t], "\n")] = 0;
        msg[2 * t] = (dr_chat_message){ "user", line[t] };
        dr_gen_opt o = dr_gen_default(m);
        o.max_tokens = 128;
        dr_gen_stats st = {0};
        rc = dr_chat(s, msg, 2 * t + 1, &o, keep, &answer[t], &st, &e);
        msg[2 * t + 1] = (dr_chat_message){ "assistant", answer[t].text };
        printf("\n");
        fprintf(stderr, "[turn %d: %d of %d prompt tokens were already there]\n", t + 1,
                st.n_reused, st.n_prompt);
    }
    if (rc != DR_OK) fprintf(stderr, "conversation: %s\n", e.msg);
    dr_session_free(s);
    dr_model_close(m);
    return rc != DR_OK;
}
