/**
 * A world of its own for timing tests: a network in memory whose events come in
 * order and at once, and a clock that stands still until it is moved.
 */
import { mock } from 'node:test';
import { connect } from '../src/presence.js';

/** Lets everything happen that needs no time. */
export const turn = () => new Promise((resolve) => setImmediate(resolve));

export class World {
  sockets = [];
  mostLive = 0;
  errors = [];
  states = [];
  clients = [];

  /** What a server does with a new socket, and with what it is sent. */
  accept = (socket) => socket.opens();
  answer = (socket, text) => answerLikeServer(socket, text);

  constructor() {
    const world = this;
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_700_000_000_000 });
    this.WebSocket = class extends Socket {
      constructor(url, protocols) {
        super(world, url, protocols);
      }
    };
  }

  connect(options = {}, url = 'wss://test/ws') {
    const presence = connect(url, { member: { id: 7 }, WebSocket: this.WebSocket, ...options });
    presence.on('error', (error) => this.errors.push(error));
    presence.on('state', (state, info) => this.states.push({ state, info, at: Date.now() }));
    this.clients.push(presence);
    return presence;
  }

  async online(options, url) {
    const presence = this.connect(options, url);
    await turn();
    if (presence.state !== 'online') throw new Error(`not online but ${presence.state}`);
    return presence;
  }

  get last() {
    return this.sockets.at(-1);
  }

  live() {
    return this.sockets.filter((socket) => socket.readyState < 2);
  }

  /** Moves the clock in small steps, so that answers come between timers. */
  async pass(ms, step = 50) {
    await turn();
    for (let left = ms; left > 0; left -= step) {
      mock.timers.tick(Math.min(step, left));
      await turn();
    }
  }

  /** The machine sleeps: time passes, but no timer fires. */
  sleep(ms) {
    mock.timers.setTime(Date.now() + ms);
  }

  end() {
    for (const client of this.clients) client.close();
    mock.timers.reset();
    mock.restoreAll();
  }
}

/** What caddy-presence answers. */
export function answerLikeServer(socket, text) {
  if (text === 'ping') return socket.says('pong');
  const frame = JSON.parse(text);
  if (frame.ref === undefined) return undefined;
  const more = frame.action === 'open' ? { conn: `conn-${socket.number}` } : { echo: frame };
  return socket.says({ action: 'reply', ref: frame.ref, ok: true, ...more });
}

class Socket {
  readyState = 0;
  sent = []; // { at, text, frame }
  closedWith = undefined; // what the client closed it with

  constructor(world, url, protocols) {
    this.world = world;
    this.url = url;
    this.protocols = protocols;
    this.number = world.sockets.push(this);
    this.bornAt = Date.now();
    world.mostLive = Math.max(world.mostLive, world.live().length);
    queueMicrotask(() => world.accept(this));
  }

  // ---- The client's side ----

  send(text) {
    if (this.readyState === 0) throw new Error('still connecting');
    if (this.readyState > 1) return;
    const frame = text === 'ping' ? undefined : JSON.parse(text);
    this.sent.push({ at: Date.now(), text, frame });
    queueMicrotask(() => this.world.answer(this, text));
  }

  close(code, reason) {
    if (this.readyState > 1) return;
    this.closedWith = [code, reason];
    this.readyState = 2;
  }

  // ---- The other side ----

  opens() {
    if (this.readyState !== 0) return;
    this.readyState = 1;
    this.onopen({});
  }

  says(data) {
    if (this.readyState === 1) this.onmessage({ data: typeof data === 'string' ? data : JSON.stringify(data) });
  }

  shuts(code = 1006, reason = '') {
    this.readyState = 3;
    this.onclose({ code, reason });
  }

  texts() {
    return this.sent.map((entry) => entry.text);
  }

  pings() {
    return this.sent.filter((entry) => entry.text === 'ping');
  }

  opensSent() {
    return this.sent.filter((entry) => entry.frame?.action === 'open');
  }
}

/** The globals of a page, as far as the client uses them. */
export class Page {
  window = new EventTarget();
  document = Object.assign(new EventTarget(), { hidden: false });

  constructor() {
    globalThis.addEventListener = this.window.addEventListener.bind(this.window);
    globalThis.removeEventListener = this.window.removeEventListener.bind(this.window);
    globalThis.document = this.document;
  }

  tells(type, fields) {
    const target = ['resume', 'visibilitychange'].includes(type) ? this.document : this.window;
    target.dispatchEvent(Object.assign(new Event(type), fields));
  }

  hides(hidden) {
    this.document.hidden = hidden;
    this.tells('visibilitychange');
  }

  end() {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
    delete globalThis.document;
  }
}

/** Timers that fire on full minutes only, as in a background tab. Call after the clock was mocked. */
export function throttleTimers(interval = 60_000) {
  const unthrottled = globalThis.setTimeout;
  globalThis.setTimeout = (call, delay = 0, ...args) => {
    const due = Math.ceil((Date.now() + delay) / interval) * interval;
    return unthrottled(call, due - Date.now(), ...args);
  };
  return () => (globalThis.setTimeout = unthrottled);
}
