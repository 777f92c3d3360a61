import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { reply, startServer, until } from './server.js';
import { Browser } from './tabs.js';

let server;
let browser;
beforeEach(async () => {
  server = await startServer();
  browser = new Browser();
  keeps('E1-0-E2-0');
});
afterEach(async () => {
  browser.end();
  await server.end();
});

/** A server that keeps messages: the offset that it tells at `open`, whether it has recovered, what was missed. */
function keeps(offset, recovered, ...missed) {
  server.answer = (socket, frame) => {
    if (frame.action !== 'open') return false;
    reply(socket, frame, { conn: `c${server.sockets.length}`, offset, recovered });
    for (const frame of missed) socket.send(frame);
    return true;
  };
}

const push = (offset, data) => JSON.stringify({ action: 'push', offset, data });

const all = (tabs, state) => until(() => tabs.every((tab) => tab.state === state), `all ${state}`);

const heard = (tabs, ...data) =>
  until(() => tabs.every((tab) => `${tab.heard.push}` === `${data}`), `all have heard ${data}`);

/** When this has come back, whatever was told to these tabs before has arrived. */
const settle = (tabs) => Promise.all(tabs.map((tab) => tab.send('settle')));

/** What each `open` has asked for. */
const asked = () => server.of('open').map(({ resume }) => resume);

/** Tabs that are online, the leader first. */
async function online(count, options) {
  const pages = Array.from({ length: count }, () => browser.tab());
  const tabs = [];
  for (const page of pages) {
    tabs.push(page.connect(server.url, options));
    await all(tabs, 'online');
  }
  return { pages, tabs };
}

for (const [way, leave] of [
  ['is closed', ([leader]) => leader.close()],
  ['crashes', (_, [page]) => page.crash()],
]) {
  test(`who leads after a tab that ${way} goes on where that was`, async () => {
    const { pages, tabs } = await online(3);
    server.last.send(push('E1-1-E2-0', 1));
    await heard(tabs, 1);
    keeps('E1-2-E2-0', true, push('E1-1-E2-0', 1), push('E1-2-E2-0', 2));
    leave(tabs, pages);
    const rest = tabs.slice(1);
    await heard(rest, 1, 2);
    assert.deepEqual(asked(), [true, 'E1-1-E2-0']);
    assert.deepEqual(rest.map(({ heard }) => heard.missed), [0, 0]);
  });
}

test('all tabs are told, once, that something may have been missed', async () => {
  const { tabs } = await online(3);
  keeps('E9-5-E2-0', false, push('E9-6-E2-0', 1));
  server.last.terminate();
  await heard(tabs, 1);
  server.last.send(push('E9-6-E2-0', 'a double'));
  server.last.send(push('malformed', 2));
  server.last.send(push('malformed', 3));
  server.last.send('4');
  await heard(tabs, 1, 2, 3, 4);
  assert.deepEqual(tabs.map(({ heard }) => heard.missed), [1, 1, 1]);
});

test('an offset that goes back is that of all tabs', async () => {
  const { tabs } = await online(2);
  server.last.send(push('E1-9-E2-9', 1));
  await heard(tabs, 1);
  keeps('E1-2-E2-2', false, push('E1-3-E2-2', 2));
  server.last.terminate();
  await heard(tabs, 1, 2);
});

test('a tab that was away is told so if there was a push meanwhile', async () => {
  const { pages, tabs } = await online(3);
  const [, second, third] = tabs;
  for (const page of [pages[1], pages[2]]) page.tells('pagehide', { persisted: true });
  pages[1].tells('pageshow', { persisted: true });
  await all([second], 'online');
  await settle([second]);
  assert.equal(second.heard.missed, 0, 'there was none yet');
  server.last.send(push('E1-1-E2-0', 1));
  await heard([tabs[0], second], 1);
  pages[2].tells('pageshow', { persisted: true });
  await all([third], 'online');
  await settle(tabs);
  assert.deepEqual(tabs.map(({ heard }) => heard.missed), [0, 0, 1]);
  server.last.send(push('E1-2-E2-0', 2));
  await heard([third], 2);
});

test('the only tab is sent what it missed while it was cached', async () => {
  const { pages, tabs } = await online(1);
  pages[0].tells('pagehide', { persisted: true });
  keeps('E1-1-E2-0', true, push('E1-1-E2-0', 1));
  pages[0].tells('pageshow', { persisted: true });
  await heard(tabs, 1);
  assert.deepEqual(asked(), [true, 'E1-0-E2-0']);
});

test('a tab is not given again what it had before one that was further back led', async () => {
  const { pages, tabs } = await online(2, { keepOffset: true });
  server.last.send(push('E1-1-E2-0', 1));
  await heard(tabs, 1);
  for (const page of pages) page.crash();
  pages[0].stored['presence.offset'] = '7\nE1-0-E2-0';
  keeps('E1-2-E2-0', true);
  const leader = browser.tab(pages[0]).connect(server.url, { keepOffset: true });
  await all([leader], 'online');
  const other = browser.tab(pages[1]).connect(server.url, { keepOffset: true });
  await all([other], 'online');
  for (const n of [1, 2]) server.last.send(push(`E1-${n}-E2-0`, n));
  await heard([leader], 1, 2);
  await heard([other], 2);
  assert.deepEqual([leader, other].map(({ heard }) => heard.missed), [0, 0]);
});

test('a page load of all tabs goes on, one of a few is told what it missed', async () => {
  const { pages, tabs } = await online(2, { keepOffset: true });
  server.last.send(push('E1-1-E2-0', 1));
  await heard(tabs, 1);
  pages[1].crash();
  server.last.send(push('E1-2-E2-0', 2));
  await heard([tabs[0]], 1, 2);
  pages[1] = browser.tab(pages[1]);
  tabs[1] = pages[1].connect(server.url, { keepOffset: true });
  await all(tabs, 'online');
  await settle(tabs);
  assert.deepEqual(tabs.map(({ heard }) => heard.missed), [0, 1]);

  for (const page of pages) page.crash();
  keeps('E1-3-E2-0', true, push('E1-3-E2-0', 3));
  const last = browser.tab(pages[1]).connect(server.url, { keepOffset: true });
  await heard([last], 3);
  assert.deepEqual(asked(), [true, 'E1-2-E2-0']);
});

test('a logout forgets the offset in all tabs', async () => {
  const { pages, tabs } = await online(2, { keepOffset: true });
  server.last.send(push('E1-1-E2-0', 1));
  await heard(tabs, 1);
  tabs[1].close(true);
  await all(tabs, 'closed');
  assert.deepEqual(pages.map(({ stored }) => stored['presence.offset']), [undefined, undefined]);
  tabs[1].open();
  await all([tabs[1]], 'online');
  assert.deepEqual(asked(), [true, true]);
});

test('another user of the same tab starts anew', async () => {
  const { pages } = await online(1, { keepOffset: true });
  pages[0].crash();
  const next = browser.tab(pages[0]).connect(server.url, { keepOffset: true, member: { id: 8 } });
  await all([next], 'online');
  assert.deepEqual(asked(), [true, true]);
  assert.equal(next.heard.missed, 0);
});

test('a server without resume is as ever', async () => {
  server.answer = () => false;
  const { tabs } = await online(2);
  for (const n of [1, 2]) server.last.send(`${n}`);
  await heard(tabs, 1, 2);
  server.last.terminate();
  await until(() => server.sockets.length === 2);
  await all(tabs, 'online');
  assert.deepEqual(asked(), [true, true]);
  assert.deepEqual(tabs.map(({ heard }) => heard.missed), [0, 0]);
});
