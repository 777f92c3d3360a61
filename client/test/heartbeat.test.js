import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { Page, World, throttleTimers, turn } from './world.js';

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

/** The longest time between two frames of the client, up to now. */
function longestSilence(sent) {
  const times = [...sent.map(({ at }) => at), Date.now()];
  return Math.max(...times.slice(1).map((at, i) => at - times[i]));
}

/** Closes, as the server does, a connection without a frame for three of its beats. */
function enforceBeat(socket) {
  const limit = 3000 * socket.opensSent()[0].frame.beat;
  return () => {
    const quiet = Date.now() - socket.sent.at(-1).at;
    if (socket.readyState === 1 && quiet >= limit) socket.shuts(4201, 'no message from the app');
  };
}

describe('a ping', () => {
  test('comes after 25 seconds of silence, and not before', async () => {
    await world.online();
    await world.pass(24_999);
    assert.deepEqual(world.last.pings(), []);
    await world.pass(1);
    assert.equal(world.last.pings().length, 1);
    await world.pass(25_000);
    assert.equal(world.last.pings().length, 2);
    assert.equal(world.sockets.length, 1);
  });

  test('is not needed while the app itself sends and is answered', async () => {
    const presence = await world.online();
    for (let i = 0; i < 10; i++) {
      await world.pass(20_000);
      await presence.send('position', { i });
    }
    assert.deepEqual(world.last.pings(), []);
  });

  test('is sent under a busy stream of pushes, too: the server counts our frames only', async () => {
    await world.online();
    for (let second = 0; second < 100; second++) {
      await world.pass(1000);
      world.last.says({ second });
    }
    const silence = longestSilence(world.last.sent);
    assert.ok(silence <= 26_000, `silent for ${silence} ms`);
    assert.ok(silence >= 24_000, 'and pings are not sent at each push');
  });

  test('under a busy stream of pushes needs no timer', async () => {
    await world.online();
    for (let second = 0; second < 100; second++) {
      world.sleep(1000); // no timer fires
      world.last.says({ second });
    }
    const silence = longestSilence(world.last.sent);
    assert.ok(silence <= 26_000, `silent for ${silence} ms`);
  });

  test('is answered by any frame', async () => {
    await world.online();
    world.answer = (socket, text) => text === 'ping' && socket.says('a push, not a pong');
    await world.pass(120_000);
    assert.equal(world.sockets.length, 1);
  });

  test('interval and time limit are options', async () => {
    await world.online({ heartbeat: 4000, timeout: 1500 });
    world.answer = () => {};
    await world.pass(4000);
    assert.equal(world.last.pings().length, 1);
    await world.pass(1499, 100);
    assert.equal(world.last.closedWith, undefined);
    await world.pass(1);
    assert.notEqual(world.sockets[0].closedWith, undefined);
  });
});

describe('a dead link', () => {
  test('is given up after 35 seconds, and replaced by exactly one socket', async () => {
    const presence = await world.online();
    const dead = world.last;
    world.answer = (socket, text) => socket !== dead && socket.says(JSON.stringify({ action: 'reply', ref: JSON.parse(text).ref, ok: true, conn: 'b' }));
    await world.pass(34_999);
    assert.equal(presence.state, 'online');
    await world.pass(1);
    assert.equal(presence.state, 'waiting');
    assert.deepEqual(dead.closedWith, [undefined, undefined], 'a close without a code lets the user linger');
    await world.pass(1000);
    assert.equal(presence.state, 'online');
    assert.equal(presence.conn, 'b');
    assert.equal(world.mostLive, 1);
  });

  test('that accepts and says nothing is given up, and told after the third time', async () => {
    world.answer = () => {};
    mock.method(Math, 'random', () => 0.5);
    const presence = world.connect();
    await turn();
    assert.equal(presence.state, 'connected');
    await world.pass(10_000);
    assert.equal(presence.state, 'waiting');
    await world.pass(250 + 10_000 + 500 + 9_999);
    assert.deepEqual(world.errors, []);
    await world.pass(1);
    assert.deepEqual(world.errors.map(({ code }) => code), ['connect_failed']);
    await world.pass(120_000);
    assert.equal(world.errors.length, 1, 'and once');
    assert.equal(world.mostLive, 1);
  });
});

describe('a machine that slept', () => {
  test('asks once more instead of judging by a late timer', async () => {
    const presence = await world.online();
    const socket = world.last;
    world.answer = () => {};
    await world.pass(25_000);
    assert.equal(socket.pings().length, 1);
    world.sleep(3_600_000);
    await world.pass(10_000);
    assert.equal(socket.pings().length, 2);
    assert.equal(presence.state, 'online');
    world.answer = (s, text) => text === 'ping' && s.says('pong');
    socket.says('pong');
    await world.pass(60_000);
    assert.equal(world.sockets.length, 1);
  });

  test('judges if there is no answer to that one', async () => {
    const presence = await world.online();
    world.answer = () => {};
    await world.pass(25_000);
    world.sleep(3_600_000);
    await world.pass(1); // the late timer
    await world.pass(9_999);
    assert.equal(presence.state, 'online');
    await world.pass(1);
    assert.equal(presence.state, 'waiting');
  });

  test('asks first when no ping was under way', async () => {
    const presence = await world.online();
    world.sleep(3_600_000);
    await world.pass(10_000);
    assert.equal(presence.state, 'online');
    assert.equal(world.last.pings().length, 1);
    assert.equal(world.sockets.length, 1);
  });

  test('bears a clock that is set back', async () => {
    const presence = await world.online();
    const { now } = Date;
    mock.method(Date, 'now', () => now() - 3_600_000);
    world.answer = () => {};
    await world.pass(35_000);
    assert.equal(presence.state, 'waiting');
  });
});

