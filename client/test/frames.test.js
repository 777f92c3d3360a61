import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { refuse, reply, startServer, until } from './server.js';

let server;
beforeEach(async () => (server = await startServer()));
afterEach(() => server.end());

/** Answers frames of one action, or leaves them unanswered. */
const on = (action, answer = () => {}) => {
  const before = server.answer;
  server.answer = (socket, frame) => {
    if (frame.action !== action) return before(socket, frame);
    return answer(socket, frame) !== false;
  };
};

describe('open', () => {
  test('is the first frame, with the member, the beat, the device and a ref', async () => {
    await server.online({ member: { id: 7, type: 'driver', name: 'Ada' }, device: 'phone' });
    const { ref, ...frame } = server.frames[0];
    assert.deepEqual(frame, { action: 'open', id: 7, type: 'driver', name: 'Ada', beat: 25, device: 'phone', resume: true });
    assert.equal(typeof ref, 'number');
    assert.equal(server.offered, 'presence.v1');
  });

  test('cannot be led astray by fields of the member', async () => {
    await server.online({ member: { id: 7, action: 'close', ref: 99, beat: 1, device: 'x' }, device: 'mine' });
    const { action, ref, beat, device } = server.frames[0];
    assert.deepEqual({ action, beat, device }, { action: 'open', beat: 25, device: 'mine' });
    assert.notEqual(ref, 99);
  });

  test('is confirmed before online is told', async () => {
    let confirm;
    on('open', (socket, frame) => (confirm = () => reply(socket, frame, { conn: 'node-1' })));
    const presence = server.connect();
    const told = [];
    presence.on('state', (state) => told.push(state));
    presence.on('online', (info) => told.push(info));
    await until(() => confirm);
    assert.equal(presence.state, 'connected');
    server.last.send('{"action":"reply","ref":12345,"ok":true}');
    server.last.send('"a push"');
    await until(() => presence.pushes.length === 2);
    assert.equal(presence.state, 'connected', 'the answer to another frame does not confirm it');
    confirm();
    await until(() => presence.state === 'online');
    await server.settle(presence);
    assert.equal(presence.conn, 'node-1');
    assert.deepEqual(told, ['connected', 'online', { conn: 'node-1' }]);
  });

  test('is sent again after every reconnect, with a member that is asked again', async () => {
    let n = 0;
    const presence = await server.online({ member: () => ({ id: 7, n: ++n }) });
    server.last.terminate();
    await until(() => server.sockets.length === 2 && presence.state === 'online');
    assert.deepEqual(server.of('open').map((frame) => frame.n), [1, 2]);
    assert.deepEqual([...new Set(server.of('open').map((frame) => frame.device))].length, 1, 'the device stays');
  });

  for (const [code, state] of [
    ['bad_open', 'closed'],
    ['bad_frame', 'closed'],
    ['identity_mismatch', 'unauthorized'],
  ]) {
    test(`refused as ${code} is told, and not tried again`, async () => {
      on('open', (socket, frame) => refuse(socket, frame, code));
      const presence = server.connect();
      await until(() => presence.state === state && server.closes.length);
      assert.deepEqual(presence.errors.map((error) => [error.code, error.message]), [[code, `it is ${code}`]]);
      assert.deepEqual(server.closes, [1000]);
      await assert.rejects(presence.send('x'), { code: 'closed' });
      assert.equal(server.frames.length, 1);
      server.answer = () => false;
      presence.open();
      await until(() => presence.state === 'online');
      assert.equal(server.sockets.length, 2);
    });
  }

  for (const code of ['store_unavailable', 'too_fast', 'a_code_of_tomorrow']) {
    test(`refused as ${code} is tried again on the same socket`, async () => {
      let left = 3;
      on('open', (socket, frame) => (left-- > 0 ? refuse(socket, frame, code) : false));
      const presence = await server.online();
      assert.equal(server.of('open').length, 4);
      assert.equal(server.sockets.length, 1);
      assert.deepEqual(presence.errors.map((error) => error.code), [code, code, code]);
    });
  }
});

describe('a push', () => {
  const pushes = [
    ['{"n":1,"text":"hello"}', { n: 1, text: 'hello' }],
    ['plain text', 'plain text'],
    ['{"broken":', '{"broken":'],
    ['[1,2]', [1, 2]],
    ['null', null],
    ['17', 17],
    ['"pong"', 'pong'],
    ['{"action":"reply"}', { action: 'reply' }],
    ['{"action":"reply","ref":"order-5","ok":true}', { action: 'reply', ref: 'order-5', ok: true }],
    ['{"action":"reply","ref":null}', { action: 'reply', ref: null }],
    ['{"action":"reply","ref":100000}', { action: 'reply', ref: 100000 }],
    ['{"action":"error"}', { action: 'error' }],
    ['{"action":"error","ref":"order-5","code":"late"}', { action: 'error', ref: 'order-5', code: 'late' }],
    ['{"action":"push","offset":"1","data":1}', { action: 'push', offset: '1', data: 1 }],
    ['', ''],
  ];
  for (const [text, data] of pushes) {
    test(`of ${text || 'nothing'} is given to the app as it is`, async () => {
      const presence = await server.online();
      server.last.send(text);
      await server.settle(presence);
      assert.deepEqual(presence.pushes, [data]);
      assert.deepEqual(presence.errors, []);
    });
  }

  test('is not what answers a ping', async () => {
    const presence = await server.online();
    presence.wake();
    await until(() => server.frames.includes('ping'));
    await server.settle(presence);
    assert.deepEqual(presence.pushes, []);
  });

  test('is not an error that nobody asked for: that is told as an error', async () => {
    const presence = await server.online();
    server.last.send('{"action":"error","code":"too_fast","message":"slower"}');
    await server.settle(presence);
    assert.deepEqual(presence.pushes, []);
    assert.deepEqual(presence.errors.map(({ code, message }) => [code, message]), [['too_fast', 'slower']]);
  });
});

