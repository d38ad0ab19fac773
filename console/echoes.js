// How far ahead an echo is looked for, past messages that were not echoed.
const LOOKAHEAD = 64;

// How long a message waits for its echo, in milliseconds: longer than it can be delayed.
const PATIENCE = 90_000;

// How many messages wait for their echo at most.
const MOST_WAITING = 100_000;

// Echoes tells which received message is the echo of which sent one.
export class Echoes {
  #sent = [];
  #first = 0;
  missing = 0; // messages that were not echoed, as far as is known

  add(message, at) {
    this.#sent.push({ message, at });
    if (this.#sent.length - this.#first > MOST_WAITING) {
      this.#first++;
      this.missing++;
    }
    if (this.#first > 1024 && 2 * this.#first > this.#sent.length) {
      this.#sent = this.#sent.slice(this.#first);
      this.#first = 0;
    }
  }

  // match gives the round-trip time of an echo, and undefined for another message.
  match(message, at) {
    while (this.#first < this.#sent.length && at - this.#sent[this.#first].at > PATIENCE) {
      this.#first++;
      this.missing++;
    }
    const last = Math.min(this.#sent.length, this.#first + LOOKAHEAD);
    for (let i = this.#first; i < last; i++) {
      if (this.#sent[i].message.equals(message)) {
        this.missing += i - this.#first;
        this.#first = i + 1;
        return at - this.#sent[i].at;
      }
    }
    return undefined;
  }

  // clear gives up what still waits.
  clear() {
    this.missing += this.#sent.length - this.#first;
    this.#sent = [];
    this.#first = 0;
  }
}
