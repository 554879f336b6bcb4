// app.js - the page: which chat is shown, what runs, and what each button and key does.
//
// A reply that runs belongs to its chat, not to what is shown: another chat can be opened meanwhile, and
// several replies can run. Everything that is said is saved at once when it is over, and each second before.

import {h, icon, iconButton, $, $$, say, toast, copyText, download, count} from './dom.js';
import * as store from './store.js';
import * as api from './api.js';
import * as chats from './chat.js';
import {codeActions} from './md.js';
import {sweep} from './code.js';
import {MessageView} from './view.js';
import * as panel from './panel.js';
import {openLive, closeLive} from './live.js';

const IDEAS = ['Explain how rainbows form, with the geometry', 'Write a C function that reverses a UTF-8 string', 'Compare three ways to sort, in a table', 'Help me word a polite reminder about an unpaid invoice'];

let list = [];                  // all chats, the newest first
let chat = null;                // the one that is shown
let models = [];
const views = new Map();        // node id -> MessageView, of what is shown
const runs = new Map();         // node id -> {chat, node, stop}
const drafts = new Map();       // what was typed for a tool's result
let stick = true;               // whether the end of the chat is to stay in sight
let retype = false;

const defaults = () => ({...chats.noSettings(), ...store.load('defaults', {})});
const runOf = c => [...runs.values()].find(r => r.chat === c);
const model = name => models.find(m => m.id === name);

// ---- saving ----

const dirty = new Map();
let saving = 0;
function keep(c, now) {
    c.updated = Date.now();
    if (!Object.keys(c.nodes).length && !list.includes(c)) return;
    if (!list.includes(c)) list.unshift(c);
    dirty.set(c.id, c);
    if (now) { clearTimeout(saving); saving = 0; flush(); } else if (!saving) saving = setTimeout(flush, 1000);
}
async function flush() {
    saving = 0;
    const all = [...dirty.values()];
    dirty.clear();
    for (const c of all) {
        try { await store.putChat(JSON.parse(JSON.stringify(c, (k, v) => (k === 'showTokens' || k === 'waiting' ? undefined : v)))); }
        catch (e) { toast('This chat could not be saved: ' + e.message); }
    }
}
// What was written since the last saving, when the page goes: a database may not finish then, this does.
addEventListener('pagehide', () => {
    if (runs.size) store.save('cut', [...runs.values()].map(r => ({chat: r.chat.id, node: r.node.id, content: r.node.content, time: r.node.time})));
    flush();
});
addEventListener('visibilitychange', () => { if (document.hidden) flush(); });

// Replies that were being written when this page was closed.
function takeCut() {
    for (const x of store.load('cut', null) || []) {
        const c = list.find(y => y.id === x.chat), n = c && c.nodes[x.node];
        if (!n || !n.running || n.content.length > x.content.length) continue;
        Object.assign(n, {content: x.content, time: x.time, finish: 'stopped'});
        delete n.running;
        keep(c);
    }
    store.save('cut', null);
    for (const c of list) for (const n of Object.values(c.nodes)) if (n.running && Date.now() - c.updated > 5000) { n.finish = 'stopped'; delete n.running; }
}

// Another tab changed a chat.
async function changedElsewhere(id) {
    if (id === null) { list = []; if (chat) startNew(); drawList(); return; }
    if ([...runs.values()].some(r => r.chat.id === id)) return;
    const c = await store.getChat(id), at = list.findIndex(x => x.id === id);
    if (c && at >= 0) list[at] = c;
    else if (c) list.unshift(c);
    else if (at >= 0) list.splice(at, 1);
    if (chat && chat.id === id) { if (c) openChat(c, true); else startNew(); }
    drawList();
}

// ---- the list of chats ----

