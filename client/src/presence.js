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
import { ENDS, failure, range } from './codes.js';
import { findDevice } from './device.js';
import { createListeners } from './listeners.js';
import { createRequests, read } from './requests.js';
import { keepPlace } from './resume.js';

const random = (limit) => Math.random() * limit;

/** The time since a moment, positive even if the clock was set back. */
const since = (moment) => Math.abs(Date.now() - moment);

/** The value of an option that may be a function, also an async one. */
const ask = async (option) => (typeof option === 'function' ? option() : option);

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
    // A background tab's timers may fire once a minute: three beats must be longer.
    beat = Math.max(heartbeat, 25_000),
    minDelay = 500,
    maxDelay = 20_000,
    stable = 5_000,
    maxQueue = 16,
    queueTimeout = 30_000,
    WebSocket = globalThis.WebSocket,
  } = options;
  if (!WebSocket) throw new TypeError('WebSocket is missing');

  const { id: deviceId, keep: keepDevice } = findDevice(device);
  const place = keepPlace(options);

  // ---- What the app sees -------------------------------------------------

  let state;
  let stopped = true; // in closed, replaced, kicked and unauthorized
  let conn; // the connection's id, while online
  const { on, emit } = createListeners();

  function become(next, info) {
    if (state === next) return;
    if (state === 'online') emit('offline', info);
    state = next;
    emit('state', next, info);
    emit(next, info);
  }

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
    place.leave();
    asked = 0;
    const old = socket;
    socket = conn = undefined;
    old?.close(code);
    abandon();
  }

  async function attempt(info) {
    drop();
    const mine = turn;
    become('connecting', info);
    asked = Date.now();
    timer = setTimeout(lost, timeout, { reason: 'connect timeout' });
    try {
      const [address, found] = await Promise.all([ask(url), ask(member)]);
      if (mine !== turn) return;
      who = found;
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
      await request('open', openFields(), timeout, confirmed);
    } catch (error) {
      if (mine === turn) refused(error);
    }
  }

  function openFields(more) {
    const fields = { ...who, ...extra };
    return { ...fields, ...more, beat: beat / 1000, device: deviceId, resume: place.ask(fields.id) };
  }

  function placed(reply) {
    if (place.heed(reply)) emit('missed');
  }

  function confirmed(reply) {
    placed(reply);
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
    if (/^bad_/.test(code)) place.doubt();
    if (ENDS[code]) stop(ENDS[code], { code, reason: error.message });
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
    } else if (++failures === 3) emit('error', failure('connect_failed', reason, error));
    drop();
    const end = ENDS[code] || (range(code) === 40 && 'closed');
    if (!end) return wait(info);
    if (end === 'unauthorized') {
      // The token may have been too old; if a new one does not help, a person must.
      if (!renewed++) return attempt(info);
      emit('error', failure(end, reason, error));
    }
    stop(end, info);
  }

  function wait(info) {
    const { code } = info;
    // At once, but once: without a timer, because a hidden page's may take a minute.
    if (range(code) === 42 && !tries) {
      tries = 1;
      return attempt(info);
    }
    // 1012: a node stops, and tells all its clients so at the same time.
    const held = range(code) === 41 && maxDelay / 2;
    const delay = held ? held + random(held) : code === 1012 ? random(maxDelay / 4) : backoff();
    notBefore = held && Date.now() + delay;
    timer = setTimeout(attempt, delay);
    become('waiting', { ...info, delay });
  }

  /** Stays away until open(). */
  function stop(next, info, code = 1000) {
    stopped = true;
    drop(code);
    become(next, info);
    for (const leave of queue) leave('closed');
  }

  function open() {
    if (!stopped) return;
    stopped = false;
    tries = failures = renewed = 0;
    follow('add');
    attempt();
  }

  function close(code = 1000) {
    if (state === 'online' && code === 1000) write('{"action":"close"}');
    follow('remove');
    stop('closed', { code, reason: '' }, code);
    if (code === 1000) place.forget();
  }

  // ---- Signs of life -----------------------------------------------------

  let pulse; // the timer of check
  let sent; // when we last sent
  let heard; // when any frame came last
  let asked = 0; // when what has not been answered yet was asked: a ping, a handshake; or 0
  let doubted; // that ping is the second, because the first one's timer was late
  let late = false; // the timer has come late since the page woke: timers may be throttled

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
    pulse = setTimeout(pulsed, delay, Date.now() + delay);
  }

  function pulsed(due) {
    late ||= Date.now() - due > timeout / 2;
    check();
  }

  /** Finds out at once where we are, instead of at the next tick. */
  function wake(cause) {
    // What was asked before the network went, and is not answered, will not be.
    if (cause === 'online' && asked && since(asked) > 1000) lost({ reason: 'network changed' });
    else if (socket && state !== 'connecting') {
      asked ||= write('ping');
      check();
    }
    if (state === 'waiting' && Date.now() >= notBefore) {
      tries = 0;
      attempt();
    }
  }

  // ---- What the page tells -----------------------------------------------

  // `offline` may be wrong, so it asks as the others do, and does not close.
  function react({ type, persisted }) {
    late = false;
    if (type === 'pagehide') hide();
    else if (type !== 'pageshow') wake(type);
    else if (persisted) {
      keepDevice(false);
      wake();
    }
  }

  /** The page is gone for good or cached: the server would see a living socket either way. */
  function hide() {
    keepDevice(true);
    if (stopped) return;
    drop(3001);
    become('waiting', { code: 3001, reason: 'page hidden' });
  }

  /** @param {'add' | 'remove'} verb */
  function follow(verb) {
    keepDevice(verb === 'remove');
    // No DOM is assumed: workers have half of these, Node and React Native none.
    for (const name of ['online', 'offline', 'pagehide', 'pageshow', 'resume', 'visibilitychange']) {
      const target = /^[rv]/.test(name) ? globalThis.document : globalThis;
      target?.[verb + 'EventListener']?.(name, react);
    }
  }

  // ---- Frames ------------------------------------------------------------

  const { request, answer, abandon } = createRequests((text) => write(text));
  const queue = new Set(); // functions that send a waiting action, or reject it with a code

  function write(text) {
    socket.send(text);
    return (sent = Date.now());
  }

  function received(data) {
    heard = Date.now();
    asked = 0;
    if (data !== 'pong') dispatch(data);
    check();
    flush();
  }

  /**
   * Tells answers from pushes. A push may be any JSON or text, so only what
   * answers a ref that was used here, and an error without one, is protocol.
   */
  function dispatch(data) {
    const frame = read(data);
    const { action, ref, ok, ...reply } = frame ?? {};
    const error = action === 'error' && reply.code && failure(reply.code, reply.message, { ...reply, retryAfter: reply.retry_after });
    if ((error || action === 'reply') && answer(ref, error, reply)) return;
    if (error && ref === undefined) emit('error', error);
    else if (action === 'resume' && place.lost(frame)) emit('missed');
    else if (action && place.wraps(frame)) place.unwrap(frame, give, write);
    else give(frame);
  }

  const give = (data) => emit('push', data);

  /** Whether a frame written now would most likely arrive: the page may have slept on a dead link. */
  const ready = () => state === 'online' && socket.readyState === 1 && since(heard) < heartbeat + timeout;

  async function send(action, fields, { timeout: limit = timeout, queue: wish = true } = {}) {
    if (stopped) throw failure('closed');
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
    // First online: what the server refuses must not go along with the next connect.
    if (state === 'online') await request('open', openFields(fields), timeout, placed);
    extra = { ...extra, ...fields };
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
