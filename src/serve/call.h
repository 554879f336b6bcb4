/* call.h - one reply asked for, whatever the API: from a conversation in OpenAI's form to tokens, and from
 * the engine's events to content, tool calls and a finish reason. The APIs' files (api_*.c) translate their
 * JSON into this and back; nothing here knows which of them asked.
 * Threads: call_begin in a worker, call_next and call_end in the I/O thread. */
#ifndef SERVE_CALL_H
#define SERVE_CALL_H
#include "serve/models.h"

typedef enum { CALL_TOOLS_AUTO, CALL_TOOLS_NONE, CALL_TOOLS_REQUIRED, CALL_TOOLS_NAMED } call_tools;
typedef enum { CALL_TEXT_FORMAT, CALL_JSON_OBJECT, CALL_JSON_SCHEMA, CALL_GBNF, CALL_REGEX } call_format;

typedef struct {
    /* what is asked: a conversation … */
    const json_t *messages;     /* OpenAI's chat form; borrowed by call_begin, as all of this is */
    const json_t *tools;        /* OpenAI's "tools" array, or NULL */
    call_tools tool_choice;
    const char *tool_name;      /* CALL_TOOLS_NAMED */
    bool one_tool;              /* parallel_tool_calls: false */
    const json_t *kwargs;       /* chat_template_kwargs, documents: see chat_opt */
    bool go_on;                 /* the last message is the assistant's own: continue it */
    /* … or a text or ids as they are (messages NULL) */
    span prompt;
    const int32_t *ids;
    int n_ids;
    /* how the reply has to look */
    call_format format;
    span schema;                /* its text: JSON schema, GBNF or pattern */
    engine_req req;             /* all but prompt, constraint and ends, which call_begin fills in */
} call_opt;
void call_opt_init(call_opt *o, const served *s);           /* the model's defaults */

typedef struct call call;
/* *param where the prompt is longer than the context: a name too, known by its address. */
extern const char call_too_long[];
/* DR_EINVAL and what engine_submit says; *param names the field that is wrong (static), or NULL. The call
 * holds s's grammar and ticket, not the model: the caller keeps models_get's hold until call_end. */
int call_begin(served *s, const call_opt *o, call **out, int *retry_s, const char **param, dr_err *e);
/* The prompt alone: ids of the conversation (for counting, /apply-template). */
int call_prompt(served *s, const call_opt *o, ids *out, buf *text, const char **param, dr_err *e);

typedef enum {
    CALL_BEGIN,                 /* the prompt is evaluated: usage */
    CALL_PROMPT_TOKEN,          /* ev: as the engine's */
    CALL_TOKEN,                 /* ev: one generated id with its log-probabilities; its text may come later */
    CALL_TEXT,                  /* text: more content of reply `sample` */
    CALL_TOOL,                  /* a tool call begins: tool (index), id ("call_…"), text: the function's name */
    CALL_ARGS,                  /* text: more of its arguments */
    CALL_TOOL_END,
    CALL_FINISH,                /* reply `sample` is complete: finish */
    CALL_VECTOR,
    CALL_DONE                   /* the last: usage; or code and msg */
} call_kind;
typedef enum { CALL_STOP, CALL_LENGTH, CALL_TOOL_CALLS, CALL_CANCELLED } call_finish;
typedef struct {
    call_kind kind;
    int sample, tool;
    const char *id;
    span text;
    call_finish finish;
    const engine_event *ev;     /* the engine's, where it is one for one (BEGIN, PROMPT_TOKEN, TOKEN, VECTOR,
                                   FINISH, DONE); else NULL */
} call_event;
bool call_next(call *c, call_event *ev);                    /* false: none yet */
void call_end(call *c);                                     /* NULL is fine; cancels what runs */
#endif
