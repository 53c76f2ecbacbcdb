// @ts-check
// The dialog for the token. openSignIn() opens it from anywhere; layout.js draws it.
import { html, useState } from '../vendor/preact/standalone.module.js';
import { createStore, useStore } from '../store.js';
import { hasToken, session, signIn, signOut } from '../api.js';
import { Dialog } from './modal.js';

const open = createStore(false);

export const openSignIn = () => open.set(true);

export function SignIn() {
  const shown = useStore(open);
  const who = useStore(session);
  const [token, setToken] = useState('');
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const close = () => { open.set(false); setProblem(''); };
  const submit = async (/** @type {Event} */ e) => {
    e.preventDefault();
    setBusy(true);
    const s = await signIn(token);
    setBusy(false);
    if (s.state === 'refused') { setProblem(s.message || 'The node does not know this token.'); return; }
    setToken('');
    close();
  };
  return html`<${Dialog} open=${shown} title="Sign in" onClose=${close}>
    <form onSubmit=${submit}>
      <p>A token has a role: <b>read</b> sees logs and requests, <b>operate</b> also scales, restarts, pauses and rolls back, <b>deploy</b> also deploys and deletes.</p>
      <p class="muted">The file <code>admin.token</code> in the state directory has the token of the node's owner; <code>helve token add</code> makes others.
        The token stays in this tab until it is closed.</p>
      <label>Token <input type="password" autocomplete="off" spellcheck=${false} value=${token} aria-invalid=${problem !== ''} onInput=${(/** @type {any} */ e) => setToken(e.target.value)} /></label>
      ${problem && html`<p class="failure-text" role="alert">${problem}</p>`}
      <div class="buttons">
        <button class="primary" disabled=${token.trim() === '' || busy}>Sign in</button>
        ${hasToken() && html`<button type="button" onClick=${() => { signOut(); close(); }}>Sign out${who.name && ' ' + who.name}</button>`}
        <button type="button" onClick=${close}>Cancel</button>
      </div>
    </form>
  </>`;
}
