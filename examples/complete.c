/* complete.c - continue a text, always with the likeliest token, and say how fast that was.
 * usage: complete MODEL TEXT [TOKENS] */
#include <drover.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print(void *arg, const char *text, size_t n)
{
    return fwrite(text, 1, n, arg) < n;
}

int main(int argc, char **argv)
{
    dr_err e = {0};
    if (argc < 3) return fprintf(stderr, "usage: complete MODEL TEXT [TOKENS]\n"), 2;

    int32_t *ids = NULL;
    int n = 0, rc = DR_OK;
    dr_gen_stats st = {0};
    dr_model *m = dr_model_open(argv[1], NULL, &e);
    dr_session *s = m ? dr_session_new(m, NULL, &e) : NULL;
    if (!s) rc = e.code;

    /* Without DR_SPECIAL, "<|im_end|>" in the text would be those ten characters. */
    if (rc == DR_OK) rc = dr_tokenize(m, argv[2], strlen(argv[2]), DR_BOS, &ids, &n, &e);
    if (rc == DR_OK) {
        dr_gen_opt o = dr_gen_default(m);
        o.temperature = 0;
        o.max_tokens = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 64;
        printf("%s", argv[2]);
        rc = dr_generate(s, ids, n, &o, print, stdout, &st, &e);
        printf("\n");
    }
    if (rc == DR_OK)
        fprintf(stderr, "%d tokens read at %.0f/s, %d written at %.0f/s (%s)\n", st.n_prompt,
                st.n_prompt / st.prompt_seconds, st.n_generated,
                st.n_generated / st.generate_seconds, st.finish);
    else fprintf(stderr, "complete: %s\n", e.msg);
    dr_free(ids);
    dr_session_free(s);
    dr_model_close(m);
    return rc != DR_OK;
}
