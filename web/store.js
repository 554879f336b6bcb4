// store.js - what is kept in this browser and nowhere else: settings, and conversations in IndexedDB.
// Where a browser gives no storage (private windows of some), everything works and is gone on closing.

const NAME = 'drover', TABLE = 'chats';
let db = null;
const memory = new Map();
const channel = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel('drover');

const done = rq => new Promise((ok, bad) => {
    rq.onsuccess = () => ok(rq.result);
    rq.onerror = () => bad(rq.error);
});

export async function openStore(changed) {
    try {
        const rq = indexedDB.open(NAME, 1);
        rq.onupgradeneeded = () => rq.result.createObjectStore(TABLE, {keyPath: 'id'});
        db = await done(rq);
        db.onversionchange = () => db.close();
    } catch {
        db = null;
    }
    if (channel) channel.onmessage = ev => changed(ev.data);
    return !!db;
}

const table = mode => db.transaction(TABLE, mode).objectStore(TABLE);

export async function allChats() {
    return db ? done(table('readonly').getAll()) : [...memory.values()];
}
export async function getChat(id) {
    return db ? done(table('readonly').get(id)) : memory.get(id);
}
export async function putChat(chat) {
    if (db) await done(table('readwrite').put(chat));
    else memory.set(chat.id, chat);
    if (channel) channel.postMessage(chat.id);
}
export async function deleteChat(id) {
    if (db) await done(table('readwrite').delete(id));
    else memory.delete(id);
    if (channel) channel.postMessage(id);
}
export async function clearChats() {
    if (db) await done(table('readwrite').clear());
    memory.clear();
    if (channel) channel.postMessage(null);
}

// Small settings, each on its own: a damaged one is as if it were not there.
export function load(name, otherwise) {
    try {
        const s = localStorage.getItem('drover.' + name);
        return s === null ? otherwise : JSON.parse(s);
    } catch {
        return otherwise;
    }
}
export function save(name, value) {
    try {
        if (value === null || value === undefined) localStorage.removeItem('drover.' + name);
        else localStorage.setItem('drover.' + name, JSON.stringify(value));
    } catch { /* full, or not allowed: it holds until the page is closed */ }
}
// The key stays for this tab unless its user wants it remembered.
export function loadKey() {
    try { return sessionStorage.getItem('drover.key') || load('key', ''); } catch { return load('key', ''); }
}
export function saveKey(key, remember) {
    try { sessionStorage.setItem('drover.key', key); } catch { /* this page only */ }
    save('key', remember && key ? key : null);
}
