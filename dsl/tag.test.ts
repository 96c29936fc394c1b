import { transform } from 'esbuild';
import { describe, expect, test } from 'vitest';
import { showSpan } from '../ir/span.ts';
import { fromText, around, layerOf } from './testing.ts';
import { tagCalls } from './tag.ts';

async function tagged(source: string) {
  const { code, map } = await transform(source, {
    loader: 'ts',
    sourcemap: 'external',
    sourcefile: 'm.ts',
    format: 'cjs',
  });
  return tagCalls({
    code,
    map,
    sourceOf: (n) => (n === 'm.ts' ? source : undefined),
    shownAs: (n) => n,
    enter: 'E',
    leave: 'L',
  });
}

/** The source text of each site. */
async function sites(source: string): Promise<readonly string[]> {
  const lines = source.split('\n');
  return (await tagged(source)).sites.map(({ span: s }) => {
    const picked = lines.slice(s.line - 1, s.endLine);
    picked[picked.length - 1] = picked[picked.length - 1].slice(0, s.endColumn - 1);
    picked[0] = picked[0].slice(s.column - 1);
    return picked.join('\n');
  });
}

/** Runs tagged code with `f` that reports the site it was called at, and gives what it logged. */
async function run(source: string): Promise<readonly string[]> {
  const { code, sites: all } = await tagged(source);
  const log: string[] = [];
  const stack: number[] = [];
  const enter = (id: number): readonly never[] => (stack.push(id), []);
  const leave = (id: number, value: unknown): unknown => {
    while (stack.length > 0 && stack.pop() !== id);
    return value;
  };
  const f = (...args: readonly unknown[]): unknown => {
    const site = all[stack.at(-1) ?? -1];
    log.push(`${args.length} ${site ? showSpan(site.span).replace('m.ts:', '') : '-'}`);
    return args[0];
  };
  const exports: { done?: Promise<unknown> } = {};
  new Function('E', 'L', 'f', 'exports', code)(enter, leave, f, exports);
  await exports.done;
  return log;
}

describe('places', () => {
  test('inner calls, methods, several lines, casts and type arguments', async () => {
    expect(await sites('const a: number = f<string>(g(1) as number,\n  2);\nh.i.j(3)!.k(4);')).toEqual([
      'g(1)',
      'f<string>(g(1) as number,\n  2)',
      'h.i.j(3)',
      'h.i.j(3)!.k(4)',
    ]);
  });

  test('characters outside of ASCII before a call', async () => {
    expect(await sites(`const é = 'ü😀', b = f(é);`)).toEqual(['f(é)']);
  });

  test('optional chains, super and new stay as they are', async () => {
    const source =
      'class A extends B { constructor() { super(f(1)); } }\na?.b(f(2)).c;\nnew D(f(3));\nimport("x");';
    expect(await sites(source)).toEqual(['f(1)', 'f(2)', 'f(3)']);
  });
});

describe('running', () => {
  test('each call sees its own place and its own arguments', async () => {
    expect(await run('f(f(1), f());\nf(...[1, 2]);')).toEqual([
      '1 1:3-7',
      '0 1:9-12',
      '2 1:1-13',
      '2 2:1-13',
    ]);
  });

  test('chained calls', async () => {
    expect(await run('const o = { g: f };\no.g(o).g(1, 2);\nf(f)(3);')).toEqual([
      '1 2:1-7',
      '2 2:1-15',
      '1 3:1-5',
      '1 3:1-8',
    ]);
  });

  test('this, await, yield, closures and default arguments', async () => {
    const source = `exports.done = (async () => {
const o = { v: 7, m(x = f(1)) { return f(this.v, x); } };
o.m();
const p = await f(Promise.resolve(2));
f(await p, p);
function* g() { yield f(yield 1); }
[...g()].forEach((x) => f(x));
const t = f((1, 2));
})();`;
    const log = await run(source);
    expect(log).toEqual([
      '1 2:25-29',
      '2 2:40-52',
      '1 4:17-38',
      '2 5:1-14',
      '1 6:23-33',
      '1 7:25-29',
      '1 7:25-29',
      '1 8:11-20',
    ]);
  });

  test('a caught exception leaves no place behind', async () => {
    expect(await run('try { f(f(1), (() => { throw 1; })()); } catch { f(2); }\nf(3);')).toEqual([
      '1 1:9-13',
      '1 1:50-54',
      '1 2:1-5',
    ]);
  });
});

test('names of variables, patterns and properties, as the author wrote them', async () => {
  const { sites: all } = await tagged(
    'const a = f(1), [b, , c] = f(2), { d, e: g } = f(3);\nlet h; h = f(4);\nconst o = { i: f(5), [a]: f(6) };\nf(7);',
  );
  expect(all.map((s) => s.names)).toEqual(['a', ['b', null, 'c'], { d: 'd', e: 'g' }, 'h', 'i', null, null]);
});

test('parameter names of a function that is passed', async () => {
  const { sites: all } = await tagged('f("a", (x, { y }, z = 1) => x);\nf(function (p: number) {});\nf(1);');
  expect(all.map((s) => s.parameters)).toEqual([['x', '', 'z'], ['p'], undefined]);
});

test('a place in the tagged code leads back', async () => {
  const source = 'f(g(1));\n  throws.here;';
  const { code, spanAt } = await tagged(source);
  const line = code.split('\n').findIndex((l) => l.includes('throws')) + 1;
  const column = code.split('\n')[line - 1].indexOf('here') + 1;
  expect(spanAt(line, column)).toMatchObject({ line: 2, column: 10, endColumn: 14 });
  const first = code.split('\n').findIndex((l) => l.includes('g(1')) + 1;
  expect(spanAt(first, code.split('\n')[first - 1].indexOf('g(1') + 1)).toMatchObject({ line: 1, column: 3 });
});

describe('in a model', () => {
  test('values have the names of variables; esbuild may have renamed them', async () => {
    // `sum` and `norm` clash with an import and a top-level name of the bundle.
    const text = await layerOf(
      'const sum = rmsNorm(x, "norm"); { const norm = mul(sum, 2); return add(norm, x); }',
      'const norm = 3;',
    );
    expect(text).toContain('%sum = rms_norm %x');
    expect(text).toContain('%norm = mul %sum, %const');
  });

  test('ops of a library layer have the place of its call', async () => {
    const { module } = await fromText(around(`  return swiglu(x,\n    ff,\n  );`));
    const layer = module.functions.find((f) => f.name === 'layer')!;
    expect(new Set(layer.body.map((op) => showSpan(op.span)))).toEqual(new Set(['model.ts:8:10-10:4']));
  });

  test('ops of imported files have places there', async () => {
    const files = {
      'parts.ts': `import { silu, type Tensor } from 'dsvc';\nexport const act = (x: Tensor) =>\n  silu(x);`,
    };
    const { module, sourceFiles } = await fromText(
      `import { act } from './parts.ts';\n${around('  return act(x);')}`,
      { files },
    );
    const layer = module.functions.find((f) => f.name === 'layer')!;
    expect(layer.body.map((op) => showSpan(op.span))).toEqual(['parts.ts:3:3-10']);
    expect(sourceFiles.map((s) => s.name)).toEqual(['model.ts', 'parts.ts']);
  });
});
