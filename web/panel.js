// panel.js - dialogs: the settings of a chat, the key, small questions, the list of shortcuts.
// <dialog> keeps the focus inside, closes with Esc and gives the focus back.

import {h, iconButton, $} from './dom.js';
import {FIELDS, readTools} from './chat.js';

const FORMATS = [['text', 'Text'], ['json_object', 'A JSON object'], ['json_schema', 'JSON by a schema'], ['grammar', 'By a grammar (GBNF)']];
const CHOICES = [['auto', 'The model decides'], ['none', 'None'], ['required', 'At least one']];

function field(label, input, hint, more) {
    const id = 'f-' + Math.random().toString(36).slice(2, 9);
    input.id = id;
    const hintEl = hint ? h('p.hint', {id: id + 'h'}, hint) : null;
    if (hint) input.setAttribute('aria-describedby', id + 'h');
    return h('div.field' + (more || ''), null, h('label', {'for': id}, label), input, hintEl);
}

function check(label, hint, on, change) {
    const id = 'f-' + Math.random().toString(36).slice(2, 9);
    return h('div.field.check', null, h('input', {type: 'checkbox', id, checked: on, onchange: ev => change(ev.target.checked)}),
        h('label', {'for': id}, label, hint ? h('span.hint', null, ' ' + hint) : null));
}

function select(options, value, change) {
    return h('select', {onchange: ev => change(ev.target.value)}, options.map(([v, t]) => h('option', {value: v, selected: v === value}, t)));
}

// The settings of a chat. changed() after each change; asDefault() makes them those of new chats.
export function openSettings(settings, changed, asDefault, reset) {
    const s = settings, dialog = $('#panel');
    const area = (value, rows, mono, change) => {
        const t = h('textarea' + (mono ? '.mono' : ''), {rows, spellcheck: mono ? 'false' : null, oninput: () => change(t.value)});
        t.value = value;
        return t;
    };
    const number = f => {
        const v = s.sampling[f.name];
        const input = h('input', {type: 'number', min: f.min, max: f.max, step: f.step === 1 ? 1 : 'any', placeholder: 'default', inputmode: 'decimal', oninput: () => {
            const ok = input.value !== '' && input.validity.valid;
            if (ok) s.sampling[f.name] = +input.value;
            else if (input.value === '' && !input.validity.badInput) delete s.sampling[f.name];
            input.setAttribute('aria-invalid', input.validity.valid ? 'false' : 'true');
            bad.hidden = input.validity.valid;
            changed();
        }});
        if (v !== undefined && v !== null) input.value = v;
        const bad = h('p.bad', {hidden: true, role: 'alert'}, 'From ' + f.min + ' to ' + (f.max > 1e9 ? 'about 9 · 10¹⁵' : f.max) + (f.step === 1 ? ', whole' : ''));
        const box = field(f.label, input, f.hint, '.num');
        box.append(bad);
        return box;
    };
    const bad = h('p.bad', {role: 'alert', hidden: true});
    const judge = (el, f) => {
        try { f(); el.hidden = true; } catch (e) { el.textContent = e.message; el.hidden = false; }
    };
    const badTools = bad.cloneNode(), badSchema = bad.cloneNode();
    const schema = field('Schema or grammar', area(s.schema, 6, true, v => { s.schema = v; checkSchema(); changed(); }), null);
    const checkSchema = () => judge(badSchema, () => {
        if (s.format !== 'json_schema' || !s.schema.trim()) return;
        try { JSON.parse(s.schema); } catch (e) { throw new Error('The schema is not JSON: ' + e.message); }
    });
    schema.append(badSchema);
    const showSchema = () => { schema.hidden = s.format !== 'json_schema' && s.format !== 'grammar'; };
    showSchema();
    checkSchema();
    const tools = field('Tools', area(s.tools, 6, true, v => { s.tools = v; judge(badTools, () => readTools(v)); changed(); }),
        'JSON: functions with name, description and parameters. What the model calls is shown, and you give the result.');
    tools.append(badTools);
    judge(badTools, () => readTools(s.tools));
    const body = h('div.scroll', null,
        field('System prompt', area(s.system, 5, false, v => { s.system = v; changed(); }), 'What the model is told before the conversation'),
        h('fieldset', null, h('legend', null, 'Sampling'), FIELDS.map(number),
            field('Stop at', area(s.stop, 2, true, v => { s.stop = v; changed(); }), 'One text a line; the reply ends before it')),
        h('fieldset', null, h('legend', null, 'Form of the reply'), field('Format', select(FORMATS, s.format, v => { s.format = v; showSchema(); checkSchema(); changed(); })), schema),
        h('fieldset', null, h('legend', null, 'Tools'), tools, field('Use of tools', select(CHOICES, s.choice, v => { s.choice = v; changed(); }))),
        h('fieldset', null, h('legend', null, 'To look at'),
            check('Keep each token’s probability', 'A reply then has a button that shows its tokens, what else was likely, and can go on with another.', s.probs, v => { s.probs = v; changed(); })));
    const close = () => dialog.close();
    dialog.replaceChildren(h('form', {method: 'dialog', onsubmit: ev => { ev.preventDefault(); close(); }},
        h('header', null, h('h2', null, 'Settings of this chat'), iconButton('close', 'Close', close)), body,
        h('footer', null, h('button.second', {type: 'button', onclick: asDefault}, 'Use for new chats'),
            h('button.second', {type: 'button', onclick: () => { reset(); close(); }}, 'Reset'), h('span.grow'), h('button.primary', {type: 'submit'}, 'Done'))));
    outside(dialog);
    dialog.showModal();
    body.scrollTop = 0;
}

