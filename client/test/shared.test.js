import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { refuse, startServer, until } from './server.js';
import { Browser } from './tabs.js';

let server;
let browser;
beforeEach(async () => {
  server = await startServer();
  browser = new Browser();
});
afterEach(async () => {
  browser.end();
  await server.end();
});

const all = (tabs, state) => until(() => tabs.every((tab) => tab.state === state), `all ${state}`);

/** Some tabs that are online, the leader first. */
async function online(count, options) {
  const pages = Array.from({ length: count }, () => browser.tab());
  const tabs = pages.map((page) => page.connect(server.url, options));
  await all(tabs, 'online');
  return { pages, tabs };
}

const live = () => server.wss.clients.size;

test('all tabs are online over one connection, and one leads', async () => {
  const { tabs } = await online(3);
  assert.equal(server.sockets.length, 1);
  assert.equal(tabs.filter((tab) => tab.leads).length, 1);
  assert.deepEqual(tabs.map((tab) => tab.conn), ['c1', 'c1', 'c1']);
});

test('a tab that comes later is told how things are', async () => {
  await online(2);
  const late = browser.tab().connect(server.url);
  await all([late], 'online');
  assert.equal(late.leads, false);
  assert.equal(server.sockets.length, 1);
});

test('tabs with another name have their own connection', async () => {
  await online(2, { name: 'ada' });
  await online(2, { name: 'bob' });
  assert.equal(server.sockets.length, 2);
});

test('a push, and an error, is told to each tab once', async () => {
  const { tabs } = await online(3);
  server.last.send('{"n":1}');
  server.last.send('{"action":"error","code":"too_fast","message":"slower"}');
  await until(() => tabs.every(({ heard }) => heard.push.length && heard.error.length));
  await Promise.all(tabs.map((tab) => tab.send('settle')));
  for (const { heard } of tabs) {
    assert.deepEqual(heard.push.map(({ n }) => n), [1]);
    assert.deepEqual(heard.error.map(({ code, message, name }) => [code, message, name]), [['too_fast', 'slower', 'PresenceError']]);
  }
});

test('any tab can send, and has its own replies', async () => {
  const { tabs } = await online(3);
  const replies = await Promise.all(tabs.map((tab, n) => tab.send('order', { n })));
  assert.deepEqual(replies.map(({ echo }) => echo), [0, 1, 2]);
  server.answer = (socket, frame) => frame.action === 'order' && (refuse(socket, frame, 'session_conflict', { retry_after: 3 }), true);
  for (const tab of tabs) await assert.rejects(tab.send('order'), { code: 'session_conflict', retryAfter: 3, name: 'PresenceError' });
});

test('another tab takes over from one that is closed, as the same device', async () => {
  const { tabs } = await online(3);
  const leader = tabs.find((tab) => tab.leads);
  await leader.close();
  const rest = tabs.filter((tab) => tab !== leader);
  await until(() => server.sockets.length === 2 && rest.every((tab) => tab.state === 'online' && tab.conn === 'c2'));
  assert.equal(leader.state, 'closed');
  assert.equal(rest.filter((tab) => tab.leads).length, 1);
  assert.deepEqual(server.closes, [3001], 'within the grace time');
  assert.ok(!server.frames.some(({ action }) => action === 'close'));
  assert.equal(new Set(server.of('open').map(({ device }) => device)).size, 1);
  assert.equal(live(), 1);
  await assert.rejects(leader.send('x'), { code: 'closed' });
});

test('a follower that is closed leaves the connection alone', async () => {
  const { tabs } = await online(2);
  await tabs.find((tab) => !tab.leads).close();
  await tabs.find((tab) => tab.leads).send('settle');
  assert.equal(server.sockets.length, 1);
  assert.deepEqual(server.closes, []);
});

test('the last tab that is closed goes offline at once', async () => {
  const { tabs } = await online(2);
  await tabs.find((tab) => !tab.leads).close();
  await tabs.find((tab) => tab.leads).close();
  await until(() => server.closes.length);
  assert.deepEqual(server.closes, [1000]);
  assert.equal(server.frames.at(-1).action, 'close');
});

test('a logout closes all tabs', async () => {
  const { tabs } = await online(3);
  tabs.find((tab) => !tab.leads).close(true);
  await all(tabs, 'closed');
  await until(() => server.closes.includes(1000) && live() === 0);
  tabs[0].open();
  await all([tabs[0]], 'online');
});

