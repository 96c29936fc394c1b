// Wrong sizes, costs, texts and combinations of flags of `dsvc schedule`.
import { makeSchedule } from '../../../compiler/schedule/make.ts';
import { printModule } from '../../../ir/text/printer.ts';
import { smallModel } from '../small.ts';
import type { BadInput } from './case.ts';

const sizes = ['--ranks', '8', '--micro-batches', '20'];

/** The text of a small 1F1B schedule, changed as by hand. Throws when there is nothing to change. */
function edited(change: (text: string) => string): string {
  const schedule = makeSchedule('1f1b', { ranks: 2, microBatches: 2 });
  const empty = { attributes: {}, dims: [], states: [], functions: [] };
  const text = printModule({ name: 'edited', ...empty, schedules: [schedule] });
  const changed = change(text);
  if (changed === text) throw new Error('the edit found nothing to change');
  return changed;
}

/** Puts a mistake into a rank: `from` is looked for after its header. */
const inRank = (rank: number, from: string, to: string) => (text: string) => {
  const at = text.indexOf(`rank ${rank} stages`);
  return text.slice(0, at) + text.slice(at).replace(from, to);
};

const twoSchedules = edited((text) => {
  const body = text.slice(text.indexOf('  schedule @train'), text.lastIndexOf('}'));
  return text.replace(/}\n$/, `\n${body.replace('@train', '@other')}}\n`);
});

const costs = (phases: object): string =>
  JSON.stringify({ unit: 'us', source: 'none', launchGap: 0, transfer: 0, phases });

