// chat.js - a conversation: a tree of messages, of which one path is shown; asking for a reply; exports.
//
//     chat: {id, title, named, created, updated, model, settings, root, nodes}
//     node: {id, parent, role, content, kids, sel, …}     role user, assistant or tool; root has only kids, sel
//
// Editing or asking again makes a sibling, so nothing that was said is lost. A reply's node also has
// calls (tool calls), model, finish, error, usage, time and, if asked for, tokens with their probabilities.

import {id} from './dom.js';
import {postStream, ApiError} from './api.js';

// Sampling: what is null is not sent, and the model's own default holds.
export const FIELDS = [
    {name: 'temperature', label: 'Temperature', min: 0, max: 2, step: 0.05, hint: '0: always the likeliest token'},
    {name: 'top_p', label: 'Top p', min: 0, max: 1, step: 0.01, hint: 'only the likeliest tokens that make up this share'},
    {name: 'top_k', label: 'Top k', min: 0, max: 1000, step: 1, hint: 'only so many of the likeliest; 0: all'},
    {name: 'min_p', label: 'Min p', min: 0, max: 1, step: 0.01, hint: 'none less likely than this share of the best'},
    {name: 'repetition_penalty', label: 'Repetition penalty', min: 0.5, max: 2, step: 0.01, hint: '1: none'},
    {name: 'presence_penalty', label: 'Presence penalty', min: -2, max: 2, step: 0.1, hint: 'against tokens that were there'},
    {name: 'frequency_penalty', label: 'Frequency penalty', min: -2, max: 2, step: 0.1, hint: 'the more often, the more'},
    {name: 'max_tokens', label: 'Longest reply', min: 1, max: 1000000, step: 1, hint: 'in tokens; empty: what fits'},
    {name: 'seed', label: 'Seed', min: 0, max: 9007199254740991, step: 1, hint: 'the same seed gives the same reply'},
];
export const noSettings = () => ({system: '', sampling: {}, stop: '', format: 'text', schema: '', tools: '', choice: 'auto', probs: false});

export function newChat(settings, model) {
    const now = Date.now();
    return {id: id(), v: 1, title: '', named: false, created: now, updated: now, model: model || '',
        settings: {...noSettings(), ...structuredClone(settings)}, root: {kids: [], sel: 0}, nodes: {}};
}

export const parentOf = (chat, node) => (node.parent ? chat.nodes[node.parent] : chat.root);
export const siblings = (chat, node) => parentOf(chat, node).kids;

// The messages that are shown, in order.
export function path(chat) {
    const out = [];
    for (let n = chat.root; n.kids.length;) {
        n = chat.nodes[n.kids[Math.min(n.sel || 0, n.kids.length - 1)]];
        out.push(n);
    }
    return out;
}
export function pathTo(chat, node) {
    const out = [];
    for (let n = node; n; n = n.parent ? chat.nodes[n.parent] : null) out.unshift(n);
    return out;
}
// Add a node under `parent` (null: at the beginning) and show it.
export function addNode(chat, parent, more) {
    const n = {id: id(), parent: parent ? parent.id : null, kids: [], sel: 0, created: Date.now(), ...more};
    chat.nodes[n.id] = n;
    const p = parent || chat.root;
    p.kids.push(n.id);
    p.sel = p.kids.length - 1;
    return n;
}
export function choose(chat, node, step) {
    const p = parentOf(chat, node);
    p.sel = Math.max(0, Math.min(p.kids.length - 1, p.kids.indexOf(node.id) + step));
}
export function removeNode(chat, node) {
    const p = parentOf(chat, node);
    p.kids.splice(p.kids.indexOf(node.id), 1);
    p.sel = Math.max(0, Math.min(p.sel, p.kids.length - 1));
    const drop = n => { n.kids.forEach(k => drop(chat.nodes[k])); delete chat.nodes[n.id]; };
    drop(node);
}
// A new conversation that has the path to `node` and nothing else.
export function fork(chat, node) {
    const c = newChat(chat.settings, chat.model);
    let parent = null;
    for (const n of pathTo(chat, node)) parent = addNode(c, parent, {...structuredClone({...n, kids: [], sel: 0}), id: id(), parent: parent ? parent.id : null});
    c.title = chat.title;
    c.named = true;
    return c;
}

export const titleOf = chat => chat.title || 'New chat';
export function autoTitle(chat) {
    if (chat.named) return;
    const first = path(chat).find(n => n.role === 'user');
    const s = first ? first.content.replace(/```[^]*?(```|$)/g, ' ').replace(/\s+/g, ' ').trim() || first.content.trim() : '';
    chat.title = s.length > 60 ? s.slice(0, 60).replace(/\s+\S*$/, '') + '…' : s;
}

// What a model thought before it answered, where it says so: [thinking or null, answer, thinking is over].
export function thinking(text) {
    const m = /^\s*<think>/.exec(text);
    if (!m) return [null, text, true];
    const end = text.indexOf('</think>');
    return end < 0 ? [text.slice(m[0].length), '', false] : [text.slice(m[0].length, end), text.slice(end + 8), true];
}

