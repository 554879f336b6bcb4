/* tok_spm.c - SentencePiece .model files of the BPE kind: a protocol buffer, read with a bounded
 * reader of its own. spec: sentencepiece_model.proto; field numbers are named below. Unknown
 * fields are passed over, as the format asks; unknown kinds of model are refused by name. */
#include "base/mem.h"
#include "format/rd.h"
#include "text/tok_priv.h"

enum { M_PIECES = 1, M_TRAINER = 2, M_NORMALIZER = 3, M_DENORMALIZER = 5 };     /* ModelProto */
enum { P_PIECE = 1, P_SCORE = 2, P_TYPE = 3 };                                  /* SentencePiece */
enum { T_MODEL_TYPE = 3, T_SUFFIX = 24, T_BYTE_FALLBACK = 35, T_UNK = 40, T_BOS = 41, T_EOS = 42 };
enum { N_NAME = 1, N_CHARSMAP = 2, N_DUMMY_PREFIX = 3, N_SQUEEZE = 4, N_ESCAPE = 5 };

typedef struct { uint32_t number; uint64_t v; span s; } field;      /* v: a number; s: bytes */

static uint64_t varint(rd *r)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const uint8_t *b = rd_bytes(r, 1);
        if (!b) return 0;
        v |= (uint64_t)(*b & 127) << shift;
        if (*b < 128) return v;
    }
    r->bad = true;
    return 0;
}

/* The next field of a message; false at its end, and when it is broken (r->bad). */
static bool next(rd *r, field *f)
{
    if (r->bad || r->p == r->end) return false;
    uint64_t tag = varint(r);
    *f = (field){ .number = (uint32_t)(tag >> 3), .s = { "", 0 } };
    if (tag >> 3 == 0 || tag >> 32) r->bad = true;
    switch (tag & 7) {
    case 0: f->v = varint(r); break;
    case 1: f->v = rd_u64(r); break;
    case 5: f->v = rd_u32(r); break;
    case 2: {
        uint64_t n = varint(r);
        const char *p = rd_bytes(r, n);
        if (p) f->s = (span){ p, (size_t)n };
        break;
    }
    default: r->bad = true;
    }
    return !r->bad;
}

static rd reader(span s)
{
    return (rd){ (const uint8_t *)s.p, (const uint8_t *)s.p + s.n, false };
}

typedef struct {
    uint64_t model_type, unk, bos, eos;
    bool suffix, byte_fallback, dummy_prefix, squeeze, escape;
    span charsmap, norm_name;
    uint64_t n;
    size_t bytes;
    bool denormalizer;
} spec;

static int broken(dr_err *e) { return err_set(e, DR_EFORMAT, "a broken SentencePiece model"); }

static int read_specs(span file, spec *q, dr_err *e)
{
    rd r = reader(file), in;
    field f, g;
    *q = (spec){ .model_type = 1, .bos = 1, .eos = 2, .dummy_prefix = true, .squeeze = true,
                 .escape = true, .charsmap = { "", 0 }, .norm_name = { "", 0 } };
    while (next(&r, &f)) {
        in = reader(f.s);
        if (f.number == M_PIECES) {
            q->n++, q->bytes += f.s.n;
        } else if (f.number == M_TRAINER) {
            while (next(&in, &g)) {
                if (g.number == T_MODEL_TYPE) q->model_type = g.v;
                if (g.number == T_SUFFIX) q->suffix = g.v;
                if (g.number == T_BYTE_FALLBACK) q->byte_fallback = g.v;
                if (g.number == T_UNK) q->unk = g.v;
                if (g.number == T_BOS) q->bos = g.v;
                if (g.number == T_EOS) q->eos = g.v;
            }
            if (in.bad) return broken(e);
        } else if (f.number == M_NORMALIZER) {
            while (next(&in, &g)) {
                if (g.number == N_NAME) q->norm_name = g.s;
                if (g.number == N_CHARSMAP) q->charsmap = g.s;
                if (g.number == N_DUMMY_PREFIX) q->dummy_prefix = g.v;
                if (g.number == N_SQUEEZE) q->squeeze = g.v;
                if (g.number == N_ESCAPE) q->escape = g.v;
            }
            if (in.bad) return broken(e);
        } else if (f.number == M_DENORMALIZER) {
            while (next(&in, &g))
                if (g.number == N_CHARSMAP && g.s.n) q->denormalizer = true;
        }
    }
    return r.bad ? broken(e) : 0;
}

static int check(const spec *q, dr_err *e)
{
    static const char *const kind[] = { "?", "unigram", "BPE", "word", "char" };
    if (q->model_type != 2)
        return err_set(e, DR_EUNSUPPORTED, "this SentencePiece model is of the kind %s; only BPE "
                       "is supported", kind[q->model_type < 5 ? q->model_type : 0]);
    if (q->suffix || !q->escape || q->denormalizer)
        return err_set(e, DR_EUNSUPPORTED, "SentencePiece option %s is not supported", q->suffix ?
                       "treat_whitespace_as_suffix" : q->denormalizer ? "denormalizer_spec" :
                       "escape_whitespaces=false");
    if (q->n > TOK_MAX_IDS - 64)
        return err_set(e, DR_EUNSUPPORTED, "a vocabulary of %llu pieces", (unsigned long long)q->n);
    return 0;
}

