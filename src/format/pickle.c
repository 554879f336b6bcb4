/* pickle.c - see pickle.h.
 *
 * A value is one word: its kind and 56 bits of what it is. Texts are places in the pickle, tuples
 * places in a list of words, the rest numbers into tables. Nothing is ever copied or walked
 * deeply, so a pickle costs time and memory in proportion to its bytes, whatever it says. */
#include "format/pickle.h"
#include <inttypes.h>
#include "base/mem.h"
#include "format/rd.h"
#include "format/safetensors.h"

enum { STACK_MAX = 1 << 16, PICKLE_MAX = (1 << 28) - 1 };

typedef uint64_t word;
enum { V_MARK, V_NONE, V_BOOL, V_INT, V_FLOAT, V_TEXT, V_TUPLE, V_LIST, V_DICT, V_GLOBAL, V_STORAGE,
       V_TENSOR };
static const char *const kind_name[] = {
    "a mark", "None", "a truth value", "a number", "a real number", "a text", "a tuple", "a list",
    "a dictionary", "a global", "a storage", "a tensor",
};

enum { BITS = 56 };
#define LOW (((word)1 << BITS) - 1)
static word make(int kind, uint64_t v) { return (word)kind << BITS | (v & LOW); }
static int kind_of(word w) { return (int)(w >> BITS); }
static uint64_t value_of(word w) { return w & LOW; }
static int64_t int_of(word w) { return (int64_t)(w << (64 - BITS)) >> (64 - BITS); }

/* What a pickle may name. st: the safetensors name of the element type. */
enum { G_TENSOR_V2, G_TENSOR_V3, G_PARAMETER, G_ORDERED_DICT, G_SIZE, G_UNTYPED, G_STORAGE,
       G_DTYPE };
static const struct { const char *module, *name; int what; const char *st; } globals[] = {
    { "torch._utils", "_rebuild_tensor_v2", G_TENSOR_V2, NULL },
    { "torch._utils", "_rebuild_tensor_v3", G_TENSOR_V3, NULL },
    { "torch._utils", "_rebuild_parameter", G_PARAMETER, NULL },
    { "collections", "OrderedDict", G_ORDERED_DICT, NULL },
    { "torch", "Size", G_SIZE, NULL },
    { "torch.storage", "UntypedStorage", G_UNTYPED, NULL },
    { "torch", "UntypedStorage", G_UNTYPED, NULL },
    { "torch", "FloatStorage", G_STORAGE, "F32" },
    { "torch", "HalfStorage", G_STORAGE, "F16" },
    { "torch", "BFloat16Storage", G_STORAGE, "BF16" },
    { "torch", "DoubleStorage", G_STORAGE, "F64" },
    { "torch", "LongStorage", G_STORAGE, "I64" },
    { "torch", "IntStorage", G_STORAGE, "I32" },
    { "torch", "ShortStorage", G_STORAGE, "I16" },
    { "torch", "CharStorage", G_STORAGE, "I8" },
    { "torch", "ByteStorage", G_STORAGE, "U8" },
    { "torch", "BoolStorage", G_STORAGE, "BOOL" },
    { "torch", "ComplexFloatStorage", G_STORAGE, "C64" },
    { "torch", "float32", G_DTYPE, "F32" },
    { "torch", "float16", G_DTYPE, "F16" },
    { "torch", "bfloat16", G_DTYPE, "BF16" },
    { "torch", "float64", G_DTYPE, "F64" },
    { "torch", "int64", G_DTYPE, "I64" },
    { "torch", "int32", G_DTYPE, "I32" },
    { "torch", "int16", G_DTYPE, "I16" },
    { "torch", "int8", G_DTYPE, "I8" },
    { "torch", "uint64", G_DTYPE, "U64" },
    { "torch", "uint32", G_DTYPE, "U32" },
    { "torch", "uint16", G_DTYPE, "U16" },
    { "torch", "uint8", G_DTYPE, "U8" },
    { "torch", "bool", G_DTYPE, "BOOL" },
    { "torch", "float8_e4m3fn", G_DTYPE, "F8_E4M3" },
    { "torch", "float8_e5m2", G_DTYPE, "F8_E5M2" },
    { "torch", "float8_e8m0fnu", G_DTYPE, "F8_E8M0" },
};

