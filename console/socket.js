import { utf8 } from './bytes.js';

const CLOSE_CODES = {
  1000: 'Normal closure',
  1001: 'Going away',
  1002: 'Protocol error',
  1003: 'Unsupported data',
  1005: 'No status received',
  1006: 'Abnormal closure',
  1007: 'Invalid payload',
  1008: 'Policy violation',
  1009: 'Message too big',
  1010: 'Missing extension',
  1011: 'Internal error',
  1012: 'Service restart',
  1013: 'Try again later',
  1014: 'Bad gateway',
  1015: 'TLS failure',
};

export const MAX_REASON = 123; // a control frame has 125 bytes, two of them the code

// describeClose is a close event in words.
export function describeClose({ code, reason, wasClean }) {
  const parts = [CLOSE_CODES[code] ? `${code} ${CLOSE_CODES[code]}` : String(code)];
  if (reason) {
    parts.push(`“${reason}”`);
  }
  parts.push(wasClean ? 'clean' : 'not clean');
  return parts.join(' · ');
}

// ownURL is the socket's at the address of the page.
export function ownURL({ protocol, host, pathname, search }) {
  return `${protocol === 'https:' ? 'wss' : 'ws'}://${host}${pathname}${search}`;
}

// parseURL resolves what was typed, the way a link on the page would be.
export function parseURL(text, base) {
  let url;
  try {
    url = new URL(text.trim(), base);
  } catch {
    throw new Error('This is not a valid URL.');
  }
  if (url.protocol === 'http:' || url.protocol === 'https:') {
    url.protocol = url.protocol.replace('http', 'ws');
  }
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:') {
    throw new Error(`A WebSocket URL starts with ws: or wss:, not “${url.protocol}”.`);
  }
  if (url.username || url.password) {
    throw new Error("Browsers don't allow a user name or password in a WebSocket URL.");
  }
  url.hash = '';
  return url.href;
}

// parseProtocols splits a list at commas and spaces.
export function parseProtocols(text) {
  const names = text.split(/[\s,]+/).filter(Boolean);
  names.forEach((name, i) => {
    if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/i.test(name)) {
      throw new Error(`“${name}” is not a valid subprotocol: use letters, digits and !#$%&'*+-.^_\`|~ only.`);
    }
    if (names.indexOf(name) !== i) {
      throw new Error(`The subprotocol “${name}” is listed more than once.`);
    }
  });
  return names;
}

// parseClose checks what a browser would throw at: it keeps the other codes to
// itself.
export function parseClose(code, reason) {
  code = code.trim();
  if (code === '') {
    if (reason !== '') {
      throw new Error('A reason needs a code.');
    }
    return [];
  }
  const number = /^\d+$/.test(code) ? Number(code) : NaN;
  if (!(number === 1000 || (number >= 3000 && number <= 4999))) {
    throw new Error(`A browser can only close with 1000 or 3000–4999, not with ${code}.`);
  }
  const size = utf8(reason).length;
  if (size > MAX_REASON) {
    throw new Error(`The reason is ${size} bytes of UTF-8: at most ${MAX_REASON} fit.`);
  }
  return [number, reason];
}

// A Connection is a socket that can be opened again. It calls listener.changed
// when its state does, and listener.received with what comes.
export class Connection {
  #socket;
  #listener;
  state = 'Ready';
  closed = null; // the close event

  constructor(listener) {
    this.#listener = listener;
  }

  get open() {
    return this.state === 'Open';
  }

  get protocol() {
    return this.#socket?.protocol ?? '';
  }

  get extensions() {
    return this.#socket?.extensions ?? '';
  }

  // buffered is how many bytes the browser holds that have not gone out.
  get buffered() {
    return this.#socket.bufferedAmount;
  }

  connect(url, protocols) {
    this.#socket = new WebSocket(url, protocols);
    this.#socket.binaryType = 'arraybuffer';
    this.#socket.onopen = () => this.#change('Open');
    this.#socket.onmessage = ({ data }) => this.#listener.received(data);
    this.#socket.onclose = (event) => {
      this.closed = event;
      this.#change('Closed');
    };
    this.#change('Connecting');
  }

  send(data) {
    this.#socket.send(data);
  }

  close(...codeAndReason) {
    this.#socket.close(...codeAndReason);
    this.#change('Closing');
  }

  #change(state) {
    this.state = state;
    this.#listener.changed();
  }
}