static int one_piece(tokenizer *t, int32_t id, span message, float *score, dr_err *e)
{
    rd r = reader(message);
    field f;
    span piece = { "", 0 };
    uint64_t type = TT_NORMAL;
    uint32_t bits = 0;
    while (next(&r, &f)) {
        if (f.number == P_PIECE) piece = f.s;
        if (f.number == P_SCORE) bits = (uint32_t)f.v;
        if (f.number == P_TYPE) type = f.v;
    }
    if (r.bad) return broken(e);
    memcpy(score, &bits, sizeof *score);
    if (type < TT_NORMAL || type > TT_BYTE || type == TT_UNUSED)
        return err_set(e, DR_EUNSUPPORTED, "SentencePiece: piece %d is of type %llu (%s), which is "
                       "not supported", id, (unsigned long long)type,
                       type == TT_UNUSED ? "unused" : "unknown");
    if (!vocab_set(&t->v, id, piece.p, piece.n, (int)type)) return broken(e);
    if (!piece.n || type == TT_NORMAL || type == TT_BYTE) return 0;
    /* User-defined symbols are looked for behind the normaliser, control ones before. */
    bool user = type == TT_USER;
    return added_put(user ? &t->norm : &t->raw, vocab_text(&t->v, id), id, user ? 0 : AT_SPECIAL,
                     e);
}

static int read_pieces(tokenizer *t, span file, float *score, dr_err *e)
{
    rd r = reader(file);
    field f;
    int32_t id = 0;
    int rc = 0;
    while (!rc && next(&r, &f))
        if (f.number == M_PIECES) rc = one_piece(t, id, f.s, &score[id], e), id++;
    return rc;
}

/* The precompiled map: the trie's size, the trie, and the strings it points into. */
static int set_charsmap(tokenizer *t, span map, dr_err *e)
{
    uint32_t n;
    norm_step s = { .kind = NORM_CHARSMAP };
    if (!map.n) return 0;
    if (map.n >= 4) memcpy(&n, map.p, 4);
    if (map.n < 8 || n > map.n - 5 || n % 4 || !n || map.p[map.n - 1])
        return err_set(e, DR_EFORMAT, "SentencePiece: a broken precompiled_charsmap");
    int rc = tok_keep(t, (span){ map.p + 4, n }, &s.a, e);
    if (!rc) rc = tok_keep(t, (span){ map.p + 4 + n, map.n - 4 - n }, &s.b, e);
    if (!rc) t->norms[t->n_norms++] = s;
    return rc;
}

static int load(tokenizer *t, span file, dr_err *e)
{
    spec q;
    int rc = read_specs(file, &q, e);
    if (!rc) rc = check(&q, e);
    if (!rc) rc = vocab_init(&t->v, (int32_t)q.n + 64, q.bytes + 256, e);
    if (rc) return rc;
    float *score = mem_zalloc(q.n, sizeof *score);
    if (!score) return err_nomem(e, q.n * sizeof *score, "scores");
    rc = read_pieces(t, file, score, e);
    t->v.n = t->v.n_ids = (int32_t)q.n;
    if (!rc) rc = tok_rank_scores(t, score, e);
    mem_free(score);
    if (!rc) rc = vocab_index(&t->v, 64, e);
    if (!rc) rc = merges_init(&t->m, (uint32_t)q.n * 2, e);
    if (!rc) rc = merges_from_splits(&t->m, &t->v, true, file.n / 6 + 65536, e);
    if (rc) return rc;
    static const norm_step mark = { NORM_REPLACE, { " ", 1 }, { TOK_MARK, 3 } };
    static const norm_step front = { NORM_PREPEND, { TOK_MARK, 3 }, { "", 0 } };
    if ((rc = set_charsmap(t, q.charsmap, e))) return rc;
    if (q.squeeze) t->norms[t->n_norms++] = (norm_step){ .kind = NORM_SQUEEZE };
    if (q.dummy_prefix) t->norms[t->n_norms++] = front;
    t->norms[t->n_norms++] = mark;
    /* Marks that the text itself ends with are taken for spaces, too. */
    if (q.squeeze) t->norms[t->n_norms++] = (norm_step){ .kind = NORM_TRIM_MARKS };
    t->spm = t->fuse_unk = true;
    t->byte_fallback = q.byte_fallback;
    t->drop_space = q.dummy_prefix || q.squeeze;
    if (q.unk < q.n) t->unk = (int32_t)q.unk;
    if (q.bos < q.n) t->bos = (int32_t)q.bos, t->wants_bos = true;
    if (q.eos < q.n) t->eos = (int32_t)q.eos;
    return tok_finish(t, "SentencePiece BPE", "", e);
}

tokenizer *tok_from_spm(span file, dr_err *e)
{
    tokenizer *t = tok_new(e);
    if (t && load(t, file, e)) {
        tok_free(t);
        return NULL;
    }
    return t;
}
