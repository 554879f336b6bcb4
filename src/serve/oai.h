/* oai.h - what the files of OpenAI's API share: a request as read, and a reply as it comes. */
#ifndef SERVE_OAI_H
#define SERVE_OAI_H
#include "serve/call.h"
#include "serve/field.h"
#include "serve/http.h"
#include "serve/json_out.h"

enum { OAI_CHAT = 1, OAI_TEXT = 2, OAI_RESPONSES = 4, OAI_EMBED = 8 };
enum { OAI_STOPS = 16, OAI_PROMPTS = 2048, OAI_BIAS = 4096 };

typedef struct {
    int api;
    json_t *body;               /* everything borrowed below lies in it */
    call_opt c;
    const char *model;
    bool stream, usage, usage_each;
    int n, best_of;
    int max_tokens, max_completion_tokens;      /* -1: not given */
    bool logprobs;
    int top_logprobs;           /* chat's; -1: not given */
    int text_logprobs;          /* completions'; -1: not given */
    bool has_seed;
    int64_t seed;
    const json_t *prompt;       /* completions' prompt, embeddings' and responses' input */
    bool echo;
    const char *stop[OAI_STOPS];
    sample_bias *bias;
    int n_bias;
    ids ends;                   /* stop_token_ids */
    json_t *kwargs, *tools;     /* owned: what was put together for the template */
    char *schema;               /* owned: its text */
    const char *grammar, *regex;
    float timeout;              /* seconds; 0: none */
    bool cache_prompt, skip_special;
    int dimensions;             /* embeddings; 0: all */
    bool base64, last;
    /* responses */
    const char *instructions;
    const json_t *metadata, *tool_choice, *tools_given, *text;
    bool want_logprobs;
} oai_req;

void oai_req_free(oai_req *r);
/* The body's fields into *r, with this model's defaults; takes a count of body. */
int oai_read(oai_req *r, int api, json_t *body, const served *s, const char **param, dr_err *e);
/* {"type": "json_schema", …} in chat's form or responses' (flat). */
int oai_format(oai_req *r, const json_t *v, const char *name, dr_err *e);
/* A tool_choice; flat: responses' form, the name not in "function". */
int oai_tool_choice(oai_req *r, const json_t *v, bool flat, dr_err *e);

/* The model of the request, by the body's "model"; NULL: the error is written. */
typedef struct { struct models *ms; served *s; int adapter; } oai_model;
bool oai_open(oai_model *m, const http_req *q, http_reply *o, const json_t *body);
/* The error of a call that did not begin. */
void oai_refuse(http_reply *o, int code, int retry_s, const char *param, const dr_err *e);
/* For engine_req.wake: arg is the http_conn. */

/* Chat and completions: takes all of *r and *m over. prompts: of completions (n of them), taken over too;
 * NULL for chat. */
void oai_answer(const http_req *q, http_reply *o, oai_req *r, oai_model *m, ids *prompts, int n);

/* One token with its log-probability in chat's form, and the best beside it. */
void oai_logprob(buf *b, const tokenizer *t, int32_t id, float logprob, const sample_prob *top, int n_top);
/* Bytes of a token, control tokens by name. */
span oai_token(const tokenizer *t, int32_t id, buf *b);
const char *oai_finish(call_finish f);

/* Handlers. */
void oai_responses(const http_req *q, http_reply *o);
void oai_embeddings(const http_req *q, http_reply *o);
/* A prompt or a list of them, texts or ids: allocates *out, *n of them; param is the field's name. */
int oai_prompts(const served *s, const json_t *v, const char *name, ids **out, int *n, dr_err *e);
void oai_prompts_free(ids *p, int n);
#endif
