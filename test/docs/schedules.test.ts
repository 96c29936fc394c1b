// docs/SCHEDULES.md is true: its commands print what it shows, its tables hold, and the picture is what the command draws.
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parsePhaseCosts } from '../../compiler/schedule/phase-costs.ts';
import { schedulers, stageCount } from '../../compiler/schedule/make.ts';
import { dsvc, root } from '../cli/process.ts';
import { blocksOf, proseOf } from './markdown.ts';
import { notPrinted, shownCommands } from './shown.ts';

const guide = readFileSync(join(root, 'docs/SCHEDULES.md'), 'utf8');
const blocks = blocksOf(guide);
const folder = mkdtempSync(join(tmpdir(), 'dsvc-schedules-'));

beforeAll(() => {
  for (const file of ['examples/costs/deepseek-v3-h800.json', 'examples/deepseek-v3.ts']) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    copyFileSync(join(root, file), join(folder, file));
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The edit that the text describes. */
function exchangeLastLines(): void {
  const path = join(folder, 'edited.dsir');
  const lines = readFileSync(path, 'utf8').split('\n');
  const last = lines.lastIndexOf('    }') - 1;
  [lines[last - 1], lines[last]] = [lines[last], lines[last - 1]];
  writeFileSync(path, lines.join('\n'));
}

// One test: the later commands read what the earlier ones wrote.
test('its commands print what it shows', async () => {
  const shown = blocks.filter((b) => b.text.startsWith('$ '));
  expect(shown.length).toBeGreaterThan(4);
  for (const block of shown) {
    const refused = block.text.includes('\nerror[');
    if (refused) exchangeLastLines();
    for (const { args, lines } of shownCommands(block)) {
      const { stdout, stderr, code } = await dsvc(args, { cwd: folder });
      expect(code, args.join(' ')).toBe(refused ? 1 : 0);
      expect(lines.length, args.join(' ')).toBeGreaterThan(0);
      expect(notPrinted(lines, stdout + stderr), args.join(' ')).toBeUndefined();
    }
  }
});

test('its commands between words run, and the one of the picture makes it', async () => {
  const inline = [...proseOf(guide).matchAll(/`npx dsvc ([^`]*)`/g)].map((m) => m[1].replace(/\s+/g, ' '));
  expect(inline.length).toBeGreaterThan(3);
  // As generated again: an earlier test may have broken it on purpose.
  await dsvc('schedule --kind zb1p --ranks 2 --micro-batches 3 -o edited.dsir'.split(' '), { cwd: folder });
  for (const command of inline) {
    const { code, stderr } = await dsvc(command.split(' '), { cwd: folder });
    expect(stderr).not.toMatch(/^error/m);
    expect(code, command).toBe(0);
  }
  expect(readFileSync(join(folder, 'dualpipe-8x20.svg'), 'utf8')).toBe(
    readFileSync(join(root, 'docs/img/dualpipe-8x20.svg'), 'utf8'),
  );
});

test('the table of kinds is that of the generators', () => {
  const table = /^\| kind [\s\S]*?\n\n/m.exec(guide)?.[0] ?? '';
  const rows = [...table.matchAll(/^\| `(\w+)` .*\|$/gm)].map((m) => m[0].split('|').map((c) => c.trim()));
  expect(rows.map((r) => r[1].replaceAll('`', '')).sort()).toEqual(schedulers.map((s) => s.name).sort());
  const costs = { forward: 2, backward: 5, backwardInput: 3, weights: 1.5, overlap: 6.5 };
  const evaluate = (formula: string, PP: number): number => {
    const js = formula
      .replaceAll('F&B', 'FB')
      .replaceAll('−', '-')
      .replace(/(\d)([A-Z])/g, '$1*$2')
      .replaceAll(')(', ')*(');
    const { forward: F, backward: B, weights: W, overlap: FB } = costs;
    return Number(new Function('PP', 'F', 'B', 'W', 'FB', `return ${js}`)(PP, F, B, W, FB));
  };
  for (const [, kind, , held, bubble, live] of rows) {
    const scheduler = schedulers.find((s) => `\`${s.name}\`` === kind)!;
    for (const ranks of [2, 4, 10]) {
      const PP = stageCount(scheduler, ranks);
      expect(scheduler.stagesOf(0, ranks).length).toBe(Number(held));
      expect(scheduler.bubble(ranks, costs)).toBeCloseTo(evaluate(bubble, PP), 9);
      expect(scheduler.liveActivations(ranks)).toBe(evaluate(live, PP));
    }
  }
});

test('its file of costs has the form that is read, its order is the one that is made', async () => {
  const example = blocks.find((b) => b.language === 'json')!;
  expect(parsePhaseCosts(example.text).transfer).toBe(150);
  const order = blocks.find((b) => b.text.includes('order overlap'))!;
  const { stdout } = await dsvc('schedule --ranks 8 --micro-batches 20'.split(' '), { cwd: folder });
  expect(stdout).toContain(order.text);
});
