// @ts-check
// Why an object is as it is, in the words of the node, and lists of events.
//
//   html`<${Why} of=${[app, deployment]} changed=${d.status + d.message} />`      asked again when `changed` is another text, and now and then
//   html`<${EventList} events=${events} />`
import { html, useEffect } from '../vendor/preact/standalone.module.js';
import { useGet } from '../api.js';
import { link } from '../router.js';
import { Code } from './code.js';
import { local, plural } from './format.js';
import { Next } from './next.js';
import { At } from './time.js';

const again = 10; // Seconds after which the question is asked again.

/**
 * @param {{of: string[], changed?: string, query?: Record<string, any>, message?: string}} props of: the application, and perhaps a deployment and a replica of it; message: the text that stands
 *   there until the answer comes
 */
export function Why({ of, changed = '', query, message }) {
  const why = useGet('/api/v1/why/' + of.map(encodeURIComponent).join('/'), query, { every: again });
  useEffect(() => { if (why.data) why.reload(); }, [changed]);
  if (!why.data) return message ? html`<section class="why" aria-label="Its message"><p>${local(message)}</p></section>` : null;
  const events = why.data.timeline ?? [];
  return html`<section class="why" aria-label="Why it is as it is">
    <p>${local(why.data.sentence)}</p>
    <${Next} text=${why.data.next} />
    ${why.data.detail && html`<${Code} text=${why.data.detail} label="The error" />`}
    ${events.length > 0 && html`<details><summary>What led there: ${plural(events.length, 'event')}</summary><${EventList} events=${events} /></details>`}
  </section>`;
}

/** @param {{events: any[], whole?: boolean}} props whole: the name of the application stands there too */
export function EventList({ events, whole }) {
  return html`<ol class="event-list">${events.map((e) => {
    const o = e.object;
    const name = o.replica ?? o.deployment ?? o.app ?? o.kind;
    const text = (e.message ?? '').split('\n')[0];
    return html`<li key=${e.id}><a class="event-time" href=${link.events({ app: o.app, event: e.id })}><${At} at=${e.time} /></a>
      <span class="event-name cut" title=${[o.app, o.deployment, o.replica].filter(Boolean).join('/')}>${link.object(o) ? html`<a href=${link.object(o)}>${name}</a>` : name}${whole && o.app && o.app !== name && html`<span class="muted"> of ${o.app}</span>`}</span>
      <span class="event-what"><b class=${e.severity === 'error' ? 'bad' : e.severity === 'warning' ? 'warn' : ''}>${(e.reason ?? '').replaceAll('_', ' ')}</b> <span class="muted">${e.from || 'none'} → ${e.to || 'gone'}</span>${text && html` <span title=${e.message}>${text}</span>`}</span></li>`;
  })}</ol>`;
}
