/* tensors.c - see tensors.h: which files make up a model, and one table over all of them.
 *
 * The bytes say what a file is; names only say where the other files are (parts of a split
 * GGUF, shards that an index lists). A file list grows as files are really found, so a lying
 * count costs nothing. */
#include "format/tensors.h"
#include <dirent.h>
#include <inttypes.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/mem.h"
#include "base/os.h"
#include "format/gguf_type.h"
#include "format/json.h"
#include "format/meta.h"
#include "format/names.h"
#include "format/quant_config.h"
#include "format/safetensors.h"

enum { CONFIG_MAX = 1 << 20, INDEX_MAX = 64 << 20, SPLIT_MAX = 99999, SHARDS_MAX = 999 };

typedef struct {
    char *name;                      /* without the folder */
    char *path;                      /* and this with it; NULL when the bytes are the caller's */
    os_file map;                     /* zeroed when they are */
    int fd;                          /* opened by tensors_read_files; -1: not now */
    const uint8_t *p;
    size_t n;
    gguf g;
    safetensors st;
    pth pt;
    bool is_pth;                     /* a pytorch_model.bin: its tensors are pt's */
    int64_t first;                   /* its tensors are [first, first of the next file) */
} part;

struct tensors {
    container kind;
    bool bin;                        /* Hugging Face's folder of pytorch_model*.bin */
    char *path;
    part *part;
    int n_parts, cap_parts;
    tensor *t;
    int64_t n;
    name_index index;
    void *mem;                       /* the table and its index */
    void *copy;                      /* tensors that were not aligned in their file */
    size_t n_copy;
    meta joined;                     /* Meta: the shards' tensors put together */
    void *gathered;                  /* what tensors_gather took: joined.gather bytes */
    json_t *config, *generation, *params;
};

static int code_of(const dr_err *e, int otherwise)
{
    return e && e->code ? e->code : otherwise;
}

/* folder + "/" + name, to be freed; folder "" gives the name alone. */
static char *join(const char *folder, const char *name, dr_err *e)
{
    size_t a = strlen(folder), n = a + strlen(name) + 2;
    char *p = mem_alloc(n);
    if (!p) { err_nomem(e, n, "file name"); return NULL; }
    snprintf(p, n, "%s%s%s", folder, a && folder[a - 1] != '/' ? "/" : "", name);
    return p;
}

