import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { advance } from '../src/resume.js';
import { answerLikeServer, Page, turn, World } from './world.js';

class Storage {
  items = {};
  getItem = (key) => this.items[key] ?? null;
  setItem = (key, value) => (this.items[key] = value);
  removeItem = (key) => delete this.items[key];
}

let world;
let page;
beforeEach(() => {
  world = new World();
  page = new Page();
  globalThis.sessionStorage = new Storage();
  keeps('E1-0-E2-0');
});
afterEach(() => {
  world.end();
  page.end();
  delete globalThis.sessionStorage;
});

/** A server that keeps messages: the offset that it tells at `open`, whether it has recovered, what was missed. */
function keeps(offset, recovered, ...missed) {
  world.answer = (socket, text) => {
    const frame = text !== 'ping' && JSON.parse(text);
    if (frame.action !== 'open') return answerLikeServer(socket, text);
    socket.says({ action: 'reply', ref: frame.ref, ok: true, conn: `conn-${socket.number}`, offset, recovered });
    for (const push of missed) socket.says(push);
  };
}

const refuses = (code) => {
  world.answer = (socket, text) => socket.says({ action: 'error', ref: JSON.parse(text).ref, code, message: code });
};

const push = (offset, data, more) => ({ action: 'push', offset, data, ...more });

/** A client that is online, and what its app hears. */
async function online(options) {
  const presence = world.connect(options);
  presence.heard = [];
  presence.on('push', (data) => presence.heard.push(data));
  presence.on('missed', () => presence.heard.push('missed'));
  await turn();
  assert.equal(presence.state, 'online');
  return presence;
}

/** The connection is cut, and after a while there is another. */
async function cut() {
  await world.pass(5_000); // so long that the connection has proven itself
  world.last.shuts(1006);
  await world.pass(500);
}

/** What each `open` has asked for. */
const asked = () => world.sockets.flatMap((socket) => socket.opensSent().map(({ frame }) => frame.resume));

const acks = () => world.sockets.flatMap(({ sent }) => sent.filter(({ frame }) => frame?.action === 'ack'));

describe('a client', () => {
  test('asks for an offset at first, and then comes back with its last', async () => {
    const presence = await online();
    keeps('E1-0-E2-0', true);
    await cut();
    world.last.says(push('E1-1-E2-0', 'one'));
    world.last.says(push('E1-1-E2-1', 'two'));
    keeps('E1-3-E2-1', true, push('E1-2-E2-1', 'three'), push('E1-3-E2-1', 'four'));
    await cut();
    world.last.says(push('E1-4-E2-1', 'five'));
    await cut();
    assert.deepEqual(asked(), [true, 'E1-0-E2-0', 'E1-1-E2-1', 'E1-4-E2-1']);
    assert.deepEqual(presence.heard, ['one', 'two', 'three', 'four', 'five']);
  });

  test('that is cut off in the middle of what it missed asks for the rest', async () => {
    const presence = await online();
    keeps('E1-3-E2-0', true, push('E1-1-E2-0', 1));
    await cut();
    keeps('E1-3-E2-0', true, push('E1-2-E2-0', 2), push('E1-3-E2-0', 3));
    await cut();
    assert.deepEqual(asked(), [true, 'E1-0-E2-0', 'E1-1-E2-0']);
    assert.deepEqual(presence.heard, [1, 2, 3]);
  });

  test('is told once that something may have been missed, before what comes then', async () => {
    const presence = await online();
    keeps('E9-5-E2-7', false, push('E9-6-E2-7', 'new'));
    await cut();
    keeps('E9-6-E2-7', true);
    await cut();
    assert.deepEqual(presence.heard, ['missed', 'new']);
    assert.deepEqual(asked().slice(2), ['E9-6-E2-7']);
    assert.equal(presence.state, 'online');
    assert.deepEqual(world.errors, []);
  });

  test('whose offset is from the future starts at that of the reply', async () => {
    const presence = await online();
    world.last.says(push('E1-9-E2-9', 'a'));
    keeps('E1-2-E2-2', false);
    await cut();
    world.last.says(push('E1-3-E2-2', 'b'));
    await turn();
    assert.deepEqual(presence.heard, ['a', 'missed', 'b']);
  });

  test('is told so, too, by a server that keeps messages no more, and then as ever', async () => {
    const presence = await online();
    world.answer = answerLikeServer;
    await cut();
    world.last.says(push('E1-9-E2-9', 'raw'));
    await cut();
    assert.deepEqual(asked(), [true, 'E1-0-E2-0', true]);
    assert.deepEqual(presence.heard, ['missed', push('E1-9-E2-9', 'raw')]);
  });

  test('at a server without resume hears raw pushes, whatever they look like', async () => {
    world.answer = answerLikeServer;
    const presence = await online();
    world.last.says(push('E1-1-E2-1', 'raw', { ack: true }));
    await cut();
    world.last.says('plain');
    await turn();
    assert.deepEqual(presence.heard, [push('E1-1-E2-1', 'raw', { ack: true }), 'plain']);
    assert.deepEqual(asked(), [true, true]);
    assert.deepEqual(acks(), []);
  });

  test('that does not wish it does not ask', async () => {
    const presence = await online({ resume: false, member: { id: 7, resume: true } });
    world.last.says(push('E1-1-E2-1', 'raw'));
    await cut();
    assert.deepEqual(presence.heard, [push('E1-1-E2-1', 'raw')]);
    assert.deepEqual(asked(), [undefined, undefined]);
  });

  test('that opens again for an update loses nothing, and sees nothing twice', async () => {
    const presence = await online();
    world.last.says(push('E1-1-E2-0', 1));
    keeps('E1-2-E2-0', true, push('E1-2-E2-0', 2));
    const updated = presence.update({ busy: true });
    world.last.says(push('E1-2-E2-0', 2)); // was under way
    await updated;
    await turn();
    keeps('E1-9-E2-0', false);
    await presence.update({ busy: false });
    await turn();
    assert.deepEqual(presence.heard, [1, 2, 'missed']);
    assert.deepEqual(asked(), [true, 'E1-1-E2-0', 'E1-2-E2-0']);
  });

  test('whose update of the id is refused keeps its place', async () => {
    const presence = await online();
    const { answer } = world;
    refuses('bad_open');
    await assert.rejects(presence.update({ id: 8 }), { code: 'bad_open' });
    world.answer = answer;
    await cut();
    assert.equal(asked().at(-1), 'E1-0-E2-0');
  });
});

