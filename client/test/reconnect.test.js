import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { Page, World, turn } from './world.js';

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

const delays = () => world.states.filter(({ state }) => state === 'waiting').map(({ info }) => info.delay);
const refuseAll = (code) => {
  world.accept = (socket) => (code ? (socket.opens(), socket.shuts(code)) : socket.shuts(1006));
};

describe('the delay before a reconnect', () => {
  test('is anything up to a limit that doubles from 0.5 to 20 seconds', async () => {
    mock.method(Math, 'random', () => 0.999999);
    refuseAll();
    world.connect();
    await world.pass(120_000);
    const limits = delays().map((delay) => Math.round(delay));
    assert.deepEqual(limits.slice(0, 9), [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000, 20000]);
  });

  test('may be nothing: the jitter is full', async () => {
    mock.method(Math, 'random', () => 0);
    let left = 8;
    world.accept = (socket) => (left-- ? socket.shuts(1006) : socket.opens());
    const presence = world.connect();
    await world.pass(50, 1);
    assert.deepEqual(delays(), Array(8).fill(0));
    assert.equal(presence.state, 'online');
  });

  test('spreads 500 clients that lose their server at once', async () => {
    for (let i = 0; i < 500; i++) world.connect();
    await turn();
    await world.pass(5_000, 1000);
    refuseAll();
    for (const socket of [...world.sockets]) socket.shuts(1006);
    await turn();
    const first = delays();
    assert.equal(first.length, 500);
    // 500 uniform draws: a tenth has 50 of them, give or take 4 times 6.7.
    const tenths = Array(10).fill(0);
    for (const delay of first) tenths[Math.floor(delay / 50)]++;
    assert.ok(Math.min(...tenths) > 20 && Math.max(...tenths) < 80, `${tenths}`);
    await world.pass(60_000, 100);
    // After a minute of failures their attempts fill the 20 seconds of the ceiling.
    const from = Date.now() - 20_000;
    const seconds = Array(20).fill(0);
    for (const socket of world.sockets) {
      if (socket.bornAt >= from && socket.bornAt < Date.now()) seconds[Math.floor((socket.bornAt - from) / 1000)]++;
    }
    assert.ok(Math.max(...seconds) < 120, `${seconds}`);
    assert.ok(Math.min(...seconds) > 10, `${seconds}`);
  });

  test('starts anew only when a connection was online for 5 seconds', async () => {
    mock.method(Math, 'random', () => 0.999999);
    const presence = await world.online();
    for (let i = 0; i < 4; i++) {
      await world.pass(4_900);
      world.last.shuts(1006);
      while (presence.state !== 'online') await world.pass(50);
    }
    assert.deepEqual(delays().map(Math.round), [500, 1000, 2000, 4000]);
    await world.pass(5_000);
    world.last.shuts(1006);
    await turn();
    assert.equal(Math.round(delays().at(-1)), 500);
  });
});

