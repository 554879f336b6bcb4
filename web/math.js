// math.js - the TeX that models write, as MathML elements, which browsers set themselves.
// A command that is not known is shown as it was written; nothing is ever lost or guessed.

const ML = 'http://www.w3.org/1998/Math/MathML';
const el = (tag, kids, attrs) => {
    const e = document.createElementNS(ML, tag);
    for (const k in attrs) e.setAttribute(k, attrs[k]);
    e.append(...(kids || []));
    return e;
};
const table = s => Object.fromEntries(s.trim().split(/\s+/).map(w => { const i = w.indexOf(':'); return [w.slice(0, i), w.slice(i + 1)]; }));
const LETTER = table(`alpha:α beta:β gamma:γ delta:δ epsilon:ϵ varepsilon:ε zeta:ζ eta:η theta:θ vartheta:ϑ iota:ι kappa:κ lambda:λ mu:μ
    nu:ν xi:ξ pi:π varpi:ϖ rho:ρ varrho:ϱ sigma:σ varsigma:ς tau:τ upsilon:υ phi:ϕ varphi:φ chi:χ psi:ψ omega:ω Gamma:Γ Delta:Δ Theta:Θ
    Lambda:Λ Xi:Ξ Pi:Π Sigma:Σ Upsilon:Υ Phi:Φ Psi:Ψ Omega:Ω infty:∞ partial:∂ nabla:∇ ell:ℓ hbar:ℏ Re:ℜ Im:ℑ aleph:ℵ emptyset:∅
    varnothing:∅ degree:° angle:∠ triangle:△ square:□ blacksquare:■ top:⊤ bot:⊥ imath:ı jmath:ȷ prime:′ dots:… ldots:… cdots:⋯ vdots:⋮ ddots:⋱`);
const OP = table(`times:× cdot:⋅ div:÷ pm:± mp:∓ ast:∗ star:⋆ circ:∘ bullet:∙ oplus:⊕ otimes:⊗ odot:⊙ cup:∪ cap:∩ setminus:∖ land:∧ wedge:∧
    lor:∨ vee:∨ lnot:¬ neg:¬ le:≤ leq:≤ leqslant:≤ ge:≥ geq:≥ geqslant:≥ ne:≠ neq:≠ equiv:≡ approx:≈ sim:∼ simeq:≃ cong:≅ propto:∝ ll:≪ gg:≫
    in:∈ notin:∉ ni:∋ subset:⊂ subseteq:⊆ supset:⊃ supseteq:⊇ to:→ rightarrow:→ leftarrow:← gets:← leftrightarrow:↔ Rightarrow:⇒
    implies:⟹ Longrightarrow:⟹ longrightarrow:⟶ Leftarrow:⇐ iff:⟺ Leftrightarrow:⇔ mapsto:↦ uparrow:↑ downarrow:↓ forall:∀ exists:∃ nexists:∄
    mid:∣ nmid:∤ parallel:∥ perp:⊥ therefore:∴ because:∵ vdash:⊢ models:⊨ colon:: langle:⟨ rangle:⟩ lfloor:⌊ rfloor:⌋ lceil:⌈ rceil:⌉
    lvert:| rvert:| vert:| lVert:‖ rVert:‖ Vert:‖ backslash:\\ lbrace:{ rbrace:} hookrightarrow:↪ rightharpoonup:⇀ prec:≺ succ:≻ asymp:≍ doteq:≐`);
const BIG = table('sum:∑ prod:∏ coprod:∐ bigcup:⋃ bigcap:⋂ bigoplus:⨁ bigotimes:⨂ bigvee:⋁ bigwedge:⋀');
const INT = table('int:∫ iint:∬ iiint:∭ oint:∮');
const NAMES = new Set('sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp det dim ker deg gcd hom arg Pr'.split(' '));
const LIMITS = new Set('lim max min sup inf limsup liminf argmax argmin'.split(' '));
const ACCENT = table('hat:^ widehat:^ bar:¯ overline:¯ vec:→ overrightarrow:→ dot:˙ ddot:¨ tilde:~ widetilde:~ check:ˇ overbrace:⏞');
const FONT = {mathbf: 'bold', boldsymbol: 'bold', bm: 'bold', mathbb: 'double', mathcal: 'script', mathscr: 'script', mathfrak: 'fraktur', mathrm: 'up', mathit: 'it', mathsf: 'up', mathtt: 'up'};
const SPACE = {',': '0.17em', ':': '0.22em', '>': '0.22em', ';': '0.28em', ' ': '0.33em', quad: '1em', qquad: '2em', '!': '0'};
const ENV = {matrix: ['', ''], smallmatrix: ['', ''], pmatrix: ['(', ')'], bmatrix: ['[', ']'], Bmatrix: ['{', '}'], vmatrix: ['|', '|'], Vmatrix: ['‖', '‖'],
    cases: ['{', ''], aligned: ['', ''], align: ['', ''], 'align*': ['', ''], gathered: ['', ''], gather: ['', ''], 'gather*': ['', ''], array: ['', ''],
    equation: ['', ''], 'equation*': ['', ''], split: ['', '']};

