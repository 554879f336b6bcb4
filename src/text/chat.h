/* chat.h - conversations to token ids: the prompt formats of Llama's family, and any other model's
 * own template. A format is recognised from the template's text and the vocabulary; a template
 * that is none of them is run as the program that it is (jinja.h). */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H
#include <jansson.h>
#include "text/tokenizer.h"

typedef enum {
    CHAT_LLAMA3_HF,      /* Llama 3.1 and 3.3 as Hugging Face's template renders them */
    CHAT_LLAMA3_META,    /* Llama 3.1-3.3 as Meta's ChatFormat renders them */
    CHAT_LLAMA3_0,       /* Llama 3.0's template: trim, no dates, no tools */
    CHAT_LLAMA2,         /* [INST] <<SYS>>, a BOS before each exchange */
    CHAT_CHATML,         /* <|im_start|>, nothing added */
    CHAT_MISTRAL,        /* Mistral's v1: " [INST] x [/INST]", system text in the first turn */
    CHAT_LLAMA3_2_HF,    /* Llama 3.2: no built-in tools, today's date by default */
    CHAT_SMOLLM2,        /* ChatML with SmolLM2's own system message when none is given */
    CHAT_ZEPHYR,         /* TinyLlama: <|user|> */
    CHAT_MISTRAL_V0,     /* Mistral 7B v0.2 as first published: no system message */
    CHAT_MISTRAL_V0_1,   /* v0.1: the same with a space after each answer */
    CHAT_MISTRAL_V3,     /* Mistral 7B v0.3: control tokens [INST], tools */
    CHAT_JINJA,          /* the model's own template, run */
    CHAT_N
} chat_kind;

typedef struct {
    const char *role;           /* "system", "user", "assistant", "tool" (= "ipython") */
    const char *content;        /* text; NULL: none (an assistant turn that only calls tools) */
    const json_t *tool_calls;   /* OpenAI's array (arguments: a string or an object), or NULL */
    const char *tool_call_id;   /* which call a tool's message answers; Mistral v3 wants it */
    const json_t *json;         /* CHAT_JINJA: the whole message (content in parts, reasoning, …)
                                   instead of the fields above, or NULL */
} chat_msg;

/* A template ready to run: the model's own ones, or another text. Immutable: share freely. */
typedef struct chat_template chat_template;
/* text: a template's source; n = 0: the tokenizer's, also its variant for tools. */
chat_template *chat_template_open(const tokenizer *t, span text, dr_err *e);
void chat_template_free(chat_template *c);       /* NULL is fine */

typedef struct {
    chat_kind kind;
    const char *date;           /* date_string; NULL: the template's own default (3.2: today) */
    const json_t *tools;        /* OpenAI's "tools" array, or NULL */
    const json_t *builtin_tools;/* array of names ("brave_search"), or NULL */
    bool tools_in_system;       /* tools_in_user_message = false */
    bool no_generation_prompt;
    const chat_template *template;      /* CHAT_JINJA: must be there */
    const json_t *documents;    /* CHAT_JINJA: for retrieval, or NULL */
    const json_t *kwargs;       /* CHAT_JINJA: an object whose members are variables, or NULL */
    int64_t now;                /* CHAT_JINJA: the time, seconds since 1970; 0: the clock */
} chat_opt;

const char *chat_name(chat_kind k);              /* "llama3", "llama3-meta", "chatml", ... */
int chat_by_name(const char *name, chat_kind *k, dr_err *e);
/* Which format this model's own metadata asks for; CHAT_JINJA when it is none of those above and
 * the template can be run. */
int chat_detect(const tokenizer *t, chat_kind *k, dr_err *e);
/* Append the prompt as text with control tokens spelled out (what a template engine gives).
 * What a format has no place for (tools, a system message) is refused, never dropped. */
int chat_render(const chat_opt *o, const chat_msg *m, int n, buf *out, dr_err *e);
/* Append the prompt as ids. Contents are encoded as plain text: nothing that a user wrote
 * becomes a control token. Exactly one BOS at the start (Llama 2's format has one more before
 * each later exchange). */
int chat_encode(const tokenizer *t, const chat_opt *o, const chat_msg *m, int n, ids *out,
                dr_err *e);
/* Append a rendered prompt's ids: control tokens count where no byte of them is marked (jinja.h),
 * one BOS stands at the start if the text has one or the model wants one, nothing before it. */
int chat_encode_marked(const tokenizer *t, span text, const uint8_t *mark, ids *out, dr_err *e);
/* Where the reply ends for this format, besides tok_is_eog. */
bool chat_is_stop(const tokenizer *t, const chat_opt *o, int32_t id);
/* Whether the format can say what tools there are; a template may. */
bool chat_has_tools(chat_kind k);
/* The format of a template's text; DR_EUNSUPPORTED quotes the start of one that is unknown. */
int chat_detect_text(span tmpl, chat_kind *k, dr_err *e);
/* Append a JSON value as Python's json.dumps writes it: ", " and ": ", or one item a line when
 * indent > 0; non-ASCII characters as \uXXXX when `ascii`. */
void chat_tojson(buf *out, const json_t *v, int indent, bool ascii);
#endif
