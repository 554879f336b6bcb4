/* opt.c - see opt.h. */
#include "cli/opt.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAMES = 128, MAX_WORD = 40 };

typedef struct { const char *name; size_t n; char ch; const opt *row; size_t at; } search;

void opt_each(const opt *o, size_t base, bool (*fn)(void *, const opt *, size_t), void *arg)
{
    for (; o && o->kind; o++) {
        if (o->kind == OPT_SUB) opt_each(o->sub, base + o->at, fn, arg);
        else if (!fn(arg, o, base)) return;
    }
}

static bool matches(void *arg, const opt *o, size_t base)
{
    search *s = arg;
    if (s->row) return false;
    if (o->kind == OPT_HEAD) return true;
    bool is = s->ch ? o->ch == s->ch
                    : o->name && strlen(o->name) == s->n && !memcmp(o->name, s->name, s->n);
    if (is) s->row = o, s->at = base + o->at;
    return !is;
}

typedef struct { const char *v[MAX_NAMES]; int n; } names;

static bool collect(void *arg, const opt *o, size_t base)
{
    names *s = arg;
    (void)base;
    if (o->name && s->n < MAX_NAMES) s->v[s->n++] = o->name;
    return true;
}

static int unknown(const opt *o, const char *said, const char *word, dr_err *e)
{
    names s = { .n = 0 };
    s.v[s.n++] = "help";
    opt_each(o, 0, collect, &s);
    const char *m = word[0] && word[1] ? near_miss(word, s.v, s.n) : NULL;
    return err_set(e, DR_EINVAL, "unknown option %.100s%s%s%s", said, m ? "; did you mean --" : "",
                   m ? m : "", m ? "?" : "");
}

static const char *label(const opt *o) { return o->name ? o->name : "?"; }

static int number_end(const opt *o, const char *v, const char *end, dr_err *e)
{
    if (end == v || *end)
        return err_set(e, DR_EINVAL, "--%s wants a number, not \"%.80s\"", label(o), v);
    return DR_OK;
}

static int in_range(const opt *o, double x, const char *v, dr_err *e)
{
    if ((o->lo == 0 && o->hi == 0) || (x >= o->lo && x <= o->hi)) return DR_OK;
    if (o->hi >= 1e15)
        return err_set(e, DR_EINVAL, "--%s wants at least %.15g, not %.80s", label(o), o->lo, v);
    return err_set(e, DR_EINVAL, "--%s wants a number from %.15g to %.15g, not %.80s", label(o),
                   o->lo, o->hi, v);
}

static int suffix_shift(const char **end)
{
    static const char letters[] = "KMGT";
    const char *s = **end ? strchr(letters, toupper((unsigned char)**end)) : NULL;
    if (!s) return 0;
    ++*end;
    return 10 * (int)(s - letters + 1);
}

/* A whole number of [lo, hi], 1024s suffix allowed; *stop is where it ended. */
static int whole(const opt *o, const char *v, int64_t lo, int64_t hi, int64_t *x, const char **stop,
                 dr_err *e)
{
    char *p;
    errno = 0;
    long long y = strtoll(v, &p, 10);
    const char *end = p;
    int shift = p == v ? 0 : suffix_shift(&end);
    *stop = end;
    if (p == v) return number_end(o, v, v, e);
    if (errno == ERANGE || y > hi >> shift || y < lo / ((int64_t)1 << shift))
        return err_set(e, DR_EINVAL, "--%s: %.80s is out of range", label(o), v);
    *x = (int64_t)y * ((int64_t)1 << shift);
    return DR_OK;
}

static int set_whole(const opt *o, void *at, const char *v, dr_err *e)
{
    int64_t x = 0;
    const char *end;
    bool small = o->kind == OPT_INT;
    int rc = whole(o, v, small ? INT_MIN : INT64_MIN, small ? INT_MAX : INT64_MAX, &x, &end, e);
    if (rc == DR_OK) rc = number_end(o, v, end, e);
    if (rc == DR_OK) rc = in_range(o, (double)x, v, e);
    if (rc != DR_OK) return rc;
    if (small) *(int *)at = (int)x;
    else *(int64_t *)at = x;
    return DR_OK;
}