typedef struct {
    span key;
    int global;                      /* its class in the table above */
    uint64_t count;                  /* as the pickle says: elements, or bytes if untyped */
} vm_storage;

typedef struct { void *p; size_t n, cap; } list;

typedef struct {
    const uint8_t *base;
    rd r;
    size_t left;                     /* bytes of memory that may still be taken */
    list stack, memo, cell;          /* words */
    list storage, tensor;            /* vm_storage; pickle_tensor, `storage` numbering the former */
    list item;                       /* what was put into a dictionary */
    uint32_t n_dicts;
    dr_err *e;
} vm;

/* A tensor put into a dictionary under a name. */
typedef struct { span name; uint32_t dict, tensor; } dict_item;

static int broken(vm *v, const char *what)
{
    return err_set(v->e, DR_EFORMAT, "the pickle is broken at byte %zu: %s",
                   (size_t)(v->r.p - v->base), what);
}

/* Room for `more` entries of `size` bytes. */
static int room(vm *v, list *l, size_t more, size_t size)
{
    if (more <= l->cap - l->n) return DR_OK;
    size_t cap = l->cap + l->cap / 2 + 64;
    if (cap - l->n < more) cap = l->n + more;
    if (cap > v->left / size)
        return err_set(v->e, DR_EFORMAT, "the pickle would take more memory than its size "
                       "warrants: it is no list of tensors");
    void *p = mem_realloc(l->p, cap * size);
    if (!p) return err_nomem(v->e, cap * size, "pickle");
    v->left -= (cap - l->cap) * size;
    l->p = p, l->cap = cap;
    return DR_OK;
}

static int add(vm *v, list *l, const void *x, size_t size)
{
    int rc = room(v, l, 1, size);
    if (rc == DR_OK) memcpy((char *)l->p + l->n++ * size, x, size);
    return rc;
}

static word *words(const list *l) { return l->p; }

static int push(vm *v, word w)
{
    if (v->stack.n >= STACK_MAX) return broken(v, "more than 65,536 values wait on its stack");
    return add(v, &v->stack, &w, sizeof w);
}

static int push_kind(vm *v, int kind, uint64_t x) { return push(v, make(kind, x)); }

/* The top value, which must be there and no mark. */
static int pop(vm *v, word *w)
{
    if (!v->stack.n || kind_of(words(&v->stack)[v->stack.n - 1]) == V_MARK)
        return broken(v, "a value is taken from an empty stack");
    *w = words(&v->stack)[--v->stack.n];
    return DR_OK;
}

static int pop_kind(vm *v, int kind, word *w)
{
    int rc = pop(v, w);
    if (rc == DR_OK && kind_of(*w) != kind)
        rc = err_set(v->e, DR_EFORMAT, "the pickle is broken at byte %zu: %s where %s is wanted",
                     (size_t)(v->r.p - v->base), kind_name[kind_of(*w)], kind_name[kind]);
    return rc;
}

/* How many values lie above the last mark. */
static int above_mark(vm *v, size_t *n)
{
    for (*n = 0; *n < v->stack.n; ++*n)
        if (kind_of(words(&v->stack)[v->stack.n - 1 - *n]) == V_MARK) return DR_OK;
    return broken(v, "there is no mark");
}

static span text_of(const vm *v, word w)
{
    return (span){ (const char *)v->base + (value_of(w) >> 28), value_of(w) & PICKLE_MAX };
}

static int push_text(vm *v, uint64_t n)
{
    uint64_t at = (uint64_t)(v->r.p - v->base);
    if (!rd_bytes(&v->r, n)) return DR_OK;             // the loop sees the end of the bytes
    return push_kind(v, V_TEXT, at << 28 | n);
}

