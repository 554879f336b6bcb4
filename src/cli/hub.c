/* hub.c - see hub.h. */
#include "cli/hub.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/mem.h"

enum { LISTING_MAX = 16 << 20, PAGES_MAX = 50 };

bool hub_is_name(const char *name) { return !strncmp(name, "hf:", 3); }

/* A word of a repository's name, as hubs allow it: no path tricks pass. */
static bool is_word(const char *s, size_t n, size_t cap)
{
    if (!n || n >= cap || s[0] == '.' || s[0] == '-') return false;
    for (size_t i = 0; i < n; i++) {
        bool ok = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z')
               || (s[i] >= '0' && s[i] <= '9') || strchr("._-", s[i]);
        if (!ok || (i && strchr(".-", s[i]) && s[i] == s[i - 1])) return false;
    }
    return true;
}

/* Relative, inside, printable; nothing hidden and none of our own names. */
static bool is_safe_path(const char *p)
{
    size_t len = strlen(p);
    if (!len || len > 500) return false;
    for (const char *s = p; *s; s++)
        if ((unsigned char)*s < ' ' || *s == '\\' || *s == 127) return false;
    for (const char *s = p;; s++) {
        size_t n = strcspn(s, "/");
        if (!n || s[0] == '.') return false;
        s += n;
        if (!*s) break;
    }
    return strcmp(p, "drover.json") != 0;
}

int hub_parse(hub *h, const char *name, dr_err *e)
{
    *h = (hub){0};
    const char *s = name + 3, *slash = strchr(s, '/');
    const char *repo = slash ? slash + 1 : "", *end = repo + strcspn(repo, "/");
    if (!slash || !is_word(s, (size_t)(slash - s), sizeof h->owner)
        || !is_word(repo, (size_t)(end - repo), sizeof h->repo))
        return err_set(e, DR_EINVAL, "%.150s is not of the form hf:OWNER/REPO or "
                       "hf:OWNER/REPO/FILE", name);
    if (*end && !is_safe_path(end + 1))
        return err_set(e, DR_EINVAL, "%.150s names a file that cannot be in a repository", name);
    snprintf(h->owner, sizeof h->owner, "%.*s", (int)(slash - s), s);
    snprintf(h->repo, sizeof h->repo, "%.*s", (int)(end - repo), repo);
    if (*end) snprintf(h->part, sizeof h->part, "%s", end + 1);
    const char *at = getenv("HF_ENDPOINT");
    if (!at || !*at) at = "https://huggingface.co";
    size_t n = strlen(at);
    while (n && at[n - 1] == '/') n--;
    if ((strncmp(at, "https://", 8) && strncmp(at, "http://", 7)) || n >= sizeof h->endpoint)
        return err_set(e, DR_EINVAL, "HF_ENDPOINT is not an http address: %.150s", at);
    snprintf(h->endpoint, sizeof h->endpoint, "%.*s", (int)n, at);
    return DR_OK;
}

void hub_free(hub *h)
{
    for (int i = 0; i < h->n; i++) mem_free(h->file[i].path);
    mem_free(h->file);
    *h = (hub){0};
}

void hub_url(const hub *h, const char *path, buf *url)
{
    buf_printf(url, "%s/%s/%s/resolve/main/", h->endpoint, h->owner, h->repo);
    for (const unsigned char *s = (const unsigned char *)path; *s; s++) {
        bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')
                  || (*s >= '0' && *s <= '9') || strchr("/._-~", *s);
        if (plain) buf_putc(url, (char)*s);
        else buf_printf(url, "%%%02X", *s);
    }
}

static bool copy_hex(char to[HASH_HEX], const json_t *v, size_t len)
{
    const char *s = json_string_value(v);
    if (!s || strlen(s) != len || strspn(s, "0123456789abcdef") != len) return false;
    memcpy(to, s, len + 1);
    return true;
}

