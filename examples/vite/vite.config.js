export default {
  server: {
    port: 5173,
    strictPort: true,
    // Other host names under which the page is opened:
    // allowedHosts: ['app.example.com'],
  },
};