function drawList() {
    const nav = $('#chats'), q = $('#find').value.trim().toLowerCase();
    const has = c => chats.titleOf(c).toLowerCase().includes(q) || Object.values(c.nodes).some(n => n.content.toLowerCase().includes(q));
    const shown = list.filter(c => !q || has(c)).sort((a, b) => b.updated - a.updated);
    const day = new Date(new Date().toDateString()).getTime();
    const groups = [['Today', day], ['Yesterday', day - 864e5], ['Last seven days', day - 7 * 864e5], ['Before', -Infinity]];
    const out = [];
    let i = 0;
    for (const [name, from] of groups) {
        const items = [];
        for (; i < shown.length && shown[i].updated >= from; i++) items.push(listItem(shown[i]));
        if (items.length) out.push(h('h2', null, name), h('ul', null, items));
    }
    if (!out.length) out.push(h('p', null, q ? 'Nothing found.' : 'Nothing here yet.'));
    nav.replaceChildren(...out);
}

function listItem(c) {
    const on = c === chat && !$('#chat').hidden;
    return h('li', {'data-on': on}, h('a', {href: '#c/' + c.id, title: chats.titleOf(c), 'aria-current': on ? 'page' : null}, chats.titleOf(c)),
        runOf(c) ? h('span.busy', {role: 'img', 'aria-label': 'a reply is being written'}) : null,
        iconButton('trash', 'Delete ' + chats.titleOf(c), ev => { ev.preventDefault(); removeChat(c); }));
}

async function removeChat(c) {
    const r = runOf(c);
    if (r) r.stop.abort();
    list = list.filter(x => x !== c);
    dirty.delete(c.id);
    await store.deleteChat(c.id);
    if (c === chat) startNew();
    drawList();
    toast('“' + chats.titleOf(c).slice(0, 40) + '” deleted', 'Undo', () => { keep(c, true); openChat(c); });
}

// ---- the chat that is shown ----

function startNew() {
    chat = chats.newChat(defaults(), pickModel());
    showChat();
    if (location.hash && location.hash !== '#') history.pushState(null, '', '#');
}

function openChat(c, quiet) {
    chat = c;
    showChat(quiet);
    if (location.hash !== '#c/' + c.id) history.pushState(null, '', '#c/' + c.id);
}

function showChat(quiet) {
    closeLive();
    $('#live').hidden = true;
    $('#to-live').removeAttribute('aria-current');
    $('#chat').hidden = false;
    $('#tune').hidden = $('#more').hidden = $('.model').hidden = false;
    views.clear();
    drawMessages(true);
    drawTop();
    if (!quiet) drawList();
    stick = true;
    toEnd();
    sweep();
    $('#input').value = store.load('draft.' + chat.id, '') || '';
    grow();
}

// Messages of the path; those that stand already are kept.
function drawMessages() {
    const log = $('#log'), nodes = chats.path(chat), keepIds = new Set(nodes.map(n => n.id));
    for (const [id, v] of views) if (!keepIds.has(id)) { v.el.remove(); views.delete(id); }
    for (const el of [...log.children]) if (![...views.values()].some(v => v.el === el)) el.remove();
    nodes.forEach((n, i) => {
        let v = views.get(n.id);
        if (!v) {
            v = new MessageView(chat, n, acts);
            views.set(n.id, v);
            if (runs.has(n.id)) v.grow();
        } else if (!runs.has(n.id) && !v.el.classList.contains('editing')) {
            v.drawFoot();
        }
        if (log.children[i] !== v.el) log.insertBefore(v.el, log.children[i] || null);
    });
    $('#empty').hidden = nodes.length > 0;
    log.hidden = !nodes.length;
    if (!nodes.length) drawEmpty();
    drawButtons();
}

function drawEmpty() {
    $('#hello').textContent = chat.model ? 'Ask ' + chat.model : 'No model is there yet';
    $('#ideas').replaceChildren(...IDEAS.map(t => h('li', null, h('button', {type: 'button', onclick: () => { $('#input').value = t; grow(); $('#input').focus(); }}, t))));
}

function drawTop() {
    const t = chats.titleOf(chat);
    $('#title').textContent = t;
    document.title = t === 'New chat' ? 'drover' : t + ' · drover';
    drawModels();
    drawChip();
}