/* The folder part of a path, to be freed: "." when it has none. */
static char *folder_of(const char *path, dr_err *e)
{
    const char *slash = strrchr(path, '/');
    char *p = slash ? mem_strndup(path, slash == path ? 1 : (size_t)(slash - path))
                    : mem_strdup(".");
    if (!p) err_nomem(e, strlen(path), "file name");
    return p;
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Room for one more file. */
static part *add_part(tensors *ts, const char *name, dr_err *e)
{
    if (ts->n_parts == ts->cap_parts) {
        int cap = ts->cap_parts ? ts->cap_parts * 2 : 4;
        part *p = mem_realloc(ts->part, (size_t)cap * sizeof *p);
        if (!p) { err_nomem(e, (size_t)cap * sizeof *p, "list of files"); return NULL; }
        ts->part = p, ts->cap_parts = cap;
    }
    part *p = &ts->part[ts->n_parts];
    *p = (part){ .name = mem_strdup(name), .fd = -1 };
    if (!p->name) { err_nomem(e, strlen(name), "file name"); return NULL; }
    ts->n_parts++;
    return p;
}

/* Say what a file is that we do not read. */
static int refuse_bytes(const uint8_t *p, size_t n, dr_err *e)
{
    if (n == 0) return err_set(e, DR_EFORMAT, "the file is empty");
    if (n >= 14 && !memcmp(p, "\x80\2\x8a\12\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14))
        return err_set(e, DR_EUNSUPPORTED, "this is a PyTorch file in the form of before version "
                       "1.6, which is not read: load it there and save it again with torch.save");
    if (n >= 2 && p[0] == 0x80 && p[1] <= 5)
        return err_set(e, DR_EUNSUPPORTED, "this is a bare Python pickle, which is not read; GGUF, "
                       "safetensors and torch.save's zip files are");
    if (n >= 4 && (!memcmp(p, "ggjt", 4) || !memcmp(p, "tjgg", 4) || !memcmp(p, "lmgg", 4) ||
                   !memcmp(p, "fmgg", 4)))
        return err_set(e, DR_EUNSUPPORTED, "this is a GGML file from before GGUF, which is not "
                       "read");
    if (n >= 1 && p[0] == '{')
        return err_set(e, DR_EFORMAT, "this is JSON and not a model: name the model's folder or "
                       "its weights");
    if (n >= 1 && p[0] == '<')
        return err_set(e, DR_EFORMAT, "this is a web page and not a model: the download failed");
    return err_set(e, DR_EFORMAT, "neither a GGUF nor a safetensors nor a PyTorch file");
}

/* Parse a part whose bytes are there, by what they are. */
static int parse_part(part *p, container *kind, dr_err *e)
{
    int rc = gguf_check_lfs(p->p, p->n, e);
    if (rc != DR_OK) return rc;
    if (p->n >= 4 && !memcmp(p->p, "GGUF", 4)) {
        *kind = CONTAINER_GGUF;
        return gguf_parse(&p->g, p->p, p->n, e);
    }
    if (st_looks_like(p->p, p->n)) {
        *kind = CONTAINER_SAFETENSORS;
        return st_parse(&p->st, p->p, p->n, e);
    }
    if (pth_looks_like(p->p, p->n)) {
        *kind = CONTAINER_META;
        return pth_parse(&p->pt, p->p, p->n, e);
    }
    return refuse_bytes(p->p, p->n, e);
}

static int open_part(tensors *ts, const char *path, const char *name, dr_err *e)
{
    part *p = add_part(ts, name, e);
    if (!p) return DR_ENOMEM;
    p->path = mem_strdup(path);
    if (!p->path) return err_nomem(e, strlen(path), "file name");
    int rc = os_map(&p->map, path, e);
    if (rc != DR_OK) return rc;
    p->p = p->map.p, p->n = p->map.n;
    container kind = ts->kind;
    rc = parse_part(p, &kind, e);
    if (rc != DR_OK) return err_wrap(e, rc, "%s", path);
    if (ts->bin && kind != CONTAINER_META)
        return err_set(e, DR_EFORMAT, "%s is no PyTorch file", path);
    if (ts->bin) kind = CONTAINER_SAFETENSORS, p->is_pth = true;       // what their names are
    if (ts->n_parts > 1 && kind != ts->kind)
        return err_set(e, DR_EFORMAT, "%s is %s, but the other files of this model are not", path,
                       kind == CONTAINER_GGUF ? "GGUF" : kind == CONTAINER_META ? "PyTorch's"
                       : "safetensors");
    ts->kind = kind;
    return DR_OK;
}

/* ---- the table over all files ---- */

/* The tensors of Meta's shards are counted with the first. */
static int64_t part_count(const tensors *ts, const part *p)
{
    if (ts->kind == CONTAINER_META) return p == ts->part ? ts->joined.n : 0;
    return ts->kind == CONTAINER_GGUF ? (int64_t)p->g.n_tensors : p->is_pth ? p->pt.n : p->st.n;
}

static tensor part_tensor(const tensors *ts, const part *p, int64_t i)
{
    if (ts->kind == CONTAINER_META) return ts->joined.t[i];
    if (p->is_pth) {
        const pth_tensor *s = &p->pt.t[i];
        tensor t = { .name = s->name, .type = s->type, .n_dims = s->n_dims, .data = s->data,
                     .bytes = s->bytes };
        memcpy(t.dim, s->dim, sizeof t.dim);
        return t;
    }
    if (ts->kind == CONTAINER_SAFETENSORS) {
        const st_tensor *s = &p->st.t[i];
        tensor t = { .name = s->name, .type = s->type, .n_dims = s->n_dims, .data = s->data,
                     .bytes = s->bytes };
        memcpy(t.dim, s->dim, sizeof t.dim);
        return t;
    }
    const gguf_tensor *s = &p->g.tensor[i];
    tensor t = { .name = s->name, .type = (int)s->type, .n_dims = s->n_dims, .data = s->data,
                 .bytes = s->bytes };
    for (int d = 0; d < s->n_dims; d++) t.dim[d] = s->dim[s->n_dims - 1 - d];
    return t;
}

static int build_table(tensors *ts, dr_err *e)
{
    int64_t n = 0;
    for (int f = 0; f < ts->n_parts; f++) {
        ts->part[f].first = n;
        n += part_count(ts, &ts->part[f]);
    }
    size_t a = (size_t)n * sizeof *ts->t, all = a + names_slots((uint64_t)n) * sizeof(uint32_t);
    ts->mem = mem_zalloc(all, 1);
    if (!ts->mem) return err_nomem(e, all, "table of tensors");
    ts->t = ts->mem;
    ts->index = names_make((uint32_t *)((char *)ts->mem + a), (uint64_t)n);
    for (int f = 0; f < ts->n_parts; f++) {
        const part *p = &ts->part[f];
        for (int64_t i = 0; i < part_count(ts, p); i++) {
            tensor *t = &ts->t[ts->n];
            *t = part_tensor(ts, p, i);
            uint32_t *slot = names_at(&ts->index, &ts->t->name, sizeof *ts->t, t->name);
            if (*slot)
                return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " appears twice, the second time "
                               "in %s", SPAN_ARG(t->name), p->name ? p->name : "these bytes");
            *slot = (uint32_t)++ts->n;
        }
    }
    return DR_OK;
}

static bool misaligned(const tensor *t)
{
    const type_info *ti = type_get(t->type);
    return ti && t->data && ti->elems == 1 && (uintptr_t)t->data % (uintptr_t)ti->bytes;
}

/* Old safetensors files have headers of any length, so that floats lie at odd addresses: such
 * tensors are copied, the others stay mapped. */
static int align_data(tensors *ts, dr_err *e)
{
    size_t all = 0;
    for (int64_t i = 0; i < ts->n; i++)
        if (misaligned(&ts->t[i])) all += (ts->t[i].bytes + 63) & ~(size_t)63;
    if (!all) return DR_OK;
    ts->copy = mem_pages(all);
    if (!ts->copy) return err_nomem(e, all, "tensors that are not aligned in their file");
    ts->n_copy = all;
    uint8_t *at = ts->copy;
    for (int64_t i = 0; i < ts->n; i++) {
        tensor *t = &ts->t[i];
        if (!misaligned(t)) continue;
        memcpy(at, t->data, t->bytes);
        t->data = at;
        at += (t->bytes + 63) & ~(size_t)63;
    }
    return DR_OK;
}

static int finish(tensors *ts, dr_err *e)
{
    int rc = build_table(ts, e);
    return rc != DR_OK ? rc : align_data(ts, e);
}

/* ---- split GGUF ---- */

static int split_of(const gguf *g, uint64_t *no, uint64_t *count, dr_err *e)
{
    *no = 0, *count = 1;
    if (!gguf_find(g, "split.count")) return DR_OK;
    if (!gguf_get_u64(g, "split.count", count) || !gguf_get_u64(g, "split.no", no) ||
        *count > SPLIT_MAX || (*count && *no >= *count))
        return err_set(e, DR_EFORMAT, "split.no and split.count contradict each other");
    if (*count == 0) *count = 1;                       /* some writers say 0 for "not split" */
    return DR_OK;
}

/* The file is part `no` of `count`; open the others, in order. */
static int open_split(tensors *ts, const char *path, uint64_t no, uint64_t count, dr_err *e)
{
    char tail[64];
    size_t n = strlen(path);
    int k = snprintf(tail, sizeof tail, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", no + 1, count);
    if (n < (size_t)k || strcmp(path + n - k, tail))
        return err_set(e, DR_EFORMAT, "%s is part %" PRIu64 " of %" PRIu64 " of a model, but its "
                       "name does not end in %s, so the other parts cannot be found", path,
                       no + 1, count, tail);
    char *name = mem_strdup(path);
    if (!name) return err_nomem(e, n, "file name");
    int rc = DR_OK;
    for (uint64_t i = 0; i < count && rc == DR_OK; i++) {
        uint64_t its_no, its_count;
        snprintf(name + n - k, (size_t)k + 1, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", i + 1, count);
        if (!os_exists(name)) {
            rc = err_set(e, DR_EIO, "%s: part %" PRIu64 " of %" PRIu64 " is missing: %s", path,
                         i + 1, count, name);
            break;
        }
        rc = open_part(ts, name, last_name(name), e);
        if (rc != DR_OK) break;
        rc = split_of(&ts->part[i].g, &its_no, &its_count, e);
        if (rc == DR_OK && (its_no != i || its_count != count))
            rc = err_set(e, DR_EFORMAT, "it says that it is part %" PRIu64 " of %" PRIu64,
                         its_no + 1, its_count);
        if (rc != DR_OK) err_wrap(e, rc, "%s", name);
    }
    mem_free(name);
    if (rc != DR_OK || (rc = build_table(ts, e)) != DR_OK) return rc;
    uint64_t want;
    if (gguf_get_u64(&ts->part[0].g, "split.tensors.count", &want) && want != (uint64_t)ts->n)
        return err_set(e, DR_EFORMAT, "%s: its %" PRIu64 " parts hold %" PRId64 " tensors, but it "
                       "says %" PRIu64, path, count, ts->n, want);
    return DR_OK;
}

/* ---- folders ---- */

static int read_config(tensors *ts, const char *folder, const char *name, json_t **j, dr_err *e)
{
    char *path = join(folder, name, e);
    if (!path) return DR_ENOMEM;
    int rc = DR_OK;
    if (os_exists(path)) {
        *j = json_read_file(path, CONFIG_MAX, e);
        if (!*j) rc = code_of(e, DR_EFORMAT);
        else if (!json_is_object(*j))
            rc = err_set(e, DR_EFORMAT, "%s: an object {…} is wanted", path);
    }
    mem_free(path);
    (void)ts;
    return rc;
}

static int read_configs(tensors *ts, const char *folder, dr_err *e)
{
    int rc = read_config(ts, folder, "config.json", &ts->config, e);
    if (rc == DR_OK)
        rc = read_config(ts, folder, "generation_config.json", &ts->generation, e);
    return rc == DR_OK && ts->config ? quant_config_check(ts->config, folder, e) : rc;
}

/* A shard's name may not lead out of the folder. */
static bool plain_name(const char *s)
{
    return *s && *s != '.' && !strchr(s, '/') && !strchr(s, '\\') && strlen(s) < 256;
}

static int open_shards(tensors *ts, const char *folder, const json_t *map, name_index *seen,
                       dr_err *e)
{
    const char *name;
    json_t *v;
    span *file = (span *)(void *)(seen->slot + seen->mask + 1);
    uint32_t n = 0;
    json_object_foreach((json_t *)map, name, v) {
        const char *s = json_string_value(v);
        if (!s || !plain_name(s))
            return err_set(e, DR_EFORMAT, "%s: its index puts tensor %.100s in '%.100s', which is "
                           "not the name of a file in the folder", folder, name, s ? s : "?");
        uint32_t *slot = names_at(seen, file, sizeof *file, span_of(s));
        if (*slot) continue;
        file[n] = span_of(s);
        *slot = ++n;
        char *path = join(folder, s, e);
        if (!path) return DR_ENOMEM;
        int rc;
        if (os_exists(path)) rc = open_part(ts, path, s, e);
        else rc = err_set(e, DR_EIO, "%s: shard %s, which the index names, is missing", folder, s);
        mem_free(path);
        if (rc != DR_OK) return rc;
    }
    return DR_OK;
}

/* Every tensor that the index names is where it says. */
static int check_map(const tensors *ts, const char *folder, const json_t *map, dr_err *e)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)map, name, v) {
        const tensor *t = tensors_find(ts, name);
        int f = ts->n_parts - 1;
        while (t && f > 0 && ts->part[f].first > t - ts->t) f--;
        if (!t || strcmp(ts->part[f].name, json_string_value(v)))
            return err_set(e, DR_EFORMAT, "%s: its index says that %s holds tensor %.200s, but it "
                           "does not", folder, json_string_value(v), name);
    }
    return DR_OK;
}

static int open_index(tensors *ts, const char *folder, const char *path, dr_err *e)
{
    json_t *j = json_read_file(path, INDEX_MAX, e);
    if (!j) return code_of(e, DR_EFORMAT);
    const json_t *map = json_object_get(j, "weight_map");
    size_t n = json_object_size(map);
    int rc;
    ts->kind = CONTAINER_SAFETENSORS;
    if (!json_is_object(map) || n == 0 || n > UINT32_MAX / 8) {
        rc = err_set(e, DR_EFORMAT, "%s: weight_map, an object of tensor names and files, is "
                     "wanted", path);
    } else {
        size_t all = names_slots(n) * sizeof(uint32_t) + n * sizeof(span);
        uint32_t *mem = mem_zalloc(all, 1);
        name_index seen = names_make(mem, n);
        rc = mem ? open_shards(ts, folder, map, &seen, e) : err_nomem(e, all, "list of shards");
        mem_free(mem);
        if (rc == DR_OK && ts->kind != CONTAINER_SAFETENSORS)
            rc = err_set(e, DR_EFORMAT, "%s: its shards are not safetensors", path);
        if (rc == DR_OK) rc = finish(ts, e);
        if (rc == DR_OK) rc = check_map(ts, folder, map, e);
    }
    json_decref(j);
    return rc;
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}

/* Say what a folder without a model holds instead. */
static int refuse_folder(const char *folder, dr_err *e)
{
    DIR *d = opendir(folder);
    if (!d) return err_set(e, DR_EIO, "cannot read folder %s", folder);
    char gguf_name[160] = "", st_name[160] = "";
    bool has_pth = false, has_params = false, adapter = false;
    for (struct dirent *f; (f = readdir(d));) {
        const char *s = f->d_name;
        if (ends_with(s, ".gguf") && (!*gguf_name || strcmp(s, gguf_name) < 0))
            snprintf(gguf_name, sizeof gguf_name, "%s", s);
        else if (!strncmp(s, "adapter_model.", 14)) adapter = true;
        else if (ends_with(s, ".safetensors")) snprintf(st_name, sizeof st_name, "%s", s);
        else if (!strncmp(s, "consolidated.", 13) && ends_with(s, ".pth")) has_pth = true;
        else if (!strcmp(s, "params.json")) has_params = true;
    }
    closedir(d);
    if (*gguf_name)
        return err_set(e, DR_EFORMAT, "%s is a folder with GGUF files: name the file, such as "
                       "%s/%s", folder, folder, gguf_name);
    if (has_pth)
        return err_set(e, DR_EIO, "%s: %s is missing beside Meta's consolidated.*.pth", folder,
                       has_params ? "consolidated.00.pth" : "params.json");
    if (adapter)
        return err_set(e, DR_EUNSUPPORTED, "%s holds a LoRA adapter, not a whole model", folder);
    if (*st_name)
        return err_set(e, DR_EFORMAT, "%s has neither model.safetensors nor "
                       "model.safetensors.index.json, only files such as %s", folder, st_name);
    return err_set(e, DR_EFORMAT, "%s holds no model: model.safetensors, "
                   "pytorch_model.bin, their indexes, *.gguf and consolidated.00.pth were looked for",
                   folder);
}

/* ---- Meta's folders ---- */

static int read_params(tensors *ts, const char *folder, dr_err *e)
{
    json_t *j = NULL;
    int rc = read_config(ts, folder, "params.json", &j, e);
    if (rc == DR_OK && !j) rc = refuse_folder(folder, e);
    if (rc == DR_OK) {
        json_t *model = json_object_get(j, "model");
        ts->params = json_incref(json_is_object(model) ? model : j);
    }
    json_decref(j);
    return rc;
}

/* Shards are saved under their own names, which stay inside the file. */
static int check_swap(const part *p, int no, const char *path, dr_err *e)
{
    span top = p->pt.top;
    char want[32];
    snprintf(want, sizeof want, "consolidated.%02d", no);
    if (top.n != strlen(want) || memcmp(top.p, want, 13) || span_is(top, want)) return DR_OK;
    return err_set(e, DR_EFORMAT, "%s was saved as " SPAN_FMT ".pth: shards were swapped or "
                   "renamed", path, SPAN_ARG(top));
}

/* Open folder/PATTERN for 0, 1, … as long as there are files, or exactly `want` of them. */
static int open_row(tensors *ts, const char *folder, const char *pattern, int want, int *n,
                    dr_err *e)
{
    int rc = DR_OK;
    for (*n = 0; rc == DR_OK && *n < (want ? want : SHARDS_MAX); ++*n) {
        char name[64];
        const char *d = strstr(pattern, "%02d");
        if (d) snprintf(name, sizeof name, "%.*s%02d%s", (int)(d - pattern), pattern, *n, d + 4);
        else snprintf(name, sizeof name, "%s%d.pt", pattern, *n);
        char *path = join(folder, name, e);
        if (!path) return DR_ENOMEM;
        if (!os_exists(path)) {
            mem_free(path);
            if (!want) break;
            return err_set(e, DR_EIO, "%s: %s is missing", folder, name);
        }
        rc = open_part(ts, path, name, e);
        if (rc == DR_OK && ts->kind != CONTAINER_META)
            rc = err_set(e, DR_EFORMAT, "%s is no PyTorch file", path);
        if (rc == DR_OK && d) rc = check_swap(&ts->part[ts->n_parts - 1], *n, path, e);
        mem_free(path);
    }
    return rc;
}

/* No file lies behind a gap. */
static int check_gap(const char *folder, int n, dr_err *e)
{
    DIR *d = opendir(folder);
    int behind = -1;
    for (struct dirent *f; d && (f = readdir(d));) {
        int no = -1, len = 0;
        if (sscanf(f->d_name, "consolidated.%2d.pth%n", &no, &len) == 1 && len && !f->d_name[len] &&
            no > n) behind = no;
    }
    if (d) closedir(d);
    if (behind < 0) return DR_OK;
    return err_set(e, DR_EIO, "%s: consolidated.%02d.pth is missing, but consolidated.%02d.pth is "
                   "there", folder, n, behind);
}

static int open_meta(tensors *ts, const char *folder, dr_err *e)
{
    int n = 0, n_scales = 0;
    char *scale = join(folder, "fp8_scales_0.pt", e);
    bool fp8 = scale && os_exists(scale);
    mem_free(scale);
    if (!scale) return DR_ENOMEM;
    int rc = read_params(ts, folder, e);
    ts->kind = CONTAINER_META;
    if (rc == DR_OK) rc = open_row(ts, folder, "consolidated.%02d.pth", 0, &n, e);
    if (rc == DR_OK) rc = check_gap(folder, n, e);
    if (rc == DR_OK && n == 0) rc = refuse_folder(folder, e);
    if (rc == DR_OK && fp8) rc = open_row(ts, folder, "fp8_scales_", n, &n_scales, e);
    if (rc != DR_OK) return rc;
    const pth **list = mem_zalloc((size_t)ts->n_parts, sizeof *list);
    if (!list) return err_nomem(e, (size_t)ts->n_parts * sizeof *list, "list of shards");
    for (int i = 0; i < ts->n_parts; i++) list[i] = &ts->part[i].pt;
    rc = meta_put_together(&ts->joined, list, fp8 ? list + n : NULL, n, ts->params, e);
    mem_free(list);
    return rc != DR_OK ? err_wrap(e, rc, "%s", folder) : finish(ts, e);
}

/* The weights of a Hugging Face folder: one file or an index, safetensors or PyTorch's. */
static const struct { const char *name; bool index, bin; } hf_files[] = {
    { "model.safetensors", false, false }, { "model.safetensors.index.json", true, false },
    { "pytorch_model.bin", false, true }, { "pytorch_model.bin.index.json", true, true },
};
enum { N_HF_FILES = sizeof hf_files / sizeof *hf_files };

static int open_hf(tensors *ts, const char *folder, int k, const char *path, dr_err *e)
{
    int rc = read_configs(ts, folder, e);
    if (rc != DR_OK) return rc;
    if (!ts->config)
        return err_set(e, DR_EIO, "%s: config.json is missing, and without it the weights cannot "
                       "be understood", folder);
    ts->bin = hf_files[k].bin;
    if (hf_files[k].index) return open_index(ts, folder, path, e);
    rc = open_part(ts, path, hf_files[k].name, e);
    return rc != DR_OK ? rc : finish(ts, e);
}

static int open_folder(tensors *ts, const char *folder, dr_err *e)
{
    for (int k = 0; k < N_HF_FILES; k++) {
        char *path = join(folder, hf_files[k].name, e);
        if (!path) return DR_ENOMEM;
        bool there = os_exists(path);
        int rc = there ? open_hf(ts, folder, k, path, e) : DR_OK;
        mem_free(path);
        if (there) return rc;
    }
    return open_meta(ts, folder, e);
}

static void drop_part(part *p)
{
    gguf_free(&p->g);
    st_free(&p->st);
    pth_free(&p->pt);
    os_unmap(&p->map);
    if (p->fd >= 0) close(p->fd);
    mem_free(p->name);
    mem_free(p->path);
}

/* A file of torch.save: the folder it lies in is the model, if it is one. */
static int open_pth(tensors *ts, const char *path, dr_err *e)
{
    bool bin = !strncmp(last_name(path), "pytorch_model", 13);
    char *folder = folder_of(path, e), *params = folder ?
                   join(folder, bin ? "config.json" : "params.json", e) : NULL;
    int rc = DR_ENOMEM;
    if (params && bin && os_exists(params))
        rc = open_folder(ts, folder, e);
    else if (params && !os_exists(params))
        rc = err_set(e, DR_EUNSUPPORTED, "%s is a PyTorch file, which says not how its model is "
                     "built; consolidated.00.pth with params.json beside it and pytorch_model.bin "
                     "with config.json are read", path);
    else if (params)
        rc = open_meta(ts, folder, e);
    mem_free(folder);
    mem_free(params);
    return rc;
}

static int open_file(tensors *ts, const char *path, dr_err *e)
{
    uint64_t no, count;
    int rc = open_part(ts, path, last_name(path), e);
    if (rc != DR_OK) return rc;
    if (ts->kind == CONTAINER_META) {
        drop_part(&ts->part[0]);
        ts->n_parts = 0;
        return open_pth(ts, path, e);
    }
    if (ts->kind == CONTAINER_GGUF) {
        if ((rc = split_of(&ts->part[0].g, &no, &count, e)) != DR_OK)
            return err_wrap(e, rc, "%s", path);
        if (count == 1) return finish(ts, e);
        drop_part(&ts->part[0]);
        ts->n_parts = 0;
        return open_split(ts, path, no, count, e);
    }
    char *folder = folder_of(path, e);
    if (!folder) return DR_ENOMEM;
    rc = read_configs(ts, folder, e);
    mem_free(folder);
    return rc != DR_OK ? rc : finish(ts, e);
}

tensors *tensors_open(const char *path, dr_err *e)
{
    tensors *ts = mem_zalloc(1, sizeof *ts);
    if (!ts || !(ts->path = mem_strdup(path))) {
        err_nomem(e, sizeof *ts, "tensors");
        tensors_close(ts);
        return NULL;
    }
    int rc;
    if (os_is_dir(path)) {
        rc = open_folder(ts, path, e);
    } else if ((ends_with(path, "model.safetensors.index.json") ||
                ends_with(path, "pytorch_model.bin.index.json")) && os_exists(path)) {
        char *folder = folder_of(path, e);
        rc = folder ? open_folder(ts, folder, e) : DR_ENOMEM;
        mem_free(folder);
    } else {
        rc = open_file(ts, path, e);
    }
    if (rc == DR_OK) return ts;
    tensors_close(ts);
    return NULL;
}

tensors *tensors_parse(const void *bytes, size_t n, dr_err *e)
{
    tensors *ts = mem_zalloc(1, sizeof *ts);
    part *p = ts ? add_part(ts, "", e) : NULL;
    if (!p) {
        err_nomem(e, sizeof *ts, "tensors");
        tensors_close(ts);
        return NULL;
    }
    p->p = bytes, p->n = n;
    const pth *one = &p->pt;
    if (parse_part(p, &ts->kind, e) == DR_OK &&
        (ts->kind != CONTAINER_META ||
         meta_put_together(&ts->joined, &one, NULL, 1, NULL, e) == DR_OK) &&
        finish(ts, e) == DR_OK) return ts;
    tensors_close(ts);
    return NULL;
}

void tensors_close(tensors *ts)
{
    if (!ts) return;
    for (int f = 0; f < ts->n_parts; f++) drop_part(&ts->part[f]);
    json_decref(ts->config);
    json_decref(ts->generation);
    json_decref(ts->params);
    mem_pages_free(ts->gathered, ts->joined.gather);
    meta_free(&ts->joined);
    mem_pages_free(ts->copy, ts->n_copy);
    mem_free(ts->mem);
    mem_free(ts->part);
    mem_free(ts->path);
    mem_free(ts);
}

container tensors_container(const tensors *ts) { return ts->kind; }
bool tensors_is_bin(const tensors *ts) { return ts->bin; }
const char *tensors_path(const tensors *ts) { return ts->path ? ts->path : ""; }
int64_t tensors_count(const tensors *ts) { return ts->n; }

const tensor *tensors_at(const tensors *ts, int64_t i)
{
    return i >= 0 && i < ts->n ? &ts->t[i] : NULL;
}

const tensor *tensors_find(const tensors *ts, const char *name)
{
    uint32_t i = *names_at(&ts->index, &ts->t->name, sizeof *ts->t, span_of(name));
    return i ? &ts->t[i - 1] : NULL;
}

size_t tensors_mapped_bytes(const tensors *ts)
{
    size_t n = 0;
    for (int f = 0; f < ts->n_parts; f++) n += ts->part[f].n;
    return n;
}

const gguf *tensors_gguf(const tensors *ts)
{
    return ts->kind == CONTAINER_GGUF ? &ts->part[0].g : NULL;
}

const json_t *tensors_meta_params(const tensors *ts) { return ts->params; }

int tensors_meta_shards(const tensors *ts, int *copies)
{
    bool is = ts->kind == CONTAINER_META;
    *copies = is ? ts->joined.fold : 1;
    return is ? ts->joined.n_shards : 1;
}

bool tensors_meta_tied(const tensors *ts)
{
    return ts->kind == CONTAINER_META && ts->joined.tied >= 0;
}

int64_t tensor_n_rows(const tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i + 1 < t->n_dims; i++) n *= t->dim[i];
    return n;
}

