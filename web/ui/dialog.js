// @ts-check
// Actions: a button that asks first, in words that say what follows, and then says what has become of it.
//
//   html`<${Action} role="operate" label="Restart" title="Restart shop/Ranker?"
//     says="All 2 replicas are replaced one after the other. Calls go on." run=${() => send('POST', path`…/restart`)} done="The restart has begun." />`
//
// The button is off without the role, and says which role it needs. A failure stays in the dialog with the node's next step, and fields in `fields` keep what was typed.
//   fields: [{ name: 'replicas', label: 'Replicas', type: 'number', value: 2, min: 0 }]   run gets { replicas: '3' } (texts, or true and false of a checkbox)
//     type: 'file' is a large field for the text of a file, with a button that reads one
//   plan: async (values) => Plan                                                          drawn in the dialog before the change, by plan.js; run gets it as its second argument
//   notify('Scaled to 3.')                                                                 a line that goes away by itself
import { html, useEffect, useRef, useState } from '../vendor/preact/standalone.module.js';
import { createStore, useStore } from '../store.js';
import { useSession } from '../api.js';
import { Dialog } from './modal.js';
import { Failure } from './empty.js';
import { PlanView } from './plan.js';

const notices = createStore(/** @type {{id: number, text: string}[]} */ ([]));
let lastNotice = 0;
const noticeTime = 6000; // Milliseconds that a notice stays.

/** @param {string} text */
export function notify(text) {
  const id = ++lastNotice;
  notices.set([...notices.get(), { id, text }]);
  setTimeout(() => notices.set(notices.get().filter((n) => n.id !== id)), noticeTime);
}

export function Notices() {
  const all = useStore(notices);
  return html`<div class="notices" role="status" aria-live="polite">${all.map((n) => html`<p key=${n.id}>${n.text}</p>`)}</div>`;
}

/**
 * @typedef {{name: string, label: string, type?: string, value?: any, min?: number, max?: number, step?: number|string, options?: string[], note?: string, rows?: number}} Field
 * @typedef {Record<string, any>} Values
 */

/**
 * @param {{role: import('../api.js').Role, label: string, title: string, says?: any, fields?: Field[], run: (values: Values, plan: any) => Promise<any>, plan?: (values: Values) => Promise<any>,
 *   done?: string|((answer: any) => string), verb?: string, danger?: boolean, disabled?: boolean, why?: string, wide?: boolean, icon?: any,
 *   planRole?: import('../api.js').Role}} props
 *   verb: the text of the button in the dialog, else the label; why: why the button is off; planRole: the role that sees the plan, if that is another one than the role of the change
 */
