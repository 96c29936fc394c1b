// ldmatrix, stmatrix, movmatrix, and wmma's loads, products and stores.
import { describe, expect, test } from 'vitest';
import { Random, registers, runFragments } from './testing/tensor-bench.ts';
import { fusedSum, integerSum, mmaSum, type FormatName, type SumKind } from './testing/tensor-model.ts';
import { bitsOfElement, drawCode, integerOf, isIntegerElement } from './testing/tensor-values.ts';

const lanes = Array.from({ length: 32 }, (_, l) => l);

/** Shared memory of one warp, 16-bit elements that are all different; row r of matrix m lies at a scattered place. */
const sharedBytes = 2048;
const rowAddress = (m: number, r: number): number => 0x400 + 16 * (((m * 8 + r) * 5) % 96);
const filled = (): Uint8Array =>
  new Uint8Array(Uint16Array.from({ length: sharedBytes / 2 }, (_, i) => i + 1).buffer);
const elementOf = (m: number, r: number, c: number): number => (rowAddress(m, r) - 0x400) / 2 + c + 1;

describe('ldmatrix and stmatrix', () => {
  const variants = [1, 2, 4].flatMap((count) =>
    ['', '.trans'].flatMap((t) => ['.shared', '.shared::cta', ''].map((s) => [count, t, s] as const)),
  );

  test.each(variants)('ldmatrix.x%i%s%s', (count, trans, space) => {
    // Lane 8m + r gives the address of row r of matrix m.
    const addresses = lanes.map((l) => (l < 8 * count ? rowAddress(l >> 3, l & 7) : 3));
    const address = space === '' ? 'cvta.shared.u64 %rd0, %rd0;' : '';
    const { outputs, reports } = runFragments(
      {
        threads: 32,
        inputs: 1,
        outputs: count,
        sharedBytes,
        body: `mul.wide.u32 %rd0, %i0, 1;
${address}
ldmatrix.sync.aligned.m8n8.x${count}${trans}${space}.b16 {${registers('o', 0, count)}}, [%rd0];`,
      },
      1,
      Uint32Array.from(addresses),
      filled(),
    );
    expect(reports).toEqual([]);
    const want = Array.from({ length: count }, (_, m) =>
      lanes.map((l) => {
        const [row, column] = [l >> 2, 2 * (l & 3)];
        return trans === ''
          ? elementOf(m, row, column) + elementOf(m, row, column + 1) * 0x10000
          : elementOf(m, column, row) + elementOf(m, column + 1, row) * 0x10000;
      }),
    );
    expect([...outputs]).toEqual(want.flat());
  });

  test.each(variants)('stmatrix.x%i%s%s is its inverse', (count, trans, space) => {
    const addresses = lanes.map((l) => (l < 8 * count ? rowAddress(l >> 3, l & 7) : 3));
    const values = Array.from({ length: count }, (_, m) =>
      lanes.map((l) => (m * 32 + l) * 0x20002 + 0x10000),
    );
    const address = space === '' ? 'cvta.shared.u64 %rd0, %rd0;' : '';
    const words = sharedBytes / 4 / 32;
    const { outputs, reports } = runFragments(
      {
        threads: 32,
        inputs: 1 + count,
        outputs: words,
        sharedBytes,
        body: `mul.wide.u32 %rd0, %i0, 1;
${address}
stmatrix.sync.aligned.m8n8.x${count}${trans}${space}.b16 [%rd0], {${registers('i', 1, count)}};
bar.sync 0;
mul.lo.u32 %r0, %tid, 4;
add.u32 %r0, %r0, %smem;
${Array.from({ length: words }, (_, w) => `ld.shared.b32 %o${w}, [%r0+${128 * w}];`).join('\n')}`,
      },
      1,
      Uint32Array.from([addresses, ...values].flat()),
      filled(),
    );
    expect(reports).toEqual([]);
    const want = new Uint16Array(filled().buffer);
    for (let m = 0; m < count; m++)
      for (let row = 0; row < 8; row++)
        for (let column = 0; column < 8; column++) {
          const [r, c] = trans === '' ? [row, column] : [column, row];
          const word = values[m][4 * r + (c >> 1)];
          want[(rowAddress(m, row) - 0x400) / 2 + column] =
            c % 2 === 0 ? word % 0x10000 : Math.floor(word / 0x10000);
        }
    expect([...outputs]).toEqual([...new Uint32Array(want.buffer)]);
  });

  test('a row that is not aligned to 16 bytes, or outside of shared memory, is reported with its lane', () => {
    const run = (address: number, body: string): string[] => {
      const addresses = lanes.map((l) => (l === 5 ? address : 0x400 + 16 * l));
      const { reports } = runFragments(
        { threads: 32, inputs: 1, outputs: 1, sharedBytes, body },
        1,
        Uint32Array.from(addresses),
        filled(),
      );
      return reports.map((r) => `${r.code} lane ${r.lane}`);
    };
    const load = 'ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%o0}, [%i0];';
    const store = 'stmatrix.sync.aligned.m8n8.x1.shared.b16 [%i0], {%i0};';
    expect(run(0x408, load)).toEqual(['emu/misaligned lane 5']);
    expect(run(0x408, store)).toEqual(['emu/misaligned lane 5']);
    expect(run(0x400 + sharedBytes, load)).toEqual(['emu/out-of-bounds lane 5']);
    expect(run(0x3f0, store)).toEqual(['emu/out-of-bounds lane 5']);
  });
});