describe('throttled timers', () => {
  for (const hidden of [true, false]) {
    test(`keep the server's 75 seconds at one tick a minute, ${hidden ? 'hidden' : 'by their lateness alone'}`, async () => {
      for (let phase = 0; phase < 60_000; phase += 5_000) {
        const from = Math.ceil(Date.now() / 60_000) * 60_000;
        await world.pass(from - Date.now() + phase, 60_000);
        const unthrottle = throttleTimers();
        page.document.hidden = hidden;
        const presence = await world.online();
        // Without the page's word it takes one late timer to know.
        if (!hidden) await world.pass(90_000, 1000);
        const socket = world.last;
        const watch = enforceBeat(socket);
        for (let second = 0; second < 900; second++) {
          await world.pass(1000, 1000);
          watch();
          // The app answers a push now and then: that is when a timer would be put off.
          if (second % 97 === 36) presence.send('answer').catch(() => {});
        }
        assert.equal(socket.readyState, 1, `closed in phase ${phase}`);
        assert.equal(world.last, socket, `false alarm in phase ${phase}`);
        presence.close();
        unthrottle();
      }
    });
  }

  test('do not hide a dead link', async () => {
    const unthrottle = throttleTimers();
    const presence = await world.online();
    await world.pass(120_000, 1000);
    const dead = world.last;
    world.answer = (socket, text) => socket !== dead && text !== 'ping' && socket.says({ action: 'reply', ref: JSON.parse(text).ref, ok: true });
    await world.pass(300_000, 1000);
    assert.notEqual(world.last, dead);
    assert.equal(presence.state, 'online');
    unthrottle();
  });
});

describe('the beat that is announced', () => {
  for (const [options, beat] of [
    [{}, 25],
    [{ heartbeat: 5_000 }, 25],
    [{ heartbeat: 40_000 }, 40],
    [{ heartbeat: 1_000, beat: 2_000 }, 2],
    [{ beat: 0 }, 0],
  ]) {
    test(`is ${beat} seconds for ${JSON.stringify(options)}`, async () => {
      await world.online(options);
      assert.equal(world.last.opensSent()[0].frame.beat, beat);
    });
  }

  test('of 0 does not make a hidden page ping all the time', async () => {
    page.document.hidden = true;
    await world.online({ beat: 0 });
    await world.pass(24_000);
    assert.deepEqual(world.last.pings(), []);
  });
});

describe('waking up', () => {
  for (const type of ['online', 'offline', 'resume', 'visibilitychange']) {
    test(`${type} probes at once`, async () => {
      await world.online();
      await world.pass(6_000);
      page.tells(type);
      assert.equal(world.last.pings().length, 1);
      await turn();
      assert.equal(world.sockets.length, 1);
    });
  }

  test('wake() does, too', async () => {
    const presence = await world.online();
    presence.wake();
    assert.equal(world.last.pings().length, 1);
  });

  test('a page that was hidden while its link died is back within the time limit', async () => {
    const presence = await world.online();
    const dead = world.last;
    page.hides(true);
    await turn();
    world.answer = (socket, text) => socket !== dead && socket.says({ action: 'reply', ref: JSON.parse(text).ref, ok: true });
    world.sleep(600_000);
    page.hides(false);
    await world.pass(10_600);
    assert.equal(presence.state, 'online');
    assert.notEqual(world.last, dead);
  });

  test('`offline` does not close: it may be wrong', async () => {
    const presence = await world.online();
    page.tells('offline');
    await world.pass(60_000);
    assert.equal(presence.state, 'online');
    assert.equal(world.sockets.length, 1);
  });

  test('`online` gives up at once what has been asked before and was not answered', async () => {
    const presence = await world.online();
    const dead = world.last;
    const { answer } = world;
    world.answer = () => {};
    page.tells('offline');
    await world.pass(3_000);
    world.answer = (socket, text) => socket !== dead && answer(socket, text);
    page.tells('online');
    await turn();
    assert.equal(presence.state, 'online');
    assert.equal(world.sockets.length, 2);
    assert.notEqual(dead.closedWith, undefined);
    assert.equal(world.mostLive, 1);
  });

  test('`online` gives up a handshake that hangs since before', async () => {
    world.accept = () => {};
    const presence = world.connect();
    await world.pass(3_000);
    world.accept = (socket) => socket.opens();
    page.tells('online');
    await turn();
    assert.equal(presence.state, 'online');
    assert.equal(world.mostLive, 1);
  });
});