void tensors_read_files(tensors *ts, bool on)
{
    for (part *p = ts->part; p < ts->part + ts->n_parts; p++) {
        if (p->fd >= 0) close(p->fd);
        p->fd = on && p->path ? os_reopen(&p->map, p->path) : -1;
    }
}

/* The open file that these bytes are mapped from; NULL: none is. */
static const part *open_part_of(const tensors *ts, const uint8_t *data)
{
    for (const part *p = ts->part; p < ts->part + ts->n_parts; p++)
        if (p->fd >= 0 && data >= p->map.p && data < p->map.p + p->map.n) return p;
    return NULL;
}

bool tensors_cached(const tensors *ts, size_t *cached, size_t *huge)
{
    *cached = *huge = 0;
    for (const part *p = ts->part; p < ts->part + ts->n_parts; p++) {
        os_pages g;
        if (!os_pages_cached(&p->map, &g)) return false;
        *cached += g.resident, *huge += g.huge;
    }
    return true;
}

int tensor_rows(const tensors *ts, const tensor *t, int64_t row, int64_t n, void *dst, dr_err *e)
{
    int64_t all = tensor_n_rows(t);
    DR_ASSERT(t >= ts->t && t < ts->t + ts->n && row >= 0 && n >= 0 && row <= all - n);
    if (!t->data && ts->kind == CONTAINER_META)
        return meta_rows(&ts->joined, t - ts->t, row, n, dst, e);
    if (!t->data)
        return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT " is of type %s, whose size is not "
                       "known", SPAN_ARG(t->name), tensor_type_name(ts, t->type));
    size_t one = all ? t->bytes / (size_t)all : 0;
    const uint8_t *from = t->data + (size_t)row * one;
    const part *p = open_part_of(ts, from);
    if (p) return os_read_at(p->fd, (uint64_t)(from - p->map.p), dst, (size_t)n * one, p->path, e);
    memcpy(dst, from, (size_t)n * one);
    return DR_OK;
}