function drawChip() {
    const s = chat.settings, out = [];
    if (s.system.trim()) out.push('system prompt');
    for (const f of chats.FIELDS) if (typeof s.sampling[f.name] === 'number') out.push(f.label.toLowerCase() + ' ' + s.sampling[f.name]);
    if (s.format !== 'text') out.push(s.format === 'grammar' ? 'grammar' : 'JSON');
    if (s.tools.trim()) out.push('tools');
    if (s.probs) out.push('probabilities');
    $('#chip').textContent = out.length ? out.join(' · ') : 'Default settings';
    const used = chats.path(chat).filter(n => n.usage).pop(), m = model(chat.model), max = m && (m.max_model_len || (model(m.parent) || {}).max_model_len);
    const n = used ? used.usage.prompt_tokens + used.usage.completion_tokens : 0;
    $('#room').textContent = n ? count(n) + (max ? ' of ' + count(max) : '') + ' tokens' : '';
}

function drawButtons() {
    const running = !!runOf(chat), b = $('#send'), empty = !$('#input').value.trim();
    b.replaceChildren(icon(running ? 'stop' : 'send'));
    b.setAttribute('aria-label', running ? 'Stop' : 'Send');
    b.title = running ? 'Stop (Esc)' : 'Send (Enter)';
    b.disabled = !running && empty;
}

// ---- models ----

const pickModel = () => { const last = store.load('model', ''); return model(last) ? last : models.length ? models[0].id : ''; };

async function loadModels() {
    try {
        models = (await api.getJson('/v1/models')).data || [];
    } catch (e) {
        if (e.status === 401 || e.status === 403) { await giveKey(); return; }
        toast(e.message, 'Try again', loadModels);
    }
    if (chat && !chat.model) chat.model = pickModel();
    if (chat) { drawModels(); drawChip(); if (!$('#empty').hidden) drawEmpty(); }
}

function drawModels() {
    const sel = $('#model'), base = models.filter(m => !m.parent), out = [];
    const option = (m, label) => h('option', {value: m.id, selected: m.id === chat.model}, label || m.id);
    for (const m of base) {
        const adapters = models.filter(a => a.parent === m.id);
        if (adapters.length) out.push(h('optgroup', {label: m.id}, option(m, m.id), adapters.map(a => option(a, a.id + ' (adapter)'))));
        else out.push(option(m));
    }
    for (const a of models) if (a.parent && !base.some(m => m.id === a.parent)) out.push(option(a));
    if (chat.model && !model(chat.model)) out.push(h('option', {value: chat.model, selected: true}, chat.model + (models.length ? ' (not here)' : '')));
    if (!out.length) out.push(h('option', {value: ''}, 'No model'));
    sel.replaceChildren(...out);
}

async function giveKey(node) {
    const had = store.loadKey(), got = await panel.askKey(had, !!store.load('key', ''));
    if (!got) return;
    store.saveKey(got.key, got.remember);
    api.setKey(got.key);
    await loadModels();
    if (node) acts.again(node);
}

// ---- asking ----

function ask(c, parent, more) {
    const busy = runOf(c);
    if (busy) busy.stop.abort();
    let request;
    const node = chats.addNode(c, parent, {role: 'assistant', content: '', model: c.model, ...more});
    try {
        request = chats.requestOf(c, chats.messagesOf(c, chats.pathTo(c, node)));
        if (node.content) {
            request.continue_final_message = true;
            request.messages[request.messages.length - 1].content = node.content;      // with its thoughts
        }
    } catch (e) {
        node.error = {message: e.message};
        finish(c, node);
        return;
    }
    start(c, node, request);
}

