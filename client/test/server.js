/** A real WebSocket server in this process, which answers as caddy-presence does. */
import { once } from 'node:events';
import { WebSocket, WebSocketServer } from 'ws';
import { connect } from '../src/presence.js';

/** Waits for a condition; it looks after each round of input and output. */
export async function until(condition, what = condition) {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited in vain for: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export async function startServer() {
  const wss = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: (offered) => offered.has('presence.v1') && 'presence.v1' });
  await once(wss, 'listening');
  const server = new Server(wss);
  wss.on('connection', (socket, request) => server.connected(socket, request));
  return server;
}

class Server {
  frames = []; // what clients sent, parsed where it parses
  closes = []; // with which code
  clients = [];
  sockets = [];
  /** Tests put their own answer here; what it returns true for is answered. */
  answer = () => false;

  constructor(wss) {
    this.wss = wss;
    this.url = `ws://127.0.0.1:${wss.address().port}/ws`;
  }

  connected(socket, request) {
    this.sockets.push(socket);
    this.offered = request.headers['sec-websocket-protocol'];
    socket.on('close', (code) => this.closes.push(code));
    socket.on('message', (data) => this.received(socket, data.toString()));
  }

  received(socket, text) {
    const frame = text === 'ping' ? text : JSON.parse(text);
    this.frames.push(frame);
    if (this.answer(socket, frame)) return;
    if (frame === 'ping') socket.send('pong');
    else if (frame.action === 'open') reply(socket, frame, { conn: `c${this.sockets.length}` });
    else if (frame.ref !== undefined) reply(socket, frame, { echo: frame.n });
  }

  get last() {
    return this.sockets.at(-1);
  }

  of(action) {
    return this.frames.filter((frame) => frame.action === action);
  }

  /** A client with short times, so that nobody waits. */
  connect(options) {
    const presence = connect(this.url, { member: { id: 7, type: 'driver' }, WebSocket, minDelay: 5, maxDelay: 20, ...options });
    presence.errors = [];
    presence.pushes = [];
    presence.on('error', (error) => presence.errors.push(error));
    presence.on('push', (data) => presence.pushes.push(data));
    this.clients.push(presence);
    return presence;
  }

  async online(options) {
    const presence = this.connect(options);
    await until(() => presence.state === 'online');
    return presence;
  }

  /** When this has come back, whatever was sent to, or by, a client has arrived. */
  async settle(presence) {
    await presence.send('settle');
  }

  async end() {
    for (const client of this.clients) client.close();
    for (const socket of this.wss.clients) socket.terminate();
    this.wss.close();
    await once(this.wss, 'close');
  }
}

export function reply(socket, frame, fields) {
  socket.send(JSON.stringify({ action: 'reply', ref: frame.ref, ok: true, ...fields }));
}

export function refuse(socket, frame, code, fields) {
  socket.send(JSON.stringify({ action: 'error', ref: frame.ref, code, message: `it is ${code}`, ...fields }));
}
