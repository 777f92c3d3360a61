import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { Page, World, answerLikeServer, turn } from './world.js';

let world;
let page;
beforeEach(() => {
  world = new World();
  page = new Page();
});
afterEach(() => {
  world.end();
  page.end();
});

const refuse = (socket, text, error) => socket.says({ action: 'error', ref: JSON.parse(text).ref, message: '', ...error });

describe('open', () => {
  test('refused as session_conflict waits as long as the server says', async () => {
    mock.method(Math, 'random', () => 0.5);
    world.answer = (socket, text) => refuse(socket, text, { code: 'session_conflict', retry_after: 40 });
    const presence = world.connect();
    await turn();
    assert.equal(presence.state, 'connected');
    assert.deepEqual(world.errors.map(({ code, retryAfter }) => [code, retryAfter]), [['session_conflict', 40]]);
    world.answer = answerLikeServer;
    await world.pass(40_249);
    assert.equal(world.last.opensSent().length, 1);
    await world.pass(1);
    assert.equal(presence.state, 'online');
    assert.equal(world.sockets.length, 1);
  });

  test('refused as session_conflict because another has the seat ends with 4001', async () => {
    world.answer = (socket, text) => {
      refuse(socket, text, { code: 'session_conflict' });
      socket.shuts(4001);
    };
    const presence = world.connect();
    await world.pass(120_000, 1000);
    assert.equal(presence.state, 'replaced');
    assert.equal(world.sockets.length, 1);
  });

  test('refused as store_unavailable is tried again after growing delays', async () => {
    mock.method(Math, 'random', () => 0.999999);
    world.answer = (socket, text) => (text === 'ping' ? socket.says('pong') : refuse(socket, text, { code: 'store_unavailable' }));
    world.connect();
    await world.pass(60_000);
    const times = world.last.opensSent().map(({ at }) => at);
    const gaps = times.slice(1).map((at, i) => Math.round((at - times[i]) / 1000));
    assert.deepEqual(gaps.slice(0, 6), [1, 1, 2, 4, 8, 16]);
    assert.equal(world.sockets.length, 1);
  });

  test('that is not answered costs the socket after 10 seconds', async () => {
    world.answer = (socket, text) => text === 'ping' && socket.says('pong');
    const presence = world.connect();
    await turn();
    await world.pass(9_999);
    assert.equal(presence.state, 'connected');
    await world.pass(1);
    assert.equal(presence.state, 'waiting');
  });
});

describe('an action', () => {
  test('after a sleep is not written to a link that is dead', async () => {
    const presence = await world.online();
    const dead = world.last;
    const dies = { yes: true };
    world.answer = (socket, text) => (dies.yes && socket === dead ? undefined : answerLikeServer(socket, text));
    world.sleep(600_000);
    const reply = presence.send('order', { n: 1 });
    await turn();
    assert.equal(dead.texts().at(-1), 'ping');
    await world.pass(11_000);
    assert.equal((await reply).echo.n, 1);
    assert.ok(!dead.sent.some(({ frame }) => frame?.action === 'order'));
  });

  test('after a sleep goes out as soon as the link has answered', async () => {
    const presence = await world.online();
    world.sleep(600_000);
    const reply = presence.send('order', { n: 1 });
    await turn();
    assert.equal((await reply).echo.n, 1);
    assert.deepEqual(world.last.texts().slice(1).map((text) => text === 'ping' || JSON.parse(text).action), [true, 'order']);
    assert.equal(world.sockets.length, 1);
  });

  test('is not written to a socket that is closing', async () => {
    const presence = await world.online();
    world.last.readyState = 2;
    const reply = presence.send('order', { n: 1 });
    await turn();
    world.last.shuts(4200);
    await turn();
    assert.equal((await reply).echo.n, 1);
  });

  test('that waited longer than it may is not sent, even if its timer sleeps', async () => {
    world.accept = () => {};
    const presence = world.connect();
    const reply = presence.send('order', { n: 1 });
    reply.catch(() => {});
    await turn();
    world.sleep(60_000);
    world.last.opens();
    await turn();
    await assert.rejects(reply, { code: 'offline' });
    assert.equal(presence.state, 'online');
    assert.deepEqual(world.last.sent.map(({ frame }) => frame.action), ['open']);
  });

  test('may wait 30 seconds for the connection, and 10 for its reply', async () => {
    world.accept = () => {};
    const presence = world.connect();
    const ends = [];
    presence.send('first').catch(({ code }) => ends.push(code));
    await world.pass(29_999);
    assert.deepEqual(ends, []);
    await world.pass(1);
    assert.deepEqual(ends, ['offline']);
    presence.send('second').catch(({ code }) => ends.push(code));
    world.accept = (socket) => socket.opens();
    world.answer = (socket, text) => !text.includes('second') && answerLikeServer(socket, text);
    while (presence.state !== 'online') await world.pass(50);
    await world.pass(9_900);
    assert.equal(ends.length, 1);
    await world.pass(200);
    assert.deepEqual(ends, ['offline', 'timeout']);
  });

  test('leaves no timer behind when it is answered, or never sent', async (t) => {
    const { setTimeout: set, clearTimeout: clear } = globalThis;
    t.after(() => Object.assign(globalThis, { setTimeout: set, clearTimeout: clear }));
    const live = new Set();
    globalThis.setTimeout = (...args) => {
      const timer = set(...args);
      live.add(timer);
      return timer;
    };
    globalThis.clearTimeout = (timer) => (live.delete(timer), clear(timer));
    const presence = await world.online();
    for (let i = 0; i < 5; i++) await presence.send('order');
    assert.equal(live.size, 1, 'the heartbeat alone');
    world.last.readyState = 2;
    const waiting = presence.send('order').catch(() => {});
    await turn();
    presence.close();
    await waiting;
    assert.equal(live.size, 0);
  });
});
