// dom.js - making elements. Text becomes text nodes only: nothing in this page parses HTML, and the
// policy in index.html forbids the browser's own parsers of it (trusted types).

const SVG = 'http://www.w3.org/2000/svg';

// h('button.icon', {type: 'button', onclick: f}, 'text', node, ...)
// A value true sets an empty attribute; false, null and undefined leave it out.
export function h(tag, attrs, ...kids) {
    const [name, ...classes] = tag.split('.');
    const el = document.createElement(name || 'div');
    if (classes.length) el.className = classes.join(' ');
    for (const k in attrs) {
        const v = attrs[k];
        if (v === false || v === null || v === undefined) continue;
        if (k.startsWith('on')) el.addEventListener(k.slice(2), v);
        else el.setAttribute(k, v === true ? '' : v);
    }
    add(el, kids);
    return el;
}

export function add(el, kids) {
    for (const k of kids.flat(9)) if (k !== null && k !== undefined && k !== false) el.append(k);
    return el;
}

export function icon(name) {
    const s = document.createElementNS(SVG, 'svg');
    s.setAttribute('class', 'i');
    s.setAttribute('aria-hidden', 'true');
    const u = document.createElementNS(SVG, 'use');
    u.setAttribute('href', '#i-' + name);
    s.append(u);
    return s;
}

export function svg(tag, attrs, ...kids) {
    const el = document.createElementNS(SVG, tag);
    for (const k in attrs) el.setAttribute(k, attrs[k]);
    return add(el, kids);
}

// A button that is an icon; its name is what screen readers say and what the pointer shows.
export const iconButton = (name, label, onclick, more) =>
    h('button.icon', {type: 'button', 'aria-label': label, title: label, onclick, ...more}, icon(name));

export const $ = (sel, root) => (root || document).querySelector(sel);
export const $$ = (sel, root) => [...(root || document).querySelectorAll(sel)];

// Make `old` what `now` is, touching only what differs: selection, scrolling and focus inside stay.
export function morph(old, now) {
    if (old.isEqualNode(now)) return;
    for (const a of [...old.attributes]) if (!now.hasAttribute(a.name) && !a.name.startsWith('data-own')) old.removeAttribute(a.name);
    for (const a of now.attributes) if (old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
    let o = old.firstChild, n = now.firstChild;
    while (n) {
        const next = n.nextSibling;
        if (!o) {
            old.append(n);
        } else {
            const after = o.nextSibling;
            if (o.nodeType === 3 && n.nodeType === 3) setText(o, n.data);
            else if (o.nodeType === 1 && n.nodeType === 1 && o.tagName === n.tagName) morph(o, n);
            else o.replaceWith(n);
            o = after;
        }
        n = next;
    }
    while (o) {
        const after = o.nextSibling;
        o.remove();
        o = after;
    }
}

// A text node's new text: what is only longer is appended, so that a selection in it stays.
export function setText(node, s) {
    if (node.data === s) return;
    if (s.startsWith(node.data)) node.appendData(s.slice(node.data.length));
    else node.data = s;
}

// Say something to screen readers without showing it.
export function say(text) {
    const el = $('#say');
    el.textContent = '';
    requestAnimationFrame(() => { el.textContent = text; });
}

let toastTimer;
// A short note at the foot of the page, with at most one thing to do about it.
export function toast(text, action, act) {
    const el = $('#toast');
    el.replaceChildren(h('span', null, text));
    if (action) el.append(h('button.link', {type: 'button', onclick: () => { el.hidden = true; act(); }}, action));
    el.hidden = false;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => { el.hidden = true; }, action ? 8000 : 3500);
}

export async function copyText(text, what) {
    try {
        await navigator.clipboard.writeText(text);
    } catch {
        // Without TLS and off loopback browsers give no clipboard: the old way still works.
        const t = h('textarea.sr', {'aria-hidden': 'true', tabindex: '-1'});
        t.value = text;
        (document.querySelector('dialog[open]') || document.body).append(t);
        t.select();
        document.execCommand('copy');
        t.remove();
    }
    toast((what || 'Text') + ' copied');
}

export function download(name, type, text) {
    const url = URL.createObjectURL(new Blob([text], {type}));
    const a = h('a', {href: url, download: name});
    document.body.append(a);
    a.click();
    a.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export const id = () => (crypto.randomUUID ? crypto.randomUUID().slice(0, 18)
    : [...crypto.getRandomValues(new Uint8Array(9))].map(b => b.toString(16).padStart(2, '0')).join(''));

// 1234567 -> 1.23 M; 0.0123 -> 12 ms
export function count(n) {
    if (n < 10000) return String(Math.round(n));
    return n < 1e6 ? (n / 1e3).toFixed(n < 1e5 ? 1 : 0) + ' K' : n < 1e9 ? (n / 1e6).toFixed(2) + ' M' : (n / 1e9).toFixed(2) + ' G';
}
export function bytes(n) {
    const u = ['B', 'KB', 'MB', 'GB', 'TB'];
    let i = 0;
    while (n >= 1000 && i < 4) { n /= 1000; i++; }
    return (i && n < 100 ? n.toFixed(1) : Math.round(n)) + ' ' + u[i];
}
export function seconds(s) {
    if (s < 0.0995) return (s * 1000).toFixed(s < 0.00995 ? 1 : 0) + ' ms';
    if (s < 9.95) return s.toFixed(2) + ' s';
    if (s < 99.5) return s.toFixed(1) + ' s';
    if (s < 7200) return Math.round(s / 60) + ' min';
    return s < 172800 ? (s / 3600).toFixed(1) + ' h' : Math.round(s / 86400) + ' days';
}
