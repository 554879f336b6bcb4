// api.js - the server, through the same API as everybody: JSON, streams of events, errors.

export class ApiError extends Error {
    constructor(status, message, more) {
        super(message);
        this.status = status;           // 0: no answer came
        Object.assign(this, more);      // code, param, retry (seconds)
    }
}

let key = '';
export function setKey(k) { key = k; }

function heads(body) {
    const out = {};
    if (body !== undefined) out['Content-Type'] = 'application/json';
    if (key) out.Authorization = 'Bearer ' + key;
    return out;
}

async function send(path, body, signal) {
    let r;
    try {
        r = await fetch(path, {method: body === undefined ? 'GET' : 'POST', headers: heads(body), signal, cache: 'no-store',
            body: body === undefined ? undefined : JSON.stringify(body), credentials: 'omit', redirect: 'error'});
    } catch (e) {
        if (e.name === 'AbortError') throw e;
        throw new ApiError(0, 'The server cannot be reached.');
    }
    if (r.ok) return r;
    let message = '', more = {};
    try {
        const v = await r.json();
        const err = v.error || v;
        message = typeof err === 'string' ? err : err.message || '';
        more = {code: err.code, param: err.param};
    } catch { /* not JSON: the status says what there is to say */ }
    const after = parseInt(r.headers.get('Retry-After') || '', 10);
    if (after >= 0) more.retry = after;
    throw new ApiError(r.status, message || 'The server answered with status ' + r.status + '.', more);
}

export async function getJson(path, signal) {
    return (await send(path, undefined, signal)).json();
}
export async function getText(path, signal) {
    return (await send(path, undefined, signal)).text();
}
export async function postJson(path, body, signal) {
    return (await send(path, body, signal)).json();
}

// The data of each server-sent event, parsed; ends at [DONE]. A stream that breaks off is an error.
export async function* postStream(path, body, signal) {
    const r = await send(path, body, signal);
    const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    try {
        for (;;) {
            let part;
            try {
                part = await reader.read();
            } catch (e) {
                if (e.name === 'AbortError') throw e;
                throw new ApiError(0, 'The connection was lost.');
            }
            if (part.done) throw new ApiError(0, 'The server ended the reply before it was complete.');
            rest += part.value;
            for (;;) {
                const m = /\r?\n\r?\n/.exec(rest);
                if (!m) break;
                const data = rest.slice(0, m.index).split(/\r?\n/).filter(l => l.startsWith('data:')).map(l => l.slice(5).trimStart()).join('\n');
                rest = rest.slice(m.index + m[0].length);
                if (!data) continue;                // a ping
                if (data === '[DONE]') return;
                let v;
                try { v = JSON.parse(data); } catch { throw new ApiError(0, 'The server sent something that is not JSON.'); }
                if (v.error) throw new ApiError(v.error.status || 500, v.error.message || String(v.error), {code: v.error.code});
                yield v;
            }
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}
