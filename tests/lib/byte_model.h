/* byte_model.h - a small random model over a byte-level vocabulary, for tests of gen/: `m` and `t`
 * between set_up and tear_down. Include after cmocka.h. */
#ifndef TESTS_BYTE_MODEL_H
#define TESTS_BYTE_MODEL_H
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "pack/synth.h"
#include "model/model.h"
#include "text/tokenizer.h"

static char model_path[] = "/tmp/drover-gen-XXXXXX.gguf";

/* 256 byte tokens in GPT-2's alphabet, then <s>, </s> and a pair of letters. */
static char after_h = 'e';
static int write_tokenizer(const char *path)
{
    FILE *f = fopen(path, "w");
    if (!f) return -1;
    fprintf(f, "{\"version\":\"1.0\",\"added_tokens\":[");
    const char *names[] = { "<s>", "</s>" };
    for (int i = 0; i < 2; i++)
        fprintf(f, "%s{\"id\":%d,\"content\":\"%s\",\"special\":true,\"lstrip\":false,\"rstrip\":false,"
                "\"single_word\":false,\"normalized\":false}", i ? "," : "", 256 + i, names[i]);
    fprintf(f, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
            "false,\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":"
            "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},"
            "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int b = 0, extra = 0; b < 256; b++) {
        bool own = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        fprintf(f, "%s\"\\u%04x\":%d", b ? "," : "", own ? b : 256 + extra, b);
        extra += !own;
    }
    fprintf(f, ",\"h%c\":258},\"merges\":[\"h %c\"]}}", after_h, after_h);
    return fclose(f);
}

static model *m;
static tokenizer *t;

/* One of this shape and seed at path (made by mkstemps' rule, 5 after the X's), on the device of
 * `beside` when that is not NULL. */
static model *byte_model(char *path, const char *shape, uint64_t seed, const model *beside)
{
    dr_err e = {0};
    char tok[] = "/tmp/drover-tok-XXXXXX.json";
    int fd = mkstemps(tok, 5), fd2 = mkstemps(path, 5);
    if (fd < 0 || fd2 < 0 || write_tokenizer(tok)) return NULL;
    close(fd);
    close(fd2);
    synth_opt o = { .seed = seed, .tokenizer = tok };
    pool *p = pool_new(1, &e);
    int rc = synth_shape_read(&o.shape, shape, &e);
    if (!rc) rc = synth_types_read(&o.types, "F32", &e);
    if (!rc) rc = synth_write(&o, path, p, &e);
    pool_free(p);
    unlink(tok);
    model *made = rc ? NULL : model_open(path, &(dev_opt){ .n_threads = 1, .use = beside ? beside->d : NULL }, &e);
    if (!made) print_message("%s\n", e.msg);
    return made;
}

static int set_up(void **state)
{
    (void)state;
    dr_err e = {0};
    m = byte_model(model_path, "dim=64,layers=2,heads=2,kv_heads=1,head_dim=32,ffn=96,vocab=259,ctx=512,tied=0,std=0.3",
                   3, NULL);
    t = m ? tok_from_gguf(tensors_gguf(m->ts), &e) : NULL;
    if (!t) print_message("%s\n", e.msg);
    return t ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    tok_free(t);
    model_close(m);
    unlink(model_path);
    return 0;
}
#endif
