/* fuzz_shards.c - the text of model.safetensors.index.json, in a folder of two shards. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/os.h"
#include "format/tensors.h"
#include "fuzz.h"

static char dir[] = "/dev/shm/drover-fuzz-XXXXXX";

static void put(const char *name, const void *p, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    DR_ASSERT(f && fwrite(p, 1, n, f) == n && !fclose(f));
}

static void shard(const char *file, const char *name)
{
    uint8_t b[256] = {0};
    int n = snprintf((char *)b + 8, sizeof b - 8, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],"
                     "\"data_offsets\":[0,4]}}", name);
    b[0] = (uint8_t)n;
    put(file, b, (size_t)n + 12);
}

static void clean(void)
{
    static const char *name[] = { "a.safetensors", "b.safetensors", "config.json",
                                  "model.safetensors.index.json" };
    char path[128];
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, name[i]);
        unlink(path);
    }
    rmdir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool made;
    if (!made) {
        DR_ASSERT(mkdtemp(dir));
        atexit(clean);
        shard("a.safetensors", "x");
        shard("b.safetensors", "y");
        put("config.json", "{}", 2);
        made = true;
    }
    put("model.safetensors.index.json", data, size);
    fuzz_mark m = fuzz_begin(size);
    dr_err e = {0};
    tensors *ts = tensors_open(dir, &e);
    DR_ASSERT(ts || (e.code && e.msg[0]));
    tensors_close(ts);
    fuzz_end(m);
    return 0;
}
