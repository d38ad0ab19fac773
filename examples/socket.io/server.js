'use strict';

// Rooms: clients that join one receive the messages that others send to it.

const { createServer } = require('node:http');
const { Server } = require('socket.io');

const http = createServer((request, response) => response.end('Connect with socket.io.\n'));
const io = new Server(http);

io.on('connection', (socket) => {
  socket.on('join', (room, joined) => {
    socket.join(room);
    joined(room);
  });
  socket.on('message', (room, message) => socket.to(room).emit('message', message));
});

http.listen(process.env.PORT ?? 3000, 'localhost', () => {
  console.log(`listening on localhost:${http.address().port}`);
});
