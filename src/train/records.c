/* records.c - see records.h. Bytes come in pieces; those of the unfinished record are kept in front.
 * Records are made of whole lines; a line of CSV ends where no quote is open. */
#include "train/records.h"
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "format/json.h"
#include "text/utf8.h"
#include "train/text_in.h"

enum { READ = 1 << 18, JSON_BUDGET = 4 << 20 };

struct records_file {
    char *path;
    records_opt o;
    char delimiter;
    int column, n_columns;       /* where the text is, of how many */
};

struct records {
    text_in *in;
    records_file *f;
    char *p;
    size_t at, n, cap;           /* p[at..n): read and not given yet */
    bool end;
    int64_t line;                /* number of the line that begins at `at` */
};

static int fail(const records_file *f, int64_t line, dr_err *e, const char *what)
{
    return err_set(e, DR_EFORMAT, "%s line %" PRId64 ": %s", f->path, line, what);
}

/* Read on. The pending bytes may move to the front of p. */
static int more(records *r, dr_err *e)
{
    if (r->at) {
        memmove(r->p, r->p + r->at, r->n - r->at);
        r->n -= r->at, r->at = 0;
    }
    if (r->cap - r->n < READ) {
        size_t to = r->cap ? 2 * r->cap : 2 * READ;
        if (r->n > RECORD_MAX)
            return err_set(e, DR_EFORMAT, "%s line %" PRId64 ": a document of more than %d MB", r->f->path,
                           r->line, RECORD_MAX >> 20);
        char *p = mem_realloc(r->p, to);
        if (!p) return err_nomem(e, to, "a document");
        r->p = p, r->cap = to;
    }
    int64_t k = text_in_read(r->in, r->p + r->n, READ, e);
    if (k < 0) return (int)k;
    r->n += (size_t)k, r->end = k == 0;
    return DR_OK;
}

/* The line that begins `from` bytes behind r->at: *len without its end, *next behind that, and how many
 * lines of the file it is. 0: there is none, the file has ended. */
static int line_at(records *r, size_t from, size_t *len, size_t *next, int64_t *lines, dr_err *e)
{
    bool quoted = false, csv = r->f->o.format == RECORDS_CSV;
    size_t to = from;
    *lines = 1;
    for (;;) {
        const char *p = r->p + r->at, *nl = NULL;
        size_t have = r->n - r->at;
        if (to < have) nl = memchr(p + to, '\n', have - to);
        size_t upto = nl ? (size_t)(nl - p) : have;
        for (const char *q = p + to; csv && (q = memchr(q, '"', (size_t)(p + upto - q))); q++)
            quoted = !quoted;
        to = upto;
        if (nl && quoted) {
            ++*lines, to++;
        } else if (nl) {
            *len = to - from, *next = to + 1;
            return 1;
        } else if (r->end) {
            *len = *next = to;
            *len -= from;
            return to > from;
        } else {
            int rc = more(r, e);
            if (rc) return rc;
        }
    }
}

static bool blank(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r') return false;
    return true;
}

static bool is_separator(const records_file *f, const char *p, size_t n)
{
    if (n && p[n - 1] == '\r') n--;
    return f->o.separator ? span_is((span){ p, n }, f->o.separator)
                          : f->o.split == SPLIT_BLANK && blank(p, n);
}

/* Each line is a record? */
static bool by_line(const records_file *f)
{
    return f->o.format != RECORDS_TEXT || (!f->o.separator && f->o.split == SPLIT_LINE);
}

static int put_record(records *r, chunk *c, size_t n, int64_t line, dr_err *e)
{
    const char *p = r->p + r->at;
    if (c->n_rec == c->rec_cap) {
        int64_t to = c->rec_cap ? 2 * c->rec_cap : 256;
        record *rec = mem_realloc(c->rec, (size_t)to * sizeof *rec);
        if (!rec) return err_nomem(e, (size_t)to * sizeof *rec, "records");
        c->rec = rec, c->rec_cap = to;
    }
    if (c->cap - c->n < n) {
        size_t to = c->n + n > 2 * c->cap ? c->n + n : 2 * c->cap;
        char *text = mem_realloc(c->text, to);
        if (!text) return err_nomem(e, to, "records");
        c->text = text, c->cap = to;
    }
    memcpy(c->text + c->n, p, n);
    c->rec[c->n_rec++] = (record){ r->f, c->n, n, line };
    c->n += n;
    return DR_OK;
}