describe('a close code', () => {
  for (const code of [1000, 1001, 1003, 1006, 1011]) {
    test(`${code} leads to a reconnect after the usual delay`, async () => {
      const presence = await world.online();
      await world.pass(5_000);
      world.last.shuts(code);
      await turn();
      assert.equal(presence.state, 'waiting');
      assert.ok(delays()[0] <= 500);
      await world.pass(500);
      assert.equal(presence.state, 'online');
    });
  }

  test('1012 spreads the clients of a node that stops over 5 seconds', async () => {
    for (let i = 0; i < 200; i++) world.connect();
    await turn();
    for (const socket of [...world.sockets]) socket.shuts(1012);
    await turn();
    const all = delays();
    assert.equal(all.length, 200);
    assert.ok(Math.max(...all) <= 5_000);
    assert.ok(all.filter((delay) => delay > 2_500).length > 60);
    assert.ok(all.filter((delay) => delay < 2_500).length > 60);
  });

  for (const code of [4100, 4102, 4199]) {
    test(`${code} keeps away for 10 to 20 seconds, whatever wakes the page`, async () => {
      for (let i = 0; i < 50; i++) world.connect();
      await turn();
      for (const socket of [...world.sockets]) socket.shuts(code);
      await turn();
      assert.ok(Math.min(...delays()) >= 10_000);
      assert.ok(Math.max(...delays()) <= 20_000);
      assert.ok(Math.max(...delays()) - Math.min(...delays()) > 5_000, 'spread');
      page.tells('online');
      page.tells('visibilitychange');
      await world.pass(9_900, 1000);
      assert.equal(world.sockets.length, 50);
      await world.pass(10_200, 1000);
      assert.equal(world.sockets.length, 100);
    });
  }

  for (const code of [4200, 4201, 4299]) {
    test(`${code} comes back at once, without a timer`, async () => {
      const presence = await world.online();
      await world.pass(5_000);
      world.last.shuts(code);
      await turn();
      assert.equal(presence.state, 'online');
      assert.equal(world.sockets.length, 2);
    });
  }

  test('4200 in answer to everything does not become a loop', async () => {
    mock.method(Math, 'random', () => 0.999999);
    refuseAll(4200);
    world.connect();
    await world.pass(10_000);
    assert.deepEqual(delays().map(Math.round).slice(0, 3), [1000, 2000, 4000]);
    assert.ok(world.sockets.length < 7);
  });

  for (const [code, state] of [
    [4001, 'replaced'],
    [4003, 'kicked'],
    [4000, 'closed'],
    [4099, 'closed'],
  ]) {
    test(`${code} keeps away for good, and says ${state}`, async () => {
      const presence = await world.online();
      const told = [];
      presence.on(state, (info) => told.push(info));
      presence.on('offline', (info) => told.push(info));
      world.last.shuts(code, 'because');
      page.tells('online');
      page.tells('visibilitychange');
      page.tells('pageshow', { persisted: true });
      presence.wake();
      await world.pass(120_000, 1000);
      assert.equal(presence.state, state);
      assert.equal(world.sockets.length, 1);
      assert.deepEqual(told, [
        { code, reason: 'because' },
        { code, reason: 'because' },
      ]);
      await assert.rejects(presence.send('x'), { code: 'closed' });
    });

    test(`after ${state} (${code}) takeOver comes back`, async () => {
      const presence = await world.online();
      world.last.shuts(code);
      await turn();
      presence.takeOver();
      await turn();
      assert.equal(presence.state, 'online');
      presence.takeOver();
      presence.open();
      await turn();
      assert.equal(world.sockets.length, 2, 'and does nothing while online');
    });
  }

  for (const code of [4009, 4202]) {
    test(`${code}: url and member are asked again, once`, async () => {
      let asked = 0;
      const presence = world.connect({ member: async () => ({ id: 7, n: ++asked }) }, async () => `wss://test/${asked}`);
      await turn();
      assert.equal(presence.state, 'online');
      await world.pass(5_000);
      world.last.shuts(code);
      await turn();
      assert.equal(asked, 2);
      assert.equal(presence.state, 'online', 'a new token is taken at once');
      assert.equal(world.last.opensSent()[0].frame.n, 2);
      world.last.shuts(code, 'no');
      await world.pass(60_000, 1000);
      assert.equal(presence.state, 'unauthorized');
      assert.equal(asked, 2);
      assert.deepEqual(world.errors.map((error) => [error.code, error.closeCode, error.message]), [['unauthorized', code, 'no']]);
      assert.equal(world.sockets.length, 2);
    });

    test(`${code}: a connection that has proven itself may ask anew`, async () => {
      const presence = await world.online();
      for (let i = 0; i < 3; i++) {
        await world.pass(5_000);
        world.last.shuts(code);
        await turn();
        assert.equal(presence.state, 'online');
      }
      assert.deepEqual(world.errors, []);
    });

    test(`${code} at the first handshake ends after the second`, async () => {
      refuseAll(code);
      const presence = world.connect();
      await world.pass(60_000, 1000);
      assert.equal(presence.state, 'unauthorized');
      assert.equal(world.sockets.length, 2);
      world.accept = (socket) => socket.opens();
      presence.open(); // after a login
      await turn();
      assert.equal(presence.state, 'online');
    });
  }
});

