// toLines has an entry on each line, its cells separated by tabs.
export function toLines(entries) {
  return entries.map((entry) => `${entry.cells.join('\t')}\n`).join('');
}

// toJSONLines is a Blob, since a long log makes more text than a string can hold.
export function toJSONLines(entries) {
  const parts = [];
  for (let at = 0; at < entries.length; at += 1000) {
    parts.push(entries.slice(at, at + 1000).map((entry) => `${JSON.stringify(entry)}\n`).join(''));
  }
  return new Blob(parts, { type: 'application/jsonl' });
}

// copy puts text on the clipboard, on pages without TLS too.
export async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const put = (event) => {
    event.clipboardData.setData('text/plain', text);
    event.preventDefault();
  };
  document.addEventListener('copy', put, { once: true });
  const copied = document.execCommand('copy');
  document.removeEventListener('copy', put);
  if (!copied) {
    throw new Error('The browser refused.');
  }
}

// save has the browser download a Blob.
export function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
