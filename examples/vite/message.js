export const message = 'Edit message.js.';
