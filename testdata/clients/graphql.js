'use strict';

// Subscribes with graphql-ws to the WebSocket server whose URL is the argument. It prints
// "open" for each connection, and "gave up" if it doesn't try again after one.

const { createClient } = require('graphql-ws');
const WebSocket = require('ws');

const giveUp = (event) => {
  console.log('gave up', event?.code ?? event ?? '');
  process.exit();
};

createClient({
  url: process.argv[2],
  webSocketImpl: WebSocket,
  retryWait: async () => {},
  on: { connected: () => console.log('open') },
}).subscribe({ query: 'subscription { tick }' }, { next() {}, error: giveUp, complete: giveUp });
