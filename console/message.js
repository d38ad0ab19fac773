import { fromUTF8, hexDump, printable, toHex, utf8 } from './bytes.js';

// How many bytes of a message are kept: a log of many large messages would
// otherwise fill the memory.
const KEPT = 1024;

// A Message is what the page remembers of one that was sent or received.
export class Message {
  #preview;

  constructor(type, size, head, name = '') {
    this.type = type; // text or binary
    this.size = size; // in bytes
    this.head = head; // a string or bytes: the message, or its beginning
    this.name = name; // of the file that it came from
  }

  // of takes what a socket sends and receives.
  static of(data) {
    if (typeof data === 'string') {
      const bytes = utf8(data);
      // A slice of a string would keep all of it.
      return new Message('text', bytes.length, bytes.length > KEPT ? fromUTF8(bytes.subarray(0, KEPT)) : data);
    }
    const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
    return new Message('binary', bytes.length, bytes.slice(0, KEPT));
  }

  // ofFile reads the beginning only: the socket reads the rest by itself.
  static async ofFile(file) {
    const head = new Uint8Array(await file.slice(0, KEPT).arrayBuffer());
    return new Message('binary', file.size, head, file.name);
  }

  get truncated() {
    return this.size > KEPT;
  }

  // preview is what fits on a line.
  get preview() {
    this.#preview ??= this.type === 'text' ? printable(this.head.slice(0, 256)) : toHex(this.head.subarray(0, 64));
    return this.#preview;
  }

  // full is all that is kept, over several lines.
  get full() {
    const text = this.type === 'text' ? this.head : hexDump(this.head);
    return this.truncated ? `${text}\n… (first ${KEPT} of ${this.size} bytes)` : text;
  }

  // equals holds for the echo of a message.
  equals(other) {
    if (this.type !== other.type || this.size !== other.size) {
      return false;
    }
    return this.type === 'text' ? this.head === other.head : this.head.every((byte, i) => byte === other.head[i]);
  }
}
