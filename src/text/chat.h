/* chat.h - conversations to token ids: the prompt formats of Llama's family. A format is
 * recognised from the model's own template text and vocabulary; an unknown one is refused by
 * name, never guessed. */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H
#include <jansson.h>
#include "text/tokenizer.h"

typedef enum {
    CHAT_LLAMA3_HF,      /* Llama 3.1-3.3 as Hugging Face's template renders it (the default) */
    CHAT_LLAMA3_META,    /* the same models as Meta's ChatFormat renders them */
    CHAT_LLAMA3_0,       /* Llama 3.0's template: trim, no dates, no tools */
    CHAT_LLAMA2, CHAT_CHATML, CHAT_MISTRAL,
    CHAT_N
} chat_kind;

typedef struct {
    const char *role;           /* "system", "user", "assistant", "tool" (= "ipython") */
    const char *content;        /* text; NULL: none (an assistant turn that only calls tools) */
    const json_t *tool_calls;   /* OpenAI's array, or NULL */
} chat_msg;

typedef struct {
    chat_kind kind;
    const char *date;           /* date_string; NULL: the template's own default */
    const json_t *tools;        /* OpenAI's "tools" array, or NULL */
    const json_t *builtin_tools;/* array of names ("brave_search"), or NULL */
    bool tools_in_system;       /* tools_in_user_message = false */
    bool no_generation_prompt;
} chat_opt;

const char *chat_name(chat_kind k);              /* "llama3", "llama3-meta", "chatml", ... */
int chat_by_name(const char *name, chat_kind *k, dr_err *e);
/* Which format this model's own metadata asks for. */
int chat_detect(const tokenizer *t, chat_kind *k, dr_err *e);
/* Append the prompt as text with control tokens spelled out (what a template engine gives). */
int chat_render(const chat_opt *o, const chat_msg *m, int n, buf *out, dr_err *e);
/* Append the prompt as ids. Contents are encoded as plain text: nothing that a user wrote
 * becomes a control token. Exactly one BOS. */
int chat_encode(const tokenizer *t, const chat_opt *o, const chat_msg *m, int n, ids *out,
                dr_err *e);
/* Where the reply ends for this format, besides tok_is_eog. */
bool chat_is_stop(const tokenizer *t, chat_kind k, int32_t id);
#endif