export function Action({ role, planRole = role, label, title, says, fields = [], run, plan, done, verb, danger, disabled, why, wide }) {
  const { may } = useSession();
  const [open, setOpen] = useState(false);
  const first = () => Object.fromEntries(fields.map((f) => [f.name, f.value ?? (f.type === 'checkbox' ? false : '')]));
  const [values, setValues] = useState(/** @type {Values} */ ({}));
  const [error, setError] = useState(/** @type {any} */ (null));
  const [planned, setPlanned] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const allowed = may(planRole);
  const planNext = plan && !planned;
  const powerless = !planNext && !may(role); // It may see the plan alone.
  const result = useRef(/** @type {HTMLDivElement|null} */ (null));
  useEffect(() => { if (planned || error) result.current?.scrollIntoView({ block: 'nearest' }); }, [planned, error]);
  const begin = () => { setValues(first()); setError(null); setPlanned(null); setOpen(true); };
  const attempt = async (/** @type {() => Promise<any>} */ work, /** @type {(answer: any) => void} */ then) => {
    setBusy(true);
    setError(null);
    try { then(await work()); } catch (e) { setError(e); }
    setBusy(false);
  };
  const submit = (/** @type {Event} */ e) => {
    e.preventDefault();
    if (plan && !planned) { attempt(() => plan(values), setPlanned); return; }
    if (powerless) return;
    attempt(() => run(values, planned), (answer) => {
      setOpen(false);
      notify(typeof done === 'function' ? done(answer) : done ?? `${label}: the node has taken it.`);
    });
  };
  return html`<button class=${danger ? 'danger' : ''} disabled=${!allowed || disabled} onClick=${begin}
      title=${!allowed ? `Needs a token with the role ${planRole}` : disabled ? why : undefined}>${label}</button>
    <${Dialog} open=${open} title=${title} wide=${wide} onClose=${() => setOpen(false)}>
      <form onSubmit=${submit}>
        ${says && html`<p>${says}</p>`}
        <${Fields} fields=${fields} values=${values} set=${(/** @type {string} */ name, /** @type {any} */ v) => { setPlanned(null); setValues({ ...values, [name]: v }); }} />
        ${(planned || error) && html`<div ref=${result} class="result">${planned && html`<${PlanView} plan=${planned} />`}${error && html`<${Failure} error=${error} />`}</div>`}
        <div class="buttons">
          <button class=${'primary' + (danger ? ' danger' : '')} disabled=${busy || powerless}>${busy ? 'Asks the node …' : planNext ? 'Show the plan' : verb ?? label}</button>
          <button type="button" onClick=${() => setOpen(false)}>Cancel</button>
          ${powerless && html`<span class="muted">The change needs a token with the role ${role}.</span>`}
        </div>
      </form>
    </>`;
}

/** The fields of a form. @param {{fields: Field[], values: Values, set: (name: string, v: any) => void}} props */
export function Fields({ fields, values, set }) {
  const box = useRef(/** @type {HTMLDivElement|null} */ (null));
  useEffect(() => { /** @type {HTMLElement|null|undefined} */ (box.current?.querySelector('input, textarea, select'))?.focus(); }, []);
  if (fields.length === 0) return null;
  return html`<div class="fields" ref=${box}>${fields.map((f) => {
    const v = values[f.name] ?? '';
    const on = (/** @type {any} */ e) => set(f.name, f.type === 'checkbox' ? e.target.checked : e.target.value);
    const control = f.options ? html`<select value=${v} onChange=${on}>${f.options.map((o) => html`<option value=${o} selected=${o === v}>${o}</option>`)}</select>`
      : f.type === 'textarea' ? html`<textarea rows=${f.rows ?? 8} spellcheck=${false} value=${v} onInput=${on}></textarea>`
      : f.type === 'file' ? html`<${FileField} label=${f.label} rows=${f.rows ?? 12} value=${v} set=${(/** @type {string} */ text) => set(f.name, text)} />`
      : f.type === 'checkbox' ? html`<input type="checkbox" checked=${v === true} onChange=${on} />`
      : html`<input type=${f.type ?? 'text'} min=${f.min} max=${f.max} step=${f.step} value=${v} onInput=${on} />`;
    return html`<label class=${f.type === 'checkbox' ? 'check' : f.type === 'file' || f.type === 'textarea' ? 'whole' : ''} key=${f.name}>${f.type === 'checkbox' ? html`${control} ${f.label}` : html`${f.label} ${control}`}${f.note && html`<span class="muted">${f.note}</span>`}</label>`;
  })}</div>`;
}

/** A field for the text of a file, which can also be typed or pasted. @param {{label: string, rows: number, value: string, set: (text: string) => void}} props */
function FileField({ label, rows, value, set }) {
  const read = async (/** @type {any} */ e) => {
    const file = e.target.files[0];
    if (file) set(await file.text());
    e.target.value = ''; // The same file can be read again after a change.
  };
  return html`<span class="file"><input type="file" accept=".yaml,.yml,.json,text/*" aria-label="Read a file" onChange=${read} />
    <textarea aria-label=${label} rows=${rows} spellcheck=${false} wrap="off" value=${value} onInput=${(/** @type {any} */ e) => set(e.target.value)}></textarea></span>`;
}