/* Is one of the top n values a mark? */
static bool marked(const vm *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (kind_of(words(&v->stack)[v->stack.n - 1 - i]) == V_MARK) return true;
    return false;
}

/* ---- tuples ---- */

/* The top n values become one. */
static int push_tuple(vm *v, size_t n)
{
    if (v->stack.n < n || marked(v, n)) return broken(v, "a value is taken from an empty stack");
    int rc = room(v, &v->cell, n + 1, sizeof(word));
    if (rc != DR_OK) return rc;
    uint64_t at = v->cell.n;
    words(&v->cell)[v->cell.n++] = n;
    for (size_t i = 0; i < n; i++)
        words(&v->cell)[v->cell.n++] = words(&v->stack)[v->stack.n - n + i];
    v->stack.n -= n;
    return push_kind(v, V_TUPLE, at);
}

static size_t tuple_len(const vm *v, word w) { return (size_t)words(&v->cell)[value_of(w)]; }
static word tuple_at(const vm *v, word w, size_t i)
{
    return words(&v->cell)[value_of(w) + 1 + i];
}

/* Entry i of a tuple, which must be of this kind. */
static int tuple_get(vm *v, word tuple, size_t i, int kind, word *x)
{
    if (i >= tuple_len(v, tuple)) return broken(v, "a tuple is too short");
    *x = tuple_at(v, tuple, i);
    if (kind_of(*x) == kind) return DR_OK;
    return err_set(v->e, DR_EFORMAT, "the pickle is broken at byte %zu: %s where %s is wanted",
                   (size_t)(v->r.p - v->base), kind_name[kind_of(*x)], kind_name[kind]);
}

/* ---- globals ---- */

static int push_global(vm *v, span module, span name)
{
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (span_is(module, globals[i].module) && span_is(name, globals[i].name))
            return push_kind(v, V_GLOBAL, i);
    return err_set(v->e, DR_EUNSUPPORTED, "the pickle wants " SPAN_FMT "." SPAN_FMT ", which is "
                   "neither loaded nor called: only tensors are read", SPAN_ARG(module),
                   SPAN_ARG(name));
}

/* A line of the old text instructions, without its end. */
static bool line(vm *v, span *s)
{
    const uint8_t *nl = memchr(v->r.p, '\n', (size_t)(v->r.end - v->r.p));
    if (!nl) {
        v->r.bad = true;
        return false;
    }
    *s = (span){ (const char *)v->r.p, (size_t)(nl - v->r.p) };
    v->r.p = nl + 1;
    return true;
}

static int global(vm *v)
{
    span module, name;
    return line(v, &module) && line(v, &name) ? push_global(v, module, name) : DR_OK;
}

static int stack_global(vm *v)
{
    word name, module;
    int rc;
    if ((rc = pop_kind(v, V_TEXT, &name)) || (rc = pop_kind(v, V_TEXT, &module))) return rc;
    return push_global(v, text_of(v, module), text_of(v, name));
}

/* ---- storages and tensors ---- */

/* ("storage", class, key, device, count), with a last None in files of old versions. */
static int persistent(vm *v)
{
    word t, tag, cls, key, count;
    int rc;
    if ((rc = pop_kind(v, V_TUPLE, &t)) || (rc = tuple_get(v, t, 0, V_TEXT, &tag)) ||
        (rc = tuple_get(v, t, 1, V_GLOBAL, &cls)) || (rc = tuple_get(v, t, 2, V_TEXT, &key)) ||
        (rc = tuple_get(v, t, 4, V_INT, &count)))
        return rc;
    int what = globals[value_of(cls)].what;
    if (!span_is(text_of(v, tag), "storage") || (what != G_STORAGE && what != G_UNTYPED) ||
        int_of(count) < 0)
        return broken(v, "a persistent id that is no storage");
    vm_storage s = { text_of(v, key), (int)value_of(cls), (uint64_t)int_of(count) };
    rc = add(v, &v->storage, &s, sizeof s);
    return rc != DR_OK ? rc : push_kind(v, V_STORAGE, v->storage.n - 1);
}

