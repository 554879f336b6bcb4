/* answer.c - answer one question, streaming the words as they come.
 * usage: answer MODEL QUESTION
 * build: cc answer.c $(pkg-config --cflags --libs drover) */
#include <drover.h>
#include <stdio.h>

static int print(void *arg, const char *text, size_t n)
{
    (void)arg;
    fwrite(text, 1, n, stdout);
    fflush(stdout);
    return 0;                       /* anything else would end the reply */
}

int main(int argc, char **argv)
{
    dr_err e = {0};
    if (argc != 3) return fprintf(stderr, "usage: answer MODEL QUESTION\n"), 2;

    dr_model *m = dr_model_open(argv[1], NULL, &e);
    dr_session *s = m ? dr_session_new(m, NULL, &e) : NULL;
    int rc = s ? DR_OK : e.code;
    if (rc == DR_OK) {
        dr_chat_message msg = { "user", argv[2] };
        dr_gen_opt o = dr_gen_default(m);
        o.max_tokens = 256;
        rc = dr_chat(s, &msg, 1, &o, print, NULL, NULL, &e);
        putchar('\n');
    }
    if (rc != DR_OK) fprintf(stderr, "answer: %s\n", e.msg);
    dr_session_free(s);
    dr_model_close(m);
    return rc != DR_OK;
}