function fontChar(c, font) {
    const code = c.codePointAt(0), up = code >= 65 && code <= 90, low = code >= 97 && code <= 122, digit = code >= 48 && code <= 57;
    if (font === 'double') {
        const odd = {C: 'ℂ', H: 'ℍ', N: 'ℕ', P: 'ℙ', Q: 'ℚ', R: 'ℝ', Z: 'ℤ'};
        if (odd[c]) return odd[c];
        return String.fromCodePoint(up ? 0x1d538 + code - 65 : low ? 0x1d552 + code - 97 : digit ? 0x1d7d8 + code - 48 : code);
    }
    if (font === 'script') {
        const odd = {B: 'ℬ', E: 'ℰ', F: 'ℱ', H: 'ℋ', I: 'ℐ', L: 'ℒ', M: 'ℳ', R: 'ℛ', e: 'ℯ', g: 'ℊ', o: 'ℴ'};
        return odd[c] || String.fromCodePoint(up ? 0x1d49c + code - 65 : low ? 0x1d4b6 + code - 97 : code);
    }
    if (font === 'fraktur') {
        const odd = {C: 'ℭ', H: 'ℌ', I: 'ℑ', R: 'ℜ', Z: 'ℨ'};
        return odd[c] || String.fromCodePoint(up ? 0x1d504 + code - 65 : low ? 0x1d51e + code - 97 : code);
    }
    if (font === 'bold') return String.fromCodePoint(up ? 0x1d400 + code - 65 : low ? 0x1d41a + code - 97 : digit ? 0x1d7ce + code - 48 : code);
    return c;
}

