// view.js - messages as elements: what was said, what is being said, tool calls, what can be done with each.

import {h, icon, iconButton, copyText, seconds, count, setText} from './dom.js';
import {Stream, render} from './md.js';
import {siblings, speed, thinking} from './chat.js';

// One message. acts: functions of the page (app.js) that the buttons call with the node.
export class MessageView {
    constructor(chat, node, acts) {
        this.chat = chat;
        this.node = node;
        this.acts = acts;
        const who = node.role === 'user' ? 'You' : node.role === 'tool' ? 'Result of a tool' : 'Reply' + (node.model ? ' of ' + node.model : '');
        this.el = h('article.msg' + (node.role === 'user' ? '.mine' : ''), {id: 'm-' + node.id, 'data-role': node.role, 'aria-label': who, tabindex: '-1'});
        this.body = h('div.body');
        this.foot = h('div.acts');
        this.el.append(h('h2.sr', null, who), this.body, this.foot);
        this.stream = null;
        this.draw();
    }

    // All of it, when it is not being written.
    draw() {
        const n = this.node;
        this.el.classList.remove('going', 'editing');
        this.stream = null;
        this.body.replaceChildren();
        if (n.role === 'user') this.body.append(...userText(n.content));
        else if (n.role === 'tool') this.body.append(h('p.result-head', null, icon('tool'), ' ' + (n.name || 'Tool') + ' gave'), h('div.result', {tabindex: '0', role: 'group', 'aria-label': 'Result'}, n.content));
        else this.reply();
        this.drawFoot();
    }

    reply() {
        const n = this.node, [thought, text] = thinking(n.content);
        if (thought !== null && thought.trim()) {
            const inner = h('div.prose');
            render(thought, inner);
            this.body.append(h('details.think', null, h('summary', null, 'Thought first'), inner));
        }
        if (n.showTokens && n.tokens) {
            this.body.append(tokenView(n, this.acts));
        } else if (text.trim()) {
            const prose = h('div.prose');
            render(text, prose);
            this.body.append(prose);
        }
        this.extras();
    }

    extras() {
        const n = this.node;
        (n.calls || []).forEach((c, i) => this.body.append(callView(n, c, i, this.acts.canAnswer(n) ? this.acts : null)));
        if (n.error) this.body.append(failView(n, this.acts));
        const note = n.finish === 'length' ? 'Cut off: the reply reached its longest length.' : n.finish === 'stopped' ? 'Stopped.' : !n.error && !n.content.trim() && !(n.calls && n.calls.length) && n.finish ? 'The reply is empty.' : '';
        if (note) this.body.append(h('p.note', null, note, ' ', n.finish !== 'stop' && n.content && this.acts.canAnswer(n) && !(n.calls && n.calls.length)
            ? h('button', {type: 'button', onclick: () => this.acts.goOn(n)}, 'Continue') : null));
    }

    // While it is being written: called once a frame at most.
    grow() {
        const n = this.node;
        if (!this.stream) {
            this.el.classList.add('going');
            this.thought = null;
            this.prose = h('div.prose');
            this.state = h('div.wait', {role: 'presentation'});
            this.tail = h('div');
            this.body.replaceChildren(this.prose, this.tail, this.state);
            this.stream = new Stream(this.prose);
            this.foot.replaceChildren(h('span.stat'));
        }
        const [thought, text, over] = thinking(n.content);
        if (thought !== null && !this.thought) {
            this.thought = {text: h('div.prose'), label: h('summary')};
            this.thought.stream = new Stream(this.thought.text);
            this.thought.box = h('details.think', {open: true}, this.thought.label, this.thought.text);
            this.body.prepend(this.thought.box);
        }
        if (thought !== null) {
            this.thought.label.textContent = over ? 'Thought first' : 'Thinking…';
            this.thought.stream.put(thought, over);
            if (over && !this.thought.closed) { this.thought.closed = true; this.thought.box.open = false; }
        }
        this.stream.put(text);
        const calls = n.calls || [];
        while (this.tail.children.length < calls.length) this.tail.append(growingCall(calls[this.tail.children.length]));
        calls.forEach((c, i) => {
            setText(this.tail.children[i].querySelector('code').firstChild, c.name || ' ');
            setText(this.tail.children[i].querySelector('pre').firstChild, c.args || ' ');
        });
        this.drawWait(text);
        const t = n.time, v = t && t.gen > 300 ? (t.pieces - 1) / (t.gen / 1000) : 0;
        setText(this.foot.firstChild.firstChild || this.foot.firstChild.appendChild(document.createTextNode('')), v ? '~' + v.toFixed(1) + ' tokens/s' : '');
    }