test('another tab takes over from one that crashes', async () => {
  const { pages, tabs } = await online(3);
  server.answer = (socket, frame) => frame.action === 'order';
  const leader = tabs.findIndex((tab) => tab.leads);
  const follower = tabs.find((tab) => !tab.leads);
  const order = follower.send('order');
  await until(() => server.of('order').length);
  pages[leader].crash();
  await assert.rejects(order, { code: 'disconnected' });
  const rest = tabs.filter((_, i) => i !== leader);
  await until(() => rest.every((tab) => tab.state === 'online' && tab.conn === 'c2'));
  assert.equal(live(), 1);
});

for (const [goes, comes, fields] of [
  ['pagehide', 'pageshow', { persisted: true }],
  ['freeze', 'resume', {}],
]) {
  test(`a leader that is told ${goes} lets another lead, and follows after ${comes}`, async () => {
    const { pages, tabs } = await online(2);
    const leader = tabs.findIndex((tab) => tab.leads);
    const other = tabs[1 - leader];
    pages[leader].tells(goes, fields);
    await until(() => other.leads && other.state === 'online');
    assert.equal(tabs[leader].state, 'waiting');
    pages[leader].tells(comes, fields);
    await all(tabs, 'online');
    assert.equal(other.leads, true);
    assert.equal(tabs[leader].leads, false);
    assert.equal(live(), 1);
    assert.deepEqual(await tabs[leader].send('order', { n: 5 }).then(({ echo }) => echo), 5);
  });
}

test('the only tab is back after it was cached', async () => {
  const { pages, tabs } = await online(1);
  pages[0].tells('pagehide', { persisted: true });
  await until(() => server.closes.includes(3001));
  pages[0].tells('pageshow', { persisted: true });
  await all(tabs, 'online');
  assert.equal(server.sockets.length, 2);
});

test('when one is replaced, all are, and closing the leader does not come back', async () => {
  const { tabs } = await online(3);
  server.last.close(4001, 'replaced');
  await all(tabs, 'replaced');
  const leader = tabs.find((tab) => tab.leads);
  const rest = tabs.filter((tab) => tab !== leader);
  await leader.close();
  await until(() => rest.some((tab) => tab.leads));
  assert.deepEqual(rest.map((tab) => tab.state), ['replaced', 'replaced']);
  assert.equal(server.sockets.length, 1);
  rest.find((tab) => !tab.leads).takeOver();
  await all(rest, 'online');
  assert.equal(server.sockets.length, 2);
});

test('takeOver in any tab brings all back', async () => {
  const { tabs } = await online(2);
  server.last.close(4001, 'replaced');
  await all(tabs, 'replaced');
  await assert.rejects(tabs[1].send('x'), { code: 'closed' });
  tabs.find((tab) => !tab.leads).takeOver();
  await all(tabs, 'online');
});

test('what one tab updates stays when another leads', async () => {
  const { tabs } = await online(2);
  await tabs.find((tab) => !tab.leads).update({ busy: true });
  await tabs.find((tab) => tab.leads).close();
  await until(() => server.of('open').length === 3);
  assert.deepEqual(server.of('open').map(({ busy }) => busy), [undefined, true, true]);
});

test('what is sent while nobody leads waits for the next leader', async () => {
  const { tabs } = await online(2);
  const leader = tabs.find((tab) => tab.leads);
  const follower = tabs.find((tab) => !tab.leads);
  const release = browser.grant;
  browser.grant = () => {};
  leader.close();
  await until(() => server.closes.length);
  await until(() => leader.state === 'closed');
  const early = follower.send('order', { n: 1 });
  browser.grant = release;
  browser.grant();
  assert.equal((await early).echo, 1);
});

test('without locks each tab has its own connection', async () => {
  const pages = [browser.tab(), browser.tab()];
  for (const page of pages) delete page.globals.navigator.locks;
  const tabs = pages.map((page) => page.connect(server.url));
  await all(tabs, 'online');
  assert.equal(server.sockets.length, 2);
  assert.ok(tabs.every((tab) => tab.leads));
  tabs[0].close(true);
  await until(() => server.closes.length);
  assert.deepEqual(server.closes, [1000]);
});