/* Sizes and strides into *x: how many elements, and whether they follow each other. */
static int shape(vm *v, pickle_tensor *x, word size, word stride)
{
    size_t n = tuple_len(v, size);
    if (n > PICKLE_MAX_DIMS)
        return err_set(v->e, DR_EFORMAT, "a tensor has %zu dimensions, up to %d are possible", n,
                       PICKLE_MAX_DIMS);
    if (tuple_len(v, stride) != n) return broken(v, "sizes and strides of different number");
    x->n_dims = (int)n;
    x->contiguous = true;
    x->count = 1;
    uint64_t step = 1;
    for (size_t i = n; i-- > 0;) {
        word d, s;
        int rc;
        if ((rc = tuple_get(v, size, i, V_INT, &d)) || (rc = tuple_get(v, stride, i, V_INT, &s)))
            return rc;
        if (int_of(d) < 0 || int_of(s) < 0) return broken(v, "a size or stride below 0");
        x->dim[i] = int_of(d);
        if (__builtin_mul_overflow(x->count, (uint64_t)x->dim[i], &x->count))
            return broken(v, "a tensor with more elements than can be counted");
        if (x->dim[i] != 1 && (uint64_t)int_of(s) != step) x->contiguous = false;
        step = x->dim[i] ? x->count : step;
    }
    if (!x->count) x->contiguous = true;
    return DR_OK;
}

/* (storage, offset, size, stride, requires_grad, hooks [, dtype]) */
static int tensor_of(vm *v, word args, bool v3)
{
    word st, off, size, stride, dtype;
    int rc;
    if ((rc = tuple_get(v, args, 0, V_STORAGE, &st)) || (rc = tuple_get(v, args, 1, V_INT, &off)) ||
        (rc = tuple_get(v, args, 2, V_TUPLE, &size)) ||
        (rc = tuple_get(v, args, 3, V_TUPLE, &stride)))
        return rc;
    const vm_storage *s = (vm_storage *)v->storage.p + value_of(st);
    int cls = s->global;
    if (v3) {
        if ((rc = tuple_get(v, args, 6, V_GLOBAL, &dtype))) return rc;
        if (globals[value_of(dtype)].what != G_DTYPE) return broken(v, "a type is wanted");
        cls = (int)value_of(dtype);
    }
    if (!globals[cls].st || v3 != (globals[s->global].what == G_UNTYPED))
        return broken(v, "a tensor of no type");
    pickle_tensor x = { .storage = (uint32_t)value_of(st) };
    if (!st_type_find(globals[cls].st, &x.type, &x.bits)) return broken(v, "a tensor of no type");
    if ((rc = shape(v, &x, size, stride)) != DR_OK) return rc;
    uint64_t held = v3 ? s->count / (uint64_t)(x.bits / 8) : s->count;
    if (int_of(off) < 0) return broken(v, "an offset below 0");
    x.first = (uint64_t)int_of(off);
    if (x.contiguous && x.count && (x.first > held || x.count > held - x.first))
        return err_set(v->e, DR_EFORMAT, "a tensor of %" PRIu64 " elements from %" PRIu64 " on lies "
                       "outside its storage of %" PRIu64, x.count, x.first, held);
    rc = add(v, &v->tensor, &x, sizeof x);
    return rc != DR_OK ? rc : push_kind(v, V_TENSOR, v->tensor.n - 1);
}

