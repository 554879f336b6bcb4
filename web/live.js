// live.js - the server as it is now: load, queue, memory of conversations (KV), tokens a second, times.
// It reads /metrics each second, as any Prometheus would, and keeps the last five minutes here.

import {h, svg, count, bytes, seconds} from './dom.js';
import {getText, getJson} from './api.js';

const KEEP = 300;
let timer = 0, past = [], root = null, tiles = {}, version = '', failed = '';

// name -> [{labels, value}]
export function parse(text) {
    const out = {};
    for (const line of text.split('\n')) {
        const m = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
        if (!m) continue;
        const labels = {};
        for (const l of (m[2] || '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[l[1]] = l[2];
        (out[m[1]] = out[m[1]] || []).push({labels, value: m[3] === '+Inf' ? Infinity : +m[3]});
    }
    return out;
}
const sum = (s, name) => (s[name] || []).reduce((a, x) => a + x.value, 0);
const has = (s, name) => !!s[name];

// Upper bound -> count of observations in the time between two samples.
function between(a, b, name) {
    const out = new Map();
    for (const x of b[name + '_bucket'] || []) out.set(x.labels.le, (out.get(x.labels.le) || 0) + x.value);
    for (const x of (a && a[name + '_bucket']) || []) out.set(x.labels.le, (out.get(x.labels.le) || 0) - x.value);
    return [...out].map(([le, n]) => [le === '+Inf' ? Infinity : +le, n]).sort((x, y) => x[0] - y[0]);
}
// The time below which this share lies, linear within a bucket; null: nothing observed.
export function quantile(rows, share) {
    const all = rows.length ? rows[rows.length - 1][1] : 0;
    if (!(all > 0)) return null;
    const want = all * share;
    let low = 0, before = 0;
    for (const [le, n] of rows) {
        if (n >= want) return le === Infinity ? low : low + (le - low) * (n > before ? (want - before) / (n - before) : 1);
        low = le;
        before = n;
    }
    return low;
}

const V = 'vllm:';
const back = n => past[Math.max(0, past.length - 1 - n)];
function rate(name, span) {
    const b = past[past.length - 1], a = back(span);
    const dt = (b.at - a.at) / 1000;
    return dt > 0 ? Math.max(0, (sum(b.s, name) - sum(a.s, name)) / dt) : 0;
}
function times(name) {
    const b = past[past.length - 1], a = back(60);
    let rows = between(a === b ? null : a.s, b.s, name), fresh = true;
    if (quantile(rows, .5) === null) { rows = between(null, b.s, name); fresh = false; }
    const mid = quantile(rows, .5), high = quantile(rows, .95);
    return mid === null ? null : {mid, high, fresh};
}
const timeTile = name => () => {
    const t = times(name);
    return t ? {value: seconds(t.mid), point: t.mid, sub: '95 %: ' + seconds(t.high) + (t.fresh ? ', last minute' : ', since the start')} : {value: '–', sub: 'none yet', point: 0};
};
// Every tile: its name, what it needs, and value, line below and point of its curve.
const TILES = [
    {name: 'Tokens a second', need: V + 'generation_tokens_total', draw: s => ({value: tenth(rate(V + 'generation_tokens_total', 3)), sub: count(sum(s, V + 'generation_tokens_total')) + ' in all', point: rate(V + 'generation_tokens_total', 3)})},
    {name: 'Prompt tokens a second', need: V + 'prompt_tokens_total', draw: s => ({value: tenth(rate(V + 'prompt_tokens_total', 3)), sub: count(sum(s, V + 'prompt_tokens_total')) + ' in all', point: rate(V + 'prompt_tokens_total', 3)})},
    {name: 'Running requests', need: V + 'num_requests_running', draw: s => ({value: sum(s, V + 'num_requests_running'), sub: finished(s), point: sum(s, V + 'num_requests_running')})},
    {name: 'Waiting requests', need: V + 'num_requests_waiting', draw: s => ({value: sum(s, V + 'num_requests_waiting'), sub: count(sum(s, V + 'num_preemptions_total')) + ' set back for others', point: sum(s, V + 'num_requests_waiting')})},
    {name: 'KV memory in use', need: V + 'kv_cache_usage_perc', draw: s => { const x = (s[V + 'kv_cache_usage_perc'] || []).reduce((a, y) => Math.max(a, y.value), 0); return {value: (x * 100).toFixed(x < .1 ? 1 : 0) + ' %', sub: has(s, 'drover_kv_positions') ? count(sum(s, 'drover_kv_positions_cached')) + ' of ' + count(sum(s, 'drover_kv_positions')) + ' positions kept' : 'of the positions there are', point: x, top: 1}; }},
    {name: 'Prompts from the cache', need: V + 'prefix_cache_queries_total', draw: s => { const q = sum(s, V + 'prefix_cache_queries_total'), x = q ? sum(s, V + 'prefix_cache_hits_total') / q : 0; return {value: (x * 100).toFixed(0) + ' %', sub: count(q) + ' tokens looked up', point: x, top: 1}; }},
    {name: 'Time to the first token', need: V + 'time_to_first_token_seconds_bucket', draw: timeTile(V + 'time_to_first_token_seconds')},
    {name: 'Time for each token', need: V + 'time_per_output_token_seconds_bucket', draw: timeTile(V + 'time_per_output_token_seconds')},
    {name: 'Time for each token', need: V + 'inter_token_latency_seconds_bucket', draw: timeTile(V + 'inter_token_latency_seconds')},
    {name: 'Time for a whole reply', need: V + 'e2e_request_latency_seconds_bucket', draw: timeTile(V + 'e2e_request_latency_seconds')},
    {name: 'Guesses that came true', need: V + 'spec_decode_num_draft_tokens_total', if: s => sum(s, V + 'spec_decode_num_draft_tokens_total') > 0, draw: s => { const n = sum(s, V + 'spec_decode_num_draft_tokens_total'), x = sum(s, V + 'spec_decode_num_accepted_tokens_total') / n; return {value: (x * 100).toFixed(0) + ' %', sub: count(n) + ' tokens guessed', point: x, top: 1}; }},
    {name: 'Cores in use', need: 'process_cpu_seconds_total', draw: s => { const x = rate('process_cpu_seconds_total', 3); return {value: x.toFixed(1), sub: seconds(sum(s, 'process_cpu_seconds_total')) + ' in all', point: x}; }},
    {name: 'Connections', need: 'drover_http_connections', draw: s => ({value: sum(s, 'drover_http_connections'), sub: count(sum(s, 'drover_http_requests_total')) + ' requests', point: sum(s, 'drover_http_connections')})},
    {name: 'Refused', need: 'drover_requests_refused_total', draw: s => ({value: count(sum(s, 'drover_requests_refused_total') + sum(s, 'drover_http_refused_total')), sub: count(sum(s, 'drover_requests_failed_total')) + ' failed', point: rate('drover_requests_refused_total', 3)})},
    {name: 'Memory of the process', need: 'process_resident_memory_bytes', draw: s => ({value: bytes(sum(s, 'process_resident_memory_bytes')), sub: has(s, 'process_start_time_seconds') ? 'up for ' + seconds(Date.now() / 1000 - sum(s, 'process_start_time_seconds')) : '', point: sum(s, 'process_resident_memory_bytes')})},
];
const tenth = x => (x < 99.95 ? x.toFixed(1) : String(Math.round(x)));
const finished = s => count(sum(s, V + 'request_success_total')) + ' finished';

function spark(points, top) {
    const max = top || Math.max(1e-9, ...points), n = points.length, w = 100, hgt = 26, room = Math.max(60, n);
    const x = i => (room - n + i) / (room - 1) * w;
    const xy = points.map((p, i) => x(i).toFixed(2) + ' ' + (hgt - p / max * (hgt - 2) - 1).toFixed(2));
    const line = xy.length > 1 ? 'M' + xy.join('L') : '';
    return [svg('path', {'class': 'a', d: line ? line + 'V' + hgt + 'H' + x(0).toFixed(2) + 'Z' : ''}), svg('path', {'class': 'l', d: line})];
}

function draw(models) {
    const now = past[past.length - 1];
    const small = root.querySelector('h2 small');
    small.textContent = failed || (version ? 'drover ' + version + ' · ' : '') + 'each second, the last five minutes';
    if (!now) return;
    const box = root.querySelector('.tiles');
    const seen = new Set();
    for (const t of TILES) {
        if (!has(now.s, t.need) || (t.if && !t.if(now.s)) || (seen.has(t.name) && !tiles[t.need])) continue;
        seen.add(t.name);
        let el = tiles[t.need];
        if (!el) {
            el = tiles[t.need] = {value: h('div.value'), sub: h('div.sub'), spark: null, points: []};
            el.root = h('div.tile', {role: 'group', 'aria-label': t.name}, h('div.name', null, t.name), el.value, el.sub);
            box.append(el.root);
        }
        const d = t.draw(now.s);
        el.value.textContent = d.value;
        el.sub.textContent = d.sub || '';
        if (d.point === undefined || past.length < 2) continue;       // rates need two samples
        if (!el.spark) el.root.append(el.spark = svg('svg', {'class': 'spark', viewBox: '0 0 100 26', preserveAspectRatio: 'none', 'aria-hidden': 'true'}));
        el.points.push(d.point);
        if (el.points.length > KEEP) el.points.shift();
        el.spark.replaceChildren(...spark(el.points, d.top));
    }
    drawModels(models, now.s);
}

function drawModels(models, s) {
    const body = root.querySelector('tbody');
    const of = (name, id) => (s[name] || []).filter(x => x.labels.model_name === id).reduce((a, x) => a + x.value, 0);
    const text = [];
    for (const m of models) {
        const open = m.loaded !== undefined ? m.loaded : m.open;
        text.push([m.id, m.parent ? 'adapter of ' + m.parent : 'model', open === undefined ? '' : open ? 'open' : 'opened when asked for',
            m.parent ? '' : String(of(V + 'num_requests_running', m.id)), m.parent ? '' : count(of(V + 'generation_tokens_total', m.id))]);
    }
    const same = JSON.stringify(text);
    if (body.dataset.text === same) return;
    body.dataset.text = same;
    body.replaceChildren(...text.map(r => h('tr', null, h('th', {scope: 'row'}, h('span.dot' + (r[2] !== 'opened when asked for' ? '.on' : ''), {'aria-hidden': 'true'}), r[0]),
        r.slice(1).map((c, k) => h('td', {'class': k > 1 ? 'to-right' : null}, c)))));
}

async function tick() {
    try {
        const s = parse(await getText('/metrics'));
        past.push({at: Date.now(), s});
        if (past.length > KEEP + 61) past.shift();
        failed = '';
    } catch (e) {
        failed = e.message;
        if (e.status === 404) failed = 'This server gives no metrics.';
    }
}

export function openLive(where, models, reload) {
    closeLive();
    past = [];
    tiles = {};
    root = h('div.live', null, h('h2', null, 'Server', h('small', null, '…')), h('div.tiles'),
        h('h3', null, 'Models'), h('div.table', {tabindex: '0', role: 'group', 'aria-label': 'Models'}, h('table', null,
            h('thead', null, h('tr', null, ['Name', 'Kind', 'State', 'Running', 'Tokens made'].map((t, i) => h('th', {scope: 'col', 'class': i > 2 ? 'to-right' : null}, t)))), h('tbody'))));
    where.replaceChildren(root);
    getJson('/version').then(v => { version = v.version || ''; }).catch(() => {});
    const go = async () => {
        if (!document.hidden) {
            await tick();
            if (root) draw(models());
            if (past.length % 20 === 5) reload();
        }
        if (root) timer = setTimeout(go, 1000);
    };
    go();
}

export function closeLive() {
    clearTimeout(timer);
    root = null;
}
