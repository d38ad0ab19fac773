// How much may wait in the browser before a burst pauses.
export const HIGH_WATER = 1 << 20;

// How many messages a burst sends before the page gets its turn.
const CHUNK = 250;

export const MOST_MESSAGES = 1_000_000;
export const MOST_BYTES = 16 << 20;

// parseWhole reads a number from a field, or says what it may be.
export function parseWhole(input, name, least, most) {
  const value = input.value.trim() === '' ? NaN : Number(input.value);
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new Error(`${name}: enter a whole number from ${least} to ${most}.`);
  }
  return value;
}

// A Repeat does something again and again until it is stopped.
export class Repeat {
  #timer;

  start(action, ms) {
    this.stop();
    this.#timer = setInterval(action, ms);
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

// burstMessages yields count messages of size bytes, no two in a row alike if there is
// room for a number.
function* burstMessages(count, size, text) {
  const filler = text ? '.'.repeat(size) : new Uint8Array(size);
  for (let i = 1; i <= count; i++) {
    const number = String(i);
    if (text) {
      yield size > number.length ? `${number}${filler.slice(number.length)}` : filler;
    } else {
      for (let at = 0; at < Math.min(4, size); at++) {
        filler[at] = i >>> (8 * at);
      }
      yield filler;
    }
  }
}

// A Burst sends as fast as the socket takes it.
export class Burst {
  running = false;

  // run resolves with how many messages went out, when they have or when it was
  // stopped.
  async run({ count, size, text, send, buffered }) {
    this.running = true;
    let sent = 0;
    for (const data of burstMessages(count, size, text)) {
      while (this.running && (sent % CHUNK === 0 || buffered() > HIGH_WATER)) {
        await new Promise((resolve) => setTimeout(resolve));
        if (buffered() <= HIGH_WATER) {
          break;
        }
      }
      if (!this.running) {
        break;
      }
      send(data);
      sent++;
    }
    this.running = false;
    return sent;
  }

  stop() {
    this.running = false;
  }
}