static int add_file(hub *h, int *cap, const json_t *x, dr_err *e)
{
    const char *kind = json_string_value(json_object_get(x, "type"));
    const char *path = json_string_value(json_object_get(x, "path"));
    const json_t *lfs = json_object_get(x, "lfs");
    if (!kind || !path || strcmp(kind, "file") || !is_safe_path(path)) return DR_OK;
    if (h->n == *cap) {
        *cap = *cap ? *cap * 2 : 64;
        hub_file *p = mem_realloc(h->file, (size_t)*cap * sizeof *p);
        if (!p) return err_nomem(e, (size_t)*cap * sizeof *p, "the list of files");
        h->file = p;
    }
    hub_file *f = &h->file[h->n];
    *f = (hub_file){ .path = mem_strdup(path) };
    if (!f->path) return err_nomem(e, strlen(path), "a file name");
    h->n++;
    const json_t *size = json_object_get(lfs ? lfs : x, "size");
    f->bytes = json_is_integer(size) ? json_integer_value(size) : -1;
    if (f->bytes < 0) f->bytes = -1;
    if (!copy_hex(f->hash, json_object_get(lfs, "oid"), 64) && !lfs)
        f->git = copy_hex(f->hash, json_object_get(x, "oid"), 40);
    return DR_OK;
}

static int read_page(hub *h, int *cap, const buf *text, dr_err *e)
{
    json_t *list = json_loadb(text->p ? text->p : "", text->n, 0, NULL), *x;
    size_t i;
    int rc = DR_OK;
    if (!json_is_array(list))
        rc = err_set(e, DR_EFORMAT, "the hub's list of files is not JSON as expected");
    json_array_foreach(list, i, x) if (rc == DR_OK) rc = add_file(h, cap, x, e);
    json_decref(list);
    return rc;
}

static int list_files(hub *h, const http_opt *o, dr_err *e)
{
    buf url = { .cap_max = 4096 }, text = { .cap_max = LISTING_MAX }, next = { .cap_max = 4096 };
    int cap = 0, rc = DR_OK;
    buf_printf(&url, "%s/api/models/%s/%s/tree/main?recursive=true", h->endpoint, h->owner,
               h->repo);
    for (int page = 0; rc == DR_OK && url.n; page++) {
        if (page == PAGES_MAX) rc = err_set(e, DR_EFORMAT, "the hub's list of files never ends");
        buf_reset(&next);
        if (rc == DR_OK) rc = http_text(o, buf_str(&url), &text, &next, e);
        if (rc == DR_OK) rc = read_page(h, &cap, &text, e);
        /* a list that goes on elsewhere would take the token elsewhere */
        size_t n = strlen(h->endpoint);
        buf_reset(&url);
        if (next.n > n && !memcmp(next.p, h->endpoint, n) && next.p[n] == '/')
            buf_put(&url, next.p, next.n);
    }
    buf_free(&url);
    buf_free(&text);
    buf_free(&next);
    return rc;
}

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), m = strlen(with);
    return n >= m && !strcasecmp(s + n - m, with);
}

/* Length of what parts of one split GGUF share: "x-00001-of-00003.gguf" -> 1; 0: not split. */
static size_t split_stem(const char *p)
{
    size_t n = strlen(p);
    if (n < 21 || !ends(p, ".gguf")) return 0;
    const char *s = p + n - 20;                        /* -00001-of-00003.gguf */
    if (s[0] != '-' || strncmp(s + 6, "-of-", 4)) return 0;
    if (strspn(s + 1, "0123456789") != 5 || strspn(s + 10, "0123456789") != 5) return 0;
    return n - 20;
}

static bool contains(const char *s, const char *word)
{
    for (size_t n = strlen(word); *s; s++)
        if (!strncasecmp(s, word, n)) return true;
    return false;
}

/* Files of one model are counted once: other parts of a split file do not count. */
static bool is_head(const char *p)
{
    size_t stem = split_stem(p);
    return ends(p, ".gguf") && (!stem || !strncmp(p + stem, "-00001-", 7));
}

static int choose_gguf(hub *h, int at)
{
    const char *p = h->file[at].path;
    size_t stem = split_stem(p);
    for (int i = 0; i < h->n; i++)
        h->file[i].wanted = i == at || (stem && split_stem(h->file[i].path) == stem
                                        && !strncmp(h->file[i].path, p, stem));
    for (int i = 0; i < h->n && stem; i++)
        if (h->file[i].wanted && is_head(h->file[i].path)) p = h->file[i].path;
    h->model = p;
    return DR_OK;
}

