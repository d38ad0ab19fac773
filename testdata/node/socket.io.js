'use strict';

// Runs a client of socket.io against its server behind Caddy:
// node socket.io.js <origin>
//
// It says "ready" with its sockets open, waits for a line, says "unharmed" if they
// still work, and ends with status 0 when they have been closed as they should.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { createInterface } = require('node:readline');
const { io } = require('socket.io-client');

const origin = process.argv[2];
const lines = createInterface(process.stdin)[Symbol.asyncIterator]();

async function connect(options, watch = () => {}) {
  const socket = io(origin, { forceNew: true, reconnection: false, timeout: 20_000, ...options });
  watch(socket.io.engine);
  socket.on('connect_error', (error) => { throw error; });
  await once(socket, 'connect');
  return socket;
}

// exchange sends a message from one of a room to all others.
async function exchange(from, room, message) {
  const received = room.filter((socket) => socket !== from).map((socket) => once(socket, 'message'));
  from.emit('message', 'kitchen', message);
  for (const [got] of await Promise.all(received)) {
    assert.deepEqual(got, message);
  }
}

async function converse(room) {
  for (const socket of room) {
    await exchange(socket, room, 'žluťoučký kůň 🐎');
    await exchange(socket, room, { nested: [1, 'two', null] });
    await exchange(socket, room, Buffer.from(Array.from({ length: 1 << 17 }, (_, i) => i)));
  }
}

async function main() {
  let upgraded;
  const upgrading = await connect({}, (engine) => {
    assert.equal(engine.transport.name, 'polling');
    upgraded = once(engine, 'upgrade');
  });
  await upgraded;
  assert.equal(upgrading.io.engine.transport.name, 'websocket');

  const direct = await connect({ transports: ['websocket'] });
  const polling = await connect({ transports: ['polling'] });
  const prefixed = await connect({ path: '/chat/socket.io', transports: ['websocket'] });
  const sockets = [upgrading, direct, polling, prefixed];

  for (const socket of sockets) {
    // An acknowledgement has what the server gives it.
    assert.equal(await socket.timeout(20_000).emitWithAck('join', 'kitchen'), 'kitchen');
  }
  await converse(sockets);
  // Caddy's pings reach the client, and no socket.io.
  for (const socket of [upgrading, direct, prefixed]) {
    await once(socket.io.engine.transport.ws, 'ping');
  }

  console.log('ready');
  assert.equal((await lines.next()).value, 'reloaded');
  await converse(sockets);
  polling.disconnect();

  const closed = [upgrading, direct, prefixed].map(async (socket) => {
    const [reason, details] = await once(socket, 'disconnect');
    assert.equal(reason, 'transport close');
    assert.equal(details.context.code, 1012);
    assert.equal(details.context.reason, '');
  });
  console.log('unharmed');
  await Promise.all(closed);
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
