import type { Asked, Options, Presence } from './index.js';

export * from './index.js';

export interface SharedOptions extends Options {
  /**
   * Tabs with the same name share one connection. Default: the url, if it is a
   * string. Give one where tabs of one browser may be different users.
   */
  name?: string;
}

export interface SharedPresence extends Omit<Presence, 'device' | 'close'> {
  /** Whether this tab has the connection. */
  readonly leads: boolean;

  /** Leaves; the last tab goes offline at once. With `true`, all tabs leave: a logout. */
  close(everywhere?: boolean): Promise<void> | void;
}

/**
 * Keeps a member online with one connection for all tabs of the origin. Where
 * Web Locks or BroadcastChannel are missing, each tab has its own.
 */
export function connect(url: Asked<string | URL>, options: SharedOptions): SharedPresence;
