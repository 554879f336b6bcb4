/* replay.c - a main for a fuzz target without libFuzzer: runs it once on every file of its corpus,
 * tests/fuzz/corpus/<name>/ for fuzz_<name>, or on the files given. Each file is one test; what it
 * tests is that the target comes back (the sanitizers say the rest). Run from the top of the tree. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    uint8_t *data = NULL;
    size_t n = 0, cap = 0;
    do {
        if (n == cap) data = realloc(data, cap = cap ? 2 * cap : 65536);
        if (!data) abort();
        n += fread(data + n, 1, cap - n, f);
    } while (!feof(f) && !ferror(f));
    int ok = !ferror(f);
    fclose(f);
    /* A buffer of exactly n bytes, so that a sanitizer sees the first byte read past the end. */
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact) abort();
    memcpy(exact, data, n);
    free(data);
    if (ok) LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return ok;
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0;
    for (int i = 1; i < argc; i++) *(replay(argv[i]) ? &passed : &failed) += 1;
    if (argc == 1) {
        const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
        char dir[256], path[1024];
        if (strncmp(name, "fuzz_", 5) == 0) name += 5;
        snprintf(dir, sizeof dir, "tests/fuzz/corpus/%.*s", (int)strcspn(name, "."), name);
        DIR *d = opendir(dir);
        if (!d) return fprintf(stderr, "no corpus at %s\n", dir), 1;
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
            *(replay(path) ? &passed : &failed) += 1;
        }
        closedir(d);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
