import { expect, test } from 'vitest';
import { renderDiagnostic } from '../../ir/diagnostics.ts';
import type { Report } from '../../runtime/emulator/device.ts';
import { parseLaunchFile } from '../../runtime/emulator/launch-file.ts';
import { LaunchError } from '../../runtime/emulator/launch-problem.ts';
import { launchDiagnostic, refusalDiagnostic, reportDiagnostic } from './emu-diagnostics.ts';

const ptx = ['.version 8.0', '', '  st.shared.u32 [%a], %b;  // write', '\tld.shared.u32 %c, [%a];'].join(
  '\n',
);
const model = 'const a = 1;\nconst y = softmax(x);\n';
const sourceOf = (file: string): string | undefined => ({ 'k.ptx': ptx, 'model.ts': model })[file];

const race: Report = {
  code: 'emu/shared-race',
  severity: 'error',
  message: 'a read of 4 bytes at shared offset 0x400 races with a write',
  fix: 'put a bar.sync between them',
  count: 128,
  kernel: 'k',
  block: [1, 0, 2],
  warp: 3,
  lane: 7,
  ptxLine: 4,
  ptxColumn: 2,
  locFile: 'model.ts',
  locLine: 2,
  locColumn: 11,
  what: '',
  others: [
    {
      kernel: 'k',
      block: [1, 0, 2],
      warp: 0,
      lane: -1,
      ptxLine: 3,
      ptxColumn: 3,
      locFile: 'model.ts',
      locLine: 1,
      locColumn: 0,
      what: 'st.shared of 4 bytes',
    },
  ],
};

test('a report stands at its PTX line, with who, where in the source, and the other access', () => {
  expect(renderDiagnostic(reportDiagnostic('k.ptx', ptx)(race), { sourceOf })).toMatchInlineSnapshot(`
    "error[emu/shared-race]: a read of 4 bytes at shared offset 0x400 races with a write
      --> k.ptx:4:2
    4 |  ld.shared.u32 %c, [%a];
         ^^^^^^^^^^^^^^^^^^^^^^^
    note: kernel k, block (1, 0, 2), warp 3, lane 7; 128 times in all
    note: from this line (model.ts:2:11)
    note: st.shared of 4 bytes: block (1, 0, 2), warp 0 (k.ptx:3:3)
    note: from this line (model.ts:1:1)
    fix: put a bar.sync between them"
  `);
});

test('a report of no lane, no line and no source', () => {
  const bare = { ...race, warp: -1, lane: -1, ptxLine: 0, locFile: '', count: 1, others: [], fix: '' };
  expect(renderDiagnostic(reportDiagnostic('k.ptx', ptx)(bare), { sourceOf })).toMatchInlineSnapshot(`
    "error[emu/shared-race]: a read of 4 bytes at shared offset 0x400 races with a write
    note: kernel k, block (1, 0, 2)"
  `);
});

test('a line beyond the file does not break the message', () => {
  const { at } = reportDiagnostic('k.ptx', ptx)({ ...race, ptxLine: 99 });
  expect(at).toEqual({ file: 'k.ptx', line: 99, column: 2, endLine: 99, endColumn: 3 });
});

test('a problem of a launch file stands at its characters', () => {
  const text = '{\n  "kernel": "k",\n  "grid": [1, 0, 1],\n  "block": [1, 1, 1], "outputs": []\n}\n';
  try {
    parseLaunchFile(text);
    expect.unreachable();
  } catch (error) {
    const [d] = (error as LaunchError).problems.map(launchDiagnostic('launch.json', text));
    expect(renderDiagnostic(d, { sourceOf: () => text })).toMatchInlineSnapshot(`
      "error[launch/range]: grid[1] is 0
        --> launch.json:3:15
      3 |   "grid": [1, 0, 1],
                        ^
      fix: write a whole number from 1 to 2147483647"
    `);
  }
});

test('an instruction that the core refuses', () => {
  const error = Object.assign(new Error('tex.1d: no textures'), {
    code: 'emu/unsupported-instruction',
    line: 3,
    column: 3,
  });
  expect(renderDiagnostic(refusalDiagnostic('k.ptx', ptx, error), { sourceOf })).toMatchInlineSnapshot(`
    "error[emu/unsupported-instruction]: tex.1d: no textures
      --> k.ptx:3:3
    3 |   st.shared.u32 [%a], %b;  // write
          ^^^^^^^^^^^^^^^^^^^^^^^
    fix: the emulator does not execute this instruction: use another, or leave out the kernel that has it"
  `);
});