export const scheduleCases: readonly BadInput[] = [
  {
    name: 'odd ranks',
    args: ['schedule', '--ranks', '7', '--micro-batches', '20'],
    codes: ['schedule/bad-size'],
    exit: 1,
  },
  {
    name: 'too few micro-batches',
    args: ['schedule', '--ranks', '8', '--micro-batches', '14'],
    codes: ['schedule/bad-size'],
    exit: 1,
  },
  {
    name: 'odd micro-batches',
    args: ['schedule', '--ranks', '8', '--micro-batches', '21'],
    codes: ['schedule/bad-size'],
    exit: 1,
  },
  {
    name: 'too few micro-batches for a V',
    args: ['schedule', '--kind', 'dualpipev', '--ranks', '8', '--micro-batches', '10'],
    codes: ['schedule/bad-size'],
    exit: 1,
  },
  {
    name: 'unknown kind',
    args: ['schedule', '--kind', 'dualpip', ...sizes],
    codes: ['usage/invalid-value'],
    exit: 2,
  },
  { name: 'no sizes', args: ['schedule'], codes: ['usage/missing-flag'], exit: 2 },
  {
    name: 'no micro-batches',
    args: ['schedule', '--ranks', '8'],
    codes: ['usage/missing-flag'],
    exit: 2,
  },
  {
    name: 'ranks that are no number',
    args: ['schedule', '--ranks', '0', '--micro-batches', '2'],
    codes: ['usage/invalid-value'],
    exit: 2,
  },
  {
    name: 'a cost that is no number',
    args: ['schedule', ...sizes, '--cost', 'F=1,B=two'],
    codes: ['schedule/bad-cost'],
    exit: 2,
  },
  {
    name: 'a cost of nothing known',
    args: ['schedule', ...sizes, '--cost', 'G=1'],
    codes: ['schedule/bad-cost'],
    exit: 2,
  },
  {
    name: 'unknown transfers',
    args: ['schedule', ...sizes, '--transfer', 'asynchronous'],
    codes: ['usage/invalid-value'],
    exit: 2,
  },
  {
    name: 'unknown format of a schedule',
    args: ['schedule', ...sizes, '--format', 'png'],
    codes: ['usage/invalid-value'],
    exit: 2,
  },
  {
    name: 'both kinds of costs',
    args: ['schedule', ...sizes, '--cost', 'F=1', '--costs', 'c.json'],
    codes: ['usage/conflict'],
    exit: 2,
  },
  {
    name: 'no file of costs',
    args: ['schedule', ...sizes, '--costs', 'c.json'],
    codes: ['file/not-found'],
    exit: 1,
  },
  {
    name: 'costs that are no JSON',
    files: { 'c.json': '' },
    args: ['schedule', ...sizes, '--costs', 'c.json'],
    codes: ['schedule/bad-costs'],
    exit: 1,
  },
  {
    name: 'costs of the wrong form',
    files: { 'c.json': costs({ attention: { busy: -1, kernels: 1 } }) },
    args: ['schedule', ...sizes, '--costs', 'c.json'],
    codes: ['schedule/bad-costs'],
    exit: 1,
  },
  {
    name: 'costs that lack a phase',
    files: { 'c.json': costs({ 'attention(F)': { busy: 1, kernels: 1 } }) },
    args: ['schedule', ...sizes, '--costs', 'c.json'],
    codes: ['schedule/no-cost'],
    exit: 1,
  },
  {
    name: 'trace of too many phases',
    files: { 'c.json': costs({ 'attention(F)': { busy: 1, kernels: 1 } }) },
    args: 'schedule --ranks 64 --micro-batches 600 --costs c.json --format trace'.split(' '),
    codes: ['schedule/trace-too-long'],
    exit: 1,
  },
  {
    name: 'picture into a folder that is not there',
    args: ['schedule', ...sizes, '--format', 'svg', '-o', 'none/x.svg'],
    codes: ['file/not-found'],
    exit: 1,
  },
  {
    name: 'picture over a folder',
    files: { 'out/': '' },
    args: ['schedule', ...sizes, '--format', 'svg', '-o', 'out'],
    codes: ['file/not-a-file'],
    exit: 1,
  },
  {
    name: 'schedule over its input',
    files: { 'x.dsir': 'dsir 1\n' },
    args: ['schedule', 'x.dsir', '-o', 'x.dsir'],
    codes: ['usage/output-is-input'],
    exit: 2,
  },
  {
    name: 'schedule over its costs',
    files: { 'c.json': '{}' },
    args: ['schedule', ...sizes, '--costs', 'c.json', '-o', './c.json'],
    codes: ['usage/output-is-input'],
    exit: 2,
  },
  {
    name: 'sizes for a schedule that is there',
    files: { 'x.dsir': edited((t) => `// ${t}`) },
    args: ['schedule', 'x.dsir', '--ranks', '4'],
    codes: ['usage/conflict'],
    exit: 2,
  },
  {
    name: 'settings without a model',
    args: ['schedule', ...sizes, '--set', 'layers=4'],
    codes: ['usage/conflict'],
    exit: 2,
  },
  {
    name: 'model without a pipeline',
    files: { 'm.ts': smallModel },
    args: ['schedule', 'm.ts'],
    codes: ['schedule/no-pipeline'],
    exit: 1,
  },
  { name: 'check of nothing', args: ['schedule', '--check'], codes: ['usage/missing-argument'], exit: 2 },
  {
    name: 'check of a model file',
    files: { 'm.ts': smallModel },
    args: ['schedule', '--check', 'm.ts'],
    codes: ['usage/missing-argument'],
    exit: 2,
  },
  {
    name: 'check with a format',
    args: ['schedule', '--check', 'x.dsir', '--format', 'json'],
    codes: ['usage/conflict'],
    exit: 2,
  },
  { name: 'check of no file', args: ['schedule', '--check', 'x.dsir'], codes: ['file/not-found'], exit: 1 },
  {
    name: 'check of IR without a schedule',
    files: { 'x.dsir': 'dsir 1\nmodule @empty {\n}\n' },
    args: ['schedule', '--check', 'x.dsir'],
    codes: ['schedule/none'],
    exit: 1,
  },
  {
    name: 'several schedules to draw',
    files: { 'x.dsir': twoSchedules },
    args: ['schedule', 'x.dsir', '--format', 'svg'],
    codes: ['schedule/several'],
    exit: 1,
  },
  {
    name: 'schedule with a dropped operation',
    files: { 'x.dsir': edited(inRank(1, '      forward d0 m1\n', '')) },
    args: ['schedule', '--check', 'x.dsir'],
    codes: ['schedule/missing-op'],
    at: ['x.dsir:35:7', 'rank 1: forward d0 m1'],
    exit: 1,
  },
  {
    name: 'schedule with a transfer of another micro-batch',
    files: { 'x.dsir': edited(inRank(0, 'send activations d0 m0 -> 1', 'send activations d0 m1 -> 1')) },
    args: ['schedule', '--check', 'x.dsir'],
    codes: ['schedule/duplicate-transfer', 'schedule/missing-send', 'schedule/early-send'],
    at: ['x.dsir:22:7', 'x.dsir:23:7', 'x.dsir:25:7', 'rank 0: forward d0 m0'],
    exit: 1,
  },
  {
    name: 'schedule that does not read',
    files: { 'x.dsir': edited(inRank(0, 'forward d0 m0', 'forwards d0 m0')) },
    args: ['schedule', '--check', 'x.dsir'],
    codes: ['ir/syntax'],
    at: ['x.dsir:22:7'],
    exit: 1,
  },
  {
    name: 'pair without costs',
    args: ['schedule', '--pair'],
    codes: ['usage/missing-flag'],
    exit: 2,
  },
  {
    name: 'pair of a schedule',
    args: ['schedule', '--pair', '--costs', 'c.json', '--ranks', '8'],
    codes: ['usage/conflict'],
    exit: 2,
  },
  {
    name: 'pair as a picture',
    args: ['schedule', '--pair', '--costs', 'c.json', '--format', 'svg'],
    codes: ['usage/conflict'],
    exit: 2,
  },
  {
    name: 'pair and check',
    args: ['schedule', '--pair', '--check', 'x.dsir'],
    codes: ['usage/conflict'],
    exit: 2,
  },
  {
    name: 'layers without a pair',
    args: ['schedule', ...sizes, '--layers', '4'],
    codes: ['usage/conflict'],
    exit: 2,
  },
];
