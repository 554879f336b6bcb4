/* call_priv.h - the parts of call.h: a conversation as the model's format wants it (call_chat.c), what
 * the reply has to look like (call_form.c), events (call.c). */
#ifndef SERVE_CALL_PRIV_H
#define SERVE_CALL_PRIV_H
#include "serve/call.h"
#include "text/toolcall.h"

enum { CALL_ENDS = 8 };

typedef struct {
    ids prompt;
    buf text;                   /* the prompt as text, where asked for */
    grammar *form;              /* NULL: any text */
    json_t *tools;              /* the functions that may be called, OpenAI's form; NULL: none */
    bool nine;                  /* ids of calls have nine characters */
    bool marked;                /* calls may begin with a control token */
    bool forced;                /* form allows calls alone */
    const char *key;            /* of a call's arguments */
    int32_t end[CALL_ENDS];     /* of the chat format */
    int n_end;
} call_plan;
void call_plan_free(call_plan *p);

/* Fills prompt (and text if `text`), tools, nine, marked, end from a conversation. */
int call_chat(served *s, const call_opt *o, bool text, call_plan *p, const char **param, dr_err *e);
/* Fills form from what is asked and p->tools. */
int call_form(served *s, const call_opt *o, call_plan *p, const char **param, dr_err *e);
/* Whether the model's own format says what tools there are; if not, call_chat says it in words. */
bool call_format_has_tools(const served *s, const chat_opt *c);
/* The member of a call that holds its arguments: "parameters" or "arguments". */
const char *call_args_key(const served *s, const chat_opt *c);

/* Events of calls from the text of a reply that is held to them, as the text comes. */
typedef struct {
    int state, depth, index;
    size_t at;
    bool quoted, escaped;
    char key[24];
    buf name;                   /* buf_free */
} call_forced;
void call_forced_init(call_forced *f, const char *key);
int call_forced_feed(call_forced *f, span text, toolcall_fn fn, void *arg, dr_err *e);
#endif
