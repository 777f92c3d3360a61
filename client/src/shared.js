/**
 * Presence for all tabs of an origin over one connection. The tab that holds a
 * Web Lock leads: it has the connection. The others follow it over a
 * BroadcastChannel. When it goes, the lock passes to another tab, which
 * connects; within the server's grace the user was never offline.
 *
 * What connect() returns has the interface of presence.js.
 *
 * @module
 */
import { createListeners } from './listeners.js';
import { connect as connectAlone } from './presence.js';
import { advance, keepIn } from './resume.js';

const STOPPED = /^(closed|replaced|kicked|unauthorized)$/;

/** How much longer than the leader, which times out by itself, a follower waits, in milliseconds. */
const PATIENCE = 2000;

const randomId = () => Math.random().toString(36).slice(2);

const failure = (error) => Object.assign(new Error(error.message), error);

const ownFailure = (code) => failure({ name: 'PresenceError', code, message: code });

/** What of an error survives the way to another tab. */
const portable = ({ name, code, message, retryAfter, closeCode, status, data }) =>
  ({ name, code, message, retryAfter, closeCode, status, data });

function alone(url, options) {
  const presence = connectAlone(url, options);
  return Object.assign(Object.create(presence), { leads: true, close: () => presence.close() });
}

/**
 * Keeps a member online, with one connection for all tabs.
 *
 * @type {typeof import('../shared.js').connect}
 */
