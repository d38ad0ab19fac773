'use strict';

// Runs Node's ws against an echo socket: node client.js <url>
//
// The socket speaks the subprotocols json and chat and permessage-deflate. The
// exit status is 0 when all is as it should be.

const assert = require('node:assert/strict');
const { randomBytes } = require('node:crypto');
const { on, once } = require('node:events');
const WebSocket = require('ws');

const url = process.argv[2];

// Each case gets a function that opens a socket.
const cases = {
  async text(open) {
    const socket = await open();
    await echo(socket, 'hello');
    await echo(socket, '');
    await echo(socket, 'žluťoučký kůň 🐎 \u0000 \u{10FFFF}');
  },

  async binary(open) {
    const socket = await open();
    await echo(socket, Buffer.of(0, 1, 127, 128, 255));
    await echo(socket, Buffer.alloc(0));
    // Around the lengths at which frame headers and buffers grow.
    for (const size of [125, 126, 4096, 4097, 65535, 65536, 65537, 1 << 20]) {
      await echo(socket, randomBytes(size));
    }
  },

  async fragments(open) {
    const socket = await open();
    for (const fragment of ['one, ', '', 'two, ']) {
      socket.send(fragment, { fin: false });
    }
    socket.ping('between');
    socket.send('three');
    const [pong] = await once(socket, 'pong');
    assert.equal(pong.toString(), 'between');
    await receive(socket, 'one, two, three');

    // A character is cut in two.
    const horse = Buffer.from('🐎');
    socket.send(horse.subarray(0, 1), { binary: false, fin: false });
    socket.send(horse.subarray(1), { binary: false });
    await receive(socket, '🐎');

    for (let i = 0; i < 1000; i++) {
      socket.send(Buffer.of(i), { fin: i === 999 });
    }
    await receive(socket, Buffer.from(Array.from({ length: 1000 }, (_, i) => i)));
  },

  async ping(open) {
    const socket = await open();
    for (const payload of ['', 'payload', 'x'.repeat(125)]) {
      socket.ping(payload);
      const [pong] = await once(socket, 'pong');
      assert.equal(pong.toString(), payload);
    }
    socket.pong('unasked');
    await echo(socket, 'hello');
  },

  async close(open) {
    for (const [code, reason] of [[1000, ''], [3001, 'reason'], [4999, 'důvod']]) {
      const socket = await open();
      socket.send('last');
      assert.deepEqual(await close(socket, code, reason), [code, reason]);
      await receive(socket, 'last');
    }
    assert.deepEqual(await close(await open()), [1005, '']);
  },

  async subprotocol(open) {
    let socket = await open(['chat', 'json']);
    assert.equal(socket.protocol, 'json'); // the server prefers it
    socket = await open();
    assert.equal(socket.protocol, '');
  },

  async large(open) {
    const socket = await open();
    // 10 MiB in which a lost or doubled piece shows. What is random all through
    // takes long to inflate where Go's race detector watches.
    const filler = randomBytes(508).toString('hex');
    await echo(socket, Array.from({ length: 10 << 10 }, (_, i) => String(i).padStart(8) + filler).join(''));
  },

  async order(open) {
    const socket = await open();
    for (let i = 0; i < 1000; i++) {
      socket.send(`message ${i}`);
    }
    for (let i = 0; i < 1000; i++) {
      await receive(socket, `message ${i}`);
    }
  },
};

let sockets = []; // of the case that runs

async function connect(deflate, protocols = []) {
  const socket = new WebSocket(url, protocols, {
    perMessageDeflate: deflate && { threshold: 0 },
    rejectUnauthorized: false, // the certificate is the test's own
  });
  sockets.push(socket);
  // They end when the socket closes, so that nobody waits for more.
  socket.messages = on(socket, 'message', { close: ['close'] });
  await once(socket, 'open');
  assert.equal(socket.extensions, deflate ? 'permessage-deflate' : '');
  return socket;
}

// close closes a socket and gives the code and the reason that come back.
async function close(socket, ...codeAndReason) {
  const closed = once(socket, 'close');
  socket.close(...codeAndReason);
  const [code, reason] = await closed;
  return [code, reason.toString()];
}

async function receive(socket, message) {
  const { value, done } = await socket.messages.next();
  assert(!done, 'the socket closed instead of sending a message');
  const [data, isBinary] = value;
  assert.equal(isBinary, typeof message !== 'string');
  // Not deepEqual, which prints what differs, all 10 MiB of it.
  assert.equal(data.length, Buffer.byteLength(message));
  assert(data.equals(Buffer.from(message)), 'the message came back changed');
}

function echo(socket, message) {
  socket.send(message);
  return receive(socket, message);
}

async function main() {
  for (const deflate of [false, true]) {
    for (const [name, run] of Object.entries(cases)) {
      const title = `${name}, ${deflate ? 'with' : 'without'} permessage-deflate`;
      // Without a timer, Node would end with status 0 if nothing came any more.
      const timer = setTimeout(() => {
        console.error(`${title}: still waiting after 20 seconds`);
        process.exit(1);
      }, 20_000);
      try {
        await run((protocols) => connect(deflate, protocols));
        for (const socket of sockets.filter((s) => s.readyState === WebSocket.OPEN)) {
          assert.deepEqual(await close(socket), [1005, '']);
        }
      } catch (error) {
        console.error(`${title}:`, error);
        process.exitCode = 1;
      }
      sockets.forEach((socket) => socket.terminate());
      sockets = [];
      clearTimeout(timer);
    }
  }
}

main();
