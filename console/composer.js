import { formatCount, formatSize, parseHex } from './bytes.js';
import { Message } from './message.js';

const HINTS = {
  text: 'Enter sends, Shift+Enter adds a line.',
  hex: 'Two digits per byte, spaces optional. Enter sends.',
  file: 'Sent as one binary message.',
};

// A Composer is the form that messages are written in.
export class Composer {
  #form;
  #hint;

  constructor(form, hint) {
    this.#form = form;
    this.#hint = hint;
    form.addEventListener('input', () => this.#update());
    form.addEventListener('keydown', (event) => {
      if (event.target.tagName === 'TEXTAREA' && event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    this.#update();
  }

  get type() {
    return this.#form.elements.type.value;
  }

  focus() {
    this.#form.elements[this.type].focus();
  }

  #update() {
    for (const { value } of this.#form.elements.type) {
      this.#form.elements[value].closest('.editor').hidden = value !== this.type;
    }
    this.#hint.textContent = this.#describe();
  }

  #describe() {
    const { hex, file } = this.#form.elements;
    if (this.type === 'file' && file.files.length > 0) {
      return `${file.files[0].name}, ${formatSize(file.files[0].size)}`;
    }
    if (this.type === 'hex' && hex.value) {
      try {
        return `${formatCount(parseHex(hex.value).length)} bytes`;
      } catch (error) {
        return error.message;
      }
    }
    return HINTS[this.type];
  }

  // read gives what goes to the socket, and what the log keeps of it.
  async read() {
    const { text, hex, file } = this.#form.elements;
    switch (this.type) {
      case 'text':
        return { data: text.value, message: Message.of(text.value) };
      case 'hex': {
        const data = parseHex(hex.value);
        return { data, message: Message.of(data) };
      }
      default:
        if (file.files.length === 0) {
          throw new Error('Choose a file first.');
        }
        return { data: file.files[0], message: await Message.ofFile(file.files[0]) };
    }
  }
}
