import { expect, test } from 'vitest';
import type { Kernel } from './builder.ts';
import { ptxModule } from './module.ts';
import { at, not, pair, sink, special, tensorAt, type Reg } from './operands.ts';

/** Builds a kernel and gives the printed module. */
const build = (body: (k: Kernel) => void, target?: string): string => {
  const m = ptxModule(target);
  m.kernel('test', { threads: 32 }, body);
  return m.toString();
};
/** Only the instructions, labels and comments. */
const bodyOf = (text: string): string[] =>
  text
    .slice(text.indexOf('\n\n', text.indexOf('{')) + 2, text.lastIndexOf('}'))
    .trimEnd()
    .split('\n')
    .map((l) => l.trim());
const lines = (body: (k: Kernel) => void): string[] => bodyOf(build(body));

test('prints a whole module', () => {
  const m = ptxModule();
  m.kernel('scale', { threads: 128, maxRegisters: 32, minCtasPerSm: 2 }, (k) => {
    k.comment('y = a·x');
    const x = k.pointer('x');
    const a = k.reg('f32');
    const t = k.reg('f32', 'value');
    const p = k.reg('pred');
    const i = k.reg('u32', 'i');
    const place = k.reg('u64');
    const n = k.param('n', 'u32');
    const factor = k.param('a', 'f32');
    const count = k.reg('u32');
    k.ld.param.u32(count, n);
    k.ld.param.f32(a, factor);
    k.mov.u32(i, special.tidX);
    k.setp.lt.u32(p, i, count);
    k.at({ file: 'model.ts', line: 14, column: 13 });
    k.branch(p, 'inside', () => {
      k.mad.wide.u32(place, i, 4, x);
      k.ld.global.f32(t, place);
      k.mul.f32(t, t, a);
      k.st.global.f32(at(place), t);
    });
    k.at({ file: '', line: 0, column: 0 });
    k.ret();
  });
  expect(m.toString()).toBe(`.version 8.0
.target sm_90a
.address_size 64

.file 1 "model.ts"

.visible .entry scale(
  .param .u64 scale_x,
  .param .u32 scale_n,
  .param .f32 scale_a
)
.reqntid 128, 1, 1
.maxnreg 32
.minnctapersm 2
{
  .reg .u64 %rd<2>;
  .reg .u64 %x<1>;
  .reg .f32 %f<1>;
  .reg .f32 %value<1>;
  .reg .pred %p<1>;
  .reg .u32 %i<1>;
  .reg .u32 %r<1>;

  // y = a·x
  ld.param.u64 %rd0, [scale_x];
  cvta.to.global.u64 %x0, %rd0;
  ld.param.u32 %r0, [scale_n];
  ld.param.f32 %f0, [scale_a];
  mov.u32 %i0, %tid.x;
  setp.lt.u32 %p0, %i0, %r0;
  .loc 1 14 13
  @!%p0 bra $inside_skip;
  mad.wide.u32 %rd1, %i0, 4, %x0;
  ld.global.f32 %value0, [%rd1];
  mul.f32 %value0, %value0, %f0;
  st.global.f32 [%rd1], %value0;
$inside_skip:
  ret;
}
`);
});

test('operands print as PTX writes them', () => {
  expect(
    lines((k) => {
      const f = k.regs('f32', 4);
      const b = k.regs('b32', 2);
      const h = k.reg('b16');
      const p = k.reg('pred');
      const shared = k.reg('u32');
      const map = k.reg('u64');
      const wide = k.reg('b64');
      k.fma.rn.f32(f[0]!, f[1]!, -0.5, f[2]!);
      k.ld.shared.v4.f32(f, at(shared, -16));
      k.cvt.rn.satfinite.e4m3x2.f32(h, f[1]!, f[0]!);
      k.mov.b64(wide, b);
      k.mov.b64(b, wide);
      k.elect.sync(pair(sink, p), 0xffffffff);
      k.vote.sync.all.pred(p, not(p), -1);
      k.cp.async.bulk.tensor._2d.global.shared_cta.bulk_group(tensorAt(map, [shared, 8]), shared);
      k.when(p, () => k.add.s32(shared, shared, -1));
      k.add.u64(map, map, 2n ** 40n);
    }),
  ).toEqual([
    'fma.rn.f32 %f0, %f1, 0fBF000000, %f2;',
    'ld.shared.v4.f32 {%f0, %f1, %f2, %f3}, [%r0+-16];',
    'cvt.rn.satfinite.e4m3x2.f32 %h0, %f1, %f0;',
    'mov.b64 %bd0, {%b0, %b1};',
    'mov.b64 {%b0, %b1}, %bd0;',
    'elect.sync _|%p0, 4294967295;',
    'vote.sync.all.pred %p0, !%p0, -1;',
    'cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd0, {%r0, 8}], [%r0];',
    '@%p0 add.s32 %r0, %r0, -1;',
    'add.u64 %rd0, %rd0, 1099511627776;',
  ]);
});