/* One record into the chunk, or a separator passed over. 0: the file has ended. */
static int one_record(records *r, chunk *c, dr_err *e)
{
    size_t n = 0, len = 0, next = 0;
    int64_t first = r->line, lines;
    int rc;
    bool whole = r->f->o.format == RECORDS_TEXT && !r->f->o.separator && r->f->o.split == SPLIT_FILE;
    while (whole && !r->end)
        if ((rc = more(r, e))) return rc;
    if (whole) {
        n = r->n - r->at;
        rc = n ? put_record(r, c, n, 1, e) : DR_OK;
        r->at = r->n;
        return rc ? rc : n > 0;
    }
    for (;;) {
        if ((rc = line_at(r, n, &len, &next, &lines, e)) < 0) return rc;
        const char *p = r->p + r->at;
        bool last = !rc, sep = !last && !by_line(r->f) && is_separator(r->f, p + n, len);
        if (!last) r->line += lines;
        if (by_line(r->f)) n = len;
        if (last && by_line(r->f)) return 0;
        if (last || sep || by_line(r->f)) {
            bool skip = by_line(r->f) && r->f->o.format != RECORDS_TEXT && blank(p, n);
            rc = n && !skip ? put_record(r, c, n, first, e) : DR_OK;
            r->at += last ? n : next;
            return rc ? rc : !last;
        }
        n = next;
    }
}

int records_next(records *r, chunk *c, size_t want, dr_err *e)
{
    int rc = 1;
    while (rc > 0 && c->n < want) rc = one_record(r, c, e);
    return rc;
}

/* A field of a line of CSV at *p, which moves behind the delimiter; *end: it was the last. */
static int csv_field(const records_file *f, const char **p, const char *stop, buf *out, bool *end,
                     const char **why)
{
    const char *s = *p;
    *why = NULL;
    buf_reset(out);
    if (f->delimiter == ',' && s < stop && *s == '"') {
        for (s++;;) {
            const char *q = memchr(s, '"', (size_t)(stop - s));
            if (!q) return *why = "a quote is not closed", -1;
            buf_put(out, s, (size_t)(q - s));
            s = q + 1;
            if (s == stop || *s != '"') break;
            buf_putc(out, '"');
            s++;
        }
        if (s < stop && *s != f->delimiter) return *why = "text follows a closing quote", -1;
    } else {
        const char *q = memchr(s, f->delimiter, (size_t)(stop - s));
        if (!q) q = stop;
        if (f->delimiter == ',' && memchr(s, '"', (size_t)(q - s)))
            return *why = "a quote inside a field that is not quoted", -1;
        buf_put(out, s, (size_t)(q - s));
        s = q;
    }
    *end = s == stop;
    *p = s + !*end;
    return 0;
}

static span csv_line(span line)
{
    if (line.n && line.p[line.n - 1] == '\r') line.n--;
    return line;
}

/* The names of the columns, from the first line. */
static int csv_head(records *r, dr_err *e)
{
    chunk c = {0};
    buf name = { .cap_max = 1 << 20 }, all = { .cap_max = 400 };
    int rc = one_record(r, &c, e);
    const char *why = NULL;
    if (rc >= 0 && !c.n_rec) rc = fail(r->f, 1, e, "it is empty; a line of column names is wanted");
    if (rc >= 0) {
        span line = csv_line((span){ c.text, c.rec[0].n });
        const char *p = line.p, *stop = p + line.n;
        bool end = false;
        r->f->column = -1;
        while (!end && !csv_field(r->f, &p, stop, &name, &end, &why)) {
            if (span_is(buf_span(&name), r->f->o.field) && r->f->column < 0) r->f->column = r->f->n_columns;
            buf_printf(&all, all.n ? ", %s" : "%s", buf_str(&name));
            r->f->n_columns++;
        }
        if (name.bad) rc = err_nomem(e, line.n, "names of columns");
        else if (why) rc = fail(r->f, 1, e, why);
        else if (r->f->column < 0)
            rc = err_set(e, DR_EFORMAT, "%s has no column \"%s\"; it has %s", r->f->path, r->f->o.field,
                         all.bad ? "many others" : buf_str(&all));
    }
    buf_free(&name);
    buf_free(&all);
    chunk_free(&c);
    return rc < 0 ? rc : DR_OK;
}

