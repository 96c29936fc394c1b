// Blocks of our documents that show commands: `$ npx dsvc …`, and below it lines that it prints.
import type { Block } from './markdown.ts';

export interface ShownCommand {
  readonly args: readonly string[];
  /** Lines below the command; `…` stands for any number of others. */
  readonly lines: readonly string[];
}

/** The commands of a block, in order. */
export function shownCommands(block: Block): readonly ShownCommand[] {
  const commands: { args: readonly string[]; lines: string[] }[] = [];
  for (const line of block.text.split('\n')) {
    const command = /^\$ (?:npx )?dsvc (.*)$/.exec(line)?.[1];
    if (command !== undefined) commands.push({ args: command.split(' '), lines: [] });
    else if (line.trim() !== '') commands.at(-1)?.lines.push(line.trim());
  }
  return commands;
}

/** The first line shown that is not printed, or not in this order; undefined when all are. Blanks around lines do not count. */
export function notPrinted(lines: readonly string[], printed: string): string | undefined {
  const all = printed.split('\n').map((line) => line.trim());
  let from = 0;
  for (const line of lines) {
    if (line === '…') continue;
    const found = all.indexOf(line, from);
    if (found < 0) return line;
    from = found + 1;
  }
  return undefined;
}