// A click beside a dialog closes it.
function outside(dialog) {
    dialog.onclick = ev => {
        if (ev.target !== dialog) return;
        const r = dialog.getBoundingClientRect();
        if (ev.clientX < r.left || ev.clientX > r.right || ev.clientY < r.top || ev.clientY > r.bottom) dialog.close();
    };
}

function ask(title, kids, yes, danger) {
    const dialog = $('#ask');
    return new Promise(ok => {
        let said = false;
        const h2 = h('h2', {id: 'ask-title'}, title);
        dialog.setAttribute('aria-labelledby', 'ask-title');
        dialog.replaceChildren(h('form', {method: 'dialog', onsubmit: ev => { ev.preventDefault(); said = true; dialog.close(); }}, h2, kids,
            h('div.edit-row', null, yes ? h('button.second', {type: 'button', onclick: () => dialog.close()}, 'Cancel') : null,
                h('button.' + (danger ? 'second.danger' : 'primary'), {type: 'submit'}, yes || 'Close'))));
        dialog.onclose = () => ok(said);
        outside(dialog);
        dialog.showModal();
    });
}

export const confirm = (title, text, yes) => ask(title, [h('p', null, text)], yes, true);

export async function askText(title, label, value) {
    const input = h('input', {type: 'text', value, maxlength: '200'});
    input.autofocus = true;
    const p = ask(title, [field(label, input)], 'Save');
    input.select();
    return await p ? input.value.trim() : null;
}

export async function askKey(now, remembered) {
    const input = h('input', {type: 'password', autocomplete: 'off', spellcheck: 'false'});
    input.value = now;
    let remember = remembered;
    const ok = await ask('API key', [h('p', null, 'This server may want a key. It is sent to this server alone and kept for this tab.'), field('Key', input),
        check('Remember it in this browser', '', remembered, v => { remember = v; })], 'Use it');
    return ok ? {key: input.value.trim(), remember} : null;
}

const KEYS = [['Send', 'Enter'], ['New line', 'Shift Enter'], ['Stop the reply', 'Esc'], ['Edit your last message', '↑'], ['New chat', 'Ctrl Shift O'], ['Search conversations', 'Ctrl K'],
    ['Settings of this chat', 'Ctrl .'], ['Show or hide conversations', 'Ctrl B'], ['Copy the last reply', 'Ctrl Shift Y'], ['To the message box', '/'], ['Between messages', 'J  K'], ['This list', '?']];

export const showKeys = () => ask('Keyboard shortcuts', [h('table.keys', null, h('tbody', null, KEYS.map(([what, keys]) =>
    h('tr', null, h('th', {scope: 'row'}, what), h('td', null, keys.split(' ').filter(k => k).flatMap((k, i) => (i ? [' ', h('kbd', null, k)] : [h('kbd', null, k)])))))))], null);
