'use strict';

// An echo with Node's ws, as its documentation shows it, on a free port of
// 127.0.0.1, whose address it prints.

const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });

server.on('listening', () => console.log(`127.0.0.1:${server.address().port}`));

server.on('connection', (socket) => {
  socket.on('error', () => socket.terminate());
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