describe('a refused open', () => {
  for (const code of ['bad_open', 'bad_frame', 'bad_offset']) {
    test(`with ${code} is not repeated with the same offset for ever`, async () => {
      const presence = await online();
      refuses(code);
      await cut();
      keeps('E1-5-E2-0');
      presence.open();
      await world.pass(30_000, 1_000);
      assert.equal(presence.state, 'online');
      assert.deepEqual([...new Set(asked().slice(1))], ['E1-0-E2-0', true]);
      assert.equal(asked().filter((wish) => wish !== true).length, 1);
      assert.deepEqual(presence.heard, ['missed']);
    });
  }

  test('for a while keeps the offset', async () => {
    const presence = await online();
    refuses('store_unavailable');
    await cut();
    keeps('E1-1-E2-0', true, push('E1-1-E2-0', 1));
    await world.pass(30_000, 1_000);
    assert.deepEqual([...new Set(asked())], [true, 'E1-0-E2-0']);
    assert.deepEqual(presence.heard, [1]);
  });

  test('is not hammered, nor is a server that never recovers', async () => {
    const presence = await online();
    keeps('E1-0-E2-0', false);
    await cut();
    await world.pass(60_000, 1_000);
    assert.equal(asked().length, 2);
    assert.deepEqual(presence.heard, ['missed']);
  });
});

