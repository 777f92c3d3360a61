/**
 * The client of caddy-presence: it keeps one WebSocket, and the member online
 * on it, for as long as the app lives. docs/client.md is its reference.
 *
 * Everything below is one state machine. Its states are closed, connecting,
 * connected (the socket is open), online (the server has confirmed `open`),
 * waiting (for the next attempt), and three in which it stays away until a
 * person acts: replaced, kicked, unauthorized.
 *
 * @module
 */
import { findDevice } from './device.js';

// Numbers come first: the minifier writes them in place.

/**
 * The least beat that is announced by default, in milliseconds. A background
 * tab's timers may fire once a minute; three beats must be longer than that.
 */
const LEAST_BEAT = 25_000;

/** Which failed attempt in a row is told as an error. */
const TOLD_FAILURE = 3;

/** An answer that is outstanding for longer when the network returns will not come, in milliseconds. */
const LOST_ANSWER = 1000;

/** Our own close code for a page that is hidden for good, or cached. */
const HIDDEN = 3001;

/** A node stops, and all its clients are told so at the same time. */
const RESTART = 1012;

/** The server's close codes that end in a state of their own; the last one is an expired identity. */
const ENDS = { 4001: 'replaced', 4003: 'kicked', 4009: 'unauthorized', 4202: 'unauthorized' };


const random = (limit) => Math.random() * limit;

/** The time since a moment, positive even if the clock was set back. */
const since = (moment) => Math.abs(Date.now() - moment);

/** The value of an option that may be a function, also an async one. */
const ask = async (option) => (typeof option === 'function' ? option() : option);

const failure = (code, message, more) =>
  Object.assign(new Error(message || code), { name: 'PresenceError', code }, more);

/**
 * Keeps a member online.
 *
 * @type {typeof import('../index.js').connect}
 */