/* "a.gguf, b.gguf, …" of what could be meant. */
static int which(const hub *h, const char *word, dr_err *e)
{
    buf names = { .cap_max = 300 };
    int n = 0;
    for (int i = 0; i < h->n; i++) {
        if (!is_head(h->file[i].path) || !contains(h->file[i].path, word)) continue;
        if (n < 5) buf_printf(&names, "%s%s", n ? ", " : "", h->file[i].path);
        n++;
    }
    err_set(e, DR_EINVAL, "hf:%s/%s has %d GGUF files; choose one with hf:%s/%s/FILE: %s%s",
            h->owner, h->repo, n, h->owner, h->repo, buf_str(&names), n > 5 || names.bad ? ", …" : "");
    buf_free(&names);
    return DR_EINVAL;
}

static int choose_part(hub *h, dr_err *e)
{
    int n = 0, at = -1;
    for (int i = 0; i < h->n; i++)
        if (!strcmp(h->file[i].path, h->part)) {
            if (ends(h->part, ".gguf")) return choose_gguf(h, i);
            h->file[i].wanted = true, h->model = h->file[i].path;
            return DR_OK;
        }
    for (int i = 0; i < h->n; i++)
        if (is_head(h->file[i].path) && contains(h->file[i].path, h->part)) n++, at = i;
    if (n == 1) return choose_gguf(h, at);
    if (n > 1) return which(h, h->part, e);
    return err_set(e, DR_EINVAL, "hf:%s/%s has no file %.200s", h->owner, h->repo, h->part);
}

/* What a folder is made of beside its weights; only files of the top folder count. */
static bool is_companion(const char *p)
{
    static const char *const names[] = {
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt", "chat_template.jinja", "chat_template.json"
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(p, names[i])) return true;
    return false;
}

/* Folders of weights, the better first: names of the weights, the file that says what they are of,
 * others that belong to them. model-00001-of-00004.safetensors is meant, not another copy's shards. */
typedef struct { const char *begin, *end, *of, *also; } folder_form;
static const folder_form forms[] = {
    { "model", ".safetensors", "config.json", "model.safetensors.index.json" },
    { "pytorch_model", ".bin", "config.json", "pytorch_model.bin.index.json" },
    { "consolidated.", ".pth", "params.json", "fp8_scales_" },
};
enum { SAFETENSORS, N_FORMS = sizeof forms / sizeof *forms };

static bool begins(const char *p, const char *with) { return !strncmp(p, with, strlen(with)); }

/* Does the repository hold this form? Its files are wanted then. */
static bool choose_form(hub *h, const folder_form *f)
{
    bool weights = false, of = false;
    for (int i = 0; i < h->n; i++) {
        const char *p = h->file[i].path;
        weights |= !strchr(p, '/') && begins(p, f->begin) && ends(p, f->end);
        of |= !strcmp(p, f->of);
    }
    for (int i = 0; weights && of && i < h->n; i++) {
        const char *p = h->file[i].path;
        bool w = begins(p, f->begin) && ends(p, f->end);
        h->file[i].wanted = !strchr(p, '/') && (w || is_companion(p) || !strcmp(p, f->of) ||
                                                begins(p, f->also));
    }
    if (weights && of) h->model = ".";
    return weights && of;
}

static int choose_all(hub *h, dr_err *e)
{
    int gguf = 0, at = -1, safetensors = 0, pth = 0;
    for (int i = 0; i < h->n; i++) {
        const char *p = h->file[i].path;
        safetensors += !strchr(p, '/') && ends(p, ".safetensors");
        pth += ends(p, ".pth") || ends(p, ".bin");
        if (is_head(p)) gguf++, at = i;
    }
    if (choose_form(h, &forms[SAFETENSORS])) return DR_OK;
    if (gguf == 1) return choose_gguf(h, at);
    if (gguf > 1) return which(h, "", e);
    for (int k = SAFETENSORS + 1; k < N_FORMS; k++)
        if (choose_form(h, &forms[k])) return DR_OK;
    return err_set(e, DR_EUNSUPPORTED, "hf:%s/%s holds no model that drover reads (%s)", h->owner,
                   h->repo, safetensors ? "safetensors without a config.json"
                   : pth ? "PyTorch files without the config.json or params.json of a model"
                         : "no safetensors, no GGUF, no PyTorch files");
}

int hub_choose(hub *h, const http_opt *o, dr_err *e)
{
    int rc = list_files(h, o, e);
    if (rc != DR_OK) return err_wrap(e, rc, "hf:%s/%s", h->owner, h->repo);
    return h->part[0] ? choose_part(h, e) : choose_all(h, e);
}