static int set_unsigned(const opt *o, uint64_t *at, const char *v, dr_err *e)
{
    char *end;
    errno = 0;
    unsigned long long x = strtoull(v, &end, 10);
    int rc = number_end(o, v, end, e);
    if (rc != DR_OK) return rc;
    if (errno == ERANGE || strchr(v, '-'))
        return err_set(e, DR_EINVAL, "--%s: %.80s is out of range", label(o), v);
    *at = x;
    return in_range(o, (double)x, v, e);
}

static int set_real(const opt *o, void *at, const char *v, dr_err *e)
{
    char *p;
    double x = strtod(v, &p);
    const char *end = p;
    if (o->kind == OPT_SIZE && p != v) {
        int shift = suffix_shift(&end);
        if (shift && *end == 'i') end++;              /* 4GiB, 4GB and 4G are the same */
        if (toupper((unsigned char)*end) == 'B') end++;
        x = ldexp(x, shift);
    }
    int rc = number_end(o, v, end, e);
    if (rc == DR_OK && !isfinite(x))
        rc = err_set(e, DR_EINVAL, "--%s wants a finite number, not %.80s", label(o), v);
    if (rc == DR_OK && o->kind == OPT_SIZE && (x < 0 || x > 0x1p62))
        rc = err_set(e, DR_EINVAL, "--%s: %.80s is out of range", label(o), v);
    if (rc == DR_OK) rc = in_range(o, x, v, e);
    if (rc != DR_OK) return rc;
    if (o->kind == OPT_SIZE) *(size_t *)at = (size_t)x;
    else *(float *)at = (float)x;
    return DR_OK;
}

static int set_ints(const opt *o, opt_ints *at, const char *v, dr_err *e)
{
    opt_ints l = { .n = 0 };
    for (const char *s = v;; s++) {
        if (l.n == OPT_INTS_MAX)
            return err_set(e, DR_EINVAL, "--%s: more than %d numbers", label(o), OPT_INTS_MAX);
        int rc = whole(o, s, INT64_MIN, INT64_MAX, &l.v[l.n], &s, e);
        if (rc == DR_OK && *s && *s != ',')
            rc = err_set(e, DR_EINVAL, "--%s wants numbers with commas between, not \"%.80s\"",
                         label(o), v);
        if (rc == DR_OK) rc = in_range(o, (double)l.v[l.n], v, e);
        if (rc != DR_OK) return rc;
        l.n++;
        if (!*s) break;
    }
    *at = l;
    return DR_OK;
}

static int set_choice(const opt *o, int *at, const char *v, dr_err *e)
{
    size_t len = strlen(v);
    int i = 0;
    for (const char *s = o->arg; *s; i++) {
        size_t n = strcspn(s, "|");
        if (n == len && !memcmp(s, v, n)) { *at = i; return DR_OK; }
        s += n + (s[n] == '|');
    }
    return err_set(e, DR_EINVAL, "--%s wants one of %s, not \"%.80s\"", label(o), o->arg, v);
}

static int set(const opt *o, void *at, const char *v, dr_err *e)
{
    switch (o->kind) {
    case OPT_STR: *(const char **)at = v; return DR_OK;
    case OPT_INT: case OPT_INT64: return set_whole(o, at, v, e);
    case OPT_UINT64: return set_unsigned(o, at, v, e);
    case OPT_SIZE: case OPT_FLOAT: return set_real(o, at, v, e);
    case OPT_CHOICE: return set_choice(o, at, v, e);
    case OPT_INTS: return set_ints(o, at, v, e);
    case OPT_LIST: {
        opt_list *l = at;
        if (l->n == OPT_LIST_MAX)
            return err_set(e, DR_EINVAL, "--%s is given more than %d times", label(o),
                           OPT_LIST_MAX);
        l->v[l->n++] = v;
        return DR_OK;
    }
    default: return err_set(e, DR_EINVAL, "--%s takes no value", label(o));
    }
}