describe('a wrapped push', () => {
  for (const [text, data] of [
    ['plain', 'plain'],
    ['{"n":1}', { n: 1 }],
    ['{"broken":', '{"broken":'],
    ['"quoted"', 'quoted'],
    ['null', null],
    ['pong', 'pong'],
    ['', ''],
    ['{"action":"reply","ref":1,"ok":true}', { action: 'reply', ref: 1, ok: true }],
  ]) {
    test(`of the text ${text || 'nothing'} is what a raw one would be`, async () => {
      const presence = await online();
      world.last.says({ action: 'push', offset: 'E1-1-E2-0', text });
      await turn();
      assert.deepEqual(presence.heard, [data]);
    });
  }

  for (const data of [{ n: 1, text: 'hello', action: 'push' }, [1], 'text', 17, null, false]) {
    test(`of the data ${JSON.stringify(data)} is given as it is`, async () => {
      const presence = await online();
      world.last.says(push('E1-1-E2-0', data));
      await turn();
      assert.deepEqual(presence.heard, [data]);
    });
  }

  test('that carries nothing is none', async () => {
    const presence = await online();
    for (const frame of [{ action: 'push' }, { action: 'other', offset: 'E1-1-E2-0', data: 1 }]) world.last.says(frame);
    await turn();
    assert.deepEqual(presence.heard, [{ action: 'push' }, { action: 'other', offset: 'E1-1-E2-0', data: 1 }]);
  });

  test('that is a double is dropped', async () => {
    const presence = await online();
    const offsets = ['E1-1-E2-0', 'E1-1-E2-1', 'E1-1-E2-1', 'E1-0-E2-1', 'E1-1-E2-0', 'E1-2-E2-1', 'E1-2-E3-1', 'E1-2-E3-1', 'E4-1-E3-1'];
    for (const offset of offsets) world.last.says(push(offset, offset));
    await turn();
    assert.deepEqual(presence.heard, ['E1-1-E2-0', 'E1-1-E2-1', 'E1-2-E2-1', 'E1-2-E3-1', 'E4-1-E3-1']);
    keeps('E4-1-E3-1', true);
    await cut();
    assert.equal(asked().at(-1), 'E4-1-E3-1');
  });

  for (const offset of ['', 'E1', 'E1-9', '-9-E2-9', 'E1-9-E2-x', 'E1-9-E2-9-9', 'E1--9-E2-9', 'E1-9007199254740992-E2-1', 'E1-9-E2-1e3', 17, null, undefined, {}]) {
    test(`with the offset ${JSON.stringify(offset)} is given to the app, and changes nothing`, async () => {
      const presence = await online();
      for (const data of [1, 2]) world.last.says(push(offset, data));
      await cut();
      assert.deepEqual(presence.heard.slice(0, 2), [1, 2]);
      assert.equal(asked().at(-1), 'E1-0-E2-0');
    });
  }

  test('of one source that overtakes another takes neither back', () => {
    assert.equal(advance('E1-5-E2-7', 'E1-6-E2-6'), 'E1-6-E2-7');
    assert.equal(advance('E1-5-E2-7', 'E1-4-E2-8'), 'E1-5-E2-8');
    assert.equal(advance('E1-5-E2-7', 'E9-1-E2-6'), 'E9-1-E2-7');
    assert.equal(advance('E1-5-E2-7', 'E1-9007199254740991-E2-7'), 'E1-9007199254740991-E2-7');
    assert.equal(advance('E1-10-E2-7', 'E1-9-E2-7'), false);
    assert.equal(advance(undefined, 'E1-9-E2-7'), 'E1-9-E2-7');
    assert.equal(advance('no offset', 'E1-9-E2-7'), 'E1-9-E2-7');
  });
});

describe('a receipt', () => {
  test('is sent for all that came within 100 ms, after the app had it', async () => {
    const presence = await online();
    const before = [];
    presence.on('push', () => before.push(acks().length));
    world.last.says(push('E1-1-E2-0', 1, { ack: true }));
    await world.pass(80, 10);
    world.last.says(push('E1-2-E2-0', 2, { ack: true }));
    world.last.says(push('E1-3-E2-0', 3));
    await world.pass(19, 1);
    assert.deepEqual(acks(), []);
    await world.pass(1, 1);
    assert.deepEqual(acks().map(({ text }) => text), ['{"action":"ack","offset":"E1-3-E2-0"}']);
    world.last.says(push('E1-4-E2-0', 4, { ack: true }));
    await world.pass(1_000);
    assert.deepEqual(acks().map(({ frame }) => frame.offset), ['E1-3-E2-0', 'E1-4-E2-0']);
    assert.deepEqual(presence.heard, [1, 2, 3, 4]);
    assert.deepEqual(before, [0, 0, 0, 1]);
  });

  test('is sent only where one is wanted', async () => {
    await online();
    world.last.says(push('E1-1-E2-0', 1));
    world.last.says(push('E1-2-E2-0', 2, { ack: false }));
    await world.pass(1_000);
    assert.deepEqual(acks(), []);
  });

  test('is sent again for a double: the first may have been lost', async () => {
    const presence = await online();
    world.last.says(push('E1-1-E2-0', 1, { ack: true }));
    keeps('E1-1-E2-0', true, push('E1-1-E2-0', 1, { ack: true }));
    world.last.shuts(1006);
    await world.pass(1_000);
    assert.deepEqual(world.sockets.map(({ sent }) => sent.filter(({ frame }) => frame?.action === 'ack').length), [0, 1]);
    assert.deepEqual(presence.heard, [1]);
  });
});

