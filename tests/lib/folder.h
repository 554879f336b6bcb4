/* folder.h - a folder of the test's own, in memory where that is possible, and two pools of threads.
 * folder_up and folder_down are a group's set-up and tear-down; the latter fails when a test left
 * something behind. Include after cmocka.h. */
#ifndef TESTS_FOLDER_H
#define TESTS_FOLDER_H
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/pool.h"

static char folder[] = "/dev/shm/drover-test-XXXXXX";
static pool *one, *three;                        /* of so many threads */

/* The path of a name in the folder; good until the eighth call after this one. */
static inline const char *at(const char *name)
{
    static char path[8][256];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

/* A file, or a folder with all in it; nothing is fine. */
static inline void wipe(const char *path)
{
    DIR *d = opendir(path);
    char sub[1024];
    for (struct dirent *f; d && (f = readdir(d));)
        if (strcmp(f->d_name, ".") && strcmp(f->d_name, "..")) {
            snprintf(sub, sizeof sub, "%s/%s", path, f->d_name);
            wipe(sub);
        }
    if (d) closedir(d);
    remove(path);
}

static inline int folder_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) {
        memcpy(folder, "/tmp/drover-test-XXXXXX", sizeof "/tmp/drover-test-XXXXXX");
        if (!mkdtemp(folder)) return -1;
    }
    one = pool_new(1, NULL), three = pool_new(3, NULL);
    return one && three ? 0 : -1;
}

static inline int folder_down(void **state)
{
    (void)state;
    pool_free(one), pool_free(three);
    int rc = rmdir(folder);
    wipe(folder);
    return rc;
}
#endif