test('loops, predicates and labels', () => {
  expect(
    lines((k) => {
      const i = k.reg('u32');
      const p = k.reg('pred');
      k.loop('rows', ({ done }) => {
        k.setp.ge.u32(p, i, 8);
        k.when(p, () => k.bra(done));
        k.add.u32(i, i, 1);
      });
      k.loop('rows', ({ done }) => k.bra.uni(done));
    }),
  ).toEqual([
    '$rows:',
    'setp.ge.u32 %p0, %r0, 8;',
    '@%p0 bra $rows_done;',
    'add.u32 %r0, %r0, 1;',
    'bra $rows;',
    '$rows_done:',
    '$rows_1:',
    'bra.uni $rows_done_1;',
    'bra $rows_1;',
    '$rows_done_1:',
  ]);
});

// Types stop most of these in the editor: each needs its ts-expect-error, so the file also tests the types.
// prettier-ignore
test.each<[string, string, (k: Kernel, f: Reg<'f32'>, u: Reg<'u32'>) => void]>([
  // @ts-expect-error an integer register
  ['an integer register as f32', 'operand 3 (b:T): %r0 (a u32 register) is not a register of f32', (k, f, u) => k.add.f32(f, f, u)],
  // @ts-expect-error a float
  ['a float address', 'is not a register of 64 bits', (k, f) => k.ld.global.f32(f, f)],
  // @ts-expect-error a narrow address
  ['a 32-bit global address', '64 bits, as global addresses need', (k, f, u) => k.ld.global.f32(f, u)],
  // @ts-expect-error one operand short
  ['too few operands', 'takes 3 operands (d:T a:T b:T), not 2', (k, f) => k.add.f32(f, f)],
  // @ts-expect-error an immediate cannot be written
  ['an immediate as result', '1 is not a register of f32', (k, f) => k.add.f32(1, f, f)],
  ['an integer that does not fit', '4294967296 does not fit u32', (k, _, u) => k.add.u32(u, u, 2 ** 32)],
  ['half a register count', 'in 24..256, in steps of 8', (k) => k.setmaxnreg.inc.sync.aligned.u32(20)],
  ['a short vector', 'the vector has 1 registers, not 4', (k, f, u) => k.ld.shared.v4.f32([f], u)],
  ['a missing coordinate', '1 coordinates for a 2d tensor', (k, _, u) => k.cp.async.bulk.prefetch.tensor._2d.L2.global(tensorAt(k.reg('u64'), [u]))],
  ['a word that is no modifier', 'no instruction add.f33', (k, f) => k.emit('add', ['f33'], [f, f, f])],
  ['nested predicates', 'predicates do not nest', (k, f) => { const p = k.reg('pred'); k.when(p, () => k.when(p, () => k.mov.f32(f, 0))); }],
  ['two classes under one name', 'registers %x are f32, not u32', (k) => { k.reg('f32', 'x'); k.reg('u32', 'x'); }],
  ['a branch to nowhere', 'label $lost stands nowhere', (k) => k.bra(k.label('lost'))],
])('refuses %s', (_, message, body) => {
  const text = (): string => build((k) => body(k, k.reg('f32'), k.reg('u32')));
  expect(text).toThrow(message);
});

test('wgmma: the accumulator count follows the shape', () => {
  build((k) => {
    const [a, b] = k.regs('b64', 2) as [Reg<'b64'>, Reg<'b64'>];
    const p = k.reg('pred');
    const mma = k.wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3;
    mma(k.regs('f32', 32), a, b, p, 1, 1);
    expect(() => mma(k.regs('f32', 16), a, b, p, 1, 1)).toThrow('the vector has 16 registers, not 32');
    // @ts-expect-error FP8 operands cannot be transposed
    expect(() => mma(k.regs('f32', 32), a, b, p, 1, 1, 0, 0)).toThrow('operands');
  });
});

test('the module takes the lowest version that has everything, and refuses what the target lacks', () => {
  expect(build((k) => k.griddepcontrol.wait())).toContain('.version 8.0\n');
  const newer = build((k) => k.red.global.add.v2.f32(k.reg('u64'), k.regs('f32', 2)));
  expect(newer).toContain('.version 8.1\n');
  expect(() => build((k) => k.setmaxnreg.dec.sync.aligned.u32(40), 'sm_90')).toThrow('needs sm_90a');
});

test('two kernels of one module share files but not names', () => {
  const m = ptxModule();
  for (const name of ['first', 'second'])
    m.kernel(name, { threads: 32 }, (k) => {
      k.at({ file: `${name}.ts`, line: 1, column: 1 });
      k.ret();
    });
  expect(m.toString()).toMatch(/\.file 1 "first\.ts"\n\.file 2 "second\.ts"[^]*\.loc 1 1 1[^]*\.loc 2 1 1/);
  expect(() => m.kernel('first', { threads: 32 }, () => {})).toThrow('two kernels are called first');
});

test('a negative offset is spelled as ptxas reads it', () =>
  expect(build((k) => k.ld.global.f32(k.reg('f32', 'f'), at(k.reg('u64', 'a'), -32)))).toMatch(
    /ld\.global\.f32 %f\d*, \[%a\d*\+-32\];/,
  ));
