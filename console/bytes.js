// Bytes, numbers and times as people write and read them.

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const numbers = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export function utf8(text) {
  return encoder.encode(text);
}

export function fromUTF8(bytes) {
  return decoder.decode(bytes);
}

// parseHex takes pairs of digits with whatever people put between them.
export function parseHex(text) {
  const digits = text.replace(/\b0x|[\s:,_-]/gi, '');
  const stranger = digits.match(/[^0-9a-f]/iu);
  if (stranger) {
    throw new Error(`“${stranger[0]}” is not a hexadecimal digit.`);
  }
  if (digits.length % 2) {
    throw new Error('Each byte takes two digits: one is missing.');
  }
  const bytes = new Uint8Array(digits.length / 2);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  }
  return bytes;
}

const hexPairs = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function toHex(bytes, separator = ' ') {
  return Array.from(bytes, (byte) => hexPairs[byte]).join(separator);
}

// hexDump has sixteen bytes on a line, and beside them what is ASCII.
export function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const ascii = Array.from(row, (byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : '·')).join('');
    lines.push(`${at.toString(16).padStart(4, '0')}  ${toHex(row).padEnd(47)}  ${ascii}`);
  }
  return lines.join('\n');
}

// printable shows control characters, so that a message stays on its line.
export function printable(text) {
  return text
    .replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\u007f/g, '\u2421');
}

export function formatCount(n) {
  return numbers.format(n);
}

export function formatSize(bytes) {
  if (bytes < 1024) {
    return `${Math.round(bytes)} B`;
  }
  const power = Math.min(3, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${['B', 'KiB', 'MiB', 'GiB'][power]}`;
}

export function formatDuration(ms) {
  if (ms >= 1000) {
    return `${(ms / 1000).toFixed(2)} s`;
  }
  return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

// formatTime is the time of day, to the millisecond.
export function formatTime(date) {
  const pad = (n, width = 2) => String(n).padStart(width, '0');
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}