// ---- requests ----

export function messagesOf(chat, nodes) {
    const out = [];
    const system = chat.settings.system.trim();
    if (system) out.push({role: 'system', content: system});
    for (const n of nodes) {
        if (n.role === 'tool') {
            out.push({role: 'tool', tool_call_id: n.call, content: n.content});
        } else {
            const m = {role: n.role, content: n.role === 'assistant' ? thinking(n.content)[1].trimStart() : n.content};
            if (n.calls && n.calls.length) {
                m.tool_calls = n.calls.map(c => ({id: c.id, type: 'function', function: {name: c.name, arguments: c.args}}));
                if (!m.content) m.content = null;
            }
            if (m.content || m.tool_calls || n.role === 'user') out.push(m);
        }
    }
    return out;
}

// "tools" as the field takes it: one tool, a list, or bare functions; throws a sentence.
export function readTools(text) {
    if (!text.trim()) return null;
    let v;
    try { v = JSON.parse(text); } catch (e) { throw new Error('The tools are not JSON: ' + e.message); }
    const list = (Array.isArray(v) ? v : [v]).map(t => (t && t.type === 'function' ? t : {type: 'function', function: t}));
    for (const t of list) if (!t.function || typeof t.function.name !== 'string') throw new Error('A tool needs a "name".');
    return list;
}

export function requestOf(chat, messages) {
    const s = chat.settings, rq = {model: chat.model, messages, stream: true, stream_options: {include_usage: true}};
    for (const f of FIELDS) if (typeof s.sampling[f.name] === 'number') rq[f.name] = s.sampling[f.name];
    const stop = s.stop.split('\n').filter(x => x);
    if (stop.length) rq.stop = stop;
    if (s.format === 'json_object') rq.response_format = {type: 'json_object'};
    if (s.format === 'json_schema') {
        let schema;
        try { schema = JSON.parse(s.schema); } catch (e) { throw new Error('The schema is not JSON: ' + e.message); }
        rq.response_format = {type: 'json_schema', json_schema: {name: 'reply', strict: true, schema}};
    }
    if (s.format === 'grammar') rq.grammar = s.schema;
    const tools = readTools(s.tools);
    if (tools) {
        rq.tools = tools;
        if (s.choice !== 'auto') rq.tool_choice = s.choice;
    }
    if (s.probs) { rq.logprobs = true; rq.top_logprobs = 5; }
    return rq;
}

// Ask for the reply that `node` is to hold; `changed(node)` after each piece. Resolves when it is over, well
// or not: node.finish or node.error says how. A server that is busy is asked again when it said it may be.
export async function run(chat, node, request, signal, changed) {
    const t0 = performance.now();
    let first = 0, last = 0, pieces = 0;
    node.time = {pieces: 0};
    delete node.error;
    delete node.finish;
    for (let again = 0; ; again++) {
        try {
            for await (const v of postStream('/v1/chat/completions', request, signal)) {
                const now = performance.now();
                if (v.usage) node.usage = v.usage;
                if (v.timings) node.timings = v.timings;
                const c = v.choices && v.choices[0];
                if (!c) continue;
                const d = c.delta || {};
                if (d.content || d.tool_calls || d.reasoning_content) {
                    if (!first) first = now;
                    last = now;
                    pieces++;
                }
                if (d.content) node.content += d.content;
                for (const t of d.tool_calls || []) takeCall(node, t);
                if (c.logprobs && c.logprobs.content) takeProbs(node, c.logprobs.content);
                if (c.finish_reason) node.finish = c.finish_reason;
                node.time = {first: first ? first - t0 : 0, gen: last - first, pieces};
                changed(node);
            }
            break;
        } catch (e) {
            if (e.name === 'AbortError') { node.finish = 'stopped'; break; }
            if (e instanceof ApiError && (e.status === 429 || e.status === 503) && !first && again < 20) {
                const wait = Math.max(1, Math.min(60, e.retry || 2));
                node.waiting = {message: e.message, until: Date.now() + wait * 1000};
                changed(node);
                const go = await pause(wait * 1000, signal);
                delete node.waiting;
                changed(node);
                if (go) continue;
                node.finish = 'stopped';
                break;
            }
            node.error = {message: e.message, status: e.status, code: e.code, param: e.param};
            break;
        }
    }
    node.time.all = performance.now() - t0;
    changed(node);
    return node;
}

const pause = (ms, signal) => new Promise(ok => {
    if (signal.aborted) { ok(false); return; }
    const t = setTimeout(() => { signal.removeEventListener('abort', stop); ok(true); }, ms);
    const stop = () => { clearTimeout(t); ok(false); };
    signal.addEventListener('abort', stop, {once: true});
});

function takeCall(node, t) {
    node.calls = node.calls || [];
    const i = t.index === undefined ? node.calls.length : t.index;
    const c = node.calls[i] = node.calls[i] || {id: '', name: '', args: ''};
    if (t.id) c.id = t.id;
    if (t.function && t.function.name) c.name += t.function.name;
    if (t.function && t.function.arguments) c.args += t.function.arguments;
}

