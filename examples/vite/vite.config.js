export default {
  server: {
    port: 5173,
    strictPort: true,
    // Names other than localhost that the page is opened by:
    // allowedHosts: ['app.example.com'],
  },
};
