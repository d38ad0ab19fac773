'use strict';

// Connects JupyterLab's own client to a kernel behind the WebSocket server whose URL is
// the argument. It prints "open" for each connection, and "gave up" if it doesn't try
// again after one.

const { KernelConnection, ServerConnection } = require('@jupyterlab/services');
const WebSocket = require('ws');

const wsUrl = process.argv[2];
const kernel = new KernelConnection({
  model: { id: 'kernel', name: 'python3' },
  serverSettings: ServerConnection.makeSettings({ baseUrl: wsUrl.replace(/^ws/, 'http'), wsUrl, WebSocket, fetch, Request, Headers }),
});

kernel.connectionStatusChanged.connect((_, status) => {
  if (status === 'connected') {
    console.log('open');
  } else if (status === 'disconnected') {
    console.log('gave up');
    process.exit();
  }
});
