/* llama_probe.c - what llama.cpp makes of a file: token ids of texts and logits of ids, for
 * convert.py. Link with libllama and its ggml libraries.
 * usage: llama_probe MODEL TEXTS IDS_OUT [IDS LOGITS_OUT]
 * TEXTS: texts, each ended by a 0 byte. IDS_OUT: for each, a line of ids (BOS as the file says).
 * IDS: decimal ids; LOGITS_OUT: float32 (ids, vocabulary), as it lies in memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "llama.h"

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) exit(3);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *p = malloc(*n + 1);
    if (!p || fread(p, 1, *n, f) != *n) exit(3);
    p[*n] = 0;
    fclose(f);
    return p;
}

static void quiet(enum ggml_log_level level, const char *text, void *arg)
{
    (void)arg;
    if (level >= GGML_LOG_LEVEL_WARN) fputs(text, stderr);
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 6) return 2;
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *m = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!m) return 1;
    const struct llama_vocab *v = llama_model_get_vocab(m);
    size_t n;
    char *texts = slurp(argv[2], &n);
    FILE *out = fopen(argv[3], "w");
    for (char *s = texts; s < texts + n; s += strlen(s) + 1) {
        int max = (int)strlen(s) + 16;
        llama_token *id = malloc((size_t)max * sizeof *id);
        int k = llama_tokenize(v, s, (int)strlen(s), id, max, true, false);
        for (int i = 0; i < k; i++) fprintf(out, "%s%d", i ? " " : "", id[i]);
        fputc('\n', out);
        free(id);
    }
    fclose(out);
    if (argc == 4) return 0;
    char *list = slurp(argv[4], &n), *end;
    llama_token id[512];
    int k = 0;
    for (char *s = list; k < 512; s = end, k++) {
        id[k] = (llama_token)strtol(s, &end, 10);
        if (end == s) break;
    }
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = 512, p.n_batch = 512, p.n_threads = p.n_threads_batch = 2;
    p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    p.type_k = p.type_v = GGML_TYPE_F32;
    struct llama_context *c = llama_init_from_model(m, p);
    if (!c) return 1;
    struct llama_batch b = llama_batch_init(512, 0, 1);
    for (int i = 0; i < k; i++) {
        b.token[i] = id[i], b.pos[i] = i, b.n_seq_id[i] = 1, b.seq_id[i][0] = 0, b.logits[i] = 1;
        b.n_tokens++;
    }
    if (llama_decode(c, b)) return 1;
    out = fopen(argv[5], "wb");
    for (int i = 0; i < k; i++)
        fwrite(llama_get_logits_ith(c, i), sizeof(float), (size_t)llama_vocab_n_tokens(v), out);
    return fclose(out) ? 1 : 0;
}
