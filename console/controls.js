import { $ } from './dom.js';

const DURATION = /^(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)$/;
const SIZE = /^\d+(\.\d+)? ?([kmg]i?b?|b)?$/i;
const WHOLE = /^\d+$/;

// RULES say what a parameter may be. The server has the last word, but browsers don't show
// what it says.
const RULES = {
  status: [/^(1(?!01)|[2-5])\d\d$/, 'a number from 100 to 599, but not 101'],
  accept_delay: [DURATION, 'a duration up to 60s, such as 250ms or 5s'],
  subprotocol: [/^[!#$%&'*+.^_`|~0-9a-z-]+$/i, 'a token'],
  delay: [DURATION, 'a duration up to 60s, such as 250ms or 5s'],
  drop: [WHOLE, 'a whole number from 1 to 10000'],
  fragment: [SIZE, 'a size up to 16MiB, such as 512 or 4KiB'],
  rate: [SIZE, 'bytes per second, such as 512 or 4KiB'],
  ping: [DURATION, 'a duration from 10ms to 60s'],
  interval: [DURATION, 'a duration up to 60s, such as 250ms or 5s'],
  count: [WHOLE, 'a whole number from 1 to 10000'],
  size: [SIZE, 'a size up to 16MiB, such as 512 or 4KiB'],
  close: [/^(\d{1,5}|none)$/, 'a code from 0 to 65535, or none'],
  after: [/^(\d+|(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))$/, 'a number of messages or a duration'],
};

const UNITS = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

// parseDuration gives milliseconds, and undefined for what is no duration.
export function parseDuration(text = '') {
  const match = text.match(DURATION);
  return match ? Number(match[1]) * UNITS[match[3]] : undefined;
}

// controlsOf are the test controls in a URL, by name.
export function controlsOf(url) {
  return new Map(new URL(url).searchParams);
}

// Controls is the form that puts test controls into the URL.
export class Controls {
  #form;
  #url;

  constructor(form, url) {
    this.#form = form;
    this.#url = url;
    form.addEventListener('submit', (event) => event.preventDefault());
    form.addEventListener('input', (event) => this.#compose(event.target));
    form.addEventListener('reset', () => setTimeout(() => this.#compose()));
    url.addEventListener('input', () => this.read());
  }

  // inputs are those of the parameters.
  get #inputs() {
    return [...this.#form.elements].filter((input) => input.name);
  }

  // read shows what is in the URL.
  read() {
    const [, query = ''] = this.#url.value.split('?');
    const parameters = new URLSearchParams(query.replace(/#.*/, ''));
    for (const input of this.#inputs) {
      const value = parameters.get(input.name);
      if (input.type === 'checkbox') {
        input.checked = value !== null;
      } else {
        input.value = value ?? '';
      }
    }
    this.#check();
  }

  // #compose writes into the URL what the form has. Other parameters stay.
  #compose(changed) {
    const [address, query = ''] = this.#url.value.replace(/#.*/, '').split('?');
    const names = new Set(this.#inputs.map(({ name }) => name));
    const parts = query.split('&').filter(Boolean);
    const others = parts.filter((part) => !names.has(part.split('=')[0]));
    const { hello } = this.#form.elements;
    if (changed && changed !== hello && parts.length === others.length) {
      hello.checked = true; // the first control: what is in force should be shown
    }
    const own = this.#inputs.flatMap((input) => {
      const value = input.type === 'checkbox' ? input.checked && input.value : input.value.trim();
      return value === false || (value === '' && input.type !== 'checkbox') ? [] : [parameter(input.name, value)];
    });
    const all = [...others, ...own].join('&');
    this.#url.value = all ? `${address}?${all}` : address;
    this.#check();
  }

  // #check says which values the server won't take.
  #check() {
    const errors = [];
    for (const input of this.#inputs) {
      const [pattern, rule] = RULES[input.name] ?? [];
      const value = input.value.trim();
      const wrong = pattern && value !== '' && !pattern.test(value);
      input.ariaInvalid = wrong ? 'true' : null;
      if (wrong) {
        errors.push(`${input.name} “${value}”: enter ${rule}.`);
      }
    }
    $('controls-error').textContent = errors.join(' ');
    const count = this.#inputs.filter((input) => (input.type === 'checkbox' ? input.checked : input.value.trim())).length;
    $('controls-summary').textContent = count > 0 ? `${count} in the URL` : '';
  }
}

function parameter(name, value) {
  return value === '' ? name : `${name}=${encodeURIComponent(value)}`;
}