describe('an attempt that fails', () => {
  test('is told after the third in a row, once', async () => {
    mock.method(Math, 'random', () => 0.5);
    refuseAll();
    const presence = world.connect();
    await world.pass(250 + 500 - 1, 1);
    assert.equal(world.sockets.length, 2);
    assert.deepEqual(world.errors, []);
    await world.pass(60_000, 100);
    assert.deepEqual(world.errors.map(({ code, closeCode, name }) => [code, closeCode, name]), [['connect_failed', 1006, 'PresenceError']]);
    world.accept = (socket) => socket.opens();
    await world.pass(20_000, 100);
    assert.equal(presence.state, 'online');
    refuseAll();
    world.last.shuts(1006);
    await world.pass(60_000, 100);
    assert.equal(world.errors.length, 2, 'and again after a time online');
  });

  test('may be one whose function throws, or has no token', async () => {
    let asked = 0;
    const offline = new Error('no network for a token');
    const presence = world.connect({
      async member() {
        if (++asked < 4) throw offline;
        return { id: 7 };
      },
    });
    await world.pass(10_000, 100);
    assert.equal(presence.state, 'online');
    assert.equal(world.errors[0].cause, offline);
    assert.equal(world.sockets.length, 1);
  });

  test('may be one whose WebSocket cannot be made', async () => {
    const presence = world.connect({
      WebSocket: class {
        constructor() {
          throw new SyntaxError('bad address');
        }
      },
    });
    await world.pass(10_000, 100);
    assert.equal(presence.state, 'waiting');
    assert.match(world.errors[0].message, /bad address/);
  });

  test('is given up after 10 seconds, be it the handshake or a function that hangs', async () => {
    for (const hang of [{ accept: () => {} }, { member: () => new Promise(() => {}) }]) {
      const { accept } = world;
      world.accept = hang.accept ?? accept;
      const presence = world.connect({ member: hang.member ?? { id: 7 } });
      await world.pass(9_999);
      assert.equal(presence.state, 'connecting');
      await world.pass(1);
      assert.equal(presence.state, 'waiting');
      presence.close();
      world.accept = accept;
    }
    assert.equal(world.live().length, 0);
  });

  test('without any WebSocket is refused at once', () => {
    assert.throws(() => world.connect({ WebSocket: undefined }), process.version < 'v22' ? TypeError : undefined);
  });
});

describe('one socket', () => {
  test('is left after five quick offline and online toggles', async () => {
    const presence = await world.online();
    for (const lossy of [false, true]) {
      for (let i = 0; i < 5; i++) {
        page.tells('offline');
        if (lossy) world.last.shuts(1006);
        await world.pass(30, 10);
        page.tells('online');
        await world.pass(30, 10);
      }
      await world.pass(2_000);
      assert.equal(presence.state, 'online');
      assert.equal(world.live().length, 1);
    }
    assert.equal(world.mostLive, 1);
  });

  test('is left when toggles meet a slow handshake', async () => {
    world.accept = (socket) => setTimeout(() => socket.opens(), 400);
    const presence = world.connect();
    for (let i = 0; i < 5; i++) {
      await world.pass(30, 10);
      page.tells('offline');
      page.tells('online');
      page.tells('visibilitychange');
    }
    await world.pass(2_000);
    assert.equal(presence.state, 'online');
    assert.equal(world.sockets.length, 1);
  });

  test('a network that has returned is tried at once, without waiting', async () => {
    mock.method(Math, 'random', () => 0.999999);
    const presence = await world.online();
    refuseAll();
    world.last.shuts(1006);
    await world.pass(30_000);
    const tried = world.sockets.length;
    world.accept = (socket) => socket.opens();
    page.tells('online');
    await turn();
    assert.equal(presence.state, 'online');
    assert.equal(world.sockets.length, tried + 1);
  });

  test('late events of a dead one are ignored', async () => {
    const presence = await world.online();
    const dead = world.last;
    const pushes = [];
    presence.on('push', (data) => pushes.push(data));
    world.answer = () => {};
    await world.pass(35_000);
    world.answer = (socket, text) => socket !== dead && socket.says({ action: 'reply', ref: JSON.parse(text).ref, ok: true, conn: 'new' });
    await world.pass(1_000);
    assert.equal(presence.conn, 'new');
    dead.onmessage({ data: '"too late"' });
    dead.onopen({});
    dead.onclose({ code: 4001, reason: 'too late' });
    await world.pass(1_000);
    assert.equal(presence.state, 'online');
    assert.deepEqual(pushes, []);
    assert.equal(world.sockets.length, 2);
    assert.equal(dead.opensSent().length, 1);
  });

  test('a slow function of an earlier attempt opens none', async () => {
    const answers = [];
    const presence = world.connect({ member: () => new Promise((resolve) => answers.push(resolve)) });
    await world.pass(11_000);
    assert.equal(answers.length, 2);
    answers[1]({ id: 7, n: 2 });
    await turn();
    answers[0]({ id: 7, n: 1 });
    await turn();
    assert.equal(presence.state, 'online');
    assert.equal(world.sockets.length, 1);
    assert.equal(world.last.opensSent()[0].frame.n, 2);
  });

  test('is left after a thousand losses, and no listener of the page', async () => {
    const presence = await world.online();
    for (let i = 0; i < 1000; i++) {
      await world.pass(5_000, 5_000);
      world.last.shuts(4201);
      await turn();
    }
    assert.equal(world.mostLive, 1);
    presence.close();
    page.tells('online');
    page.tells('resume');
    await world.pass(60_000, 1000);
    assert.equal(world.live().length, 0);
    assert.equal(world.sockets.length, 1001);
  });
});

