/* json.c - an answer that is JSON of a given schema, whatever the model would rather say.
 * usage: json MODEL PROMPT SCHEMA */
#include <drover.h>
#include <stdio.h>

static int print(void *arg, const char *text, size_t n)
{
    (void)arg;
    return fwrite(text, 1, n, stdout) != n;
}

int main(int argc, char **argv)
{
    dr_err e = {0};
    if (argc != 4) return fprintf(stderr, "usage: json MODEL PROMPT SCHEMA\n"), 2;

    dr_model *m = dr_model_open(argv[1], NULL, &e);
    dr_session *s = m ? dr_session_new(m, NULL, &e) : NULL;
    int rc = s ? DR_OK : e.code;
    if (rc == DR_OK) {
        dr_chat_message msg = { "user", argv[2] };
        dr_gen_stats st;
        dr_gen_opt o = dr_gen_default(m);
        o.json_schema = argv[3];    /* or o.grammar, o.regex */
        o.max_tokens = 200;         /* the text is closed before this is reached */
        rc = dr_chat(s, &msg, 1, &o, print, NULL, &st, &e);
        putchar('\n');
        if (rc == DR_OK && !st.satisfied) fprintf(stderr, "json: the answer was cut\n");
    }
    if (rc != DR_OK) fprintf(stderr, "json: %s\n", e.msg);
    dr_session_free(s);
    dr_model_close(m);
    return rc != DR_OK;
}