describe('listeners', () => {
  test('are removed by what on() returned', async () => {
    const presence = await server.online();
    const heard = [];
    const remove = presence.on('push', (data) => heard.push(data));
    server.last.send('1');
    await server.settle(presence);
    remove();
    server.last.send('2');
    await server.settle(presence);
    assert.deepEqual(heard, [1]);
    assert.deepEqual(presence.pushes, [1, 2]);
  });

  test('do not keep others from hearing when they throw', async (t) => {
    const presence = await server.online();
    const thrown = [];
    const keep = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => thrown.push(error.message));
    t.after(() => {
      process.removeAllListeners('uncaughtException');
      for (const listener of keep) process.on('uncaughtException', listener);
    });
    const heard = [];
    presence.on('push', () => {
      throw new Error('of the app');
    });
    presence.on('push', (data) => heard.push(data));
    server.last.send('1');
    await until(() => thrown.length);
    await server.settle(presence);
    assert.deepEqual(heard, [1]);
    assert.deepEqual(thrown, ['of the app']);
    assert.equal(presence.state, 'online');
  });
});

describe('send', () => {
  test('resolves with the fields of the reply', async () => {
    on('order', (socket, frame) => reply(socket, frame, { total: 12, items: [1] }));
    const presence = await server.online();
    assert.deepEqual(await presence.send('order', { n: 1 }), { total: 12, items: [1] });
    const { ref, ...frame } = server.of('order')[0];
    assert.deepEqual(frame, { action: 'order', n: 1 });
    assert.equal(typeof ref, 'number');
  });

  test('tells replies apart by their ref', async () => {
    const waiting = [];
    on('order', (socket, frame) => waiting.push([socket, frame]));
    const presence = await server.online();
    const replies = [presence.send('order', { n: 1 }), presence.send('order', { n: 2 })];
    await until(() => waiting.length === 2);
    for (const [socket, frame] of waiting.reverse()) reply(socket, frame, { n: frame.n });
    assert.deepEqual(await Promise.all(replies), [{ n: 1 }, { n: 2 }]);
  });

  test('rejects on an error frame', async () => {
    on('order', (socket, frame) => refuse(socket, frame, 'refused', { retry_after: 3, status: 409, data: { why: 'taken' } }));
    const presence = await server.online();
    await assert.rejects(presence.send('order'), {
      name: 'PresenceError', code: 'refused', message: 'it is refused', retryAfter: 3, status: 409, data: { why: 'taken' },
    });
    assert.deepEqual(presence.errors, [], 'which is the matter of whoever sent it');
  });

  test('rejects after its time limit, and a reply that comes later is no push', async () => {
    let late;
    on('order', (socket, frame) => (late = () => reply(socket, frame)));
    const presence = await server.online();
    await assert.rejects(presence.send('order', {}, { timeout: 20 }), { code: 'timeout' });
    late();
    await server.settle(presence);
    assert.deepEqual(presence.pushes, []);
  });

  test('rejects when the connection is lost, and sends nothing twice', async () => {
    on('order', (socket) => socket.terminate());
    const presence = await server.online();
    await assert.rejects(presence.send('order'), { code: 'disconnected' });
    await until(() => presence.state === 'online');
    await server.settle(presence);
    assert.equal(server.of('order').length, 1);
  });

  test('rejects when the client is closed', async () => {
    on('order');
    const presence = await server.online();
    const reply = presence.send('order');
    presence.close();
    await assert.rejects(reply, { code: 'disconnected' });
    await assert.rejects(presence.send('order'), { code: 'closed' });
  });

  test('rejects what cannot be written', async () => {
    const presence = await server.online();
    await assert.rejects(presence.send('order', { n: 1n }), TypeError);
    await server.settle(presence);
  });
});