describe('the page', () => {
  test('closes with 3001 when it is hidden for good, and then rests', async () => {
    const presence = await world.online();
    page.tells('pagehide', { persisted: true });
    assert.deepEqual(world.last.closedWith, [3001, undefined]);
    assert.ok(!world.last.texts().includes('{"action":"close"}'));
    await world.pass(600_000, 1000);
    assert.equal(world.sockets.length, 1);
    page.tells('pageshow', { persisted: true });
    await turn();
    assert.equal(presence.state, 'online', 'and connects at once when it is back');
    assert.equal(world.sockets.length, 2);
  });

  test('has no use for a pageshow that is the first', async () => {
    await world.online();
    page.tells('pageshow', { persisted: false });
    assert.deepEqual(world.last.pings(), []);
  });

  test('stops an attempt that is under way', async () => {
    world.accept = () => {};
    world.connect();
    await turn();
    page.tells('pagehide');
    world.last.opens();
    await world.pass(60_000, 1000);
    assert.equal(world.sockets.length, 1);
    assert.deepEqual(world.last.sent, []);
  });

  test('that was frozen and cut off is back at once when it resumes', async () => {
    const presence = await world.online();
    await world.pass(6_000);
    world.sleep(600_000);
    page.tells('resume');
    world.last.shuts(4201);
    await turn();
    assert.equal(presence.state, 'online');
    assert.equal(world.sockets.length, 2);
  });

  test('is not needed', async () => {
    page.end();
    const presence = await world.online();
    await world.pass(120_000);
    assert.equal(presence.state, 'online');
    page = new Page();
  });
});

describe('close()', () => {
  test('says so, closes with 1000 and stays away', async () => {
    const presence = await world.online();
    presence.close();
    assert.deepEqual(world.last.sent.at(-1).frame, { action: 'close' });
    assert.deepEqual(world.last.closedWith, [1000, undefined]);
    assert.equal(presence.state, 'closed');
    assert.equal(presence.conn, undefined);
    world.last.onclose({ code: 1000, reason: '' });
    page.tells('online');
    await world.pass(120_000, 1000);
    assert.equal(world.sockets.length, 1);
    presence.open();
    await turn();
    assert.equal(presence.state, 'online');
  });

  test('with another code leaves the grace time to the server', async () => {
    const presence = await world.online();
    presence.close(3001);
    assert.ok(!world.last.texts().includes('{"action":"close"}'));
    assert.deepEqual(world.last.closedWith, [3001, undefined]);
  });

  for (const event of ['offline', 'state', 'waiting']) {
    test(`holds when it is called from a listener of ${event}`, async () => {
      const presence = await world.online();
      presence.on(event, () => presence.close());
      world.last.shuts(1006);
      await world.pass(60_000, 1000);
      assert.equal(presence.state, 'closed');
      assert.equal(world.sockets.length, 1);
    });
  }

  test('ends a wait', async () => {
    refuseAll();
    const presence = world.connect();
    await turn();
    presence.close();
    const count = world.sockets.length;
    await world.pass(60_000, 1000);
    assert.equal(world.sockets.length, count);
  });
});