static int reduce(vm *v)
{
    word args, fn, x;
    int rc;
    if ((rc = pop_kind(v, V_TUPLE, &args)) || (rc = pop_kind(v, V_GLOBAL, &fn))) return rc;
    switch (globals[value_of(fn)].what) {
    case G_TENSOR_V2: return tensor_of(v, args, false);
    case G_TENSOR_V3: return tensor_of(v, args, true);
    case G_PARAMETER:
        rc = tuple_get(v, args, 0, V_TENSOR, &x);
        return rc != DR_OK ? rc : push(v, x);
    case G_SIZE:
        rc = tuple_get(v, args, 0, V_TUPLE, &x);
        return rc != DR_OK ? rc : push(v, x);
    case G_ORDERED_DICT:
        if (tuple_len(v, args)) return broken(v, "an OrderedDict made of something");
        return push_kind(v, V_DICT, v->n_dicts++);
    default:
        return broken(v, "a type is called as a function");
    }
}

/* ---- dictionaries and lists ---- */

static int set_item(vm *v, word dict, word key, word x)
{
    if (kind_of(key) != V_TEXT || kind_of(x) != V_TENSOR) return DR_OK;
    dict_item i = { text_of(v, key), (uint32_t)value_of(dict), (uint32_t)value_of(x) };
    return add(v, &v->item, &i, sizeof i);
}

/* The n values on top are keys and values of the dictionary below them (and below a mark). */
static int set_items(vm *v, size_t n, bool mark)
{
    if (n % 2) return broken(v, "a key without a value");
    if (v->stack.n < n + 1 + mark || marked(v, n))
        return broken(v, "a value is taken from an empty stack");
    const word *top = words(&v->stack) + v->stack.n - n;
    word dict = top[mark ? -2 : -1];
    if (kind_of(dict) != V_DICT) return broken(v, "an item for what is no dictionary");
    for (size_t i = 0; i < n; i += 2) {
        int rc = set_item(v, dict, top[i], top[i + 1]);
        if (rc != DR_OK) return rc;
    }
    v->stack.n -= n + mark;
    return DR_OK;
}

/* Lists only carry what no tensor needs: what is put in is dropped. */
static int append(vm *v, size_t n, bool mark)
{
    if (v->stack.n < n + 1 + mark || marked(v, n) ||
        kind_of(words(&v->stack)[v->stack.n - n - 1 - mark]) != V_LIST)
        return broken(v, "an entry for what is no list");
    v->stack.n -= n + mark;
    return DR_OK;
}

/* State for an object: an OrderedDict's _metadata, which says nothing of tensors. */
static int build(vm *v)
{
    word state;
    int rc = pop(v, &state);
    if (rc != DR_OK) return rc;
    if (!v->stack.n || kind_of(words(&v->stack)[v->stack.n - 1]) != V_DICT)
        return broken(v, "state for what is no dictionary");
    return DR_OK;
}

/* ---- memo and numbers ---- */

static int put(vm *v, uint64_t i)
{
    if (!v->stack.n || kind_of(words(&v->stack)[v->stack.n - 1]) == V_MARK)
        return broken(v, "nothing to remember");
    if (i > v->memo.n)
        return broken(v, "a place of its memo is used before those below it");
    word w = words(&v->stack)[v->stack.n - 1];
    if (i < v->memo.n) {
        words(&v->memo)[i] = w;
        return DR_OK;
    }
    return add(v, &v->memo, &w, sizeof w);
}

static int get(vm *v, uint64_t i)
{
    if (i >= v->memo.n) return broken(v, "its memo holds no such value");
    return push(v, words(&v->memo)[i]);
}

static uint64_t little(vm *v, size_t n)
{
    const uint8_t *p = rd_bytes(&v->r, n);
    uint64_t x = 0;
    for (size_t i = 0; p && i < n; i++) x |= (uint64_t)p[i] << 8 * i;
    return x;
}

static int push_int(vm *v, int64_t x)
{
    if (x < -((int64_t)1 << (BITS - 1)) || x >= (int64_t)1 << (BITS - 1))
        return broken(v, "a number beyond all sizes");
    return push_kind(v, V_INT, (uint64_t)x);
}

/* Two's complement of n bytes. */
static int push_long(vm *v, size_t n)
{
    if (n > 8) return broken(v, "a number beyond all sizes");
    uint64_t x = little(v, n);
    if (n && n < 8 && x >> (8 * n - 1)) x |= ~(uint64_t)0 << 8 * n;
    return v->r.bad ? DR_OK : push_int(v, (int64_t)x);
}

