/**
 * An entry of sessionStorage or localStorage. Where that is missing, full or
 * forbidden, what is kept lives as long as the page.
 *
 * @returns {(method: 'getItem' | 'setItem' | 'removeItem', value?: string) => string | null | undefined}
 */
export const entry = (area, key) => (method, value) => {
  try {
    return globalThis[area][method](key, value);
  } catch {}
};
