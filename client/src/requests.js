import { failure } from './codes.js';

/** What a text stands for, if it is JSON, or itself. */
export function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * The frames that wait for an answer, by their `ref`.
 *
 * @param {(text: string) => void} write
 */
export function createRequests(write) {
  let ref = 0; // the last one used
  const pending = new Map(); // ref → function that settles its promise

  return {
    /** @param {(reply: object) => void} [heed] is given the reply before any frame behind it. */
    request(action, fields, limit, heed) {
      return new Promise((resolve, reject) => {
        const mine = ++ref;
        write(JSON.stringify({ ...fields, action, ref: mine }));
        const settle = (error, reply) => {
          clearTimeout(expiry);
          pending.delete(mine);
          if (error) return reject(error);
          heed?.(reply);
          resolve(reply);
        };
        const expiry = setTimeout(settle, limit, failure('timeout'));
        pending.set(mine, settle);
      });
    },

    /** Whether a frame of this client had that ref. If it is too late, nobody waits. */
    answer(answers, error, reply) {
      const known = typeof answers === 'number' && answers <= ref;
      if (known) pending.get(answers)?.(error, reply);
      return known;
    },

    /** The connection is lost: no answer will come. */
    abandon() {
      for (const settle of pending.values()) settle(failure('disconnected'));
    },
  };
}