test('movmatrix transposes', () => {
  const at = (row: number, column: number): number => 100 + 8 * row + column;
  const input = lanes.map((l) => at(l >> 2, 2 * (l & 3)) + at(l >> 2, 2 * (l & 3) + 1) * 0x10000);
  const { outputs } = runFragments(
    { threads: 32, inputs: 1, outputs: 1, body: 'movmatrix.sync.aligned.m8n8.trans.b16 %o0, %i0;' },
    1,
    Uint32Array.from(input),
  );
  expect([...outputs]).toEqual(
    lanes.map((l) => at(2 * (l & 3), l >> 2) + at(2 * (l & 3) + 1, l >> 2) * 0x10000),
  );
});

describe('wmma: load, multiply, store', () => {
  interface Form {
    readonly shape: readonly [number, number, number];
    readonly type: string;
    readonly d: string;
    readonly registers: readonly [a: number, b: number, d: number];
  }
  const form = (shape: Form['shape'], type: string, d: string, registers: Form['registers']): Form => ({
    shape,
    type,
    d,
    registers,
  });
  const shapes = [
    [16, 16, 16],
    [8, 32, 16],
    [32, 8, 16],
  ] as const;
  const forms: readonly Form[] = [
    ...shapes.flatMap((s) => [form(s, 'f16', 'f32', [8, 8, 8]), form(s, 'f16', 'f16', [8, 8, 4])]),
    ...shapes.map((s) => form(s, 'bf16', 'f32', [s[0] / 4, s[1] / 4, 8])),
    form([16, 16, 8], 'tf32', 'f32', [4, 4, 8]),
    ...shapes.flatMap((s) => ['s8', 'u8'].map((t) => form(s, t, 's32', [s[0] / 8, s[1] / 8, 8]))),
    form([8, 8, 32], 's4', 's32', [1, 1, 2]),
    form([8, 8, 128], 'b1', 's32', [1, 1, 2]),
  ];
  const layouts = ['row', 'col'].flatMap((a) =>
    ['row', 'col'].flatMap((b) => ['row', 'col'].map((d) => [a, b, d] as const)),
  );
  const cases = forms.flatMap((f) =>
    layouts
      .filter(([a, b]) => bitsOfElement[f.type] >= 8 || (a === 'row' && b === 'col'))
      .map(([a, b, d]) => [`m${f.shape.join('x')} ${f.type} -> ${f.d}, ${a} ${b} ${d}`, f, a, b, d] as const),
  );

  test.each(cases)('%s', (_, f, la, lb, ld) => {
    const [m, n, k] = f.shape;
    const bits = bitsOfElement[f.type];
    const dBits = f.d === 'f16' ? 16 : 32;
    const r = new Random(m * 1000 + n * 10 + k);
    const draw = (): number =>
      isIntegerElement(f.type) ? r.next() % 2 ** bits : drawCode(r, f.type as FormatName, 'alike');
    const matrix = (rows: number, columns: number, one: () => number): number[][] =>
      Array.from({ length: rows }, () => Array.from({ length: columns }, one));
    const a = matrix(m, k, draw);
    const b = matrix(k, n, draw);
    const c = matrix(m, n, () => (f.d === 's32' ? r.below(1000) : drawCode(r, f.d as FormatName, 'alike')));
    // Rows lie apart by a stride with room to spare; the parts lie at 0x000, 0x1000 and 0x2000.
    const memory = new Uint8Array(0x4000);
    const view = new DataView(memory.buffer);
    const strideOf = (layout: string, rows: number, columns: number, size: number): number =>
      (layout === 'row' ? columns : rows) + (size < 8 ? 128 : 16);
    const put = (at: number, layout: string, x: number[][], size: number): number => {
      const stride = strideOf(layout, x.length, x[0].length, size);
      for (const [row, line] of x.entries())
        for (const [column, code] of line.entries()) {
          const index = layout === 'row' ? row * stride + column : column * stride + row;
          if (size === 32) view.setUint32(at + 4 * index, code, true);
          else if (size === 16) view.setUint16(at + 2 * index, code, true);
          else memory[at + ((index * size) >> 3)] |= code << ((index * size) & 7);
        }
      return stride;
    };
    const [sa, sb, sc] = [put(0, la, a, bits), put(0x1000, lb, b, bits), put(0x2000, ld, c, dBits)];
    const [na, nb, nd] = f.registers;
    const shape = `m${m}n${n}k${k}`;
    const popc = f.type === 'b1' ? '.xor.popc' : '';
    const types = f.type === 'f16' ? `${f.d}.${f.d}` : `${f.d}.${f.type}.${f.type}.${f.d}`;
    const words = 0x1000 / 4 / 32;
    const declare = `.reg .b32 %a<${na}>, %b<${nb}>, %c<${nd}>;`;
    const { outputs, reports } = runFragments(
      {
        threads: 32,
        inputs: 0,
        outputs: words,
        sharedBytes: 0x4000,
        body: `{ ${declare}
mov.b32 %r0, ${sa}; add.u32 %r1, %smem, 0x1000; add.u32 %r2, %smem, 0x2000; add.u32 %r3, %smem, 0x3000;
wmma.load.a.sync.aligned.${la}.${shape}.shared.${f.type} {${registers('a', 0, na)}}, [%smem], %r0;
wmma.load.b.sync.aligned.${lb}.${shape}.shared.${f.type} {${registers('b', 0, nb)}}, [%r1], ${sb};
wmma.load.c.sync.aligned.${ld}.${shape}.shared.${f.d} {${registers('c', 0, nd)}}, [%r2], ${sc};
wmma.mma${popc}.sync.aligned.${la}.${lb}.${shape}.${types} {${registers('c', 0, nd)}}, {${registers('a', 0, na)}}, {${registers('b', 0, nb)}}, {${registers('c', 0, nd)}};
wmma.store.d.sync.aligned.${ld}.${shape}.shared.${f.d} [%r3], {${registers('c', 0, nd)}}, ${sc};
bar.sync 0;
mul.lo.u32 %r4, %tid, 4;
add.u32 %r4, %r4, %r3;
${Array.from({ length: words }, (_, w) => `ld.shared.b32 %o${w}, [%r4+${128 * w}];`).join('\n')} }`,
      },
      1,
      new Uint32Array(0),
      memory,
    );
    expect(reports).toEqual([]);
    const result = new DataView(Uint32Array.from(outputs as Uint32Array).buffer);
    const got = matrix(m, n, () => 0).map((line, row) =>
      line.map((_, column) => {
        const index = ld === 'row' ? row * sc + column : column * sc + row;
        return dBits === 32 ? result.getUint32(4 * index, true) : result.getUint16(2 * index, true);
      }),
    );
    const want = c.map((line, row) =>
      line.map((start, column) => {
        const y = b.map((x) => x[column]);
        if (f.type === 'b1') return start + a[row].reduce((s, x, i) => s + (x ^ y[i]), 0);
        if (f.d === 's32')
          return integerSum(
            a[row].map((x) => integerOf(f.type, x)),
            y.map((x) => integerOf(f.type, x)),
            start,
            false,
          );
        const d = f.d as SumKind;
        return fusedSum(mmaSum(f.type as FormatName, f.type as FormatName, d, d), a[row], y, start);
      }),
    );
    expect(got).toEqual(want);
  });

  test('default strides are the dense ones; f64 has its own fragments', () => {
    const f64 = Array.from({ length: 32 + 32 + 64 }, (_, i) => (i * 7) % 23);
    const memory = new Uint8Array(2048);
    memory.set(new Uint8Array(Float64Array.from(f64).buffer));
    const { outputs, reports } = runFragments(
      {
        threads: 32,
        inputs: 0,
        outputs: 2,
        wide: true,
        sharedBytes: 2048,
        body: `{ .reg .f64 %a, %b, %c<2>;
wmma.load.a.sync.aligned.row.m8n8k4.shared.f64 {%a}, [%smem];
wmma.load.b.sync.aligned.col.m8n8k4.shared.f64 {%b}, [%smem+256];
wmma.load.c.sync.aligned.row.m8n8k4.shared.f64 {%c0, %c1}, [%smem+512];
wmma.mma.sync.aligned.row.col.m8n8k4.f64.f64.f64.f64 {%c0, %c1}, {%a}, {%b}, {%c0, %c1};
wmma.store.d.sync.aligned.row.m8n8k4.shared.f64 [%smem+1024], {%c0, %c1};
bar.sync 0;
mul.lo.u32 %r0, %tid, 16;
add.u32 %r0, %r0, %smem;
ld.shared.v2.b64 {%o0, %o1}, [%r0+1024]; }`,
      },
      1,
      new BigUint64Array(0),
      memory,
    );
    expect(reports).toEqual([]);
    const got = new Float64Array(BigUint64Array.from(outputs as BigUint64Array).buffer);
    for (let l = 0; l < 32; l++)
      for (let e = 0; e < 2; e++) {
        const [row, column] = [l >> 2, 2 * (l & 3) + e];
        let sum = f64[64 + row * 8 + column];
        for (let i = 0; i < 4; i++) sum += f64[row * 4 + i] * f64[32 + column * 4 + i];
        expect(got[e * 32 + l], `${row}, ${column}`).toBe(sum);
      }
  });
});
