/* yaml.h - YAML from bytes that are not trusted, as a tree that knows its lines. Read by libyaml,
 * which is loaded when first used.
 *
 * Of the language: block and flow maps and lists, plain and quoted scalars, comments. Anchors,
 * aliases, tags, several documents, keys that are not scalars, and keys given twice are refused. */
#ifndef TRAIN_YAML_H
#define TRAIN_YAML_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum { YAML_MAX_BYTES = 1 << 18, YAML_MAX_NODES = 1 << 14, YAML_MAX_DEPTH = 16 };

typedef enum { YAML_SCALAR, YAML_MAP, YAML_LIST } ynode_kind;

/* Nodes refer to one another by their places in yaml.node. */
typedef struct {
    ynode_kind kind;
    int line;                    /* from 1 */
    bool quoted;                 /* a scalar in quotes: a string whatever it looks like */
    const char *key;             /* in a map: its key; else NULL */
    const char *text;            /* a scalar's, 0-ended; else NULL */
    int first, next;             /* first child, next sibling; -1: none */
} ynode;

typedef struct {
    ynode *node;                 /* node[0] is the root */
    int n, cap;
    char *text;                  /* all strings */
} yaml;

/* what names the text in messages. An empty document is an empty map. */
int yaml_parse(yaml *y, const char *what, const void *bytes, size_t n, dr_err *e);
void yaml_free(yaml *y);                     /* a zeroed one is fine */
int yaml_child(const yaml *y, int map, const char *key);   /* -1: none */
#endif
