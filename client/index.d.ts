/** A value, or a function that is asked for it at every connect. */
export type Asked<T> = T | (() => T | Promise<T>);

/** Who is online: `id`, optionally `type`, and any further fields, up to 4 KiB of JSON. */
export interface Member {
  /** 1 to 128 bytes, or an integer. `7` and `"7"` are the same user. */
  id: string | number;
  type?: string;
  [field: string]: unknown;
}

/** What the client is doing. docs/client.md tells what leads from one to the other. */
export type State =
  | 'closed'
  | 'connecting'
  | 'connected'
  | 'online'
  | 'waiting'
  | 'replaced'
  | 'kicked'
  | 'unauthorized';

/** Why a state was entered. */
export interface Info {
  /** The close code, or the error code of the server's answer to `open`. */
  code?: number | string;
  reason?: string;
  /** In `waiting`: how many milliseconds until the next attempt. */
  delay?: number;
  /** In `online`: the id of the connection. */
  conn?: string;
}

export interface PresenceError extends Error {
  /**
   * From this client: `timeout`, `disconnected` (in both cases it is not known
   * whether the action was carried out), `offline`, `queue_full`, `closed` (it
   * was not), `connect_failed`, `unauthorized`. From the server: any code of
   * its error frames.
   */
  code: string;
  /** With `refused` and `backend_failed`: the HTTP status, if there was one. */
  status?: number;
  /** With `refused`: what the backend answered, if that is JSON. */
  data?: unknown;
  /** With `session_conflict` and `refused`: seconds. */
  retryAfter?: number;
  /** With `connect_failed` and `unauthorized`: the last close code. */
  closeCode?: number;
}

export interface Events {
  /** A push: JSON as what it stands for, any other text as a string. */
  push: (data: any) => void;
  /**
   * Pushes may have been missed for good: fetch anew what they tell about. Comes
   * before any push that was made since.
   */
  missed: () => void;
  /** The state has changed. Each state is an event of its own, too. */
  state: (state: State, info?: Info) => void;
  error: (error: PresenceError) => void;
  /** The server has confirmed that the member is online. */
  online: (info: Info) => void;
  /** `online` was left, for whatever state. */
  offline: (info?: Info) => void;
  closed: (info: Info) => void;
  connecting: (info?: Info) => void;
  connected: () => void;
  waiting: (info: Info) => void;
  /** The user opened elsewhere. takeOver() comes back. */
  replaced: (info: Info) => void;
  /** An operator closed the connection. */
  kicked: (info: Info) => void;
  /** The identity was refused, also after url and member were asked again. */
  unauthorized: (info: Info) => void;
}

export interface Options {
  /** Who is online. As a function it is asked at every connect. */
  member: Asked<Member>;
  /**
   * How the server knows this client again: `tab` (default) keeps a random id
   * in sessionStorage, `install` in localStorage; any other string is the id
   * itself; `false` sends none.
   */
  device?: 'tab' | 'install' | (string & {}) | false;
  /** Silence in milliseconds after which a `ping` is sent. Default 25000. */
  heartbeat?: number;
  /** Milliseconds that an answer may take: of a connect, an `open`, a `ping`, an action. Default 10000. */
  timeout?: number;
  /**
   * The beat announced to the server, in milliseconds: after three without a
   * frame from us it takes the app for frozen. Default: heartbeat, at least
   * 25000. 0: never.
   */
  beat?: number;
  /** The first reconnect comes within this many milliseconds, each further one within twice as many. Default 500. */
  minDelay?: number;
  /** The most that is waited until a reconnect, in milliseconds. Default 20000. */
  maxDelay?: number;
  /** How many milliseconds online prove a connection, so that the delay starts anew. Default 5000. */
  stable?: number;
  /** How many actions may wait for the connection. Default 16. */
  maxQueue?: number;
  /** How many milliseconds an action may wait for the connection. Default 30000. */
  queueTimeout?: number;
  /**
   * Be sent after an absence what was missed, if the server keeps messages.
   * Default true; a server that keeps none ignores it.
   */
  resume?: boolean;
  /**
   * Keep the offset, which tells what was missed, over a page load, in
   * sessionStorage. A string is the key, where a page has several clients.
   * Default false. For apps whose state outlives the page, too.
   */
  keepOffset?: boolean | string;
  /** The implementation, where there is no global one, as `ws` in Node. */
  WebSocket?: new (url: string, protocols: string[]) => any;
}

export interface SendOptions {
  /** Milliseconds that the reply may take once the action was sent. Default: the client's timeout. */
  timeout?: number;
  /** While not online: wait (default), wait that many milliseconds, or reject at once (`false`). */
  queue?: boolean | number;
}

export interface Presence {
  readonly state: State;
  /** The id of the connection, while online. */
  readonly conn: string | undefined;
  /** The device id that goes with `open`. */
  readonly device: string | undefined;

  /** Adds a listener; what is returned removes it. */
  on<E extends keyof Events>(event: E, listener: Events[E]): () => void;

  /**
   * Sends an action. Resolves with the fields of the reply, rejects with a
   * PresenceError on an error frame, a timeout or a disconnect.
   */
  send<Reply = Record<string, any>>(
    action: string,
    fields?: Record<string, unknown>,
    options?: SendOptions,
  ): Promise<Reply>;

  /** Merges fields into the member, now and at every later connect. If it rejects, they are not kept. */
  update(fields: Record<string, unknown>): Promise<void>;

  /** Comes back from closed, replaced, kicked or unauthorized. */
  open(): void;
  /** The same, by its name after `replaced`: only a person's wish should call it. */
  takeOver(): void;

  /** Probes the connection, or connects, at once: for hosts with signals of their own. */
  wake(): void;

  /** Goes offline. With a code other than 1000 the server waits for its grace time first. */
  close(code?: number): void;
}

/** Keeps a member online for as long as the app lives. */
export function connect(url: Asked<string | URL>, options: Options): Presence;
