/* resume.c - keep what a model has read in a file, so that a long text is read once.
 * usage: resume MODEL TEXTFILE STATE QUESTION
 * The first time, TEXTFILE is read and STATE written; later STATE is loaded. */
#include <drover.h>
#include <stdio.h>
#include <string.h>

static int print(void *arg, const char *text, size_t n)
{
    return fwrite(text, 1, n, arg) < n;
}

int main(int argc, char **argv)
{
    static char text[16384];
    dr_err e = {0};
    if (argc != 5) return fprintf(stderr, "usage: resume MODEL TEXTFILE STATE QUESTION\n"), 2;
    FILE *f = fopen(argv[2], "rb");
    if (!f) return perror(argv[2]), 1;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);

    int32_t *ids = NULL;
    int n_ids = 0, rc = DR_OK;
    dr_session_opt so = { .n_ctx = 8192 };
    dr_model *m = dr_model_open(argv[1], NULL, &e);
    dr_session *s = m ? dr_session_new(m, &so, &e) : NULL;
    if (!s) rc = e.code;
    if (rc == DR_OK && (f = fopen(argv[3], "rb"))) {
        fclose(f);
        rc = dr_session_load(s, argv[3], &e);
    } else if (rc == DR_OK) {
        rc = dr_tokenize(m, text, n, DR_BOS, &ids, &n_ids, &e);
        if (rc == DR_OK) rc = dr_session_sync(s, ids, n_ids, &e);
        if (rc == DR_OK) rc = dr_session_save(s, argv[3], &e);
        dr_free(ids), ids = NULL;
    }
    if (rc == DR_OK) {              /* the question goes after the text */
        snprintf(text + n, sizeof text - n, "\n\nQuestion: %s\nAnswer:", argv[4]);
        rc = dr_tokenize(m, text, strlen(text), DR_BOS, &ids, &n_ids, &e);
    }
    if (rc == DR_OK) {
        dr_gen_opt o = dr_gen_default(m);
        const char *stop[] = { "\nQuestion:" };
        o.temperature = 0, o.max_tokens = 32, o.stop = stop, o.n_stop = 1;
        dr_gen_stats st = {0};
        rc = dr_generate(s, ids, n_ids, &o, print, stdout, &st, &e);
        printf("\n");
        fprintf(stderr, "[%d of %d tokens were already there]\n", st.n_reused, st.n_prompt);
    }
    if (rc != DR_OK) fprintf(stderr, "resume: %s\n", e.msg);
    dr_free(ids);
    dr_session_free(s);
    dr_model_close(m);
    return rc != DR_OK;
}
