// code.js - colours for code, laid over one text node by the browser's highlight registry: no element is
// made for a word, a growing block is only appended to, and copying gives exactly the text.

const words = s => new Set(s.split(' '));
const C = words('auto break case catch char class const continue default defer delete do double else enum export extends extern '
    + 'false final finally float fn for foreach from func function go goto if impl implements import in inline instanceof int '
    + 'interface let long loop match mod mut namespace new nil null nullptr of operator override package private protected pub '
    + 'public range ref return self short signed sizeof static struct super switch template this throw throws trait true try '
    + 'type typedef typename typeof undefined union unsafe unsigned use using val var virtual void volatile when where while '
    + 'with yield async await bool string chan select map map as is not');
const PY = words('and as assert async await break case class continue def del elif else except False finally for from global if '
    + 'import in is lambda match None nonlocal not or pass raise return self True try while with yield begin end module do nil '
    + 'then unless until require puts elsif function local repeat require');
const SH = words('if then else elif fi for in do done while until case esac function return local export set unset echo cd exit '
    + 'source sudo read shift trap eval exec test true false FROM RUN COPY CMD ENTRYPOINT ENV WORKDIR EXPOSE ARG');
const SQL = words('select from where and or not insert into values update set delete create table drop alter add primary key '
    + 'foreign references join left right inner outer full on as group by order having limit offset union all distinct case when '
    + 'then else end null is in like between exists index view with default unique check asc desc count sum avg min max int '
    + 'integer text varchar boolean date timestamp begin commit rollback');
const DATA = words('true false null yes no on off True False None');

