import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import { gzipSync } from 'node:zlib';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (file) => readFileSync(join(root, file), 'utf8');
const pkg = JSON.parse(read('package.json'));

describe('dist', () => {
  test('is what a fresh build gives', (t) => {
    const fresh = mkdtempSync(join(tmpdir(), 'caddy-presence-'));
    t.after(() => rmSync(fresh, { recursive: true }));
    execFileSync(process.execPath, ['build.mjs', fresh], { cwd: root });
    assert.deepEqual(readdirSync(join(root, 'dist')).sort(), readdirSync(fresh).sort());
    for (const file of readdirSync(fresh)) {
      assert.equal(read(`dist/${file}`), readFileSync(join(fresh, file), 'utf8'), `dist/${file} is old: npm run build`);
    }
  });

  for (const file of ['presence.js', 'presence.mjs']) {
    test(`${file} is under 3.5 KiB minified and gzipped`, (t) => {
      const size = gzipSync(read(`dist/${file}`), { level: 9 }).length;
      t.diagnostic(`${file}: ${size} bytes`);
      assert.ok(size < 3.5 * 1024, `${size} bytes`);
    });
  }

  for (const file of ['presence.js', 'shared.js']) {
    test(`${file} as a script sets one global, Presence`, () => {
      const page = vm.createContext({});
      vm.runInContext(read(`dist/${file}`), page);
      assert.deepEqual(Object.keys(page), ['Presence']);
      assert.equal(typeof page.Presence.connect, 'function');
    });
  }

  test('names its version', () => {
    for (const file of readdirSync(join(root, 'dist'))) {
      assert.ok(read(`dist/${file}`).startsWith(`/*! caddy-presence ${pkg.version} Apache-2.0 */`), file);
    }
  });
});

describe('the package', () => {
  test('can be imported by its name', async () => {
    assert.deepEqual(Object.keys(await import('caddy-presence')), ['connect']);
    assert.deepEqual(Object.keys(await import('caddy-presence/shared')), ['connect']);
  });

  test('has all files that it names', () => {
    const packed = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, encoding: 'utf8', stdio: 'pipe' }));
    const files = packed[0].files.map(({ path }) => path);
    for (const file of ['LICENSE', 'README.md', 'index.d.ts', 'shared.d.ts', 'dist/presence.mjs', 'dist/presence.js', 'dist/shared.mjs', 'dist/shared.js']) {
      assert.ok(files.includes(file), `${file} is missing`);
    }
    assert.ok(!files.some((file) => file.startsWith('test')));
  });

  test('depends on nothing, and on exact versions of its tools', () => {
    assert.equal(pkg.dependencies, undefined);
    for (const version of Object.values(pkg.devDependencies)) assert.match(version, /^\d+\.\d+\.\d+$/);
    assert.doesNotMatch(read('package-lock.json'), /"resolved"/);
  });

  test('has types that fit', () => {
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    try {
      execFileSync(process.execPath, [tsc, '-p', '.'], { cwd: root, stdio: 'pipe' });
    } catch (error) {
      assert.fail(String(error.stdout));
    }
  });
});

describe('the reference', () => {
  const reference = readFileSync(new URL('../../docs/client.md', import.meta.url), 'utf8');
  const types = read('index.d.ts');
  const source = read('src/presence.js');

  /** The members of an interface, by its lines of the first level. */
  const members = (name) => {
    const body = new RegExp(`interface ${name}[^{]*{\n(.*?)\n}`, 's').exec(types)[1];
    return [...body.matchAll(/^ {2}(?:readonly )?(\w+)[?(:<]/gm)].map((match) => match[1]);
  };

  for (const name of ['Options', 'Events', 'Presence', 'SendOptions']) {
    test(`has all of ${name}`, () => {
      assert.ok(members(name).length > 1);
      for (const member of members(name)) assert.match(reference, new RegExp(`\`(presence\\.)?${member}\\b`), `${member} is missing`);
    });
  }

  test('gives the defaults that the code has', () => {
    const defaults = [...source.matchAll(/^ {4}(\w+) = ([\d_]+),$/gm)];
    assert.ok(defaults.length >= 7);
    for (const [, option, value] of defaults) {
      const row = reference.split('\n').find((line) => line.startsWith(`| \`${option}\` |`));
      assert.ok(row?.includes(`| ${Number(value.replaceAll('_', ''))} |`), `${option}: ${row}`);
    }
  });
});
