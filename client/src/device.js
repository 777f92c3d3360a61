const KEY = 'presence.device';

/**
 * Finds the id by which the server knows this tab or install again.
 *
 * A tab takes its id out of sessionStorage while the page lives and puts it
 * back when the page goes: a duplicated tab is given a copy of sessionStorage,
 * and would otherwise push its original out as the same device.
 *
 * @param {'tab' | 'install' | string | false} wish
 * @returns {{ id: string | undefined, keep: (goes: boolean) => void }} keep is
 *   told whether the page goes or (again) lives.
 */
export function findDevice(wish) {
  if (wish !== 'tab' && wish !== 'install') return { id: wish || undefined, keep() {} };
  // It tells one user's devices apart, and is no secret.
  let id = Math.random().toString(36).slice(2);
  // Where storage is missing or forbidden, the id lives as long as the page.
  const withStorage = (use) => {
    try {
      use(wish === 'tab' ? globalThis.sessionStorage : globalThis.localStorage);
    } catch {}
  };
  withStorage((storage) => (id = storage.getItem(KEY) || id));
  const keep = (goes) =>
    withStorage((storage) => (goes || wish === 'install' ? storage.setItem(KEY, id) : storage.removeItem(KEY)));
  return { id, keep };
}