export function connect(url, options) {
  const locks = globalThis.navigator?.locks;
  // Without them (an old browser, a page without TLS, Node) each has its own connection.
  if (!locks || !globalThis.BroadcastChannel) return alone(url, options);

  const name = `presence:${options.name ?? (typeof url === 'string' ? url : '')}`;
  const me = randomId();
  const keeper = keepIn(options.keepOffset);
  const calls = new Map(); // number → call whose result is awaited
  let count = 0; // of calls

  let state = 'connecting';
  let conn;
  let joined = false;
  let leader; // the tab that leads, as far as we know
  let core; // the connection, if that is us
  let extra = {}; // what update() merged: whoever leads next must know it
  let place = keeper.load(); // [user, offset]: where this tab is in the pushes
  let away = true; // nobody has said yet where the others are
  let channel;
  let candidacy; // AbortController of our place in the queue for the lock
  let release; // gives the lock back

  // ---- What the app sees -------------------------------------------------

  const { on, emit } = createListeners();

  function become(next, info) {
    if (next === state) return;
    if (state === 'online') emit('offline', info);
    state = next;
    emit('state', next, info);
    emit(next, info);
  }

  // ---- Between tabs ------------------------------------------------------

  /** Tells all tabs, this one too. */
  function tell(message) {
    channel.postMessage(message);
    heed(message);
  }

  const reactions = {
    /** A new tab asks how things are. */
    who() {
      if (leader === me) channel.postMessage(standing());
    },
    state(message) {
      follow(message.from);
      arrive(message);
      conn = message.conn;
      extra = message.extra;
      become(message.state, message.info);
    },
    bye({ from }) {
      if (leader === from) follow(undefined);
    },
    push({ from, data, place: next }) {
      if (from === me || !next || move(next)) emit('push', data);
      if (from !== me) keeper.save(place);
    },
    missed({ place: next }) {
      place = next;
      emit('missed');
    },
    error: ({ error }) => emit('error', failure(error)),
    call(message) {
      if (message.to === me && leader === me) carryOut(message);
    },
    result({ to, number, error, value }) {
      const call = to === me && calls.get(number);
      if (call) call.settle(error && failure(error), value);
    },
    close: () => leave(1000),
  };

  const heed = (message) => reactions[message.type](message);

  const standing = (info) => ({ type: 'state', from: me, state, conn, extra, info, place });

  /** Moves to where the leader is; false if this tab has been there. */
  function move(next) {
    const moved = place && place[0] === next[0] ? advance(place[1], next[1]) : next[1];
    if (moved === false) return false;
    place = [next[0], moved];
    return true;
  }

  /** Only the leader is sent what it missed: a tab that was away may lack something. */
  function arrive({ from, state: itsState, place: next }) {
    if (from === me || (!next && itsState !== 'online')) return;
    const before = place;
    const behind = next ? move(next) : !(place = undefined);
    if (away && before && behind && (!next || next[0] === before[0])) emit('missed');
    away = false;
    keeper.save(place);
  }

  /** Another tab leads now. What the one before was asked may have been done or not. */
  function follow(tab) {
    if (leader === tab) return;
    leader = tab;
    if (!tab) return;
    for (const call of calls.values()) {
      if (call.posted) call.settle(ownFailure('disconnected'));
      else post(call);
    }
  }

  // ---- Leading -----------------------------------------------------------

  function stand() {
    candidacy = new AbortController();
    locks.request(name, { signal: candidacy.signal }, lead).catch(() => {}); // aborted
  }

  function lead() {
    if (!candidacy) return undefined; // paused meanwhile
    // Who was replaced must not come back because a tab was closed.
    if (STOPPED.test(state)) tell(standing());
    else start();
    return new Promise((resolve) => (release = resolve));
  }

  function start() {
    const member = async () => ({
      ...(await (typeof options.member === 'function' ? options.member() : options.member)),
      ...extra,
    });
    away = false;
    // What comes in a row is told in that order, each push before its place is ours.
    const handOver = {
      load: () => place,
      save: (next) => queueMicrotask(() => core === mine && keeper.save((place = next))),
      give: (data, offset) => queueMicrotask(() => give(data, offset && [place[0], offset])),
    };
    const mine = connectAlone(url, { device: 'install', ...options, member, place: handOver });
    const give = (data, place) => core === mine && tell({ type: 'push', from: me, data, place });
    core = mine;
    const pass = (event, message) => mine.on(event, (...args) => core === mine && tell(message(...args)));
    pass('state', (next, info) => ({ ...standing(info), state: next, conn: mine.conn }));
    mine.on('push', (data) => give(data));
    pass('missed', () => ({ type: 'missed', place }));
    pass('error', (error) => ({ type: 'error', error: portable(error) }));
    tell({ ...standing(), state: mine.state, conn: undefined });
  }

  /** Gives up the lock, and the connection with a close code. */
  function step(code) {
    candidacy?.abort();
    const mine = core;
    core = undefined;
    mine?.close(code);
    if (leader === me) tell({ type: 'bye', from: me });
    release?.();
    release = candidacy = undefined;
  }

  // ---- Calls -------------------------------------------------------------

  function call(method, args, patience) {
    return new Promise((resolve, reject) => {
      const number = ++count;
      const settle = (error, value) => {
        clearTimeout(expiry);
        calls.delete(number);
        if (error) reject(error);
        else resolve(value);
      };
      const expiry = setTimeout(() => settle(ownFailure('timeout')), patience + PATIENCE);
      const message = { type: 'call', from: me, number, method, args };
      const waiting = { message, settle, posted: false };
      calls.set(number, waiting);
      if (leader) post(waiting);
    });
  }

  function post(waiting) {
    waiting.posted = true;
    tell({ ...waiting.message, to: leader });
  }

  async function carryOut({ from, number, method, args }) {
    const result = { type: 'result', to: from, number };
    try {
      tell({ ...result, value: await perform(method, args) });
    } catch (error) {
      if (channel) tell({ ...result, error: portable(error) });
    }
  }

  async function perform(method, args) {
    if (!core && method === 'open') return start();
    if (!core) throw ownFailure('closed');
    const value = await core[method](...args);
    if (method === 'update') tell({ ...standing(), extra: { ...extra, ...args[0] } });
    return value;
  }

  const { timeout = 10_000, queueTimeout = 30_000 } = options;

  async function send(action, fields, wish = {}) {
    if (STOPPED.test(state)) throw ownFailure('closed');
    if (wish.queue === false && state !== 'online') throw ownFailure('offline');
    const queued = typeof wish.queue === 'number' ? wish.queue : queueTimeout;
    return call('send', [action, fields, wish], (wish.timeout ?? timeout) + queued);
  }

  // ---- Joining and leaving -----------------------------------------------

  function join() {
    joined = true;
    become('connecting');
    heedPage('add');
    resume();
  }

  function resume() {
    if (channel) return;
    away = true;
    channel = new BroadcastChannel(name);
    channel.onmessage = (event) => heed(event.data);
    channel.postMessage({ type: 'who' });
    stand();
  }

  /** A page that is frozen, cached or gone cannot lead, and must not keep others from it. */
  function pause() {
    if (!channel) return;
    part(3001);
    if (!STOPPED.test(state)) become('waiting', { code: 3001, reason: 'page hidden' });
  }

  function part(code) {
    step(code);
    channel?.close();
    channel = leader = conn = undefined;
  }

  const react = ({ type, persisted }) => {
    if (type === 'pagehide' || type === 'freeze') pause();
    else if (type === 'resume' || persisted) resume();
  };

  function heedPage(verb) {
    for (const event of ['pagehide', 'pageshow']) globalThis[`${verb}EventListener`]?.(event, react);
    for (const event of ['freeze', 'resume']) globalThis.document?.[`${verb}EventListener`]?.(event, react);
  }

  function leave(code) {
    if (!joined) return;
    joined = false;
    heedPage('remove');
    part(code);
    keeper.save((place = undefined));
    become('closed', { code, reason: '' });
    for (const waiting of calls.values()) waiting.settle(ownFailure('closed'));
  }

  /** Leaves; the last tab takes the user offline at once, others take over from this one. */
  async function close(everywhere) {
    if (!joined) return;
    if (everywhere) return tell({ type: 'close' });
    const { pending } = core ? await locks.query() : { pending: [] };
    leave(pending.some((request) => request.name === name) ? 3001 : 1000);
  }

  const open = () => {
    if (!joined) join();
    else if (STOPPED.test(state)) call('open', [], timeout).catch(() => {});
  };

  open();
  return {
    on,
    send,
    update: (fields) => call('update', [fields], timeout),
    open,
    takeOver: open,
    wake: () => core?.wake(),
    close,
    get state() {
      return state;
    },
    get conn() {
      return conn;
    },
    get leads() {
      return leader === me;
    },
  };
}
