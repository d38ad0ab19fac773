'use strict';

// Serves sockets with Node's ws on a free port of 127.0.0.1, whose address it
// prints. They echo, but for two messages: on "ping me" a Ping goes out, and "pong
// came" when its Pong is there; "close me" closes with 4001.

const { WebSocketServer } = require('ws');

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  perMessageDeflate: { threshold: 0 },
  maxPayload: 0,
  handleProtocols: () => 'json',
});

server.on('listening', () => console.log(`127.0.0.1:${server.address().port}`));

server.on('connection', (socket) => {
  socket.on('error', () => socket.terminate());
  socket.on('pong', () => socket.send('pong came'));
  socket.on('message', (data, isBinary) => {
    switch (data.toString('latin1', 0, 20)) {
      case 'ping me':
        socket.ping('from the application');
        break;
      case 'close me':
        socket.close(4001, 'as you wish');
        break;
      default:
        socket.send(data, { binary: isBinary });
    }
  });
});
