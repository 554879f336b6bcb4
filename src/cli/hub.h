/* hub.h - models on a Hugging Face hub: which files a name stands for.
 * A name is hf:OWNER/REPO or hf:OWNER/REPO/FILE; FILE may be a part of one GGUF's name. */
#ifndef CLI_HUB_H
#define CLI_HUB_H
#include <stdbool.h>
#include "cli/cache.h"
#include "cli/http.h"

typedef struct {
    char *path;                  /* in the repository; checked to stay inside a folder */
    int64_t bytes;
    char hash[HASH_HEX];         /* "" when the hub names none */
    bool git;                    /* the hash is git's */
    bool wanted;
} hub_file;

typedef struct {
    char owner[100], repo[100], part[512];
    char endpoint[256];          /* no slash at its end */
    hub_file *file;
    int n;
    const char *model;           /* "." or the GGUF to open */
} hub;

bool hub_is_name(const char *name);                    /* starts with hf: */
/* Take the name apart; endpoint and token come from HF_ENDPOINT and HF_TOKEN. */
int hub_parse(hub *h, const char *name, dr_err *e);
/* Ask for the list of files and mark those that are wanted. */
int hub_choose(hub *h, const http_opt *o, dr_err *e);
/* Append the address of a file. */
void hub_url(const hub *h, const char *path, buf *url);
void hub_free(hub *h);
#endif