function start(c, node, request) {
    const stop = new AbortController();
    let frame = 0, told = 0;
    node.running = true;
    runs.set(node.id, {chat: c, node, stop});
    keep(c, true);
    if (c === chat) { drawMessages(); stick = true; toEnd(); }
    drawList();
    say('Asked. The reply is being written.');
    const paint = () => {
        frame = 0;
        const v = views.get(node.id);
        if (!v || c !== chat || !runs.has(node.id)) return;
        v.grow();
        if (stick) toEnd();
    };
    const tick = setInterval(() => { if (node.waiting) paint(); }, 1000);
    paint();
    chats.run(c, node, request, stop.signal, () => {
        if (!frame) frame = requestAnimationFrame(paint);
        if (Date.now() - told > 1500) { told = Date.now(); keep(c); }
    }).then(() => {
        clearInterval(tick);
        cancelAnimationFrame(frame);
        runs.delete(node.id);
        delete node.running;
        finish(c, node);
    });
}

function finish(c, node) {
    chats.autoTitle(c);
    keep(c, true);
    if (c === chat) {
        const v = views.get(node.id), old = v && v.stream;
        if (v && old && !node.calls && !node.error && node.finish !== 'length' && node.finish !== 'stopped' && chats.thinking(node.content)[0] === null && node.content.trim()) settle(v, node);
        else if (v) v.draw();
        drawMessages();
        drawTop();
        if (stick) toEnd();
    }
    drawList();
    if (node.error) say('The reply failed: ' + node.error.message);
    else if (c === chat) say((node.calls ? 'The model calls ' + node.calls.map(x => x.name).join(', ') + '. ' : 'The reply is complete. ') + chats.thinking(node.content)[1].slice(0, 1500));
    sweep();
}

// A reply that was drawn while it grew needs no second drawing.
function settle(v, node) {
    v.stream.end(node.content);
    v.el.classList.remove('going');
    for (const el of [...v.body.children]) if (el !== v.prose) el.remove();
    v.stream = null;
    v.drawFoot();
}

function sendMessage(text) {
    const nodes = chats.path(chat), last = nodes[nodes.length - 1] || null;
    if (!chat.model) { toast('There is no model to ask.'); return; }
    const user = chats.addNode(chat, last, {role: 'user', content: text});
    chats.autoTitle(chat);
    if (location.hash !== '#c/' + chat.id) history.replaceState(null, '', '#c/' + chat.id);
    ask(chat, user);
    drawTop();
}

// What the buttons at a message do.
const acts = {
    choose(n, step) {
        chats.choose(chat, n, step);
        keep(chat);
        redraw();
        const now = chats.siblings(chat, n)[(n.parent ? chat.nodes[n.parent] : chat.root).sel], v = views.get(now);
        if (v) { const b = $('.turn:not(:disabled)', v.foot); if (b) b.focus(); v.el.scrollIntoView({block: 'nearest'}); }
    },
    edit(n, text, goOn) {
        const parent = n.parent ? chat.nodes[n.parent] : null;
        if (n.role === 'assistant') {
            if (goOn) { ask(chat, parent, {content: text}); return; }
            chats.addNode(chat, parent, {role: 'assistant', content: text, model: n.model, edited: true});
            keep(chat, true);
            redraw();
            return;
        }
        if (!text.trim()) return;
        ask(chat, chats.addNode(chat, parent, {role: n.role, content: text, call: n.call, name: n.name}));
        drawTop();
    },
    again(n) {
        const parent = n.parent ? chat.nodes[n.parent] : null;
        if (n.error && !n.content.trim() && !(n.calls && n.calls.length)) chats.removeNode(chat, n);
        ask(chat, parent);
    },
    goOn(n) {
        ask(chat, n.parent ? chat.nodes[n.parent] : null, {content: n.content});
    },
    branchToken(n, i, alt) {
        const text = n.tokens.slice(0, i).map(t => t.t).join('') + alt;
        ask(chat, n.parent ? chat.nodes[n.parent] : null, {content: text});
    },
    fork(n) {
        const c = chats.fork(chat, n);
        keep(c, true);
        openChat(c);
        toast('A new chat with everything up to there');
    },
    remove(n) {
        const r = runOf(chat);
        if (r) r.stop.abort();
        const before = structuredClone({root: chat.root, nodes: chat.nodes}), c = chat;
        chats.removeNode(chat, n);
        keep(chat, true);
        redraw();
        drawTop();
        $('#input').focus();
        toast('Deleted', 'Undo', () => { Object.assign(c, before); keep(c, true); if (c === chat) { views.clear(); redraw(); } });
    },
    canAnswer: n => !n.kids.length,
    draft: (n, i) => drafts.get(n.id + i) || '',
    setDraft: (n, i, text) => drafts.set(n.id + i, text),
    answer(n) {
        let parent = n;
        n.calls.forEach((c, i) => { parent = chats.addNode(chat, parent, {role: 'tool', name: c.name, call: c.id, content: drafts.get(n.id + i) || ''}); });
        const v = views.get(n.id);
        if (v) v.draw();
        ask(chat, parent);
    },
    askKey: giveKey,
};

