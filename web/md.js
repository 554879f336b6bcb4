// md.js - Markdown into elements, safely and while it is being written.
//
//     text --blocks()--> tree of blocks --show()--> elements      (inline() for what is inside a line)
//
// What a model writes becomes text nodes and a fixed set of elements; no HTML is ever parsed, links go to
// http, https and mailto only, and pictures become links (nothing is loaded because a model says so).
// It reads CommonMark and the tables, task lists, strikethrough and bare links of GitHub's, but for three
// things on purpose: a line of === or --- under text is no heading (--- is a rule: that is what models mean,
// and a paragraph would jump), an end of line is a line break, and HTML is shown as it was written but <br>.
//
// class Stream renders a text that grows: finished blocks are left alone, the last one is changed in place.
// An open **, ` or [ at the end is shown as what it will be, so that nothing flips when it is closed.

import {h, add, morph, setText, copyText, icon} from './dom.js';
import {highlight} from './code.js';
import {math} from './math.js';

const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^\n]*)$/;
const HEADING = /^ {0,3}(#{1,6})([ \t].*)?$/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:([ \t]+)(.*)|[ \t]*)$/;
const QUOTE = /^ {0,3}> ?/;
const TABLE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const MATH_OPEN = /^ {0,3}(\$\$|\\\[)/;
const DEPTH = 24;             // of quotes and lists in one another
const REACH = 4000;           // how far back an opening mark is looked for: time stays linear

const blank = s => !/[^ \t]/.test(s);
const indentOf = s => /^ */.exec(s)[0].length;
const tabs = s => s.includes('\t') ? s.replace(/^[ \t]+/, w => {
    let out = '';
    for (const c of w) out += c === '\t' ? ' '.repeat(4 - out.length % 4) : ' ';
    return out;
}) : s;

// Cells of a row: at | that are not behind a backslash nor in a code span.
function cells(line) {
    const out = [];
    let cell = '', tick = 0;
    const s = line.trim().replace(/^\|/, '');
    for (let i = 0; i < s.length; i++) {
        if (s[i] === '\\' && s[i + 1] === '|') { cell += '|'; i++; continue; }
        if (s[i] === '`') {
            let n = 1;
            while (s[i + n] === '`') n++;
            if (tick === n) tick = 0;
            else if (!tick && s.indexOf('`'.repeat(n), i + n) >= 0) tick = n;
            cell += s.slice(i, i + n);
            i += n - 1;
            continue;
        }
        if (s[i] === '|' && !tick) { out.push(cell.trim()); cell = ''; continue; }
        cell += s[i];
    }
    if (cell.trim()) out.push(cell.trim());
    return out;
}

const isTable = (a, b) => a.includes('|') && b !== undefined && b.includes('-') && TABLE.test(b)
    && cells(a).length === cells(b).length;

// Whether a line ends a paragraph that runs.
function interrupts(line) {
    if (FENCE.test(line)) return !(/^ {0,3}`/.test(line) && FENCE.exec(line)[3].includes('`'));
    if (RULE.test(line) || QUOTE.test(line) || HEADING.test(line) || MATH_OPEN.test(line)) return true;
    const m = ITEM.exec(line);
    return !!(m && m[4] && (/[-*+]/.test(m[2]) || parseInt(m[2], 10) === 1));
}

// The blocks of these lines, each {t, from, to, …} with the lines it is made of.
export function blocks(lines, depth = 0) {
    const out = [];
    let i = 0;
    while (i < lines.length) {
        if (blank(lines[i])) { i++; continue; }
        const at = i, b = depth < DEPTH ? block(lines, i, depth) : null;
        if (b) {
            i = b.to;
        } else {
            i++;
            while (i < lines.length && !blank(lines[i]) && !(depth < DEPTH && (interrupts(lines[i])
                || isTable(lines[i], lines[i + 1])))) i++;
            out.push({t: 'p', from: at, to: i, text: lines.slice(at, i).map(s => s.replace(/^[ \t]+/, '')).join('\n')});
            continue;
        }
        b.from = at;
        out.push(b);
    }
    return out;
}

// The block other than a paragraph that begins at line i, or null.
function block(lines, i, depth) {
    const line = lines[i];
    let m = FENCE.exec(line);
    if (m && !(m[2][0] === '`' && m[3].includes('`'))) return fence(lines, i, m);
    if ((m = HEADING.exec(line)))
        return {t: 'h', to: i + 1, n: m[1].length, text: (m[2] || '').trim().replace(/(^|[ \t])#+$/, '').trim()};
    if (RULE.test(line)) return {t: 'hr', to: i + 1};
    if (QUOTE.test(line)) return quote(lines, i, depth);
    if ((m = ITEM.exec(line))) return list(lines, i, depth, m);
    if (isTable(line, lines[i + 1])) return table(lines, i);
    if ((m = MATH_OPEN.exec(line))) return display(lines, i, m[1]);
    if (indentOf(line) >= 4) {
        let to = i;
        for (let j = i; j < lines.length && (blank(lines[j]) || indentOf(lines[j]) >= 4); j++) if (!blank(lines[j])) to = j + 1;
        return {t: 'code', to, lang: '', text: lines.slice(i, to).map(s => s.slice(4)).join('\n'), done: true};
    }
    return null;
}

function fence(lines, i, m) {
    const close = new RegExp('^ {0,3}' + (m[2][0] === '`' ? '`' : '~') + '{' + m[2].length + ',}[ \\t]*$');
    const body = [], strip = m[1].length;
    let j = i + 1, done = false;
    for (; j < lines.length; j++) {
        if (close.test(lines[j])) { done = true; j++; break; }
        body.push(lines[j].slice(Math.min(strip, indentOf(lines[j]))));
    }
    return {t: 'code', to: j, lang: m[3].trim().split(/[\s{,:]/)[0], text: body.join('\n'), done};
}

function display(lines, i, open) {
    const close = open === '$$' ? '$$' : '\\]';
    let text = lines[i].trim().slice(2), j = i;
    for (;;) {
        const end = text.indexOf(close);
        if (end >= 0) {
            if (text.slice(end + 2).trim()) return null;      // text goes on behind it: it is inline
            return {t: 'math', to: j + 1, text: text.slice(0, end), done: true};
        }
        j++;
        if (j >= lines.length || blank(lines[j])) break;
        text += '\n' + lines[j];
    }
    return {t: 'math', to: j, text: open + text, done: false};       // never closed: as it was written
}

function quote(lines, i, depth) {
    const inner = [];
    let j = i, lazy = false;
    for (; j < lines.length; j++) {
        if (QUOTE.test(lines[j])) {
            const s = lines[j].replace(QUOTE, '');
            inner.push(s);
            lazy = !blank(s) && !FENCE.test(s) && !HEADING.test(s);
        } else if (lazy && !blank(lines[j]) && !interrupts(lines[j])) {
            inner.push(lines[j]);
        } else {
            break;
        }
    }
    return {t: 'quote', to: j, kids: blocks(inner, depth + 1)};
}

function list(lines, i, depth, first) {
    const ordered = /\d/.test(first[2]), mark = ordered ? first[2].slice(-1) : first[2];
    const items = [];
    let loose = false, gap = false, j = i;
    while (j < lines.length) {
        const m = ITEM.exec(lines[j]);
        if (!m || (ordered ? !/\d/.test(m[2]) || m[2].slice(-1) !== mark : m[2] !== mark)) break;
        if (RULE.test(lines[j])) break;
        const pad = m[4] === undefined ? 1 : m[3].length > 4 ? 1 : m[3].length;
        const width = m[1].length + m[2].length + pad;
        const inner = [m[4] === undefined ? '' : ' '.repeat(m[3].length > 4 ? m[3].length - 1 : 0) + m[4]];
        if (gap) loose = true;
        gap = false;
        let sawGap = false;
        for (j++; j < lines.length; j++) {
            const s = tabs(lines[j]);
            if (blank(s)) { inner.push(''); gap = true; continue; }
            if (indentOf(s) >= width) {
                if (gap) sawGap = true;
                inner.push(s.slice(width));
            } else if (!gap && !interrupts(s) && !ITEM.test(s) && openParagraph(inner)) {
                inner.push(s.trimStart());
            } else {
                break;
            }
            gap = false;
        }
        while (inner.length > 1 && !inner[inner.length - 1]) inner.pop();
        const task = /^\[([ xX])\][ \t]+/.exec(inner[0]);
        if (task) inner[0] = inner[0].slice(task[0].length);
        const kids = blocks(inner, depth + 1);
        if (sawGap && kids.length > 1 && kids.some((k, n) => n && blank(inner[k.from - 1] || ''))) loose = true;
        items.push({t: 'li', task: task ? task[1] !== ' ' : null, kids});
    }
    // blank lines at the end belong to what follows
    while (j > i + 1 && blank(lines[j - 1])) j--;
    return {t: 'list', to: j, ordered, start: ordered ? parseInt(first[2], 10) : 1, loose, items};
}

// Whether a line without indentation may go on with the paragraph at the end of these.
function openParagraph(inner) {
    let fenced = null;
    for (const s of inner) {
        const m = /^ {0,3}(`{3,}|~{3,})/.exec(s);
        if (m) fenced = fenced ? (s.trim().startsWith(fenced) ? null : fenced) : m[1];
    }
    const last = inner[inner.length - 1];
    return !fenced && !blank(last) && !HEADING.test(last) && !RULE.test(last);
}

function table(lines, i) {
    const align = cells(lines[i + 1]).map(c => (c[0] === ':' ? (c.slice(-1) === ':' ? 'center' : 'left') : c.slice(-1) === ':' ? 'right' : ''));
    const rows = [cells(lines[i])];
    let j = i + 2;
    for (; j < lines.length && !blank(lines[j]) && !interrupts(lines[j]); j++) {
        const c = cells(lines[j]);
        while (c.length < align.length) c.push('');
        rows.push(c.slice(0, align.length));
    }
    return {t: 'table', to: j, align, rows};
}

// ---- inside a line ----

const ENTITY = {amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0', copy: '\u00a9', reg: '\u00ae', deg: '\u00b0',
    plusmn: '\u00b1', times: '\u00d7', divide: '\u00f7', hellip: '\u2026', mdash: '\u2014', ndash: '\u2013', larr: '\u2190',
    rarr: '\u2192', le: '\u2264', ge: '\u2265', ne: '\u2260', infin: '\u221e', euro: '\u20ac', middot: '\u00b7', bull: '\u2022'};
const PUNCT = /[\p{P}\p{S}]/u;

export function safeUrl(u) {
    const s = u.trim();
    if (/^(https?:\/\/|mailto:)[^\s<>"]+$/i.test(s)) return s;
    return null;
}

function unescape(s) {
    return s.replace(/\\([!-/:-@[-`{-~])/g, '$1').replace(/&(#x?[0-9a-f]{1,6}|\w{2,8});/gi, (m, e) => entity(e) || m);
}

function entity(e) {
    if (e[0] !== '#') return Object.hasOwn(ENTITY, e) ? ENTITY[e] : null;
    const hex = /^#x[0-9a-f]+$/i.test(e);
    const n = hex ? parseInt(e.slice(2), 16) : /^#\d+$/.test(e) ? parseInt(e.slice(1), 10) : 0;
    return n > 0 && n < 0x110000 && !(n >= 0xd800 && n < 0xe000) ? String.fromCodePoint(n) : null;
}

// Where a run of * _ ~ may open and close emphasis (CommonMark 6.2).
function flank(s, i, n) {
    const before = i ? s[i - 1] : ' ', after = i + n < s.length ? s[i + n] : ' ';
    const sb = /\s/.test(before), sa = /\s/.test(after), pb = PUNCT.test(before), pa = PUNCT.test(after);
    const left = !sa && (!pa || sb || pb), right = !sb && (!pb || sa || pa);
    if (s[i] !== '_') return {open: left, close: right};
    return {open: left && (!right || pb), close: right && (!left || pa)};
}

// The end of a (destination "title") at i, or null: {url, title, to}. `open`: the text may still grow.
function target(s, i, open) {
    let j = i + 1, url = '';
    while (/[ \n]/.test(s[j] || '')) j++;
    if (s[j] === '<') {
        const e = s.indexOf('>', j);
        if (e < 0) return open ? {url: '', to: s.length} : null;
        url = s.slice(j + 1, e).replace(/ /g, '%20');
        j = e + 1;
    } else {
        let depth = 0;
        const from = j;
        for (; j < s.length && j < from + 2000 && !/\s/.test(s[j]); j++) {
            if (s[j] === '\\') j++;
            else if (s[j] === '(') depth++;
            else if (s[j] === ')' && --depth < 0) break;
        }
        url = s.slice(from, j);
    }
    const m = /^\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|\(((?:[^()\\]|\\.)*)\))?\s*\)/.exec(s.slice(j, j + REACH));
    if (!m) return open && !s.slice(j).includes('\n\n') && !/[)]/.test(s.slice(j)) ? {url: '', to: s.length} : null;
    return {url: unescape(url), title: unescape(m[1] || m[2] || m[3] || ''), to: j + m[0].length};
}

// Nodes of a text: strings, and {t, kids | text, …}.
export function inline(s, open = false, depth = 0) {
    const out = [], delims = [];
    const noEnd = [false, false];         // no \) and \] is left: it is not looked for again
    let text = '';
    const flush = () => { if (text) { out.push(text); text = ''; } };
    const put = node => { flush(); out.push(node); };
    let i = 0;
    while (i < s.length) {
        const c = s[i];
        if (c === '\\') {
            const n = s[i + 1];
            if (n === '\n') { put({t: 'br'}); i += 2; continue; }
            if (n === '(' || n === '[') {
                const k = n === '(' ? 0 : 1, e = noEnd[k] ? -1 : s.indexOf(k ? '\\]' : '\\)', i + 2);
                noEnd[k] = e < 0;
                if (e >= 0 || open) {
                    put({t: 'math', text: s.slice(i + 2, e >= 0 ? e : s.length), display: n === '[', done: e >= 0});
                    i = e >= 0 ? e + 2 : s.length;
                    continue;
                }
            }
            if (n !== undefined && /[!-/:-@[-`{-~]/.test(n)) { text += n; i += 2; continue; }
            if (n === undefined && open) break;
        } else if (c === '$') {
            const m = /^\$\$([^$]+)\$\$|^\$(?![\s\d.,]*[\s.,]?(?:\s|$))((?:[^$\\\n]|\\.)*?[^\s\\])\$(?!\d)/.exec(s.slice(i, i + 2000));
            if (m && (m[1] || !/\s/.test(s[i + 1] || ' '))) {
                put({t: 'math', text: m[1] || m[2], display: !!m[1], done: true});
                i += m[0].length;
                continue;
            }
        } else if (c === '`') {
            let n = 1;
            while (s[i + n] === '`') n++;
            const e = closeTicks(s, i + n, n);
            if (e >= 0 || (open && i + n < s.length)) {
                let code = s.slice(i + n, e >= 0 ? e : s.length).replace(/\n/g, ' ');
                if (/^ .* $/.test(code) && code.trim()) code = code.slice(1, -1);
                put({t: 'code', text: code});
                i = e >= 0 ? e + n : s.length;
                continue;
            }
            if (open && i + n >= s.length) break;
            text += s.slice(i, i + n);
            i += n;
            continue;
        } else if (c === '*' || c === '_' || c === '~') {
            let n = 1;
            while (s[i + n] === c) n++;
            if (c !== '~' || n === 2) {
                const f = flank(s, i, n);
                if (open && i + n >= s.length && !f.close) break;
                put({t: 'd', c, n, left: n, open: f.open, close: f.close});
                delims.push(out.length - 1);
                i += n;
                continue;
            }
            text += s.slice(i, i + n);
            i += n;
            continue;
        } else if (c === '[' || (c === '!' && s[i + 1] === '[')) {
            const link = depth < DEPTH ? readLink(s, i, open, depth) : null;
            if (link) { put(link.node); i = link.to; continue; }
        } else if (c === '<') {
            let m = /^<(https?:\/\/[^\s<>]+|mailto:[^\s<>]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>/i.exec(s.slice(i, i + 2000));
            if (m) {
                const url = /^(https?:|mailto:)/i.test(m[1]) ? m[1] : 'mailto:' + m[1];
                put({t: 'a', url, kids: [m[1]]});
                i += m[0].length;
                continue;
            }
            m = /^<br\s*\/?>/i.exec(s.slice(i, i + 12));
            if (m) { put({t: 'br'}); i += m[0].length; continue; }
        } else if (c === '&') {
            const m = /^&(#x?[0-9a-f]{1,6}|\w{2,8});/i.exec(s.slice(i, i + 12));
            const e = m && entity(m[1]);
            if (e) { text += e; i += m[0].length; continue; }
        } else if (c === '\n') {
            text = text.replace(/ +$/, '');
            put({t: 'br'});
            i++;
            while (s[i] === ' ') i++;
            continue;
        } else if ((c === 'h' || c === 'H') && !/[\p{L}\p{N}_]/u.test(s[i - 1] || ' ')) {
            const m = /^https?:\/\/[^\s<>"`]+/i.exec(s.slice(i, i + 2000));
            if (m) {
                let url = m[0].replace(/(?:[?!.,:;*_~'"\]}]|&\w+;)+$/, '');
                while (url.endsWith(')') && (url.split(')').length > url.split('(').length)) url = url.slice(0, -1);
                if (url.length > 8) { put({t: 'a', url, kids: [url]}); i += url.length; continue; }
            }
        }
        text += c;
        i++;
    }
    flush();
    return emphasis(out, delims, open);
}

function closeTicks(s, from, n) {
    for (let i = s.indexOf('`', from); i >= 0; i = s.indexOf('`', i)) {
        let k = 1;
        while (s[i + k] === '`') k++;
        if (k === n) return i;
        i += k;
    }
    return -1;
}

function readLink(s, i, open, depth) {
    const image = s[i] === '!';
    let j = i + (image ? 2 : 1), level = 1;
    const from = j;
    const limit = Math.min(s.length, i + REACH), end = s.indexOf('](', from);
    if (end < 0 || end > limit) return null;
    for (; j < limit; j++) {
        if (s[j] === '\\') j++;
        else if (s[j] === '`') {
            let n = 1;
            while (s[j + n] === '`') n++;
            const e = closeTicks(s, j + n, n);
            j = e >= 0 ? e + n - 1 : j + n - 1;
        } else if (s[j] === '[') level++;
        else if (s[j] === ']' && --level === 0) break;
    }
    if (level || s[j + 1] !== '(') return null;
    const label = s.slice(from, j), t = target(s, j + 1, open);
    if (!t) return null;
    const kids = image ? [unescape(label) || 'picture'] : inline(label, false, depth + 1).map(k => (k.t === 'a' ? k.kids : k)).flat();
    return {node: {t: 'a', url: t.url, title: t.title, kids, image}, to: t.to};
}

// CommonMark's "process emphasis", on a flat list of nodes.
function emphasis(nodes, delims, open) {
    for (let k = 0; k < delims.length; k++) {
        const closer = nodes[delims[k]];
        if (!closer.close) continue;
        while (closer.left > 0) {
            let o = k - 1;
            for (; o >= 0 && o >= k - REACH; o--) {
                const d = nodes[delims[o]];
                if (!d.open || d.left === 0 || d.c !== closer.c || d.dead) continue;
                if ((d.close || closer.open) && (d.n + closer.n) % 3 === 0 && (d.n % 3 || closer.n % 3)) continue;
                break;
            }
            if (o < 0 || o < k - REACH) break;
            wrap(nodes, delims, o, k);
        }
    }
    if (open)
        for (let o = delims.length - 1, n = 0; o >= 0 && n < 4; o--) {
            const d = nodes[delims[o]];
            if (d.open && d.left > 0 && !d.dead && d.c !== '_' && delims[o] < nodes.length - 1) {
                n++;
                pair(nodes, delims[o], nodes.length, d.c, d.c === '~' ? 2 : Math.min(2, d.left));
                d.left = 0;
            }
        }
    return build(nodes);
}

function wrap(nodes, delims, o, k) {
    const a = nodes[delims[o]], b = nodes[delims[k]];
    const n = a.c === '~' ? 2 : a.left >= 2 && b.left >= 2 ? 2 : 1;
    a.left -= n;
    b.left -= n;
    pair(nodes, delims[o], delims[k], a.c, n);
    for (let x = o + 1; x < k; x++) nodes[delims[x]].dead = true;
}

// Remember that what lies between two delimiters is emphasised; build() makes the tree.
function pair(nodes, from, to, c, n) {
    const kind = c === '~' ? 'del' : n === 2 ? 'strong' : 'em';
    (nodes[from].opens = nodes[from].opens || []).unshift(kind);
    const end = nodes[to];
    if (end) (end.closes = end.closes || []).push(kind);
}

function build(nodes) {
    const root = {kids: []}, stack = [root];
    for (const n of nodes) {
        const top = stack[stack.length - 1];
        if (typeof n === 'string' || n.t !== 'd') { top.kids.push(n); continue; }
        for (let i = 0; n.closes && i < n.closes.length && stack.length > 1; i++) stack.pop();
        if (n.left) stack[stack.length - 1].kids.push(n.c.repeat(n.left));
        for (const kind of n.opens || []) {
            if (stack.length > DEPTH) { stack.push(stack[stack.length - 1]); continue; }
            const e = {t: kind, kids: []};
            stack[stack.length - 1].kids.push(e);
            stack.push(e);
        }
    }
    return root.kids;
}

// ---- elements ----

function inlineNodes(nodes) {
    return nodes.map(n => {
        if (typeof n === 'string') return n;
        switch (n.t) {
        case 'br': return h('br');
        case 'code': return h('code', null, n.text);
        case 'math': return n.done ? math(n.text, n.display) : h('span.tex', null, n.text);
        case 'a': return link(n);
        default: return h(n.t, null, inlineNodes(n.kids));
        }
    });
}

function link(n) {
    const url = safeUrl(n.url), kids = inlineNodes(n.kids);
    if (!url) return h('span.nolink', {title: n.url ? 'Not followed: ' + n.url.slice(0, 200) : null}, kids);
    return h('a', {href: url, title: n.title || null, target: '_blank', rel: 'noopener noreferrer nofollow'},
        n.image ? [icon('image'), kids] : kids);
}

// A code block: the text in one node, colours laid over it, a bar with its language and what can be done.
function codeBlock(b) {
    const code = h('code', {'data-lang': b.lang.toLowerCase().slice(0, 20)}, document.createTextNode(b.text));
    const pre = h('pre', {tabindex: '0', role: 'group', 'aria-label': 'Code' + (b.lang ? ', ' + b.lang : '')}, code);
    return h('div.code', null,
        h('div.code-bar', null, h('span', null, b.lang || 'text'),
            h('button.quiet', {type: 'button', 'data-do': 'wrap', 'aria-pressed': 'false'}, 'Wrap'),
            h('button.quiet', {type: 'button', 'data-do': 'copy'}, icon('copy'), 'Copy')),
        pre);
}

// One listener for all code blocks: elements made by Stream are replaced and changed freely.
export function codeActions(root) {
    root.addEventListener('click', ev => {
        const button = ev.target.closest && ev.target.closest('.code-bar button');
        if (!button) return;
        const box = button.closest('.code');
        if (button.dataset.do === 'copy') {
            copyText(box.querySelector('code').textContent, 'Code');
        } else {
            const on = box.toggleAttribute('data-own-wrap');
            button.setAttribute('aria-pressed', on);
        }
    });
}

export function show(b, open) {
    const text = s => inlineNodes(inline(s, open));
    switch (b.t) {
    case 'p': return h('p', null, text(b.text));
    case 'h': return h('h' + Math.min(6, b.n + 2), null, text(b.text));
    case 'hr': return h('hr');
    case 'code': return codeBlock(b);
    case 'math': return b.done ? h('div.math', {tabindex: '0', role: 'group', 'aria-label': 'Formula'}, math(b.text, true)) : h('p.tex', null, b.text);
    case 'quote': return h('blockquote', null, showAll(b.kids, open));
    case 'table': {
        const cell = (tag, more) => (c, i) => h(tag, {'class': b.align[i] ? 'to-' + b.align[i] : null, ...more}, text(c));
        return h('div.table', {tabindex: '0', role: 'group', 'aria-label': 'Table'}, h('table', null,
            h('thead', null, h('tr', null, b.rows[0].map(cell('th', {scope: 'col'})))),
            h('tbody', null, b.rows.slice(1).map(r => h('tr', null, r.map(cell('td')))))));
    }
    case 'list': return h(b.ordered ? 'ol' : 'ul', {start: b.ordered && b.start !== 1 ? b.start : null},
        b.items.map((it, n) => h(it.task === null ? 'li' : 'li.task', null,
            it.task === null ? null : h('input', {type: 'checkbox', disabled: true, checked: it.task, 'aria-label': it.task ? 'done' : 'to do'}),
            it.kids.map((k, m) => {
                const last = open && n === b.items.length - 1 && m === it.kids.length - 1;
                return !b.loose && k.t === 'p' ? inlineNodes(inline(k.text, last)) : show(k, last);
            }))));
    }
    return h('p', null, '');
}

const showAll = (kids, open) => kids.map((k, i) => show(k, open && i === kids.length - 1));

// The whole of a finished text.
export function render(text, root) {
    root.replaceChildren(...showAll(blocks(text.split(/\r\n?|\n/)), false));
    colour(root);
}

function colour(root) {
    for (const code of root.querySelectorAll('pre > code')) highlight(code, code.dataset.lang);
}

// What is not shown yet of a text that grows: a last line that is only a marker so far, the first line of a
// table whose second is not complete.
const MARKER = /^\s*(?:>\s*)*(?:[-*+]\s*|\d{1,9}[.)]?\s*)?(?:\[[ xX]?\]?|#{1,6}|`{1,2}|~{1,2}|(?:`{3,}|~{3,})[^`\n]*|[-*_]{2,}|\$|\\|!)?[ \t]*$/;
export function shown(text) {
    const at = text.lastIndexOf('\n') + 1, last = text.slice(at), head = text.slice(0, at);
    const lines = head.split('\n'), prev = lines.length > 1 ? lines[lines.length - 2] : '', above = lines.length > 2 ? lines[lines.length - 3] : '';
    const row = s => /^ {0,3}\|/.test(s);
    if (row(last) && !row(prev)) return head;
    if (row(prev) && !row(above) && /^ {0,3}\|?[ \t:|-]*$/.test(last)) return head.slice(0, -1 - prev.length);
    return MARKER.test(last) ? head : text;
}

// A text that grows, rendered into `root`: put(text) with the whole of it each time, end(text) once.
export class Stream {
    constructor(root) {
        this.root = root;
        this.line = 0;          // the last block begins here …
        this.done = 0;          // … and so many elements stand before it
        this.text = '';
        root.replaceChildren();
    }
    put(text, end = false) {
        if (!text.startsWith(this.text)) { this.line = this.done = 0; this.root.replaceChildren(); }
        this.text = text;
        const lines = (end ? text : shown(text)).split(/\r\n?|\n/);
        const list = blocks(lines.slice(this.line));
        list.forEach((b, i) => {
            const open = !end && i === list.length - 1;
            this.place(this.done + i, b, open);
        });
        while (this.root.children.length > this.done + list.length) this.root.lastElementChild.remove();
        if (list.length > 1) {
            this.done += list.length - 1;
            this.line += list[list.length - 1].from;
        }
    }
    end(text) {
        this.put(text, true);
    }
    place(n, b, open) {
        const old = this.root.children[n];
        if (old && b.t === 'code' && old.matches('.code') && old.querySelector('code').dataset.lang === b.lang.toLowerCase().slice(0, 20)) {
            const code = old.querySelector('code');
            if (!code.firstChild) code.append('');
            setText(code.firstChild, b.text);
            highlight(code, code.dataset.lang);
            return;
        }
        const el = show(b, open);
        if (!old) this.root.append(el);
        else if (old.tagName === el.tagName && old.className === el.className) morph(old, el);
        else old.replaceWith(el);
        colour(this.root.children[n]);
    }
}