static bool ends_in(const char *path, const char *end)
{
    static const char *const packed[] = { "", ".gz", ".zst" };
    size_t n = strlen(path);
    for (int i = 0; i < 3; i++) {
        size_t a = strlen(end), b = strlen(packed[i]);
        if (n > a + b && !memcmp(path + n - a - b, end, a) && !strcmp(path + n - b, packed[i]))
            return true;
    }
    return false;
}

/* Pass over a byte order mark; say what the file is. */
static int look(records *r, dr_err *e)
{
    int rc = DR_OK;
    while (!rc && !r->end && r->n < 4096) rc = more(r, e);
    if (rc) return rc;
    if (r->n >= 3 && !memcmp(r->p, "\xef\xbb\xbf", 3)) r->at = 3;
    if (r->n >= 2 && (!memcmp(r->p, "\xff\xfe", 2) || !memcmp(r->p, "\xfe\xff", 2)))
        return err_set(e, DR_EUNSUPPORTED, "%s is UTF-16: iconv -f utf16 -t utf8 '%s'", r->f->path, r->f->path);
    size_t i = r->at;
    while (i < r->n && strchr(" \t\r\n", r->p[i]) && r->p[i]) i++;
    char c = i < r->n ? r->p[i] : 0;
    if (r->f->o.format == RECORDS_AUTO)
        r->f->o.format = c == '{' && !ends_in(r->f->path, ".txt") ? RECORDS_JSONL :
                      ends_in(r->f->path, ".csv") ? RECORDS_CSV :
                      ends_in(r->f->path, ".tsv") ? RECORDS_TSV :
                      ends_in(r->f->path, ".jsonl") || ends_in(r->f->path, ".json") ? RECORDS_JSONL :
                      RECORDS_TEXT;
    if (r->f->o.format == RECORDS_JSONL && c == '[')
        return err_set(e, DR_EUNSUPPORTED, "%s is one JSON array; lines of objects are read: "
                       "jq -c '.[]' '%s'", r->f->path, r->f->path);
    r->f->delimiter = r->f->o.format == RECORDS_TSV ? '\t' : ',';
    return r->f->o.format == RECORDS_CSV || r->f->o.format == RECORDS_TSV ? csv_head(r, e) : DR_OK;
}

records *records_open(const char *path, const records_opt *o, dr_err *e)
{
    records *r = mem_zalloc(1, sizeof *r);
    if (r) r->f = mem_zalloc(1, sizeof *r->f);
    if (!r || !r->f || !(r->f->path = mem_strdup(path))) {
        records_file_free(records_close(r));
        err_nomem(e, sizeof *r, "a file being read");
        return NULL;
    }
    r->f->o = *o, r->line = 1;
    if (!r->f->o.field) r->f->o.field = "text";
    if ((r->in = text_in_open(path, e)) && !look(r, e)) return r;
    records_file_free(records_close(r));
    return NULL;
}

uint64_t records_taken(const records *r) { return text_in_taken(r->in); }

records_file *records_close(records *r)
{
    if (!r) return NULL;
    records_file *f = r->f;
    text_in_close(r->in);
    mem_free(r->p);
    mem_free(r);
    return f;
}

void records_file_free(records_file *f)
{
    if (!f) return;
    mem_free(f->path);
    mem_free(f);
}

