/* chat_out.h - where a prompt format writes: text, and control tokens by name. Rendering puts
 * both in one text; encoding turns control tokens into ids and the text between two of them
 * into tokens in one piece, as a tokenizer does that splits at control tokens. */
#ifndef TEXT_CHAT_OUT_H
#define TEXT_CHAT_OUT_H
#include "text/chat.h"

typedef struct chat_out chat_out;
struct chat_out {
    buf txt;                    /* rendered: all of it; encoding: since the last control token */
    int rc;                     /* the first failure; later calls do nothing */
    dr_err *e;
    void (*ctl)(chat_out *o, const char *name);
    void (*cut)(chat_out *o);   /* encoding: what follows is tokenised on its own */
    bool own_space;             /* encoding: the tokenizer begins each piece with a space */
};

/* Write the conversation. The formats of chat_render.c and chat_llama3.c. */
int chat_write(const chat_opt *o, const chat_msg *m, int n, chat_out *out);
void chat_write_llama3_hf(const chat_opt *o, const chat_msg *m, int n, chat_out *out);
void chat_write_llama3_meta(const chat_opt *o, const chat_msg *m, int n, chat_out *out);
void chat_write_mistral_v3(const chat_opt *o, const chat_msg *m, int n, chat_out *out);

/* CHAT_JINJA, for chat_render, chat_encode and chat_is_stop. */
int chat_jinja_render(const chat_opt *o, const chat_msg *m, int n, buf *out, dr_err *e);
int chat_jinja_encode(const tokenizer *t, const chat_opt *o, const chat_msg *m, int n, ids *out,
                      dr_err *e);
bool chat_jinja_is_stop(const chat_template *c, int32_t id);

/* Pieces shared by the formats. */
void chat_put(chat_out *out, const char *s);
void chat_put_span(chat_out *out, span s);
void chat_put_json(chat_out *out, const json_t *v, int indent, bool ascii);
void chat_fail(chat_out *out, int code, const char *fmt, ...) DR_PRINTF(3, 4);
span chat_trim(const char *s);                   /* Python's str.strip(); NULL is "" */
bool chat_role_is(const chat_msg *m, const char *role);      /* "tool" is "ipython" */
/* A call's function name; its arguments as a new reference, parsed when they come as a string.
 * NULL after chat_fail. */
const char *chat_call_name(chat_out *out, const json_t *call);
json_t *chat_call_args(chat_out *out, const json_t *call);
#endif
