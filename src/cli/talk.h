/* talk.h - a conversation as the user drives it: messages and /commands, one text at a time.
 * Knows no terminal and no model: lines come in through talk_text, the model is behind
 * `talk_model`, so that tests can put a fake in its place.
 * Threads: one at a time. */
#ifndef CLI_TALK_H
#define CLI_TALK_H
#include <stdbool.h>
#include <stdio.h>
#include "base/buf.h"
#include "text/chat.h"

typedef struct {
    const char *finish;             /* "stop", "length", "context", "cancel" */
    int n_prompt, n_reused, n_gen;
    double prompt_s, gen_s;
    int n_drafted, n_accepted;      /* guesses evaluated; those that came true */
} talk_stats;

/* What a conversation needs of a model. piece is called with each part of the reply. */
typedef struct {
    void *arg;
    /* Reply to m[0..n); try counts replies to the same messages, so that a new try differs.
     * An error leaves the conversation as it was before the message. */
    int (*reply)(void *arg, const chat_msg *m, int n, int attempt,
                 void (*piece)(void *to, span text), void *to, talk_stats *st, dr_err *e);
    int (*set)(void *arg, const char *name, const char *value, dr_err *e);    /* /set */
    void (*show)(void *arg, FILE *f);                                         /* /show */
} talk_model;

typedef struct { char *role, *content; } turn;
typedef struct {
    talk_model model;
    FILE *out, *err;                /* replies; everything else */
    bool plain;                     /* out is a terminal: control characters do not reach it */
    bool quiet;                     /* no speed line */
    char *system;                   /* NULL: none */
    turn *t;
    int n, cap, attempt;
    buf text;                       /* of the reply that is being made */
} talk;

void talk_init(talk *t, const talk_model *m, FILE *out, FILE *err);
void talk_free(talk *t);
int talk_system(talk *t, const char *text, dr_err *e);      /* "" or NULL: none */
/* A message or a /command. False: the user wants to end. */
bool talk_text(talk *t, const char *text);
/* "prompt 34 tokens, 812 tok/s; …" */
void talk_speed(FILE *f, const talk_stats *st);
/* Copy text to f without control characters other than newline and tab. */
void talk_clean(FILE *f, span text);
#endif