function takeProbs(node, content) {
    node.tokens = node.tokens || [];
    for (const t of content) node.tokens.push({t: t.token, b: t.bytes || null, p: t.logprob, top: (t.top_logprobs || []).map(o => ({t: o.token, p: o.logprob}))});
}

// Tokens a second of a reply, as seen from here; 0: not known.
export function speed(node) {
    const t = node.time;
    if (node.timings && node.timings.predicted_per_second) return node.timings.predicted_per_second;
    if (!t || !t.gen) return 0;
    const n = node.usage ? node.usage.completion_tokens : t.pieces;
    return n > 1 ? (n - 1) / (t.gen / 1000) : 0;
}

// ---- in and out ----

export function toMarkdown(chat) {
    let out = '# ' + titleOf(chat) + '\n\n';
    if (chat.settings.system.trim()) out += '> **System:** ' + chat.settings.system.trim().replace(/\n/g, '\n> ') + '\n\n';
    for (const n of path(chat)) {
        const who = n.role === 'user' ? 'You' : n.role === 'tool' ? 'Tool result' : n.model || 'Reply';
        out += '## ' + who + '\n\n' + (n.content ? n.content.trim() + '\n\n' : '');
        for (const c of n.calls || []) out += '```json\n' + JSON.stringify({name: c.name, arguments: c.args}) + '\n```\n\n';
    }
    return out;
}
export const toMessages = chat => JSON.stringify({model: chat.model, messages: messagesOf(chat, path(chat))}, null, 2) + '\n';
export const toFile = chats => JSON.stringify({drover: 1, chats}, null, 1) + '\n';

// Conversations of a file that toFile or toMessages wrote (or anything with "messages"); throws a sentence.
export function fromFile(text) {
    let v;
    try { v = JSON.parse(text); } catch { throw new Error('This file is not JSON.'); }
    const list = v && Array.isArray(v.chats) ? v.chats : [v];
    return list.map(c => {
        if (c && Array.isArray(c.messages)) return fromMessages(c);
        if (!c || typeof c !== 'object' || !c.nodes || !c.root || !Array.isArray(c.root.kids)) throw new Error('This file holds no conversations.');
        return checked(c);
    });
}

function fromMessages(v) {
    const c = newChat(noSettings(), typeof v.model === 'string' ? v.model : '');
    let parent = null;
    for (const m of v.messages) {
        const content = typeof m.content === 'string' ? m.content : Array.isArray(m.content) ? m.content.map(p => p.text || '').join('') : '';
        if (m.role === 'system' || m.role === 'developer') { c.settings.system = content; continue; }
        if (!['user', 'assistant', 'tool'].includes(m.role)) throw new Error('A message has the role ' + JSON.stringify(m.role) + '.');
        const more = {role: m.role, content};
        if (m.role === 'tool') more.call = String(m.tool_call_id || '');
        if (Array.isArray(m.tool_calls)) more.calls = m.tool_calls.map(t => ({id: String(t.id || ''), name: String(t.function.name), args: String(t.function.arguments)}));
        parent = addNode(c, parent, more);
    }
    autoTitle(c);
    return c;
}

// A tree from a file, rebuilt node by node: only what hangs together, under ids of our own.
function checked(v) {
    const str = s => (typeof s === 'string' ? s : '');
    const c = newChat(noSettings(), str(v.model));
    c.title = str(v.title).slice(0, 200);
    c.named = !!v.named;
    if (v.created > 0) c.created = +v.created;
    if (v.settings && typeof v.settings === 'object') {
        for (const k of ['system', 'stop', 'format', 'schema', 'tools', 'choice']) if (typeof v.settings[k] === 'string') c.settings[k] = v.settings[k];
        for (const f of FIELDS) if (v.settings.sampling && typeof v.settings.sampling[f.name] === 'number') c.settings.sampling[f.name] = v.settings.sampling[f.name];
        c.settings.probs = !!v.settings.probs;
    }
    const seen = new Set();
    const walk = (from, to) => {
        for (const k of from.kids || []) {
            const n = v.nodes[k];
            if (!n || seen.has(k) || !['user', 'assistant', 'tool'].includes(n.role)) continue;
            seen.add(k);
            const more = {role: n.role, content: str(n.content)};
            if (n.role === 'tool') more.call = str(n.call);
            if (Array.isArray(n.calls)) more.calls = n.calls.map(t => ({id: str(t.id), name: str(t.name), args: str(t.args)}));
            for (const f of ['model', 'finish']) if (typeof n[f] === 'string') more[f] = n[f];
            for (const f of ['usage', 'time', 'timings']) if (n[f] && typeof n[f] === 'object') more[f] = structuredClone(n[f]);
            walk(n, addNode(c, to, more));
        }
        const p = to || c.root;
        p.sel = Math.max(0, Math.min(p.kids.length - 1, from.sel | 0));
    };
    walk(v.root, null);
    return c;
}
