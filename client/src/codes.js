/** What the server says for good, by close code or error code, and the state it ends in. */
export const ENDS = {
  4001: 'replaced',
  4003: 'kicked',
  4009: 'unauthorized',
  4202: 'unauthorized', // expired: if a new one does not help
  identity_mismatch: 'unauthorized',
  bad_open: 'closed',
  bad_frame: 'closed',
};

/** Close codes tell by their hundred what to do. */
export const range = (code) => Math.floor(code / 100);

export const failure = (code, message, more) =>
  Object.assign(new Error(message || code), { name: 'PresenceError', code }, more);
