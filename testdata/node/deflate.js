// Talks to an echo socket with every window and context takeover that the ws package can ask
// for. Its zlib inflates what comes back with exactly the window that was agreed.
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const WebSocket = require('ws');

const url = process.argv[2];
const noise = crypto.randomBytes(6_000).toString('base64');
const messages = [
  ...Array.from({ length: 5 }, (_, i) => JSON.stringify({ type: 'update', id: i, name: 'somebody' })),
  '', noise.slice(0, 2000), noise, noise.slice(0, 2000) + noise, 'x'.repeat(40_000), JSON.stringify({ type: 'update', id: 6, name: 'somebody' }),
];

function converse(perMessageDeflate) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(url, { perMessageDeflate: { threshold: 0, ...perMessageDeflate }, rejectUnauthorized: false });
    const replies = [];
    ws.on('error', reject);
    let extensions;
    ws.on('upgrade', (response) => { extensions = response.headers['sec-websocket-extensions']; });
    ws.on('open', () => messages.forEach((message) => ws.send(message)));
    ws.on('message', (data) => {
      replies.push(data.toString());
      if (replies.length === messages.length) ws.close(1000);
    });
    ws.on('close', (code) => {
      try {
        const bits = perMessageDeflate.serverMaxWindowBits;
        assert.match(extensions, bits ? new RegExp(`; server_max_window_bits=${bits}\\b`) : /^permessage-deflate(?!.*server_max)/);
        assert.strictEqual(code, 1000);
        assert.deepStrictEqual(replies, messages);
        resolve();
      } catch (err) {
        reject(err);
      }
    });
  });
}

(async () => {
  for (const serverMaxWindowBits of [undefined, 8, 9, 10, 11, 12, 13, 14, 15]) {
    for (const clientMaxWindowBits of [undefined, 9]) {
      for (const serverNoContextTakeover of [false, true]) {
        for (const clientNoContextTakeover of [false, true]) {
          const options = {}; // false would mean that the server mustn't ask for it
          if (serverNoContextTakeover) options.serverNoContextTakeover = true;
          if (clientNoContextTakeover) options.clientNoContextTakeover = true;
          if (serverMaxWindowBits) options.serverMaxWindowBits = serverMaxWindowBits;
          if (clientMaxWindowBits) options.clientMaxWindowBits = clientMaxWindowBits;
          await converse(options).catch((err) => { throw new Error(JSON.stringify(options) + ': ' + err.message); });
        }
      }
    }
  }
})().catch((err) => {
  console.error(err);
  process.exit(1);
});
