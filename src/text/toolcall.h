/* toolcall.h - find tool calls in what a model writes, while it writes. Every form that Llama 3's
 * family and Mistral use is known (docs/chat.md). Text that is not a call stays text. The
 * events, put together, do not depend on how the stream was cut into pieces. */
#ifndef TEXT_TOOLCALL_H
#define TEXT_TOOLCALL_H
#include <jansson.h>
#include "base/buf.h"
#include "base/span.h"

typedef enum {
    TOOLCALL_TEXT,              /* text: more of the answer's content */
    TOOLCALL_BEGIN,             /* text: the function's name */
    TOOLCALL_ARGS,              /* text: more of the arguments, a JSON object in the end */
    TOOLCALL_END
} toolcall_kind;

typedef struct {
    toolcall_kind kind;
    int index;                  /* of the call, from 0 */
    span text;                  /* borrowed until the callback returns */
} toolcall_event;

/* Not DR_OK stops the feed, which returns it. */
typedef int (*toolcall_fn)(void *arg, const toolcall_event *ev);

typedef struct {
    const json_t *tools;        /* OpenAI's "tools" array, or NULL; borrowed while parsing */
    const json_t *builtin_tools;/* array of names; not NULL: raw code after <|python_tag|> is a
                                   call of code_interpreter */
} toolcall_opt;

typedef struct toolcall toolcall;

/* Without tools of either kind all text stays text. */
toolcall *toolcall_new(const toolcall_opt *o, toolcall_fn fn, void *arg, dr_err *e);
void toolcall_free(toolcall *t);                             /* NULL is fine */
/* The model's text, control tokens such as <|python_tag|> spelled out. */
int toolcall_feed(toolcall *t, span text, dr_err *e);
/* The answer is complete: what is undecided becomes text. */
int toolcall_end(toolcall *t, dr_err *e);

/* A whole answer at once: content appended to *content, *calls a new array in OpenAI's form
 * ({"type": "function", "function": {"name", "arguments": "..."}}; ids are the caller's). */
int toolcall_parse(const toolcall_opt *o, span text, buf *content, json_t **calls, dr_err *e);
#endif
