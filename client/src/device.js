import { entry } from './storage.js';

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
  const area = { tab: 'sessionStorage', install: 'localStorage' }[wish];
  const storage = entry(area, KEY);
  // It tells one user's devices apart, and is no secret.
  const id = area ? storage('getItem') || Math.random().toString(36).slice(2) : wish || undefined;
  return { id, keep: (goes) => storage(goes || wish === 'install' ? 'setItem' : 'removeItem', id) };
}
