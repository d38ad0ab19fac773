import { formatDuration, formatSize, formatTime, printable, toHex } from './bytes.js';

// How many entries are kept. When they are too many, the oldest tenth goes.
const MOST_ENTRIES = 250_000;

// An Entry is a line of the Communication Log: a message, or what happened to the
// socket.
export class Entry {
  constructor(direction, { message = null, type = message.type, text = '', rtt, asked, details = {} }) {
    this.time = new Date();
    this.direction = direction; // sent, received or event
    this.type = type; // text or binary, or the name of the event
    this.message = message;
    this.text = text; // of an event
    this.rtt = rtt; // in ms, of an echo
    this.asked = asked; // in ms, how late the echo was asked to be
    this.details = details; // of an event, for those who save it
  }

  get preview() {
    return this.message ? this.message.preview : printable(this.text);
  }

  get full() {
    return this.message ? this.message.full : this.text;
  }

  // cells are the entry as the page shows it.
  get cells() {
    return [
      formatTime(this.time),
      this.direction,
      this.type,
      this.message ? formatSize(this.message.size) : '',
      this.rtt === undefined ? '' : formatDuration(this.rtt),
      this.preview,
    ];
  }

  toJSON() {
    const { message } = this;
    return {
      time: this.time.toISOString(),
      direction: this.direction,
      type: this.type,
      ...(message
        ? {
            size: message.size,
            rtt_ms: this.rtt,
            delay_ms: this.asked,
            file: message.name || undefined,
            [message.type === 'text' ? 'text' : 'hex']: message.type === 'text' ? message.head : toHex(message.head, ''),
            truncated: message.truncated || undefined,
          }
        : { text: this.text, ...this.details }),
    };
  }
}

// A Log has entries, and shows those that pass its filter.
export class Log {
  #entries = [];
  #filter = null;
  #shown = this.#entries;
  dropped = 0; // of those that were shown, to keep a view in place

  get size() {
    return this.#entries.length;
  }

  get shown() {
    return this.#shown;
  }

  add(entry) {
    this.#entries.push(entry);
    if (this.#filter?.(entry)) {
      this.#shown.push(entry);
    }
    if (this.#entries.length > MOST_ENTRIES) {
      this.#drop();
    }
  }

  #drop() {
    const shown = this.#shown.length;
    this.#entries = this.#entries.slice(MOST_ENTRIES / 10);
    this.#refresh();
    this.dropped += shown - this.#shown.length;
  }

  // filter takes a direction, or an empty one for all, and text that a line
  // contains in whatever case.
  filter(direction, text) {
    text = text.toLowerCase();
    this.#filter =
      direction || text
        ? (entry) =>
            (!direction || entry.direction === direction) &&
            (!text || entry.type.includes(text) || entry.preview.toLowerCase().includes(text))
        : null;
    this.#refresh();
  }

  #refresh() {
    this.#shown = this.#filter ? this.#entries.filter(this.#filter) : this.#entries;
  }

  clear() {
    this.#entries = [];
    this.#refresh();
  }
}
