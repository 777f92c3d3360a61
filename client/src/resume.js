import { read } from './requests.js';
import { entry } from './storage.js';

/**
 * An offset is `<epoch>-<number>-<epoch>-<number>`: pushes to the user and
 * pushes to many are counted apart, each count since its epoch.
 */
const OFFSET = /^([^-]+)-(\d+)-([^-]+)-(\d+)$/;

function parse(offset) {
  const parts = OFFSET.exec(offset);
  return parts && Number.isSafeInteger(+parts[2]) && Number.isSafeInteger(+parts[4]) && parts;
}

/** How long receipts are gathered until they go out as one, in milliseconds. */
const GATHER = 100;

/** How many pushes are known by their ids: one that was pushed again, because nobody knew better, has another offset. */
const KNOWN = 200;

/**
 * Where a client gets that was at one offset and is sent a push with the next:
 * of each count the greater number, because pushes of two sources may overtake
 * each other. False if it has had that push; unmoved if the next is malformed.
 */
export function advance(last, next) {
  const [from, to] = [parse(last), parse(next)];
  if (!to) return last;
  const had = (i) => from && from[i] === to[i] && +to[i + 1] <= +from[i + 1];
  if (had(1) && had(3)) return false;
  return [1, 3].map((i) => (had(i) ? from : to).slice(i, i + 2).join('-')).join('-');
}

/**
 * Keeps a place, which is [user, offset], in sessionStorage: under a key, or
 * nowhere. It is kept after the listeners that run now, so never too early.
 *
 * @param {boolean | string | undefined} wish
 */
export function keepIn(wish) {
  const key = wish === true ? 'presence.offset' : wish;
  const storage = entry(key && 'sessionStorage', key);
  return {
    load: () => (storage('getItem') || undefined)?.split('\n'), // which no id contains
    save: (place) => queueMicrotask(() => storage(place ? 'setItem' : 'removeItem', place?.join('\n'))),
  };
}

/**
 * Knows where this client is in the pushes of its user.
 *
 * The option `place`, { load, save, give }, is how shared.js hands the place over
 * from the tab that led; give is told each push that was wrapped, and its offset.
 */
export function keepPlace({ resume = true, keepOffset, place: keeper = keepIn(keepOffset) }) {
  let user;
  let offset; // the last one; undefined: none; '': given up, so that something may be missed
  let wrapped = false; // pushes come with their offset
  let receipt = 0; // the timer of the next one
  const ids = new Set(); // of the last pushes

  function isNew({ id }) {
    if (!id) return true;
    if (ids.has(id)) return false;
    if (ids.add(id).size > KNOWN) ids.delete(ids.values().next().value);
    return true;
  }

  function move(to) {
    offset = to;
    keeper.save(offset === undefined ? undefined : [user, offset]);
  }

  function confirm(write) {
    receipt = 0;
    write(JSON.stringify({ action: 'ack', offset }));
  }

  return {
    /** What to ask for at `open`. Another user starts anew. */
    ask(id) {
      const [whose, last] = (user === undefined ? keeper.load() : [user, offset]) ?? [];
      user = `${id}`;
      offset = whose === user ? last : undefined;
      return resume ? offset || true : undefined;
    },

    /**
     * Takes in the reply to `open`. What was missed follows it with offsets of
     * its own: the reply's, which is that of the newest, would make all of it doubles.
     *
     * @returns whether something may have been missed.
     */
    heed(reply) {
      const kept = !!offset && reply.recovered === true;
      const missed = offset !== undefined && !kept;
      wrapped = !!(resume && reply.offset);
      if (!wrapped || !kept) move(wrapped ? reply.offset : undefined);
      return missed;
    },

    /** Whether a frame is a push in its wrapping, and not one that looks like it. */
    wraps: (frame) => wrapped && frame.action === 'push' && ('data' in frame || 'text' in frame),

    /** Gives a function what is in the wrapping, unless it is a double. */
    unwrap(frame, give, write) {
      const moved = advance(offset, frame.offset);
      const news = moved !== offset && moved; // or malformed
      if (moved !== false && isNew(frame)) (keeper.give ?? give)('text' in frame ? read(frame.text) : frame.data, news);
      if (news) move(news);
      // For a double, too: its receipt may have been lost with the connection.
      if (frame.ack) receipt ||= setTimeout(confirm, GATHER, write);
    },

    /** Whether a frame says, in the middle of a connection, that something is missing. */
    lost: ({ recovered, offset: at }) => wrapped && recovered === false && (move(at), true),

    /** The connection is gone, and with it what it wanted to be told. */
    leave() {
      clearTimeout(receipt);
      receipt = 0;
    },

    /** After a refusal: had it been for the offset, it must not be so for ever. */
    doubt: () => offset && move(''),

    /** The user has logged out. */
    forget: () => move(),
  };
}
