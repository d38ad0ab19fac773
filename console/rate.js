const SLOT = 100; // ms
const SLOTS = 10;

// A Rate counts the messages and bytes of the last second.
export class Rate {
  #slots = Array.from({ length: SLOTS + 1 }, () => ({ number: -1, messages: 0, bytes: 0 }));

  add(now, bytes) {
    const number = Math.floor(now / SLOT);
    const slot = this.#slots[number % this.#slots.length];
    if (slot.number !== number) {
      Object.assign(slot, { number, messages: 0, bytes: 0 });
    }
    slot.messages++;
    slot.bytes += bytes;
  }

  read(now) {
    const number = Math.floor(now / SLOT);
    const rate = { messages: 0, bytes: 0 };
    for (const slot of this.#slots) {
      if (slot.number >= number - SLOTS && slot.number < number) {
        rate.messages += slot.messages;
        rate.bytes += slot.bytes;
      }
    }
    return rate;
  }
}