export function connect(url, options) {
  const {
    member,
    device = 'tab',
    heartbeat = 25_000,
    timeout = 10_000,
    beat = Math.max(heartbeat, LEAST_BEAT),
    connectTimeout = 10_000,
    minDelay = 500,
    maxDelay = 20_000,
    stable = 5_000,
    maxQueue = 16,
    queueTimeout = 30_000,
    WebSocket = globalThis.WebSocket,
  } = options;
  if (!WebSocket) throw new TypeError('there is no WebSocket here: give one as an option');

  const { id: deviceId, keep: keepDevice } = findDevice(device);

  // ---- What the app sees -------------------------------------------------

  let state = 'closed';
  let conn; // the connection's id, while online
  const listeners = {};

  function on(name, listener) {
    const set = (listeners[name] ??= new Set());
    set.add(listener);
    return () => set.delete(listener);
  }

  // Listeners run after the machine has done its step, each by itself: what
  // they call, or throw, cannot come into the middle of it.
  function emit(name, ...args) {
    for (const listener of listeners[name] ?? []) {
      Promise.resolve().then(() => listeners[name].has(listener) && listener(...args));
    }
  }

  function become(next, info) {
    const before = state;
    state = next;
    if (before === 'online') emit('offline', info);
    emit('state', next, info);
    emit(next, info);
  }

  const stopped = () => /^(closed|replaced|kicked|unauth)/.test(state);

  // ---- The one socket ----------------------------------------------------

  let socket; // undefined but for the one socket
  let turn = 0; // counts sockets; what comes from an earlier one is ignored
  let timer; // of the present step: connecting, waiting, opening again
  let who; // the member as it was at this connect
  let extra; // fields that update() has merged over it

  /** Silences the socket, then closes it: its late events concern nobody. */
  function drop(code) {
    turn++;
    clearTimeout(timer);
    clearTimeout(pulse);
    const old = socket;
    socket = conn = undefined;
    old?.close(code);
    for (const settle of pending.values()) settle(failure('disconnected'));
  }

  async function attempt(info) {
    drop();
    const mine = turn;
    become('connecting', info);
    timer = setTimeout(lost, connectTimeout, { reason: 'connect timeout' });
    try {
      const [address, asked] = await Promise.all([ask(url), ask(member)]);
      if (mine !== turn) return;
      who = asked;
      // A server that is offered presence.v1 tells why it refuses, by a close code.
      socket = new WebSocket(address, ['presence.v1']);
      const heed = (handler) => (event) => mine === turn && handler(event);
      socket.onopen = heed(opened);
      socket.onmessage = heed((event) => received(event.data));
      socket.onclose = heed(lost);
      socket.onerror = () => {}; // A close follows; but Node's ws wants a listener.
    } catch (cause) {
      if (mine === turn) lost({ reason: `${cause}`, cause });
    }
  }

  function opened() {
    clearTimeout(timer);
    asked = 0;
    heard = sent = Date.now();
    become('connected');
    register();
    check();
  }

  /** Sends `open`, again and again until the server has confirmed or refused it. */
  async function register() {
    const mine = turn;
    try {
      const reply = await request('open', openFields(), timeout);
      if (mine === turn) confirmed(reply);
    } catch (error) {
      if (mine === turn) refused(error);
    }
  }

  const openFields = () => ({ ...who, ...extra, beat: beat / 1000, device: deviceId });

  function confirmed(reply) {
    conn = reply.conn;
    failures = 0;
    onlineSince = Date.now();
    become('online', { conn });
    flush();
  }

  function refused(error) {
    const { code, retryAfter } = error;
    if (code === 'timeout') return lost({ reason: 'open timeout' });
    emit('error', error);
    const info = { code, reason: error.message };
    if (code === 'session_conflict' && !retryAfter) stop('replaced', info);
    else if (code === 'identity_mismatch') stop('unauthorized', info);
    else if (/^(bad_|already_|unknown_)/.test(code)) stop('closed', info);
    // The server may be able to later, on this socket: a new one would not help it.
    else timer = setTimeout(register, (retryAfter || 0) * 1000 + backoff());
  }

  // ---- Coming back -------------------------------------------------------

  let tries = 0; // attempts since a connection has proven itself
  let failures = 0; // attempts in a row that did not get online
  let renewed = 0; // how often url and member were asked because the server did not take them
  let onlineSince;
  let notBefore = 0; // when the server, that asked for a delay, may be tried again

  /** Full jitter: all clients lose a node at once, and must not come back at once. */
  const backoff = () => random(Math.min(maxDelay, minDelay * 2 ** tries++));

  /** The socket has closed, or is given up. The code decides what comes next. */
  function lost({ code = 1006, reason = '', cause }) {
    const info = { code, reason };
    const error = { closeCode: code, cause };
    if (state === 'online') {
      // A server that takes us and drops us at once is not to be hammered.
      if (since(onlineSince) >= stable) tries = renewed = 0;
    } else if (++failures === TOLD_FAILURE) emit('error', failure('connect_failed', reason, error));
    drop();
    const end = ENDS[code] || (code >= 4000 && code < 4100 && 'closed');
    if (!end) wait(info);
    // The token may have been too old; if a new one does not help, a person must.
    else if (end === 'unauthorized' && !renewed++) attempt(info);
    else {
      if (code !== 4001 && code !== 4003) emit('error', failure(end, reason, error));
      stop(end, info);
    }
  }

  function wait(info) {
    const { code, reason } = info;
    const range = Math.floor(code / 100);
    let delay;
    if (range === 41) delay = maxDelay / 2 + random(maxDelay / 2);
    else if (code === RESTART) delay = random(+/retry=(\d+)/.exec(reason)?.[1] || maxDelay / 4);
    // At once, but once: without a timer, because a hidden page's may take a minute.
    else if (range === 42 && !tries++) return attempt(info);
    else delay = backoff();
    notBefore = range === 41 ? Date.now() + delay : 0;
    timer = setTimeout(attempt, delay);
    become('waiting', { ...info, delay });
  }

  /** Stays away until open(). */
  function stop(next, info, code = 1000) {
    drop(code);
    become(next, info);
    for (const leave of queue) leave('closed');
  }

  function open() {
    if (!stopped()) return;
    tries = failures = renewed = 0;
    follow('add');
    attempt();
  }

  function close(code = 1000) {
    if (state === 'online' && code === 1000) write('{"action":"close"}');
    follow('remove');
    stop('closed', { code, reason: '' }, code);
  }

  // ---- Signs of life -----------------------------------------------------

  let pulse; // the timer of check
  let due; // when it should fire
  let sent; // when we last sent
  let heard; // when any frame came last
  let asked = 0; // when the ping was sent that nothing has come after, or 0
  let doubted; // that ping is the second, because the first one's timer was late
  let late = false; // the timer came late: timers are throttled

  /**
   * How long nothing may have been sent, or heard, until a ping is due. Timers
   * that may fire once a minute only are set early enough that the server,
   * which waits three beats, still hears from us.
   */
  const pace = () => (late || globalThis.document?.hidden ? Math.min(heartbeat, beat / 2 || heartbeat) : heartbeat);

  /**
   * Sends a ping or judges the one that was sent, if it is time, and sets the
   * timer. It is called at each frame, too: timers set there do not form the
   * chains that browsers throttle most, and a busy stream of pushes cannot
   * keep us from sending.
   */
  function check() {
    const quiet = () => since(asked || Math.min(sent, heard));
    const limit = () => (asked ? timeout : pace());
    if (quiet() >= limit()) {
      // A timer far too late tells of a page that slept, not of a dead link: ask once more.
      if (asked && (doubted || quiet() < 2 * timeout)) return lost({ reason: 'pong timeout' });
      doubted = !!asked;
      asked = write('ping');
    }
    clearTimeout(pulse);
    const delay = limit() - quiet();
    due = Date.now() + delay;
    pulse = setTimeout(pulsed, delay);
  }

  function pulsed() {
    late = Date.now() - due > timeout / 2;
    check();
  }

  /** Finds out at once where we are, instead of at the next tick. */
  function wake(networkIsBack) {
    if (socket && state !== 'connecting') {
      if (networkIsBack && asked && since(asked) > LOST_ANSWER) lost({ reason: 'network changed' });
      else {
        asked ||= write('ping');
        check();
      }
    }
    if (state === 'waiting' && Date.now() >= notBefore) {
      tries = 0;
      attempt();
    }
  }

  // ---- What the page tells -----------------------------------------------

  const reactions = {
    online: () => wake(true),
    offline: () => socket && wake(), // It may be wrong: ask, do not close.
    resume: () => wake(),
    visibilitychange: () => (document.hidden ? socket && state !== 'connecting' && check() : wake()),
    pageshow(event) {
      keepDevice(false);
      if (event.persisted) wake();
    },
    // Gone for good or cached: the server would see a living socket either way.
    pagehide() {
      keepDevice(true);
      if (stopped()) return;
      drop(HIDDEN);
      become('waiting', { code: HIDDEN, reason: 'page hidden' });
    },
  };

  const react = (event) => reactions[event.type](event);

  /** @param {'add' | 'remove'} verb */
  function follow(verb) {
    keepDevice(verb === 'remove');
    for (const name in reactions) {
      // No DOM is assumed: workers have half of these, Node and React Native none.
      const target = /^(res|vis)/.test(name) ? globalThis.document : globalThis;
      target?.[verb + 'EventListener']?.(name, react);
    }
  }

  // ---- Frames ------------------------------------------------------------

  let ref = 0; // the last one used
  const pending = new Map(); // ref → function that settles its promise
  const queue = new Set(); // functions that send a waiting action, or reject it with a code

  function write(text) {
    socket.send(text);
    return (sent = Date.now());
  }

  function request(action, fields, limit) {
    return new Promise((resolve, reject) => {
      const mine = ++ref;
      write(JSON.stringify({ ...fields, action, ref: mine }));
      const expiry = setTimeout(() => settle(failure('timeout')), limit);
      const settle = (error, reply) => {
        clearTimeout(expiry);
        pending.delete(mine);
        if (error) reject(error);
        else resolve(reply);
      };
      pending.set(mine, settle);
    });
  }

  function received(data) {
    heard = Date.now();
    asked = 0;
    if (data !== 'pong') dispatch(data);
    if (!socket) return;
    check();
    flush();
  }

  /**
   * Tells answers from pushes. A push may be any JSON or text, so only what
   * answers a ref that was used here, and an error without one, is protocol.
   */
  function dispatch(data) {
    let frame = data;
    try {
      frame = JSON.parse(data);
    } catch {}
    const { action, ref: answers, ok, ...rest } = frame ?? {};
    const error = action === 'error' && rest.code;
    if ((error || action === 'reply') && typeof answers === 'number' && answers <= ref) {
      // Unless it comes after its timeout: then nobody waits for it.
      pending.get(answers)?.(error && refusal(rest), rest);
    } else if (error && answers === undefined) emit('error', refusal(rest));
    else emit('push', frame);
  }

  const refusal = ({ code, message, retry_after: retryAfter }) => failure(code, message, { retryAfter });

  /** Whether a frame written now would most likely arrive: the page may have slept on a dead link. */
  const ready = () => state === 'online' && socket.readyState === 1 && since(heard) < heartbeat + timeout;

  async function send(action, fields, { timeout: limit = timeout, queue: wish = true } = {}) {
    if (stopped()) throw failure('closed');
    if (ready()) return request(action, fields, limit);
    if (!wish) throw failure('offline');
    if (queue.size >= maxQueue) throw failure('queue_full');
    if (state === 'online') wake(); // The answer lets the queue go out.
    return new Promise((resolve, reject) => {
      const patience = wish === true ? queueTimeout : wish;
      const until = Date.now() + patience;
      const leave = (code) => {
        clearTimeout(expiry);
        queue.delete(leave);
        // After a sleep the timer may not have fired yet.
        if (code || Date.now() > until) reject(failure(code || 'offline'));
        else resolve(request(action, fields, limit));
      };
      const expiry = setTimeout(leave, patience, 'offline');
      queue.add(leave);
    });
  }

  function flush() {
    for (const leave of queue) if (ready()) leave();
  }

  async function update(fields) {
    const before = extra;
    extra = { ...extra, ...fields };
    if (state !== 'online') return;
    try {
      await request('open', openFields(), timeout);
    } catch (error) {
      // What the server itself refused must not go along with the next connect.
      if ('retryAfter' in error) extra = before;
      throw error;
    }
  }

  open();
  return {
    on,
    send,
    update,
    open,
    takeOver: open,
    wake: () => wake(),
    close,
    get state() {
      return state;
    },
    get conn() {
      return conn;
    },
    device: deviceId,
  };
}
