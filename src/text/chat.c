/* chat.c - a conversation as ids, and a model's own format from its tokenizer. */
#include <string.h>
#include "text/chat_out.h"
#include "text/jinja.h"

typedef struct {
    chat_out out;               /* first: ctl and cut get a pointer to it */
    const tokenizer *t;
    ids *to;
} encoder;

static int32_t control(const tokenizer *t, const char *name)
{
    int32_t id = tok_find(t, span_of(name));
    return id >= 0 && tok_is_control(t, id) ? id : -1;
}

static void flush(chat_out *out)
{
    encoder *w = (encoder *)out;
    if (out->rc) return;
    if (out->txt.bad) out->rc = err_nomem(out->e, out->txt.n, "the prompt");
    else if (out->txt.n) out->rc = tok_encode(w->t, buf_span(&out->txt), 0, w->to, out->e);
    buf_reset(&out->txt);
}

static void put_control(chat_out *out, const char *name)
{
    encoder *w = (encoder *)out;
    int32_t id = control(w->t, name);
    if (id < 0 && name[0] == '[') {              /* "[INST]" is plain text before Mistral's v3 */
        chat_put(out, name);
        return;
    }
    flush(out);
    if (out->rc) return;
    if (id < 0) chat_fail(out, DR_EFORMAT, "the prompt format needs the control token %s, which "
                          "this vocabulary does not have", name);
    else out->rc = ids_put(w->to, id, out->e);
}

/* Does this tokenizer put a space in front of every text it is given? */
static bool own_space(const tokenizer *t)
{
    ids v = { 0 };
    bool yes = false;
    if (!tok_encode(t, span_of("x"), 0, &v, NULL) && v.n) {
        span s = tok_text(t, v.p[0]);
        yes = s.n && (s.p[0] == ' ' || (s.n >= 3 && !memcmp(s.p, "\xe2\x96\x81", 3)));
    }
    ids_free(&v);
    return yes;
}

static bool writes_bos(chat_kind k)
{
    return k != CHAT_CHATML && k != CHAT_SMOLLM2 && k != CHAT_ZEPHYR;
}

int chat_encode(const tokenizer *t, const chat_opt *o, const chat_msg *m, int n, ids *out,
                dr_err *e)
{
    if (o->kind == CHAT_JINJA) return chat_jinja_encode(t, o, m, n, out, e);
    encoder w = { .out = { .e = e, .ctl = put_control, .cut = flush }, .t = t, .to = out };
    int64_t had = out->n;
    buf_init(&w.out.txt, (size_t)1 << 30);
    w.out.own_space = own_space(t);
    if (!writes_bos(o->kind) && tok_wants_bos(t) && tok_bos(t) >= 0)
        w.out.rc = ids_put(out, tok_bos(t), e);
    if (!w.out.rc) chat_write(o, m, n, &w.out);
    flush(&w.out);
    buf_free(&w.out.txt);
    if (w.out.rc) out->n = had;
    return w.out.rc;
}

int chat_detect(const tokenizer *t, chat_kind *k, dr_err *e)
{
    span tmpl = tok_chat_template(t);
    if (tmpl.n && !chat_detect_text(tmpl, k, NULL)) return DR_OK;
    if (tmpl.n) {
        jinja *j = jinja_parse(tmpl, e);
        if (!j) return err_wrap(e, DR_EUNSUPPORTED, "this model's chat template is not one that drover "
                                "knows, nor one that it can run");
        jinja_free(j);
        *k = CHAT_JINJA;
        return DR_OK;
    }
    /* Meta's own files carry no template; Llama 3's vocabularies are their own sign */
    if (control(t, "<|start_header_id|>") >= 0 && control(t, "<|eot_id|>") >= 0) {
        *k = control(t, "<|python_tag|>") >= 0 ? CHAT_LLAMA3_HF : CHAT_LLAMA3_0;
        return DR_OK;
    }
    return err_set(e, DR_EUNSUPPORTED, "this model has no chat template and its vocabulary is not "
                   "Llama 3's; it may be a base model");
}

bool chat_is_stop(const tokenizer *t, const chat_opt *o, int32_t id)
{
    if (id < 0) return false;
    switch (o->kind) {
    case CHAT_JINJA: return chat_jinja_is_stop(o->template, id);
    case CHAT_CHATML: case CHAT_SMOLLM2: return id == control(t, "<|im_end|>");
    case CHAT_LLAMA2: case CHAT_ZEPHYR: case CHAT_MISTRAL: case CHAT_MISTRAL_V0:
    case CHAT_MISTRAL_V0_1: case CHAT_MISTRAL_V3: return id == control(t, "</s>");
    default: return id == control(t, "<|eot_id|>") || id == control(t, "<|eom_id|>");
    }
}
