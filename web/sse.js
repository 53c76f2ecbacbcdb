// @ts-check
// Reads server-sent events out of the bytes of an answer. EventSource of the browser cannot send a token.

/** @typedef {{event: string, id: string, data: string}} SentEvent */

/**
 * A parser of one stream: each call takes the next piece of text, and returns the events that are whole by then.
 * @returns {(text: string) => SentEvent[]}
 */
export function createParser() {
  let rest = '';
  let id = '';
  return (text) => {
    rest += text;
    /** @type {SentEvent[]} */
    const events = [];
    for (;;) {
      const end = /\r?\n\r?\n/.exec(rest);
      if (!end) return events;
      const block = rest.slice(0, end.index);
      rest = rest.slice(end.index + end[0].length);
      let event = 'message';
      /** @type {string[]} */
      const data = [];
      for (const line of block.split(/\r?\n/)) {
        const colon = line.indexOf(':');
        if (colon === 0) continue; // A comment, which keeps the connection open.
        const name = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
        if (name === 'event') event = value;
        else if (name === 'id') id = value;
        else if (name === 'data') data.push(value);
      }
      if (data.length > 0) events.push({ event, id, data: data.join('\n') });
    }
  };
}