describe('a place', () => {
  test('outlives the page if the app wishes, and is kept after the app had the push', async () => {
    const presence = await online({ keepOffset: true });
    let kept;
    presence.on('push', () => (kept = { ...globalThis.sessionStorage.items }));
    world.last.says(push('E1-1-E2-0', 1));
    await turn();
    assert.deepEqual(kept, { 'presence.offset': '7\nE1-0-E2-0' });
    page.tells('pagehide');
    keeps('E1-2-E2-0', true, push('E1-2-E2-0', 2));
    const next = await online({ keepOffset: true });
    assert.deepEqual(next.heard, [2]);
    assert.deepEqual(asked(), [true, 'E1-1-E2-0']);
  });

  test('is kept by default only as long as the page', async () => {
    await online();
    page.tells('pagehide');
    await online();
    assert.deepEqual(asked(), [true, true]);
    assert.deepEqual(globalThis.sessionStorage.items, {});
  });

  test('of one client is not that of another with a key of its own', async () => {
    await online({ keepOffset: 'orders' });
    keeps('E1-5-E2-0');
    await online({ keepOffset: 'chat' });
    assert.deepEqual(asked(), [true, true]);
    assert.deepEqual(globalThis.sessionStorage.items, { orders: '7\nE1-0-E2-0', chat: '7\nE1-5-E2-0' });
  });

  test('is of one user: another one starts anew, over a page load', async () => {
    await online({ keepOffset: true });
    page.tells('pagehide');
    const other = await online({ keepOffset: true, member: { id: 8 } });
    assert.deepEqual(asked(), [true, true]);
    assert.deepEqual(other.heard, []);
    page.tells('pagehide');
    await online({ keepOffset: true, member: { id: '8' } });
    assert.deepEqual(asked(), [true, true, 'E1-0-E2-0'], '8 and "8" are one user');
  });

  test('is of one user: another one starts anew, in the same client', async () => {
    let id = 7;
    const presence = await online({ keepOffset: true, member: () => ({ id }) });
    id = 8;
    await cut();
    await cut();
    assert.deepEqual(asked(), [true, true, 'E1-0-E2-0']);
    id = 7;
    await cut();
    assert.equal(asked().at(-1), true, 'nor does the first one find it again');
    assert.deepEqual(presence.heard, ['missed'], 'which was said to the second, who came back');
  });

  test('is forgotten by close()', async () => {
    const presence = await online({ keepOffset: true });
    presence.close();
    await turn();
    assert.equal(globalThis.sessionStorage.getItem('presence.offset'), null);
    presence.open();
    await turn();
    assert.deepEqual(asked(), [true, true]);
    assert.deepEqual(presence.heard, []);
  });

  for (const [name, leave, back] of [
    ['a close that is no logout', (presence) => presence.close(3001), (presence) => presence.open()],
    ['being replaced', () => world.last.shuts(4001), (presence) => presence.takeOver()],
    ['being cached', () => page.tells('pagehide'), () => page.tells('pageshow', { persisted: true })],
  ]) {
    test(`is kept over ${name}`, async () => {
      const presence = await online();
      leave(presence);
      keeps('E1-1-E2-0', true, push('E1-1-E2-0', 1));
      back(presence);
      await turn();
      assert.deepEqual(asked(), [true, 'E1-0-E2-0']);
      assert.deepEqual(presence.heard, [1]);
    });
  }

  test('that was given up is remembered as that', async () => {
    await online({ keepOffset: true });
    refuses('bad_open');
    await cut();
    page.tells('pagehide');
    keeps('E1-0-E2-0');
    const next = await online({ keepOffset: true });
    assert.deepEqual(next.heard, ['missed']);
  });

  test('needs no storage', async () => {
    for (const get of [() => undefined, () => { throw new Error('SecurityError'); }]) {
      Object.defineProperty(globalThis, 'sessionStorage', { get, configurable: true });
      const presence = await online({ keepOffset: true });
      keeps('E1-1-E2-0', true, push('E1-1-E2-0', 1));
      await cut();
      assert.deepEqual(presence.heard, [1]);
      presence.close();
      keeps('E1-0-E2-0');
    }
  });
});

describe('pushed again', () => {
  test('a push with the id of an earlier one is a double, whatever its offset', async () => {
    const presence = await online();
    world.last.says(push('E1-1-E2-0', 'a', { id: 'x' }));
    world.last.says(push('E1-2-E2-0', 'a', { id: 'x' }));
    world.last.says(push('E1-3-E2-0', 'b', { id: 'y' }));
    world.last.says({ action: 'push', data: 'c', id: 'y' });
    world.last.says({ action: 'push', data: 'd' });
    await turn();
    assert.deepEqual(presence.heard, ['a', 'b', 'd']);
    await cut();
    assert.equal(world.last.opensSent()[0].frame.resume, 'E1-3-E2-0');
  });

  test('the server may say in the middle that something is missing', async () => {
    const presence = await online();
    world.last.says({ action: 'resume', recovered: false, offset: 'E9-4-E9-5' });
    world.last.says(push('E9-5-E9-5', 'a'));
    await turn();
    assert.deepEqual(presence.heard, ['missed', 'a']);
    await cut();
    assert.equal(world.last.opensSent()[0].frame.resume, 'E9-5-E9-5');
  });
});