class Reader {
    constructor(s) { this.s = s; this.i = 0; this.depth = 0; }
    space() { while (/\s/.test(this.s[this.i] || '')) this.i++; }
    peek(w) { return this.s.startsWith(w, this.i); }
    command() {                                              // at a backslash: its name, stepped over
        const m = /^\\([a-zA-Z]+\*?|[^])/.exec(this.s.slice(this.i, this.i + 40));
        this.i += m ? m[0].length : 1;
        return m ? m[1] : '';
    }
    raw() {                                                  // {text} as it is
        this.space();
        if (this.s[this.i] !== '{') return this.s[this.i++] || '';
        let level = 0;
        const from = this.i + 1;
        for (; this.i < this.s.length; this.i++) {
            if (this.s[this.i] === '\\') this.i++;
            else if (this.s[this.i] === '{') level++;
            else if (this.s[this.i] === '}' && --level === 0) return this.s.slice(from, this.i++);
        }
        return this.s.slice(from);
    }
    arg(font) {                                              // one argument, as one element
        this.space();
        if (this.s[this.i] === '{') {
            this.i++;
            const kids = this.row(font, '}');
            if (this.s[this.i] === '}') this.i++;
            return kids.length === 1 ? kids[0] : el('mrow', kids);
        }
        return this.atom(font) || el('mrow');
    }
    // Elements up to `stop`: '}' or a function that looks at what is next.
    row(font, stop) {
        const out = [];
        if (++this.depth > 60) { this.i = this.s.length; return out; }
        for (;;) {
            this.space();
            if (this.i >= this.s.length || (stop === '}' ? this.s[this.i] === '}' : stop && stop())) break;
            const before = this.i, a = this.scripts(font);
            if (a) out.push(a);
            if (this.i === before) this.i++;
        }
        this.depth--;
        return out;
    }
    scripts(font) {
        const base = this.atom(font) || el('mrow');
        let sub = null, sup = null;
        for (;;) {
            this.space();
            const c = this.s[this.i];
            if (c === '_' && !sub) { this.i++; sub = this.arg(font); }
            else if (c === '^' && !sup) { this.i++; sup = this.arg(font); }
            else if (c === "'") {
                let n = 0;
                while (this.s[this.i] === "'") { n++; this.i++; }
                const p = el('mo', ['′'.repeat(n)]);
                sup = sup ? el('mrow', [p, sup]) : p;
            } else break;
        }
        if (!sub && !sup) return base;
        const under = base.limits, tag = under ? (sub && sup ? 'munderover' : sub ? 'munder' : 'mover') : (sub && sup ? 'msubsup' : sub ? 'msub' : 'msup');
        return el(tag, [base, ...(sub ? [sub] : []), ...(sup ? [sup] : [])]);
    }
    atom(font) {
        this.space();
        const c = this.s[this.i];
        if (c === undefined) return null;
        if (c === '\\') return this.cmd(font);
        if (c === '{') return this.arg(font);
        if (/\d/.test(c)) {
            const m = /^\d+(?:[.,]\d+)*/.exec(this.s.slice(this.i, this.i + 60));
            this.i += m[0].length;
            return el('mn', [font === 'bold' ? [...m[0]].map(d => fontChar(d, font)).join('') : m[0]]);
        }
        const ch = String.fromCodePoint(this.s.codePointAt(this.i));
        this.i += ch.length;
        if (c === '~') return el('mspace', [], {width: '0.33em'});
        if (c === '&') return null;
        if (/\p{L}/u.test(ch)) return this.letter(ch, font);
        return el('mo', [c === '-' ? '−' : c === '*' ? '∗' : ch], /[()[\]|]/.test(c) ? {stretchy: 'false'} : null);
    }
    letter(ch, font) {
        if (font === 'up' || font === 'bold' || font === 'double' || font === 'script' || font === 'fraktur')
            return el('mi', [fontChar(ch, font)], {mathvariant: 'normal'});
        return el('mi', [ch]);
    }
    delimiter() {
        this.space();
        if (this.s[this.i] !== '\\') return this.s[this.i] === '.' ? (this.i++, '') : this.s[this.i++] || '';
        const name = this.command();
        return name === '|' ? '‖' : /^[{}]$/.test(name) ? name : OP[name] || '';
    }
    cmd(font) {
        const at = this.i, name = this.command();
        if (Object.hasOwn(LETTER, name)) return el('mi', [LETTER[name]], /[A-Z]/.test(name[0]) ? {mathvariant: 'normal'} : null);
        if (Object.hasOwn(OP, name)) return el('mo', [OP[name]], 'lr'.includes(name[0]) && /^(l|r)(vert|Vert|floor|ceil|angle|brace)/.test(name) ? {stretchy: 'false'} : null);
        if (Object.hasOwn(BIG, name)) return limits(el('mo', [BIG[name]], {movablelimits: 'true', largeop: 'true'}));
        if (Object.hasOwn(INT, name)) return el('mo', [INT[name]], {largeop: 'true'});
        if (NAMES.has(name)) return el('mi', [name]);
        if (LIMITS.has(name)) return limits(el('mo', [name.replace(/^(lim|arg)(sup|inf|max|min)$/, '$1 $2')], {movablelimits: 'true'}));
        if (Object.hasOwn(SPACE, name)) return el('mspace', [], {width: SPACE[name]});
        if (Object.hasOwn(FONT, name)) return this.arg(FONT[name]);
        if (Object.hasOwn(ACCENT, name)) return el('mover', [this.arg(font), el('mo', [ACCENT[name]], {stretchy: /^(over|wide)/.test(name) ? 'true' : 'false'})], {accent: 'true'});
        switch (name) {
        case 'frac': case 'dfrac': case 'tfrac': case 'cfrac': return el('mfrac', [this.arg(font), this.arg(font)]);
        case 'binom': case 'dbinom': return el('mrow', [el('mo', ['(']), el('mfrac', [this.arg(font), this.arg(font)], {linethickness: '0'}), el('mo', [')'])]);
        case 'sqrt': {
            this.space();
            if (this.s[this.i] !== '[') return el('msqrt', [this.arg(font)]);
            this.i++;
            const n = this.row(font, () => this.s[this.i] === ']');
            this.i++;
            return el('mroot', [this.arg(font), el('mrow', n)]);
        }
        case 'text': case 'textbf': case 'textit': case 'mbox': case 'textrm': case 'operatorname': case 'operatorname*': {
            const t = el('mtext', [this.raw().replace(/^ | $/g, '\u00a0')]);
            return name === 'operatorname*' ? limits(t) : t;
        }
        case 'underbrace': return limits(el('munder', [this.arg(font), el('mo', ['⏟'])]));
        case 'underline': return el('munder', [this.arg(font), el('mo', ['_'])]);
        case 'overset': case 'stackrel': { const o = this.arg(font); return el('mover', [this.arg(font), o]); }
        case 'underset': { const u = this.arg(font); return el('munder', [this.arg(font), u]); }
        case 'boxed': case 'fbox': return el('mrow', [this.arg(font)], {'class': 'boxed'});
        case 'color': this.raw(); return null;
        case 'tag': case 'label': return el('mtext', ['\u2003(' + this.raw() + ')']);
        case 'pmod': return el('mrow', [el('mo', ['(']), el('mi', ['mod']), el('mspace', [], {width: '0.3em'}), this.arg(font), el('mo', [')'])]);
        case 'bmod': case 'mod': return el('mo', ['mod'], {lspace: '0.3em', rspace: '0.3em'});
        case 'not': { const n = this.atom(font); if (n) n.append('\u0338'); return n; }
        case 'left': return this.fenced(font);
        case 'begin': return this.environment(font);
        case '\\': case 'displaystyle': case 'textstyle': case 'limits': case 'nolimits': case 'nonumber': case 'notag': case 'hline': case 'right': case 'end': return null;
        case 'big': case 'Big': case 'bigg': case 'Bigg': case 'bigl': case 'bigr': case 'Bigl': case 'Bigr': case 'biggl': case 'biggr': return el('mo', [this.delimiter()]);
        case '{': case '}': return el('mo', [name], {stretchy: 'false'});
        case '|': return el('mo', ['‖']);
        case '%': case '$': case '#': case '&': case '_': return el('mo', [name]);
        }
        return el('mtext', [this.s.slice(at, this.i)]);
    }
    fenced(font) {
        const open = this.delimiter();
        const kids = this.row(font, () => this.peek('\\right') && !this.peek('\\rightarrow') && !this.peek('\\rightharpoon'));
        let close = '';
        if (this.peek('\\right')) { this.command(); close = this.delimiter(); }
        const side = (s, form) => (s ? [el('mo', [s], {fence: 'true', stretchy: 'true', form})] : []);
        return el('mrow', [...side(open, 'prefix'), ...kids, ...side(close, 'postfix')]);
    }
    environment(font) {
        const name = this.raw();
        if (name === 'array') this.raw();
        const rows = [[[]]];
        const at = w => this.peek(w);
        for (;;) {
            const kids = this.row(font, () => this.s[this.i] === '&' || at('\\\\') || at('\\end'));
            const row = rows[rows.length - 1];
            row[row.length - 1].push(...kids);
            if (this.s[this.i] === '&') { this.i++; row.push([]); }
            else if (at('\\\\')) { this.i += 2; rows.push([[]]); }
            else { if (at('\\end')) { this.command(); this.raw(); } break; }
        }
        if (rows.length > 1 && rows[rows.length - 1].every(c => !c.length)) rows.pop();
        const t = el('mtable', rows.map(r => el('mtr', r.map(c => el('mtd', c)))), {'class': /^(align|split|eqn)/.test(name) ? 'align' : name === 'cases' ? 'cases' : 'matrix'});
        const [a, b] = ENV[name] || ['', ''];
        if (!a && !b) return t;
        return el('mrow', [...(a ? [el('mo', [a], {fence: 'true', form: 'prefix'})] : []), t, ...(b ? [el('mo', [b], {fence: 'true', form: 'postfix'})] : [])]);
    }
}

const limits = e => { e.limits = true; return e; };

export function math(tex, display) {
    const r = new Reader(tex.slice(0, 20000));
    const m = el('math', [el('mrow', r.row(null, null))], display ? {display: 'block'} : {});
    m.setAttribute('data-tex', tex);
    return m;
}