describe('an action that is sent while offline', () => {
  /** A client that is not online until confirm() is called. */
  async function almostOnline(options) {
    let confirm;
    on('open', (socket, frame) => (confirm = () => reply(socket, frame, { conn: 'c' })));
    const presence = server.connect(options);
    await until(() => confirm);
    return [presence, () => confirm()];
  }

  test('waits, and goes out in order after open', async () => {
    const [presence, confirm] = await almostOnline();
    const replies = [1, 2, 3].map((n) => presence.send('order', { n }));
    confirm();
    assert.deepEqual(await Promise.all(replies), [{ echo: 1 }, { echo: 2 }, { echo: 3 }]);
    assert.deepEqual(server.frames.map((frame) => frame.n), [undefined, 1, 2, 3]);
  });

  test('is rejected at once if the caller wishes', async () => {
    const [presence] = await almostOnline();
    await assert.rejects(presence.send('order', {}, { queue: false }), { code: 'offline' });
  });

  test('is rejected over the bound', async () => {
    const [presence, confirm] = await almostOnline({ maxQueue: 2 });
    const replies = [presence.send('order', { n: 1 }), presence.send('order', { n: 2 })];
    await assert.rejects(presence.send('order', { n: 3 }), { code: 'queue_full' });
    confirm();
    await Promise.all(replies);
    await presence.send('order', { n: 4 });
  });

  test('by default may be one of 16', async () => {
    const [presence, confirm] = await almostOnline();
    const replies = Array.from({ length: 16 }, (_, n) => presence.send('order', { n }));
    await assert.rejects(presence.send('order'), { code: 'queue_full' });
    confirm();
    await Promise.all(replies);
  });

  test('is given up after its time limit, and then never sent', async () => {
    const [presence, confirm] = await almostOnline({ queueTimeout: 10 });
    await Promise.all([
      assert.rejects(presence.send('order', { n: 1 }), { code: 'offline' }),
      assert.rejects(presence.send('order', { n: 2 }, { queue: 20 }), { code: 'offline' }),
      assert.rejects(presence.send('order', { n: 3 }, { queue: true }), { code: 'offline' }),
    ]);
    confirm();
    await server.settle(presence);
    assert.deepEqual(server.of('order'), []);
  });

  test('survives reconnects, and is rejected when the client stays away', async () => {
    const [presence, confirm] = await almostOnline();
    const first = presence.send('order', { n: 1 });
    server.last.terminate();
    await until(() => server.of('open').length === 2);
    confirm();
    assert.deepEqual(await first, { echo: 1 });
    server.last.close(4003);
    await until(() => presence.state === 'kicked');

    const [other] = await almostOnline();
    const second = presence.send('order').catch((error) => error.code);
    const third = other.send('order');
    server.last.close(4001);
    await assert.rejects(third, { code: 'closed' });
    assert.equal(await second, 'closed');
  });
});

describe('update', () => {
  test('opens again with the merged member, and keeps it for the next connect', async () => {
    const presence = await server.online({ member: { id: 7, name: 'Ada' } });
    await presence.update({ busy: true });
    await presence.update({ name: 'Ada L.' });
    server.last.terminate();
    await until(() => server.sockets.length === 2 && presence.state === 'online');
    const seen = server.of('open').map(({ name, busy }) => [name, busy]);
    assert.deepEqual(seen, [['Ada', undefined], ['Ada', true], ['Ada L.', true], ['Ada L.', true]]);
  });

  test('while offline waits for the next connect', async () => {
    const presence = server.connect();
    await presence.update({ busy: true });
    await until(() => presence.state === 'online');
    assert.equal(server.of('open').at(-1).busy, true);
  });

  test('that is refused is not kept', async () => {
    const presence = await server.online();
    on('open', (socket, frame) => (frame.bad ? refuse(socket, frame, 'bad_open') : false));
    await assert.rejects(presence.update({ bad: true }), { code: 'bad_open' });
    assert.equal(presence.state, 'online');
    server.last.terminate();
    await until(() => server.sockets.length === 2 && presence.state === 'online');
    assert.equal(server.of('open').at(-1).bad, undefined);
  });
});

describe('over a real socket', () => {
  test('a replaced client stays away until takeOver', async () => {
    const presence = await server.online();
    server.last.close(4001, 'replaced by a newer connection');
    await until(() => presence.state === 'replaced');
    presence.takeOver();
    await until(() => presence.state === 'online');
    assert.equal(server.sockets.length, 2);
  });

  test('close says so and closes with 1000', async () => {
    const presence = await server.online();
    presence.close();
    await until(() => server.closes.length);
    assert.deepEqual(server.closes, [1000]);
    assert.deepEqual(server.frames.at(-1), { action: 'close' });
  });

  test('a handshake that is refused leads to further attempts', async () => {
    let left = 4;
    server.wss.options.verifyClient = (info, done) => done(left-- <= 0, 503);
    const presence = await server.online();
    assert.deepEqual(presence.errors.map(({ code }) => code), ['connect_failed']);
    assert.equal(server.sockets.length, 1);
  });

  test('closing while a handshake is under way disturbs nobody', async () => {
    const presence = server.connect();
    presence.close();
    await server.online();
    assert.equal(presence.state, 'closed');
    assert.equal(server.sockets.length, 1);
  });

  test('a restarted server has its clients back, each once', async () => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => server.online()));
    for (const socket of server.wss.clients) socket.close(1012);
    await until(() => server.sockets.length === 40 && clients.every(({ state }) => state === 'online'));
    assert.equal(server.wss.clients.size, 20);
  });
});