/* ---- the instructions ---- */

static const char *const op_name[256] = {
    ['0'] = "POP", ['1'] = "POP_MARK", ['2'] = "DUP", ['F'] = "FLOAT", ['I'] = "INT",
    ['L'] = "LONG", ['P'] = "PERSID", ['S'] = "STRING", ['V'] = "UNICODE", ['d'] = "DICT",
    ['g'] = "GET", ['i'] = "INST", ['l'] = "LIST", ['o'] = "OBJ", ['p'] = "PUT",
    [0x81] = "NEWOBJ", [0x82] = "EXT1", [0x83] = "EXT2", [0x84] = "EXT4", [0x8b] = "LONG4",
    ['B'] = "BINBYTES", ['C'] = "SHORT_BINBYTES", [0x8d] = "BINUNICODE8", [0x8e] = "BINBYTES8",
    [0x8f] = "EMPTY_SET", [0x90] = "ADDITEMS", [0x91] = "FROZENSET", [0x92] = "NEWOBJ_EX",
    [0x96] = "BYTEARRAY8", [0x97] = "NEXT_BUFFER", [0x98] = "READONLY_BUFFER",
};

static int refuse_op(vm *v, uint8_t op)
{
    size_t at = (size_t)(v->r.p - v->base) - 1;
    if (op_name[op])
        return err_set(v->e, DR_EUNSUPPORTED, "the pickle has the instruction %s at byte %zu, which "
                       "is not carried out: torch.save writes none for tensors", op_name[op], at);
    return err_set(v->e, DR_EFORMAT, "the pickle is broken at byte %zu: 0x%02x is no instruction",
                   at, op);
}

static int with_mark(vm *v, int (*fn)(vm *, size_t, bool))
{
    size_t n;
    int rc = above_mark(v, &n);
    return rc != DR_OK ? rc : fn(v, n, true);
}

static int mark_tuple(vm *v)
{
    size_t n;
    int rc = above_mark(v, &n);
    if (rc != DR_OK || (rc = push_tuple(v, n)) != DR_OK) return rc;
    words(&v->stack)[v->stack.n - 2] = words(&v->stack)[v->stack.n - 1];      // over the mark
    v->stack.n--;
    return DR_OK;
}

static int protocol(vm *v)
{
    uint64_t x = little(v, 1);
    if (v->r.bad || x <= 5) return DR_OK;
    return err_set(v->e, DR_EUNSUPPORTED, "pickle protocol %" PRIu64 ", up to 5 are read", x);
}

static int step(vm *v, uint8_t op)
{
    switch (op) {
    case 0x80: return protocol(v);                                    // PROTO
    case 0x95: little(v, 8); return DR_OK;                            // FRAME: only for buffering
    case '(': return push_kind(v, V_MARK, 0);
    case 'N': return push_kind(v, V_NONE, 0);
    case 0x88: return push_kind(v, V_BOOL, 1);
    case 0x89: return push_kind(v, V_BOOL, 0);
    case 'J': return push_int(v, (int32_t)(uint32_t)little(v, 4));    // BININT
    case 'K': return push_int(v, (int64_t)little(v, 1));
    case 'M': return push_int(v, (int64_t)little(v, 2));
    case 0x8a: return push_long(v, (size_t)little(v, 1));             // LONG1
    case 'G': rd_bytes(&v->r, 8); return push_kind(v, V_FLOAT, 0);    // BINFLOAT
    case 'X': case 'T': return push_text(v, little(v, 4));            // BINUNICODE, BINSTRING
    case 0x8c: case 'U': return push_text(v, little(v, 1));           // the same, short
    case ')': return push_tuple(v, 0);
    case 0x85: case 0x86: case 0x87: return push_tuple(v, op - 0x84u);
    case 't': return mark_tuple(v);
    case ']': return push_kind(v, V_LIST, 0);
    case 'a': return append(v, 1, false);
    case 'e': return with_mark(v, append);
    case '}': return push_kind(v, V_DICT, v->n_dicts++);
    case 's': return set_items(v, 2, false);
    case 'u': return with_mark(v, set_items);
    case 'c': return global(v);
    case 0x93: return stack_global(v);
    case 'Q': return persistent(v);
    case 'R': return reduce(v);
    case 'b': return build(v);
    case 'q': return put(v, little(v, 1));
    case 'r': return put(v, little(v, 4));
    case 0x94: return put(v, v->memo.n);                              // MEMOIZE
    case 'h': return get(v, little(v, 1));
    case 'j': return get(v, little(v, 4));
    default: return refuse_op(v, op);
    }
}

