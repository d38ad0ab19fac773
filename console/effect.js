import { formatCount, formatDuration } from './bytes.js';
import { parseDuration } from './controls.js';

// HIDDEN are controls whose effect browsers don't show to pages.
const HIDDEN = ['ping', 'fragment', 'status'];

// An Effect is what has come of the test controls that a connection asked for, by name.
export class Effect {
  #asked;
  #inForce = null; // as the server has repeated them
  #opened = false;
  #closed = null;
  #least = Infinity;
  #most = 0;
  #replies = 0;
  #unasked = 0;
  #missing = 0;

  constructor(asked) {
    this.#asked = asked;
  }

  // delay is how late replies are asked to be, in ms, and undefined if they aren't.
  get delay() {
    return parseDuration(this.#asked.get('delay'));
  }

  opened() {
    this.#opened = true;
  }

  // takeHello reports whether data is the message that describes the handshake.
  takeHello(data) {
    if (!this.#asked.has('hello') || this.#inForce || this.#replies + this.#unasked > 0) {
      return false;
    }
    try {
      this.#inForce = Object.entries(JSON.parse(data).controls);
      return true;
    } catch {
      return false;
    }
  }

  // received counts a message, with its round-trip time if it is a reply.
  received(rtt) {
    if (rtt === undefined) {
      this.#unasked++;
      return;
    }
    this.#replies++;
    this.#least = Math.min(this.#least, rtt);
    this.#most = Math.max(this.#most, rtt);
  }

  set missing(count) {
    this.#missing = count;
  }

  closed(event) {
    this.#closed = event;
  }

  // rows are the effect in words; none without controls.
  get rows() {
    if (this.#asked.size === 0) {
      return [];
    }
    const rows = [];
    if (this.#inForce) {
      rows.push(['In force', this.#inForce.map(([name, value]) => (value ? `${name}=${value}` : name)).join(' ')]);
    } else if (this.#opened) {
      rows.push(['In force', this.#asked.has('hello') ? 'no hello yet' : 'unknown without hello']);
    }
    if (this.#replies + this.#missing > 0) {
      rows.push(['Replies', `${formatCount(this.#replies)}, ${formatCount(this.#missing)} missing`]);
    }
    if (this.delay !== undefined && this.#replies > 0) {
      const range = [...new Set([formatDuration(this.#least), formatDuration(this.#most)])].join(' to ');
      rows.push(['Delay', `${range}, asked for ${formatDuration(this.delay)}`]);
    }
    if (this.#unasked > 0 || this.#asked.has('interval')) {
      rows.push(['Unasked', `${formatCount(this.#unasked)} received`]);
    }
    if (this.#closed) {
      rows.push(this.#opened ? ['Close', this.#describeClose()] : ['Handshake', this.#describeRefusal()]);
    }
    const hidden = HIDDEN.filter((name) => this.#asked.has(name));
    if (hidden.length > 0) {
      rows.push(['Not shown', `browsers hide ${hidden.join(' and ')} from pages`]);
    }
    return rows;
  }

  #describeClose() {
    const { code, reason } = this.#closed;
    const got = reason ? `${code} “${reason}”` : String(code);
    if (!this.#asked.has('close')) {
      return this.#asked.has('abort') && code === 1006 ? `${got}, as asked for` : got;
    }
    const close = this.#asked.get('close');
    const asked = close === 'none' ? 1005 : Number(close);
    const same = code === asked && reason === (this.#asked.get('reason') ?? '');
    return same ? `${got}, as asked for` : `${got}, asked for ${close}`;
  }

  #describeRefusal() {
    const status = this.#asked.get('status');
    return status ? `refused, asked for ${status}` : 'refused: the server may not take these parameters';
  }
}
