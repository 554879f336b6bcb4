/* fake_serve.h - the APIs' handlers without HTTP and without a model: bodies go in, the bytes of replies come
 * out. The engine plays a script, the one model is a vocabulary of bytes with ChatML's control tokens. */
#ifndef TESTS_FAKE_SERVE_H
#define TESTS_FAKE_SERVE_H
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "serve/call.h"
#include "serve/serve.h"

/* ---- an engine that plays a script */

struct engine { int ctx; };
struct ticket { int at; };
static struct engine fake_engine = { 4096 };
static engine_event fake_script[64];
static int n_fake_script, fake_busy, fake_holds;
static engine_req fake_last;            /* what was asked for; pointers of it are not valid later */

void engine_req_init(engine_req *r) { *r = (engine_req){ .max_tokens = -1, .prompt_probs = -1 }; }
int engine_ctx(const engine *g) { return g->ctx; }
int engine_submit(engine *g, const engine_req *r, ticket **out, int *retry_s, dr_err *e)
{
    (void)g;
    fake_last = *r;
    if (fake_busy) return *retry_s = 7, err_set(e, DR_EBUSY, "too many wait");
    *out = mem_zalloc(1, sizeof **out);
    return *out ? DR_OK : err_nomem(e, sizeof **out, "a ticket");
}
bool ticket_next(ticket *t, engine_event *ev)
{
    if (t->at == n_fake_script) return false;
    *ev = fake_script[t->at++];
    return true;
}
void ticket_free(ticket *t) { mem_free(t); }

static inline void fake_play(engine_event ev) { fake_script[n_fake_script++] = ev; }
/* A reply of these tokens' text, which ends so; the prompt had 20 tokens, 5 of them kept. */
static inline void fake_reply(const char *const *text, int n, engine_finish f, const char *stop)
{
    static const float vec[3] = { 0.5f, -0.5f, 0 };
    n_fake_script = 0;
    fake_play((engine_event){ ENGINE_BEGIN, .usage = { .n_prompt = 20, .n_cached = 5 } });
    for (int i = 0; i < n; i++)
        fake_play((engine_event){ ENGINE_TOKEN, .id = text[i][0] & 127, .text = span_of(text[i]), .logprob = -0.5f });
    fake_play((engine_event){ ENGINE_VECTOR, .vec = vec, .n_vec = 3 });
    fake_play((engine_event){ ENGINE_FINISH, .finish = f, .stop = stop, .text = { "", 0 } });
    fake_play((engine_event){ ENGINE_DONE, .usage = { .n_prompt = 20, .n_cached = 5, .n_gen = n } });
}

/* ---- one model, always open */

static served fake_model = { .id = (char *)(uintptr_t)"tiny", .path = (char *)(uintptr_t)"/tiny", .eng = &fake_engine };

served *models_get(models *ms, const char *name, int *adapter_, dr_err *e)
{
    (void)ms;
    if (name && *name && strcmp(name, "tiny")) return err_set(e, DR_ENOTFOUND, "there is no model \"%.100s\"", name), NULL;
    if (adapter_) *adapter_ = 0;
    fake_holds++;
    return &fake_model;
}
served *models_peek(models *ms, const char *name) { return models_get(ms, name, NULL, NULL); }
void models_put(models *ms, served *s) { (void)ms; if (s) fake_holds--; }
int models_load(models *ms, const char *name, dr_err *e)
{
    served *s = models_get(ms, name, NULL, e);
    models_put(ms, s);
    return s ? DR_OK : e->code;
}
int models_unload(models *ms, const char *name, dr_err *e) { return models_load(ms, name, e); }
void models_each(models *ms, void (*fn)(void *arg, const models_row *row), void *arg)
{
    (void)ms;
    fn(arg, &(models_row){ .id = "tiny", .path = "/tiny", .created = 1000000000, .open = true });
}
int models_file_of(models *ms, const char *name, models_file *out)
{
    (void)ms, (void)name;
    *out = (models_file){ .bytes = 1000, .digest = "0123" };
    return DR_OK;
}

/* ---- its vocabulary */

static inline int fake_open(void)
{
    static const char *const control[] = { "<|im_start|>", "<|im_end|>" };
    static model m;
    char path[] = "/tmp/drover-fake-XXXXXX.json";
    int fd = mkstemps(path, 5);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    dr_err e = {0};
    if (!f) return -1;
    fprintf(f, "{\"version\":\"1.0\",\"added_tokens\":[");
    for (int i = 0; i < 2; i++)
        fprintf(f, "%s{\"id\":%d,\"content\":\"%s\",\"special\":true,\"lstrip\":false,\"rstrip\":false,"
                "\"single_word\":false,\"normalized\":false}", i ? "," : "", 256 + i, control[i]);
    fprintf(f, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
            "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
            "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int b = 0, extra = 0; b < 256; b++) {
        bool own = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        fprintf(f, "%s\"\\u%04x\":%d", b ? "," : "", own ? b : 256 + extra, b);
        extra += !own;
    }
    fprintf(f, "},\"merges\":[]}}");
    fclose(f);
    m.h = (hparams){ .V = 258, .C = 3, .L = 1, .nh = 1, .nkv = 1, .hs = 3, .F = 3, .n_ctx = 4096, .family = "llama" };
    fake_model.m = &m;
    fake_model.tok = tok_open(path, &e);
    unlink(path);
    if (fake_model.tok) fake_model.vt = vtrie_new(fake_model.tok, &e);
    if (!fake_model.vt) fprintf(stderr, "%s\n", e.msg);
    fake_model.chat = (chat_opt){ .kind = CHAT_CHATML };
    fake_model.sample = sample_opt_default();
    return fake_model.vt ? 0 : -1;
}

static inline void fake_close(void)
{
    vtrie_free(fake_model.vt);
    tok_free(fake_model.tok);
}

/* ---- a request */

/* The status; what was written is appended to *out. 0: the reply waits for more than the script has. */
static inline int fake_ask(const http_route *routes, const char *path, span body, buf *out, http_reply *o)
{
    static serve all;
    const http_route *r = routes;
    while (r->method && strcmp(r->path, path)) r++;
    DR_ASSERT(r->method);
    all.version = "1.2";
    *o = (http_reply){ .status = 200, .type = "application/json", .body.cap_max = 1 << 24 };
    http_req q = { .method = r->method, .path = path, .rest = "", .body = body, .arg = &all };
    r->handle(&q, o);
    if (!o->source) {
        buf_put(out, o->body.p, o->body.n);
    } else {
        http_state st;
        while ((st = o->source->fill(o->src, o, out)) == HTTP_MORE && !out->bad) continue;
        if (st == HTTP_WAIT) o->status = 0;
        o->source->close(o->src);
    }
    if (out->bad || o->body.bad) o->status = 503;   /* what is sent then is http_conn.c's affair */
    buf_free(&o->body);
    DR_ASSERT(fake_holds == 0);                     /* the model is let go, whatever happens */
    return o->status;
}
#endif