int tensors_gather(tensors *ts, dr_err *e)
{
    if (ts->kind != CONTAINER_META || ts->gathered || !ts->joined.gather) return DR_OK;
    size_t free = os_free_memory(), want = ts->joined.gather;
    if (free && want > free)
        return err_set(e, DR_ENOMEM, "its %d shards are put together in memory, %.1f GB, but only "
                       "%.1f GB are free; a model in one file stays on disk: drover convert",
                       ts->joined.n_shards, (double)want * 1e-9, (double)free * 1e-9);
    void *mem = mem_pages(want);
    if (!mem) return err_nomem(e, want, "weights that are spread over shards");
    ts->gathered = mem;
    uint8_t *at = mem;
    for (int64_t i = 0; i < ts->n; i++) {
        tensor *t = &ts->t[i];
        if (t->data || i == ts->joined.tied) continue;
        int rc = meta_rows(&ts->joined, i, 0, tensor_n_rows(t), at, e);
        if (rc != DR_OK) return rc;
        t->data = at;
        at += (t->bytes + 63) & ~(size_t)63;
    }
    DR_ASSERT(at == (uint8_t *)mem + want);
    if (ts->joined.tied >= 0)
        ts->t[ts->joined.tied].data = tensors_find(ts, "tok_embeddings.weight")->data;
    return DR_OK;
}

size_t tensors_gather_bytes(const tensors *ts) { return ts->gathered ? 0 : ts->joined.gather; }

const json_t *tensors_config(const tensors *ts) { return ts->config; }
const json_t *tensors_generation(const tensors *ts) { return ts->generation; }

const char *tensor_type_name(const tensors *ts, int type)
{
    const type_info *ti = type_get(type);
    if (ti) return ti->name;
    const char *s = st_type_name(type);
    if (s) return s;
    const gguf_type_info *g = ts->kind == CONTAINER_GGUF && type >= 0 ?
                              gguf_type_find((uint32_t)type) : NULL;
    return g ? g->name : "unknown type";
}
