/* next.c - the five likeliest next tokens of a text and their probabilities.
 * usage: next MODEL TEXT */
#include <drover.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    dr_err e = {0};
    if (argc != 3) return fprintf(stderr, "usage: next MODEL TEXT\n"), 2;

    int32_t *ids = NULL;
    int n = 0, rc = DR_OK;
    dr_session_opt so = { .n_ctx = 1024, .kv_type = "f32" };
    dr_model *m = dr_model_open(argv[1], NULL, &e);
    dr_session *s = m ? dr_session_new(m, &so, &e) : NULL;
    if (!s) rc = e.code;
    if (rc == DR_OK) rc = dr_tokenize(m, argv[2], strlen(argv[2]), DR_BOS, &ids, &n, &e);
    if (rc == DR_OK) rc = dr_session_sync(s, ids, n, &e);

    if (rc == DR_OK) {
        const float *x = dr_session_logits(s);
        int v = dr_model_vocab(m);
        double top = -INFINITY, sum = 0, below = INFINITY;
        for (int i = 0; i < v; i++) top = fmax(top, x[i]);
        for (int i = 0; i < v; i++) sum += exp(x[i] - top);
        for (int k = 0; k < 5 && rc == DR_OK; k++) {
            int32_t best = -1;      /* the largest below the last one */
            for (int32_t i = 0; i < v; i++)
                if (x[i] < below && (best < 0 || x[i] > x[best])) best = i;
            if (best < 0) break;
            below = x[best];
            char *text = NULL;
            rc = dr_detokenize(m, &best, 1, DR_SPECIAL, &text, NULL, &e);
            if (rc == DR_OK) printf("%.4f\t%d\t\"%s\"\n", exp(below - top) / sum, best, text);
            dr_free(text);
        }
    }
    if (rc != DR_OK) fprintf(stderr, "next: %s\n", e.msg);
    dr_free(ids);
    dr_session_free(s);
    dr_model_close(m);
    return rc != DR_OK;
}