int opt_set(const opt *o, void *to, const char *name, const char *value, dr_err *e)
{
    search s = { .name = name, .n = strlen(name) };
    opt_each(o, 0, matches, &s);
    if (!s.row) return unknown(o, name, name, e);
    void *at = (char *)to + s.at;
    if (s.row->kind != OPT_FLAG) {
        if (!value || !*value)
            return err_set(e, DR_EINVAL, "--%s wants a value (%s)", name, s.row->arg);
        return set(s.row, at, value, e);
    }
    bool off = value && (!strcmp(value, "off") || !strcmp(value, "false"));
    if (value && *value && !off && strcmp(value, "on") && strcmp(value, "true"))
        return err_set(e, DR_EINVAL, "%s is on or off, not \"%.80s\"", name, value);
    *(bool *)at = !off;
    return DR_OK;
}

/* One option that starts at argv[*i]; *i moves to the last word it used. */
static int read_one(const opt *o, void *to, int argc, char **argv, int *i, dr_err *e)
{
    char *a = argv[*i];
    bool is_long = a[1] == '-';
    char *eq = is_long ? strchr(a, '=') : NULL;
    search s = { .name = a + 2, .n = eq ? (size_t)(eq - a - 2) : strlen(a + 2),
                 .ch = is_long ? 0 : a[1] };
    opt_each(o, 0, matches, &s);
    char word[MAX_WORD];
    snprintf(word, sizeof word, "%.*s", is_long ? (int)(s.n < 39 ? s.n : 39) : 39, a + 1 + is_long);
    if (!s.row) return unknown(o, a, word, e);
    void *at = (char *)to + s.at;
    if (s.row->kind == OPT_FLAG) {
        if (eq) return err_set(e, DR_EINVAL, "--%s takes no value", label(s.row));
        if (!is_long && a[2]) {
            /* "-temp 1" is a long option with a dash too few; "-vq" is not a form of ours */
            return unknown(o, a, word, e);
        }
        *(bool *)at = true;
        return DR_OK;
    }
    const char *v = eq ? eq + 1 : !is_long && a[2] ? a + 2 : NULL;
    if (!v) {
        if (*i + 1 >= argc)
            return err_set(e, DR_EINVAL, "%s wants a value (%s)", a, s.row->arg);
        v = argv[++*i];
    }
    dr_err inner = {0};
    int rc = set(s.row, at, v, &inner);
    if (rc == DR_OK) return rc;
    if (!is_long && a[2]) {                        /* -temp: the letter took the rest for a value */
        search l = { .name = a + 1, .n = strlen(a + 1) };
        opt_each(o, 0, matches, &l);
        if (l.row)
            return err_set(e, DR_EINVAL, "unknown option %s; did you mean -%s?", a, a);
    }
    return err_set(e, rc, "%s", inner.msg);
}

int opt_read(const opt *o, void *to, int argc, char **argv, int *n_left, bool *help, dr_err *e)
{
    int left = 0;
    *help = false;
    for (int i = 1; i < argc; i++) {
        char *a = argv[i];
        if (!strcmp(a, "--")) {
            while (++i < argc) argv[left++] = argv[i];
            break;
        }
        if (a[0] != '-' || !a[1]) { argv[left++] = a; continue; }
        if (!strcmp(a, "--help") || !strcmp(a, "-h")) { *help = true; break; }
        int rc = read_one(o, to, argc, argv, &i, e);
        if (rc != DR_OK) return rc;
    }
    *n_left = left;
    return DR_OK;
}

typedef struct { FILE *f; bool all; } printing;

static bool print_row(void *arg, const opt *o, size_t base)
{
    printing *p = arg;
    (void)base;
    if (o->hidden && !p->all) return true;
    if (o->kind == OPT_HEAD) { fprintf(p->f, "%s\n", o->help); return true; }
    char left[80];
    int n = 0;
    if (o->ch && o->name) n = snprintf(left, sizeof left, "-%c, --%s", o->ch, o->name);
    else if (o->ch) n = snprintf(left, sizeof left, "-%c", o->ch);
    else n = snprintf(left, sizeof left, "    --%s", o->name);
    if (o->arg && n < (int)sizeof left)
        n += snprintf(left + n, sizeof left - (size_t)n, " %s", o->arg);
    if (n > 26) fprintf(p->f, "  %s\n  %26s  %s\n", left, "", o->help);
    else fprintf(p->f, "  %-26s  %s\n", left, o->help);
    return true;
}

void opt_print(FILE *f, const opt *o, bool all)
{
    opt_each(o, 0, print_row, &(printing){ f, all });
    fprintf(f, "  %-26s  %s\n", "-h, --help", "print this and end");
}
