// @ts-check
// A modal dialog: the browser's <dialog>, which keeps the focus inside and closes with Escape.
//
//   html`<${Dialog} open=${open} title="Sign in" onClose=${close}>…</>`
import { html, useEffect, useRef } from '../vendor/preact/standalone.module.js';

/** @param {{open: boolean, title: string, onClose: () => void, wide?: boolean, children?: any}} props */
export function Dialog({ open, title, onClose, wide, children }) {
  const box = useRef(/** @type {HTMLDialogElement|null} */ (null));
  useEffect(() => {
    const d = box.current;
    if (!d) return;
    if (open && !d.open) d.showModal();
    if (!open && d.open) d.close();
  }, [open]);
  return html`<dialog ref=${box} class=${wide ? 'wide' : ''} aria-label=${title}
      onCancel=${(/** @type {Event} */ e) => { if (e.target === box.current) { e.preventDefault(); onClose(); } }}
      onMouseDown=${(/** @type {Event} */ e) => { if (e.target === box.current) onClose(); }}>
    ${open && html`<div class="dialog-body"><h2>${title}</h2>${children}</div>`}
  </dialog>`;
}
