import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { findDevice } from '../src/device.js';
import { Page, World } from './world.js';

class Storage {
  constructor(items = {}) {
    this.items = { ...items };
  }
  getItem = (key) => this.items[key] ?? null;
  setItem = (key, value) => (this.items[key] = String(value));
  removeItem = (key) => delete this.items[key];
}

/** What the browser does for a duplicated tab, or one that a link opens. */
const copyOf = (storage) => new Storage(storage.items);

let world;
let page;
beforeEach(() => {
  world = new World();
  page = new Page();
  globalThis.sessionStorage = new Storage();
  Object.defineProperty(globalThis, 'localStorage', { value: new Storage(), configurable: true, writable: true });
});
afterEach(() => {
  world.end();
  page.end();
  delete globalThis.sessionStorage;
  delete globalThis.localStorage;
});

test('a tab keeps its id over a reload', async () => {
  const before = await world.online();
  assert.match(before.device, /^[a-z0-9]{6,}$/);
  assert.equal(world.last.opensSent()[0].frame.device, before.device);
  page.tells('pagehide');
  assert.equal((await world.online()).device, before.device);
});

test('a duplicated tab is given its own', async () => {
  const original = await world.online();
  const { sessionStorage } = globalThis;
  globalThis.sessionStorage = copyOf(sessionStorage);
  const duplicate = await world.online();
  assert.notEqual(duplicate.device, original.device);
});

test('so is the duplicate of a tab that was cached and shown again', async () => {
  const original = await world.online();
  page.tells('pagehide', { persisted: true });
  page.tells('pageshow', { persisted: true });
  globalThis.sessionStorage = copyOf(globalThis.sessionStorage);
  assert.notEqual((await world.online()).device, original.device);
});

test('a client that is closed leaves its id to the next one of the page', async () => {
  const first = await world.online();
  first.close();
  assert.equal((await world.online()).device, first.device);
});

test('an install has one id for all its tabs', async () => {
  const one = await world.online({ device: 'install' });
  globalThis.sessionStorage = new Storage();
  assert.equal((await world.online({ device: 'install' })).device, one.device);
  page.tells('pagehide');
  assert.equal((await world.online({ device: 'install' })).device, one.device);
  assert.notEqual((await world.online({ device: 'tab' })).device, one.device);
});

test('an id of the app is taken as it is, and none is none', async () => {
  assert.equal((await world.online({ device: 'kiosk-3' })).device, 'kiosk-3');
  assert.equal(world.last.opensSent()[0].frame.device, 'kiosk-3');
  await world.online({ device: false });
  assert.ok(!('device' in world.last.opensSent()[0].frame));
  assert.deepEqual({ ...globalThis.sessionStorage.items, ...globalThis.localStorage.items }, {});
});

test('storage may be missing or forbidden', () => {
  for (const get of [() => undefined, () => { throw new Error('SecurityError'); }]) {
    Object.defineProperty(globalThis, 'sessionStorage', { get, configurable: true });
    const device = findDevice('tab');
    assert.match(device.id, /^[a-z0-9]{6,}$/);
    device.keep(true);
    device.keep(false);
  }
});