static int json_text(const records_file *f, const record *at, span line, buf *text, dr_err *e)
{
    dr_err why = {0};
    json_t *j = json_read(line.p, line.n, JSON_BUDGET + 2 * line.n, "", &why);
    if (!j && why.code == DR_ENOMEM) return err_nomem(e, line.n, "a line of JSON");
    if (!j) {
        /* jansson counts lines too, and this is one */
        const char *says = !strncmp(why.msg, ": line 1", 8) ? why.msg + 8 : why.msg;
        return err_set(e, why.code, "%s line %" PRId64 "%s", f->path, at->line, says);
    }
    const json_t *v = json_object_get(j, f->o.field);
    int rc = DR_OK;
    if (json_is_string(v)) buf_put(text, json_string_value(v), json_string_length(v));
    else
        rc = err_set(e, DR_EFORMAT, !json_is_object(j) ? "%s line %" PRId64 " is not a JSON object; \"%s\" "
                     "of one is wanted" : v ? "%s line %" PRId64 ": field \"%s\" is not a string" :
                     "%s line %" PRId64 " has no field \"%s\"", f->path, at->line, f->o.field);
    json_decref(j);
    return rc;
}

static int csv_text(const records_file *f, const record *at, span line, buf *text, dr_err *e)
{
    buf field = { .cap_max = RECORD_MAX };
    const char *p = line.p, *stop = p + line.n, *why = NULL;
    bool end = false;
    int n = 0;
    for (; !end && !csv_field(f, &p, stop, &field, &end, &why); n++)
        if (n == f->column) buf_put(text, buf_str(&field), field.n);
    bool bad = field.bad;
    buf_free(&field);
    if (bad) return err_nomem(e, line.n, "a line of CSV");
    if (why) return fail(f, at->line, e, why);
    if (n != f->n_columns)
        return err_set(e, DR_EFORMAT, "%s line %" PRId64 " has %d fields; the first line names %d", f->path,
                       at->line, n, f->n_columns);
    return DR_OK;
}

/* Byte where text stops being UTF-8; n: nowhere. */
static size_t not_utf8(const char *text, size_t n)
{
    const uint8_t *p = (const uint8_t *)text, *end = p + n;
    int k;
    while (p < end) {
        uint64_t w;
        while (end - p >= 8 && (memcpy(&w, p, 8), !(w & 0x8080808080808080u))) p += 8;
        if (p == end) break;
        if (utf8_get(p, end, &k) == UTF8_BAD) break;
        p += k;
    }
    return n - (size_t)(end - p);
}

int record_text(const chunk *c, int64_t i, buf *text, dr_err *e)
{
    const record *at = &c->rec[i];
    const records_file *f = at->from;
    span s = { c->text + at->at, at->n };
    int rc = DR_OK;
    buf_reset(text);
    if (f->o.format == RECORDS_JSONL) {
        rc = json_text(f, at, s, text, e);
    } else if (f->o.format == RECORDS_TEXT) {
        bool whole = !by_line(f) && !f->o.separator && f->o.split == SPLIT_FILE;
        while (!whole && s.n && strchr("\r\n", s.p[s.n - 1]) && s.p[s.n - 1]) s.n--;
        buf_put(text, s.p, s.n);
    } else {
        rc = csv_text(f, at, csv_line(s), text, e);
    }
    if (!rc && text->bad) rc = err_nomem(e, at->n, "a document");
    if (rc || f->o.format == RECORDS_JSONL) return rc;
    size_t bad = not_utf8(buf_str(text), text->n);
    if (bad == text->n) return DR_OK;
    int64_t line = at->line;
    for (size_t k = 0; k < bad; k++) line += buf_str(text)[k] == '\n';
    return err_set(e, DR_EFORMAT, "%s line %" PRId64 ": byte 0x%02x is not UTF-8 (iconv -f latin1 -t "
                   "utf8 makes it so, if it is Latin-1)", f->path, line, (uint8_t)buf_str(text)[bad]);
}

void chunk_reset(chunk *c)
{
    c->n = 0, c->n_rec = 0;
}

void chunk_free(chunk *c)
{
    mem_free(c->text);
    mem_free(c->rec);
    *c = (chunk){0};
}