function redraw() {
    drawMessages();
    drawChip();
}

// ---- scrolling ----

const scroller = $('#scroll');
let scripted = 0;
function toEnd() {
    scripted = performance.now();
    scroller.scrollTop = scroller.scrollHeight;
}
scroller.addEventListener('scroll', () => {
    const off = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    if (off < 40) stick = true;
    else if (performance.now() - scripted > 80) stick = false;
    $('#latest').hidden = off < 200;
}, {passive: true});
scroller.addEventListener('wheel', ev => { if (ev.deltaY < 0) { stick = false; scripted = 0; } }, {passive: true});
$('#latest').onclick = () => { stick = true; toEnd(); $('#input').focus(); };

// ---- the box below ----

const input = $('#input');
function grow() {
    if (!CSS.supports('field-sizing', 'content')) {
        input.style.height = 'auto';
        input.style.height = Math.min(input.scrollHeight, innerHeight * .4) + 'px';
    }
    drawButtons();
}
input.addEventListener('input', () => {
    grow();
    clearTimeout(retype);
    const c = chat;
    retype = setTimeout(() => store.save('draft.' + c.id, input.value && list.includes(c) ? input.value : null), 400);
});
input.addEventListener('keydown', ev => {
    if (ev.key === 'Enter' && !ev.shiftKey && !ev.isComposing && ev.keyCode !== 229) {
        ev.preventDefault();
        if (!runOf(chat)) submit();
    } else if (ev.key === 'ArrowUp' && !input.value) {
        const mine = chats.path(chat).filter(n => n.role === 'user').pop(), v = mine && views.get(mine.id);
        if (v) { ev.preventDefault(); v.edit(); }
    }
});
function submit() {
    const text = input.value.replace(/\s+$/, '');
    if (!text.trim()) return;
    input.value = '';
    clearTimeout(retype);
    store.save('draft.' + chat.id, null);
    grow();
    sendMessage(text);
}
$('#composer').addEventListener('submit', ev => {
    ev.preventDefault();
    const r = runOf(chat);
    if (r) r.stop.abort();
    else submit();
});

// Text files go into the message as blocks.
async function attach(files) {
    for (const f of files) {
        if (f.size > 2e6) { toast(f.name + ' is larger than 2 MB.'); continue; }
        const bytes = new Uint8Array(await f.arrayBuffer());
        let text;
        try { text = new TextDecoder('utf-8', {fatal: true}).decode(bytes); } catch { text = null; }
        if (text === null || text.includes('\0')) { toast(f.name + ' is not a text; models here read text only.'); continue; }
        const ext = (/\.([\w+-]{1,10})$/.exec(f.name) || [])[1] || '';
        let fence = '```';
        while (text.includes(fence)) fence += '`';
        input.value = input.value.replace(/\s+$/, '') + (input.value.trim() ? '\n\n' : '') + f.name + ':\n' + fence + ext + '\n' + text.replace(/\n$/, '') + '\n' + fence + '\n';
    }
    grow();
    input.focus();
    input.setSelectionRange(input.value.length, input.value.length);
}
$('#attach').onclick = () => $('#files').click();
$('#files').onchange = ev => { attach([...ev.target.files]); ev.target.value = ''; };
const box = $('.box');
addEventListener('dragover', ev => { if ([...ev.dataTransfer.types].includes('Files')) { ev.preventDefault(); box.classList.add('drop'); } });
addEventListener('dragleave', ev => { if (!ev.relatedTarget) box.classList.remove('drop'); });
addEventListener('drop', ev => { box.classList.remove('drop'); if (ev.dataTransfer.files.length) { ev.preventDefault(); attach([...ev.dataTransfer.files]); } });
input.addEventListener('paste', ev => { if (ev.clipboardData.files.length && !ev.clipboardData.getData('text')) { ev.preventDefault(); attach([...ev.clipboardData.files]); } });