    drawWait(text) {
        const n = this.node;
        if (n.waiting) {
            const left = Math.max(0, Math.ceil((n.waiting.until - Date.now()) / 1000));
            this.state.replaceChildren('The server is busy. Asking again in ' + left + ' s.');
        } else if (!text && !(n.calls && n.calls.length) && !(this.thought && n.content)) {
            if (!this.state.querySelector('i')) this.state.replaceChildren(h('i'), h('i'), h('i'));
        } else {
            this.state.replaceChildren();
        }
        this.state.hidden = !this.state.firstChild;
    }

    drawFoot() {
        const n = this.node, a = this.acts, sib = siblings(this.chat, n), at = sib.indexOf(n.id);
        const kids = [];
        if (sib.length > 1) kids.push(
            iconButton('left', 'Version before', () => a.choose(n, -1), {disabled: at === 0, 'class': 'icon turn'}),
            h('span.which.turn', {'aria-label': 'Version ' + (at + 1) + ' of ' + sib.length}, (at + 1) + '/' + sib.length),
            iconButton('right', 'Version after', () => a.choose(n, 1), {disabled: at === sib.length - 1, 'class': 'icon turn'}));
        kids.push(iconButton('copy', 'Copy', () => copyText(n.role === 'assistant' ? thinking(n.content)[1].trim() : n.content, 'Message')));
        kids.push(iconButton('edit', 'Edit', () => this.edit()));
        if (n.role === 'assistant') {
            kids.push(iconButton('again', 'Ask again', () => a.again(n)));
            if (n.tokens) kids.push(iconButton('probs', 'Tokens and their probabilities', () => { n.showTokens = !n.showTokens; this.draw(); }, {'aria-pressed': !!n.showTokens ? 'true' : 'false'}));
        }
        kids.push(iconButton('fork', 'New chat from here', () => a.fork(n)));
        kids.push(iconButton('trash', 'Delete from here', () => a.remove(n)));
        if (n.role === 'assistant') kids.push(statView(n));
        this.foot.replaceChildren(...kids);
    }

    edit() {
        const n = this.node;
        const area = h('textarea.edit', {'aria-label': 'Edit this message', rows: '4'});
        area.value = n.content;
        const save = () => this.acts.edit(n, area.value);
        const go = h('button.primary', {type: 'button', onclick: save}, n.role === 'assistant' ? 'Save as a version' : n.role === 'tool' ? 'Save and ask' : 'Send');
        this.el.classList.add('editing');
        this.body.replaceChildren(area, h('div.edit-row', null,
            n.role === 'assistant' ? h('button.second', {type: 'button', onclick: () => this.acts.edit(n, area.value, true)}, 'Save and continue it') : null,
            h('button.second', {type: 'button', onclick: () => { this.draw(); this.el.focus(); }}, 'Cancel'), go));
        this.foot.replaceChildren();
        area.style.height = Math.min(area.scrollHeight + 4, innerHeight * .6) + 'px';
        area.addEventListener('keydown', ev => {
            if (ev.key === 'Escape') { ev.stopPropagation(); this.draw(); this.el.focus(); }
            if (ev.key === 'Enter' && (ev.ctrlKey || ev.metaKey)) { ev.preventDefault(); save(); }
        });
        area.focus();
        area.setSelectionRange(area.value.length, area.value.length);
    }
}

