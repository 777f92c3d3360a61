// Compiled, never run: what the type declarations must allow, and must not.
import { connect, type Presence, type PresenceError, type State } from 'caddy-presence';
import { connect as share, type SharedPresence } from 'caddy-presence/shared';

const presence: Presence = connect('wss://app.example.com/ws', { member: { id: 7, type: 'driver', name: 'Ada' } });

connect(async () => new URL('wss://app.example.com/ws'), {
  member: async () => ({ id: '7', token: 'fresh' }),
  device: 'install',
  heartbeat: 25_000,
  timeout: 10_000,
  beat: 0,
  minDelay: 500,
  maxDelay: 20_000,
  stable: 5_000,
  maxQueue: 16,
  queueTimeout: 30_000,
  resume: false,
  keepOffset: 'orders',
  WebSocket,
});
connect('wss://a', { member: () => ({ id: 7 }), device: false, keepOffset: true });

const remove: () => void = presence.on('push', (data) => data.anything);
presence.on('missed', () => {});
presence.on('online', ({ conn }) => conn?.length);
presence.on('state', (state: State, info) => info?.delay?.toFixed());
presence.on('error', (error: PresenceError) => [error.code, error.retryAfter, error.closeCode, error.stack]);
presence.on('unauthorized', ({ code, reason }) => [code, reason]);
remove();

const untyped: Promise<Record<string, any>> = presence.send('order', { n: 1 }, { timeout: 1000, queue: false });
const typed: Promise<{ total: number }> = presence.send<{ total: number }>('order', {}, { queue: 5000 });
const updated: Promise<void> = presence.update({ busy: true });
const state: State = presence.state;
const ids: (string | undefined)[] = [presence.conn, presence.device];
presence.open();
presence.takeOver();
presence.wake();
presence.close();
presence.close(3001);

const shared: SharedPresence = share('wss://a', { member: { id: 7 }, name: 'ada' });
shared.on('push', () => {});
shared.takeOver();
shared.close(true);
const leads: boolean = shared.leads;

// @ts-expect-error: a member needs an id
connect('wss://a', { member: { name: 'Ada' } });
// @ts-expect-error: and options need a member
connect('wss://a', {});
// @ts-expect-error: no such event
presence.on('message', () => {});
// @ts-expect-error: an offset is the server's
connect('wss://a', { member: { id: 7 }, resume: 'E1-1-E2-1' });
// @ts-expect-error: state is read only
presence.state = 'online';
// @ts-expect-error: no such option
connect('wss://a', { member: { id: 7 }, reconnect: true });
// @ts-expect-error: the device of a shared connection is its leader's
shared.device;

export { untyped, typed, updated, state, ids, leads };
