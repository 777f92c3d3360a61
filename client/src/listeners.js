/** The listeners of a client: `on`, which the app calls, and `emit`. */
export function createListeners() {
  const listeners = new Set();

  function on(name, call) {
    const listener = { name, call };
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  // Listeners run after the machine has done its step, each by itself: what
  // they call, or throw, cannot come into the middle of it.
  function emit(name, ...args) {
    for (const listener of listeners) {
      if (listener.name === name) queueMicrotask(() => listeners.has(listener) && listener.call(...args));
    }
  }

  return { on, emit };
}