const STR = /"(?:[^"\\\n]|\\[^])*(?:"|$)?|'(?:[^'\\\n]|\\[^])*(?:'|$)?/y;
const NUM = /(?:0[xX][\da-fA-F_]+|0b[01_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)[a-zA-Z%]*/y;
const WORD = /[\p{L}_$@][\p{L}\p{N}_$-]*/uy, IDENT = /[\p{L}_$@][\p{L}\p{N}_$]*/uy;
const kinds = {
    c: {rem: /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)|^[ \t]*#[ \t]*(?:include|define|if|ifdef|ifndef|endif|else|elif|pragma|undef)[^\n]*/my, str: [/`(?:[^`\\]|\\[^])*(?:`|$)/y, STR], word: IDENT, set: C},
    py: {rem: /#[^\n]*|--[^\n]*/y, str: [/[rbfu]{0,2}(?:"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$))/iy, STR], word: IDENT, set: PY},
    sh: {rem: /#[^\n]*/y, str: [STR], word: WORD, set: SH, sigil: /\$\{?[\w@#?*]+\}?/y, apart: true},
    sql: {rem: /--[^\n]*|\/\*[^]*?(?:\*\/|$)/y, str: [STR], word: IDENT, set: SQL, fold: true},
    data: {rem: /#[^\n]*|\/\/[^\n]*/y, key: /"(?:[^"\\\n]|\\.)*"(?=\s*:)|[\w.-]+(?=\s*[:=](?:\s|$))/y, str: [STR], word: WORD, set: DATA},
    css: {rem: /\/\*[^]*?(?:\*\/|$)/y, str: [STR], key: /[\w-]+(?=\s*:)/y, word: /[@.#]?[\p{L}_-][\p{L}\p{N}_-]*/uy, set: new Set()},
    xml: {rem: /<!--[^]*?(?:-->|$)|<![^>]*>?/y, str: [/(?<==\s*)(?:"[^"]*(?:"|$)|'[^']*(?:'|$))/y], key: /<\/?[\w:-]+|\/?>/y, word: /[\w:-]+(?==)/y, set: null},
    diff: {rem: /^@@[^\n]*|^(?:---|\+\+\+|diff|index)[^\n]*/my, str: [/^\+[^\n]*/my], key: /^-[^\n]*/my, word: null},
};
const LANG = {};
for (const [k, names] of Object.entries({
    c: 'c h cpp c++ cc hpp cxx cs c# csharp java js javascript jsx ts typescript tsx go golang rust rs kotlin kt swift php scala dart '
        + 'zig cuda glsl hlsl objc objective-c node mjs solidity groovy',
    py: 'py python python3 rb ruby lua elixir julia jl r perl pl haskell hs nim makefile make cmake',
    sh: 'sh bash shell zsh console fish dockerfile docker powershell ps1 terminal', sql: 'sql sqlite mysql postgres postgresql plsql',
    data: 'json jsonc json5 yaml yml toml ini conf env properties', css: 'css scss less', xml: 'html xml svg vue xhtml markup', diff: 'diff patch',
})) for (const n of names.split(' ')) LANG[n] = kinds[k];

const able = typeof CSS !== 'undefined' && CSS.highlights && typeof Highlight !== 'undefined';
const sets = {};
if (able) for (const k of ['rem', 'str', 'num', 'kw', 'fn']) CSS.highlights.set('c-' + k, sets[k] = new Highlight());
const state = new WeakMap(), live = new Set();

// Colour this element's only text node, whose text is `lang`; again when it grew.
export function highlight(el, lang) {
    const kind = LANG[lang], node = el.firstChild;
    if (!able || !kind || !node || node.data.length > 200000) return;
    const s = node.data;
    let st = state.get(el);
    if (st && st.node === node && st.text === s) return;
    if (!st || st.node !== node || !s.startsWith(st.text)) {
        drop(st);
        st = {node, text: '', safe: 0, marks: []};
        state.set(el, st);
        live.add(new WeakRef(el));
    }
    // what was read last may have been cut: it is read again
    while (st.marks.length && st.marks[st.marks.length - 1].from >= st.safe) unmark(st.marks.pop());
    let at = st.safe, last = at;
    while (at < s.length) {
        const [k, to] = token(kind, s, at);
        if (to < s.length) last = to;
        if (k) mark(st, k, at, to);
        at = to;
    }
    // the beginning of the line before: line-wise rules look behind
    st.safe = Math.max(st.safe, s.lastIndexOf('\n', last) >= st.safe && !within(st, s.lastIndexOf('\n', last)) ? s.lastIndexOf('\n', last) + 1 : st.safe);
    st.text = s;
}

const within = (st, p) => st.marks.some(m => m.from < p && p < m.to);

function hit(re, s, at) {
    re.lastIndex = at;
    const m = re.exec(s);
    return m && m[0] ? at + m[0].length : 0;
}

function token(k, s, at) {
    let to;
    if (k.rem && (!k.apart || at === 0 || /[\s;]/.test(s[at - 1])) && (to = hit(k.rem, s, at))) return ['rem', to];
    if (k.key && (to = hit(k.key, s, at))) return ['fn', to];
    for (const re of k.str || []) if ((to = hit(re, s, at))) return ['str', to];
    if (k.sigil && (to = hit(k.sigil, s, at))) return ['fn', to];
    if (k.word && (to = hit(k.word, s, at))) {
        if (k.set === null) return ['kw', to];
        const w = s.slice(at, to);
        if (k.set.has(k.fold ? w.toLowerCase() : w)) return ['kw', to];
        return [s[to] === '(' || (k === kinds.css && /^[.#@]/.test(w)) ? 'fn' : null, to];
    }
    if (k.word && k.set && (to = hit(NUM, s, at))) return ['num', to];
    return [null, at + 1];
}

function mark(st, k, from, to) {
    // static: a live range would be lost when its block is moved
    const r = new StaticRange({startContainer: st.node, startOffset: from, endContainer: st.node, endOffset: to});
    sets[k].add(r);
    st.marks.push({k, r, from, to});
}
function unmark(m) {
    sets[m.k].delete(m.r);
}
function drop(st) {
    if (st) for (const m of st.marks) unmark(m);
}

// Let go of blocks that are no longer on the page.
export function sweep() {
    for (const w of live) {
        const el = w.deref();
        if (el && el.isConnected) continue;
        if (el) { drop(state.get(el)); state.delete(el); }
        live.delete(w);
    }
}