static int run(vm *v)
{
    for (;;) {
        const uint8_t *op = rd_bytes(&v->r, 1);
        if (op && *op == '.') break;
        int rc = op ? step(v, *op) : DR_OK;
        if (v->r.bad)
            return err_set(v->e, DR_EFORMAT, "the pickle of %zu bytes ends in the middle",
                           (size_t)(v->r.end - v->base));
        if (rc != DR_OK) return rc;
    }
    if (v->stack.n != 1 || kind_of(words(&v->stack)[0]) != V_DICT)
        return err_set(v->e, DR_EFORMAT, "the file holds no dictionary of tensors: its pickle is "
                       "%s", v->stack.n == 1 ? kind_name[kind_of(words(&v->stack)[0])] : "broken");
    return DR_OK;
}

/* The root's items as the table that is handed out. */
static int result(vm *v, pickle *p)
{
    uint32_t root = (uint32_t)value_of(words(&v->stack)[0]);
    const dict_item *item = v->item.p;
    size_t n = 0;
    for (size_t i = 0; i < v->item.n; i++) n += item[i].dict == root;
    size_t all = n * sizeof *p->t, st = v->storage.n * sizeof *p->storage;
    if (all + st > v->left)
        return err_set(v->e, DR_EFORMAT, "the pickle would take more memory than its size "
                       "warrants: it is no list of tensors");
    p->t = mem_zalloc(n, sizeof *p->t);
    p->storage = mem_zalloc(v->storage.n, sizeof *p->storage);
    if (!p->t || !p->storage) return err_nomem(v->e, all + st, "table of tensors");
    for (size_t i = 0; i < v->item.n; i++) {
        if (item[i].dict != root) continue;
        pickle_tensor *t = &p->t[p->n++];
        *t = ((const pickle_tensor *)v->tensor.p)[item[i].tensor];
        t->name = item[i].name;
    }
    for (size_t i = 0; i < v->storage.n; i++) {
        const vm_storage *s = (const vm_storage *)v->storage.p + i;
        int type, bits = 8;
        if (globals[s->global].st) st_type_find(globals[s->global].st, &type, &bits);
        p->storage[i] = (pickle_storage){ s->key, s->count * (uint64_t)(bits / 8) };
    }
    p->n_storages = v->storage.n;
    return DR_OK;
}

int pickle_read(pickle *p, const void *bytes, size_t n, size_t budget, dr_err *e)
{
    *p = (pickle){0};
    if (n > PICKLE_MAX)
        return err_set(e, DR_EFORMAT, "a pickle of %zu bytes; tensors alone take far less", n);
    vm v = { .base = bytes, .r = { bytes, (const uint8_t *)bytes + n, false }, .left = budget,
             .e = e };
    int rc = run(&v);
    if (rc == DR_OK) rc = result(&v, p);
    if (rc != DR_OK) pickle_free(p);
    list *all[] = { &v.stack, &v.memo, &v.cell, &v.storage, &v.tensor, &v.item };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]->p);
    return rc;
}

void pickle_free(pickle *p)
{
    mem_free(p->t);
    mem_free(p->storage);
    *p = (pickle){0};
}
