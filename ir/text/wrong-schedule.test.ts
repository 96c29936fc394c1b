// Wrong texts of schedules and what is said about them, as wrong.test.ts does for the rest of a module.
import { expect, test } from 'vitest';
import { renderDiagnostic } from '../diagnostics.ts';
import { parseModule } from './index.ts';

const attributes =
  '{kind = "dualpipe", micro_batches = 4, compute_sms = 112, comm_sms = 20, live_activations = 3, live_stages = 2}';
const inModule = (lines: string): string => `dsir 1\nmodule @m {\n${lines.replace(/^(?=.)/gm, '  ')}\n}\n`;
const inSchedule = (lines: string): string =>
  inModule(`schedule @train ${attributes} {\n${lines.replace(/^(?=.)/gm, '  ')}\n}`);
const inOrder = (lines: string): string =>
  inSchedule(
    `layer moe = attention + weights\norder backward moe {\n${lines.replace(/^(?=.)/gm, '  ')}\n}\nrank 0 stages [] {\n}`,
  );
const inRank = (lines: string): string =>
  inSchedule(`stage 0 =\nrank 0 stages [0] {\n${lines.replace(/^(?=.)/gm, '  ')}\n}`);

const wrongTexts: Readonly<Record<string, string>> = {
  // Headers.
  'a schedule without attributes': inModule('schedule @train {\n}'),
  'a schedule without some attributes': inModule(
    'schedule @train {kind = "1f1b", micro_batches = 4, compute_sms = 112, comm_sms = 20} {\n}',
  ),
  'a misspelled attribute': inModule(`schedule @train ${attributes.replace('comm_sms', 'com_sms')} {\n}`),
  'an unknown attribute': inModule(`schedule @train ${attributes.replace('{', '{color = red, ')} {\n}`),
  'an attribute twice': inModule(`schedule @train ${attributes.replace('}', ', comm_sms = 4}')} {\n}`),
  'a fraction of micro-batches': inModule(`schedule @train ${attributes.replace('= 4', '= 4.5')} {\n}`),
  'negative SMs': inModule(`schedule @train ${attributes.replace('= 20', '= -20')} {\n}`),
  'a number as kind': inModule(`schedule @train ${attributes.replace('"dualpipe"', '1')} {\n}`),
  'a kind without quotes': inModule(`schedule @train ${attributes.replace('"dualpipe"', '1f1b')} {\n}`),
  'a schedule without a name': inModule(`schedule train ${attributes} {\n}`),
  'a schedule twice': inModule(`schedule @train ${attributes} {\n}\n\nschedule @train ${attributes} {\n}`),
  // Sections and ends.
  'a function after a schedule': inModule(
    `schedule @train ${attributes} {\n}\nblock @f() -> () {\n  return\n}`,
  ),
  'a schedule inside a function': inModule(`block @f() -> () {\nschedule @train ${attributes} {\n}\n`),
  'a function inside a schedule': inModule(
    `schedule @train ${attributes} {\n  rank 0 stages [] {\nblock @f() -> () {\n  return\n}`,
  ),
  'a schedule that does not end': `dsir 1\nmodule @m {\n  schedule @train ${attributes} {\n    stage 0 =\n`,
  'a rank that does not end': `dsir 1\nmodule @m {\n  schedule @train ${attributes} {\n    rank 0 stages [0] {\n      commit\n`,
  'a rank inside a rank': inSchedule('rank 0 stages [] {\n  commit\nrank 1 stages [] {\n}'),
  'an order inside an order': inSchedule(
    'order forward moe {\n  compute attention(F)\norder weights moe {\n}',
  ),
  'a layer after a stage': inSchedule('stage 0 =\nlayer moe = attention'),
  'an order after a rank': inSchedule('rank 0 stages [] {\n}\norder forward moe {\n}'),
  'an op outside of a rank': inSchedule('forward d0 m0'),
  'a misspelled part': inSchedule('stge 0 = moe'),
  'something after an end': inSchedule('rank 0 stages [] {\n} commit'),
  // Layers, stages and orders.
  'a layer without phases': inSchedule('layer moe ='),
  'a layer without blanks': inSchedule('layer moe = attention+weights, dispatch on comm'),
  'an unknown stream': inSchedule('layer moe = attention, dispatch on com'),
  'something else added to a phase': inSchedule('layer moe = attention + bias'),
  'a stage without blanks': inSchedule('stage 0 = dense*3, moe'),
  'a stage too many': inSchedule('stage 0 = moe\nstage 2 = moe\nstage 3 = moe'),
  'a stage with half a layer': inSchedule('stage 0 = moe * 0.5'),
  'an order of an unknown op': inSchedule('order backwards moe {\n  compute mlp(B)\n}'),
  'a step on no stream': inOrder('attention(B)'),
  'a step without a part': inOrder('compute attention'),
  'a step with an unknown part': inOrder('compute attention(G)'),
  'a step after nothing': inOrder('compute attention(B) after'),
  'a step that waits with other words': inOrder('compute attention(B) waits input(B)'),
  'an op of a rank in an order': inOrder('forward d0 m0'),
  // Ranks.
  'a rank twice': inSchedule('rank 0 stages [] {\n}\nrank 0 stages [] {\n}'),
  'a rank without stages': inSchedule('rank 0 {\n  forward d0 m0\n}'),
  'a misspelled op': inRank('forwad d0 m0'),
  'an op without a micro-batch': inRank('backward d0'),
  'a chunk the other way round': inRank('backward m0 d0'),
  'a chunk with a colon': inRank('weights 0:3'),
  'a direction that is too large': inRank('forward d99999999999999999999 m0'),
  'an overlap of two forwards': inRank('overlap forward d0 m1 & forward d0 m0'),
  'an overlap without the forward': inRank('overlap d0 m1 & d0 m0'),
  'a send without a payload': inRank('send d0 m0 -> 1'),
  'a send with the arrow of a receive': inRank('send activations d0 m0 <- 1'),
  'a receive with the arrow of a send': inRank('receive gradients d0 m0 -> 1'),
  'a receive from a name': inRank('receive gradients d0 m0 <- first'),
  'ops without a separator': inRank('forward d0 m0 commit'),
  'a separator too many': inRank('commit;'),
  'a place after an op': inRank('forward d0 m0 at model.ts:1:2-3'),
  'a step of an order in a rank': inRank('compute attention(F)'),
};

test.each(Object.entries(wrongTexts))('%s', (_, text) => {
  const { module, diagnostics } = parseModule(text, 'wrong.dsir');
  expect(module).toBeNull();
  expect(
    diagnostics.map((d) => renderDiagnostic(d, { sourceOf: () => text })).join('\n\n'),
  ).toMatchSnapshot();
});

test('one wrong op hides no other', () => {
  const { diagnostics } = parseModule(inRank('forwad d0 m0\nforward d0 m0\nbackward d0\ncommit;'), 'w.dsir');
  expect(diagnostics.map((d) => d.at!.line)).toEqual([6, 8, 9]);
});
