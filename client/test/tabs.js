/** Tabs of one origin: each with its own globals, all with the same locks, channels and localStorage. */
import { readFileSync } from 'node:fs';
import vm from 'node:vm';
import { WebSocket } from 'ws';

const script = readFileSync(new URL('../dist/shared.js', import.meta.url), 'utf8');

export class Browser {
  tabs = [];
  queue = []; // of requests for locks: { name, tab, call, signal, resolve, reject, held }
  stored = {};

  /** Opens a tab, or the next page of one, which finds what that has stored. */
  tab({ stored = {} } = {}) {
    const tab = new Tab(this, stored);
    this.tabs.push(tab);
    return tab;
  }

  request(tab, name, { signal }, call) {
    return new Promise((resolve, reject) => {
      const request = { name, tab, call, resolve, reject, held: false };
      this.queue.push(request);
      signal.addEventListener('abort', () => {
        if (request.held) return;
        this.forget(request);
        reject(signal.reason);
      });
      setImmediate(() => this.grant());
    });
  }

  grant() {
    for (const request of [...this.queue]) {
      if (this.queue.find(({ name }) => name === request.name) !== request || request.held) continue;
      request.held = true;
      Promise.resolve(request.call()).then((value) => {
        this.forget(request);
        request.resolve(value);
      });
    }
  }

  forget(request) {
    this.queue = this.queue.filter((other) => other !== request);
    setImmediate(() => this.grant());
  }

  end() {
    for (const tab of this.tabs) tab.crash();
  }
}

const storage = (items) => ({
  getItem: (key) => items[key] ?? null,
  setItem: (key, value) => (items[key] = value),
  removeItem: (key) => delete items[key],
});

class Tab {
  window = new EventTarget();
  document = Object.assign(new EventTarget(), { hidden: false });
  channels = [];
  sockets = [];
  timers = [];
  alive = true;

  constructor(browser, stored) {
    this.browser = browser;
    this.stored = stored;
    const tab = this;
    const globals = {
      queueMicrotask,
      clearTimeout,
      AbortController,
      document: this.document,
      addEventListener: this.window.addEventListener.bind(this.window),
      removeEventListener: this.window.removeEventListener.bind(this.window),
      setTimeout: (...args) => {
        if (!tab.alive) return undefined;
        const timer = setTimeout(...args);
        tab.timers.push(timer);
        return timer;
      },
      navigator: {
        locks: {
          request: (...args) => browser.request(tab, ...args),
          query: async () => ({
            held: browser.queue.filter(({ held }) => held),
            pending: browser.queue.filter(({ held }) => !held),
          }),
        },
      },
      localStorage: storage(browser.stored),
      sessionStorage: storage(this.stored),
      BroadcastChannel: class extends BroadcastChannel {
        constructor(name) {
          super(name);
          tab.channels.push(this);
        }
        postMessage(message) {
          if (tab.alive) super.postMessage(message);
        }
      },
      WebSocket: class extends WebSocket {
        constructor(...args) {
          if (!tab.alive) throw new Error('this tab is dead');
          super(...args);
          tab.sockets.push(this);
        }
      },
    };
    this.globals = vm.createContext(globals);
    vm.runInContext(script, this.globals);
  }

  /** Joins, and keeps what it hears. */
  connect(url, options) {
    const presence = this.globals.Presence.connect(url, { member: { id: 7 }, minDelay: 5, maxDelay: 20, ...options });
    presence.heard = { push: [], error: [], states: [], missed: 0 };
    presence.on('push', (data) => presence.heard.push.push(data));
    presence.on('missed', () => presence.heard.missed++);
    presence.on('error', (error) => presence.heard.error.push(error));
    presence.on('state', (state) => presence.heard.states.push(state));
    return presence;
  }

  tells(type, fields) {
    const target = ['freeze', 'resume'].includes(type) ? this.document : this.window;
    target.dispatchEvent(Object.assign(new Event(type), fields));
  }

  /** The process of the tab is gone: nothing of it runs, its lock and sockets are freed. */
  crash() {
    this.alive = false;
    for (const timer of this.timers) clearTimeout(timer);
    for (const channel of this.channels) channel.close();
    for (const socket of this.sockets) socket.terminate();
    for (const request of this.browser.queue.filter(({ tab }) => tab === this)) this.browser.forget(request);
  }
}