// ---- buttons and menus ----

const small = matchMedia('(max-width: 50rem)');
function side(open) {
    document.body.classList.toggle('no-side', !open);
    $('#main').inert = open && small.matches;
    $('#side-open').setAttribute('aria-expanded', open);
    if (!small.matches) store.save('side', open);
}
$('#side-open').onclick = () => { side(true); $('#side-close').focus(); };
$('#side-close').onclick = () => { side(false); $('#side-open').focus(); };
$('#shade').onclick = () => side(false);
small.addEventListener('change', () => side(!small.matches && store.load('side', true)));
$('#new').onclick = $('#new2').onclick = () => { startNew(); drawList(); if (small.matches) side(false); input.focus(); };
$('#find').addEventListener('input', drawList);
$('#chats').addEventListener('click', ev => { if (ev.target.closest('a') && small.matches) side(false); });
$('#to-live').addEventListener('click', () => { if (small.matches) side(false); });
$('#model').onchange = ev => { chat.model = ev.target.value; store.save('model', chat.model); keep(chat); drawChip(); if (!$('#empty').hidden) drawEmpty(); };
$('#tune').onclick = $('#chip').onclick = openSettings;
$('#key').onclick = () => giveKey();
$('#help').onclick = panel.showKeys;

function openSettings() {
    panel.openSettings(chat.settings, () => { drawChip(); keep(chat); }, () => {
        store.save('defaults', chat.settings);
        toast('New chats begin with these settings');
    }, () => { chat.settings = chats.noSettings(); store.save('defaults', null); drawChip(); keep(chat); toast('Settings are the defaults again'); });
}