// What a user wrote is shown as written; only fenced code becomes a block.
function userText(text) {
    const out = [];
    for (const part of text.split(/(^(?:```|~~~)[^\n]*\n[^]*?(?:\n(?:```|~~~)[ \t]*$|$(?![^])))/m)) {
        if (/^(```|~~~)/.test(part)) {
            const box = h('div.prose');
            render(part, box);
            out.push(box);
        } else if (part.trim()) {
            out.push(h('div.plain', null, part.replace(/^\n+|\s+$/g, '')));
        }
    }
    return out.length ? out : [h('div.plain', null, text)];
}

function statView(n) {
    const out = [], v = speed(n), u = n.usage;
    if (u) out.push(count(u.completion_tokens) + (u.completion_tokens === 1 ? ' token' : ' tokens'));
    if (v) out.push((v < 10 ? v.toFixed(1) : Math.round(v)) + ' tokens/s');
    if (n.time && n.time.first) out.push('first after ' + seconds(n.time.first / 1000));
    const more = [];
    if (u) {
        const cached = u.prompt_tokens_details && u.prompt_tokens_details.cached_tokens;
        more.push('prompt: ' + u.prompt_tokens + ' tokens' + (cached ? ', ' + cached + ' of them from the cache' : ''));
    }
    if (n.time && n.time.all) more.push('all: ' + seconds(n.time.all / 1000));
    if (n.model) more.push(n.model);
    if (n.finish) more.push('ended by: ' + n.finish);
    if (u && u.prompt_tokens_details && u.prompt_tokens_details.cached_tokens) out.push(count(u.prompt_tokens_details.cached_tokens) + ' of ' + count(u.prompt_tokens) + ' cached');
    return h('span.stat', {title: more.join('\n')}, out.join(' · '));
}

function failView(n, acts) {
    const e = n.error;
    return h('div.fail', {role: 'alert'}, h('span', null, e.message),
        e.status === 401 || e.status === 403 ? h('button', {type: 'button', onclick: () => acts.askKey(n)}, 'Give a key') : null,
        h('button', {type: 'button', onclick: () => acts.again(n)}, 'Try again'));
}

// ---- tool calls ----

function argsView(text) {
    let v;
    try { v = JSON.parse(text || '{}'); } catch { return h('pre', null, text); }
    if (!v || typeof v !== 'object' || Array.isArray(v)) return h('pre', null, text);
    const rows = Object.entries(v);
    if (!rows.length) return h('pre', null, 'no arguments');
    return h('dl', null, rows.map(([k, x]) => [h('dt', null, k), h('dd', null, typeof x === 'string' ? x : JSON.stringify(x, null, 2))]));
}

function growingCall(c) {
    return h('div.call', null, h('header', null, icon('tool'), h('code', null, c.name || ' ')), h('pre', null, c.args || ' '));
}

function callView(node, call, i, acts) {
    const box = h('section.call', {'aria-label': 'Call of ' + call.name}, h('header', null, icon('tool'), h('code', null, call.name), h('span.grow'),
        h('button.quiet', {type: 'button', onclick: () => copyText(call.args, 'Arguments')}, icon('copy'), 'Copy')), argsView(call.args));
    if (acts) {
        const area = h('textarea.edit', {'aria-label': 'Result of ' + call.name, placeholder: 'What ' + call.name + ' gives', rows: '2'});
        area.value = acts.draft(node, i);
        area.addEventListener('input', () => acts.setDraft(node, i, area.value));
        const last = i === node.calls.length - 1;
        box.append(h('form', {onsubmit: ev => { ev.preventDefault(); acts.answer(node); }}, area,
            last ? h('div.edit-row', null, h('button.primary', {type: 'submit'}, node.calls.length > 1 ? 'Send the results' : 'Send the result')) : null));
    }
    return box;
}

// ---- tokens ----

const shade = p => (p >= .7 ? 'p0' : p >= .35 ? 'p1' : p >= .1 ? 'p2' : 'p3');
const percent = p => (p >= .0995 ? (p * 100).toFixed(1) : (p * 100).toPrecision(2)) + ' %';
const visible = s => s.replace(/\n/g, '⏎').replace(/\t/g, '⇥') || '∅';

function tokenView(node, acts) {
    const box = h('div.tokens', {role: 'group', 'aria-label': 'Tokens; darker ones were less likely'});
    let open = null;
    node.tokens.forEach((t, i) => {
        const p = Math.exp(t.p);
        const b = h('button.tok.' + shade(p), {type: 'button', title: percent(p), 'aria-expanded': 'false', onclick: () => {
            const was = open && open.button === b;
            if (open) { open.box.remove(); open.button.setAttribute('aria-expanded', 'false'); open = null; }
            if (was) return;
            open = {button: b, box: alternatives(node, i, acts)};
            b.after(open.box);
            b.setAttribute('aria-expanded', 'true');
        }}, t.t.replace(/\n/g, '⏎') || '∅');
        box.append(b, '\n'.repeat(t.t.split('\n').length - 1));
    });
    return box;
}

function alternatives(node, i, acts) {
    const t = node.tokens[i];
    const rows = t.top.some(o => o.t === t.t) ? t.top : [{t: t.t, p: t.p}, ...t.top];
    return h('div.alts', null, h('table', null, h('tbody', null, rows.map(o => {
        const p = Math.exp(o.p), meter = h('meter', {min: '0', max: '1', value: p.toFixed(4), 'aria-label': percent(p)});
        return h('tr', {'class': o.t === t.t ? 'now' : null}, h('td', null, visible(o.t)), h('td', null, percent(p)), h('td', null, meter),
            h('td', null, o.t === t.t ? 'taken' : h('button.link', {type: 'button', onclick: () => acts.branchToken(node, i, o.t)}, 'go on with it')));
    }))));
}
