// Kernels of random instructions from the instruction table: every family comes, with operands that are of the right
// kind and otherwise anything. Most of what they do makes no sense, which is the point.
import { accumulatorRegisters } from '../../../backends/ptx/check.ts';
import { FormIndex, type Form, type OperandSpec } from '../../../backends/ptx/form.ts';
import { instructions } from '../../../backends/ptx/instructions.ts';
import type { Choices } from '../random.ts';

const index = new FormIndex(instructions);
const opcodes = Object.keys(instructions);

/** Bits of a type, from its name; predicates have 1. */
const bitsOf = (type: string): number => {
  if (type === 'pred') return 1;
  if (/x2$/.test(type)) return /e[45]m/.test(type) ? 16 : 32;
  if (type === 'tf32') return 32;
  return Number(/\d+$/.exec(type)?.[0] ?? 32);
};
const register = (bits: number, n: number): string =>
  bits === 1 ? `%p${n % 8}` : bits <= 16 ? `%h${n % 16}` : bits <= 32 ? `%r${n % 200}` : `%rd${n % 16}`;

/** Addresses that the prologue makes: %r0 to %r3 in shared memory, %rd0 to %rd3 in global memory. */
function addressIn(space: string, c: Choices): string {
  const offset = c.pick(['', '', '+4', '+16', '+64', '+-8', '+4096', '+1']);
  if (space.startsWith('shared')) return `[%r${c.below(4)}${offset}]`;
  if (space === 'param') return '[x]';
  if (space === 'const') return `[table${c.pick(['', '+4', '+16'])}]`;
  if (space === 'local') return `[stack${c.pick(['', '+4', '+16'])}]`;
  return `[%rd${c.below(4)}${offset}]`;
}

function operand(spec: OperandSpec, bindings: Readonly<Record<string, string>>, c: Choices): string {
  const bound = (i: number): string => bindings[spec.args[i]] ?? spec.args[i] ?? '';
  const written = spec.role === 'd' || spec.role === 'x';
  const of = (type: string): string => register(bitsOf(type), (written ? 4 : 0) + c.below(written ? 8 : 12));
  const list = (n: number, type: string): string => {
    const first = c.below(8);
    return `{${Array.from({ length: n }, (_, i) => register(bitsOf(type), first + i)).join(', ')}}`;
  };
  const type = bindings[spec.kind] ?? spec.kind;
  switch (spec.kind) {
    case 'reg':
    case 'any':
    case 'loose':
      return of(bound(0));
    case 'wide':
      return register(2 * bitsOf(bound(0)), 4 + c.below(8));
    case 'vec':
    case 'pack':
      return list(Number(bound(0).replace('v', '')), bound(1));
    case 'frag':
      return list(Number(spec.args[0]), 'b32');
    case 'acc':
      return list(accumulatorRegisters(bound(0), bound(1)), 'b32');
    case 'pair':
    case 'sinkable':
      return `${of(bound(0))}|${of(bound(1))}`;
    case 'npred':
      return `${c.chance(0.5) ? '!' : ''}%p${c.below(8)}`;
    case 'flag':
      return `%p${c.below(8)}`;
    case 'desc':
      return `%rd${4 + c.below(4)}`;
    case 'addr':
      return addressIn(bound(0), c);
    case 'tensor':
      return `[%rd${c.pick([0, 1, 8])}, {${Array.from({ length: Number(bound(0)[0]) }, () => `%r${c.below(12)}`).join(', ')}}]`;
    case 'int': {
      const [low, high, step = 1] = spec.args.map(Number);
      return String(low + step * c.below(Math.floor((high - low) / step) + 1));
    }
    case 'sign':
      return c.pick(['1', '-1']);
    case 'label':
      return 'NEXT';
    case '_':
      return '_';
    default: {
      if (written || type === 'pred' || bitsOf(type) < 32 || c.chance(0.7)) return of(type);
      if (/^f(32|64)$/.test(type)) return c.pick(['1.0', '-0.0', '0f7F800000', '0f7FC00000', '3.5']);
      return c.pick(['0', '1', '7', '31', '32', '-1', '255', '65536', '0x7fffffff', '0xffffffff']);
    }
  }
}

function spelling(form: Form, c: Choices): string[] {
  return form.modifiers.flatMap((s) => (s.optional && c.chance(0.5) ? [] : [c.pick(s.alternatives)]));
}

/** One random instruction, with a guard now and then. */
function instruction(c: Choices): string {
  const opcode = c.pick(opcodes);
  const form = c.pick(index.forms(opcode));
  const modifiers = spelling(form, c);
  const match = index.matches(opcode, modifiers).find((m) => m.form === form);
  if (!match) return '';
  const least = form.operands.filter((s) => !s.optional).length;
  const count = least + c.below(form.operands.length - least + 1);
  const operands = form.operands.slice(0, count).map((s) => operand(s, match.bindings, c));
  const guard = c.chance(0.15) ? `@${c.chance(0.5) ? '!' : ''}%p${c.below(8)} ` : '';
  return `${guard}${[opcode, ...modifiers].join('.')} ${operands.join(', ')};`;
}

/** A module with one kernel of `count` random instructions. */
export function randomKernel(c: Choices, count: number): string {
  const body = Array.from({ length: count }, () => {
    const text = instruction(c);
    // A branch goes to the instruction after it, so that it may stand anywhere.
    return text.includes('NEXT') ? `{ ${text}\nNEXT: }` : text;
  });
  return `.version 8.6
.target sm_90a
.address_size 64
.const .align 16 .b8 table[64] = {1, 2, 3, 4};
.visible .entry k(.param .u64 x, .param .u64 y, .param .u32 n, .param .align 64 .b8 map[128])
.reqntid 128, 1, 1
{
.reg .pred %p<8>;
.reg .b16 %h<16>;
.reg .b32 %r<200>;
.reg .b64 %rd<16>;
.local .align 16 .b8 stack[64];
.shared .align 1024 .b8 space[8192];
ld.param.u64 %rd0, [x];
ld.param.u64 %rd1, [y];
cvta.to.global.u64 %rd2, %rd0;
mov.u64 %rd8, map;
mov.u64 %rd3, %rd1;
mov.u32 %r0, space;
add.u32 %r1, %r0, 1024;
add.u32 %r2, %r0, 2048;
add.u32 %r3, %r0, 4096;
mov.u32 %r4, %tid.x;
mov.u32 %r5, 0xffffffff;
ld.param.u32 %r6, [n];
shl.b32 %r7, %r4, 2;
cvt.u64.u32 %rd4, %r0;
shr.u64 %rd4, %rd4, 4;
or.b64 %rd4, %rd4, 0x4000004000010000;
setp.lt.u32 %p0, %r4, 16;
setp.eq.u32 %p1, %r4, %r4;
setp.eq.u32 %p2, %r4, 0;
@%p2 mbarrier.init.shared.b64 [%r3], 1;
fence.mbarrier_init.release.cluster;
bar.sync 0;
${body.join('\n')}
bar.sync 0;
ret;
}
`;
}