const THEMES = ['system', 'light', 'dark'];
function theme(name) {
    if (name === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    store.save('theme', name === 'system' ? null : name);
    const next = THEMES[(THEMES.indexOf(name) + 1) % 3], b = $('#theme');
    b.title = 'Colours: ' + (name === 'system' ? 'as the system' : name);
    b.setAttribute('aria-label', b.title + '; change to ' + next);
    b.onclick = () => { theme(next); say(b.title); };
    $('meta[name=theme-color]').content = getComputedStyle(document.documentElement).getPropertyValue('--bg').trim();
}

const stamp = () => new Date().toISOString().slice(0, 10);
const fileName = c => chats.titleOf(c).replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').slice(0, 50).toLowerCase() || 'chat';
const menu = {
    async rename() {
        const t = await panel.askText('Rename this chat', 'Title', chats.titleOf(chat));
        if (t === null) return;
        chat.title = t;
        chat.named = !!t;
        chats.autoTitle(chat);
        keep(chat, true);
        drawTop();
        drawList();
    },
    md: () => download(fileName(chat) + '.md', 'text/markdown', chats.toMarkdown(chat)),
    json: () => download(fileName(chat) + '.json', 'application/json', chats.toFile([chat])),
    messages: () => download(fileName(chat) + '-messages.json', 'application/json', chats.toMessages(chat)),
    all: () => download('drover-chats-' + stamp() + '.json', 'application/json', chats.toFile(list)),
    'delete': () => removeChat(chat),
    async clear() {
        if (!await panel.confirm('Delete all chats?', 'All ' + list.length + ' conversations of this browser are deleted. This cannot be undone.', 'Delete all')) return;
        for (const r of runs.values()) r.stop.abort();
        list = [];
        dirty.clear();
        await store.clearChats();
        startNew();
        drawList();
    },
};
$('#more').addEventListener('click', ev => {
    const b = ev.target.closest('[data-do]');
    if (!b) return;
    $('#more').open = false;
    menu[b.dataset.do]();
});
addEventListener('click', ev => { if (!ev.target.closest('#more')) $('#more').open = false; });
$('#import').onclick = () => $('#import-file').click();
$('#import-file').onchange = async ev => {
    let n = 0, last = null;
    for (const f of ev.target.files) {
        try { for (const c of chats.fromFile(await f.text())) { keep(c, true); last = c; n++; } } catch (e) { toast(f.name + ': ' + e.message); }
    }
    ev.target.value = '';
    if (last) { openChat(last); drawList(); toast(n === 1 ? 'One conversation imported' : n + ' conversations imported'); }
};

// ---- keys ----

addEventListener('keydown', ev => {
    const ctrl = ev.ctrlKey || ev.metaKey, dialog = $('dialog[open]');
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(ev.target.tagName);
    if (ev.key === 'Escape' && !dialog) {
        if ($('#more').open) { $('#more').open = false; $('summary', $('#more')).focus(); return; }
        if (small.matches && !document.body.classList.contains('no-side')) { side(false); $('#side-open').focus(); return; }
        const r = runOf(chat);
        if (r) r.stop.abort();
        return;
    }
    if (dialog) return;
    const key = (ctrl ? 'C' : '') + (ev.shiftKey && ctrl ? 'S' : '') + ' ' + ev.key.toLowerCase();
    const what = {'CS o': () => $('#new').click(), 'C k': () => { side(true); $('#find').focus(); }, 'C .': openSettings, 'C b': () => side(document.body.classList.contains('no-side')),
        'CS y': () => { const last = chats.path(chat).filter(n => n.role === 'assistant').pop(); if (last) copyText(chats.thinking(last.content)[1].trim(), 'Reply'); },
        ...(typing ? {} : {' /': () => input.focus(), ' ?': panel.showKeys, ' j': () => step(1), ' k': () => step(-1)})}[key];
    if (what && !ev.altKey) { ev.preventDefault(); what(); }
});

function step(by) {
    const els = $$('#log > .msg'), at = els.indexOf(document.activeElement.closest && document.activeElement.closest('.msg'));
    const el = els[at < 0 ? (by > 0 ? 0 : els.length - 1) : at + by];
    if (el) { el.focus(); el.scrollIntoView({block: 'nearest'}); }
}

// ---- where we are ----

function route() {
    const m = /^#c\/([\w-]+)$/.exec(location.hash), c = m && list.find(x => x.id === m[1]);
    if (location.hash === '#live') {
        $('#chat').hidden = true;
        $('#tune').hidden = $('#more').hidden = $('.model').hidden = true;
        $('#live').hidden = false;
        $('#to-live').setAttribute('aria-current', 'page');
        document.title = 'Server · drover';
        openLive($('#live'), () => models, loadModels);
        drawList();
    } else if (c && (c !== chat || $('#chat').hidden)) {
        openChat(c);
    } else if (!c && (!chat || chat.root.kids.length || $('#chat').hidden)) {
        startNew();
        drawList();
    }
}
addEventListener('popstate', route);
addEventListener('hashchange', route);

async function begin() {
    theme(THEMES.includes(store.load('theme')) ? store.load('theme') : 'system');
    side(!small.matches && store.load('side', true));
    codeActions($('#log'));
    api.setKey(store.loadKey());
    const kept = await store.openStore(changedElsewhere);
    try { list = (await store.allChats()).filter(c => c && c.nodes && c.root); } catch { list = []; }
    takeCut();
    if (!kept) toast('This browser keeps nothing: chats are gone when the page is closed.');
    route();
    drawList();
    if (!small.matches) input.focus();
    await loadModels();
    document.body.dataset.ready = '';
}
begin();
