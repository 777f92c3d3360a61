/**
 * Builds the client: `node build.mjs [folder]`, dist/ by default.
 *
 *   presence.mjs  ES module           shared.mjs  ES module, imports presence.mjs
 *   presence.js   script tag          shared.js   script tag, complete in itself
 *
 * Both scripts set the global `Presence`, so that a page changes from one to
 * the other by the file's name alone.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const { name, version, license } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'));

/** The one import between built files. */
const builtPresence = {
  name: 'built presence',
  setup(build) {
    build.onResolve({ filter: /^\.\/presence\.js$/ }, () => ({ path: './presence.mjs', external: true }));
  },
};

const asModule = (file) => ({ entryPoints: [`src/${file}.js`], format: 'esm', plugins: file === 'shared' ? [builtPresence] : [] });

const asScript = (file) => ({
  stdin: { contents: `import { connect } from './src/${file}.js'; globalThis.Presence = { connect };`, resolveDir: here },
  format: 'iife',
});

async function write(outfile, input) {
  await build({
    ...input,
    outfile,
    absWorkingDir: here,
    bundle: true,
    minify: true,
    target: 'es2020', // Safari 14, Chrome 85 and their web views
    banner: { js: `/*! ${name} ${version} ${license} */` },
    logLevel: 'warning',
  });
}

const folder = process.argv[2] ?? `${here}dist`;
for (const file of ['presence', 'shared']) {
  await write(`${folder}/${file}.mjs`, asModule(file));
  await write(`${folder}/${file}.js`, asScript(file));
}
