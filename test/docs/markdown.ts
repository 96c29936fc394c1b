// Reading Markdown as far as the tests of our documents need it: fenced blocks, links, inline code.

export interface Block {
  readonly language: string;
  /** What stands between the fences, with its last line break. */
  readonly text: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
}

/** Fenced code blocks, in order. */
export function blocksOf(markdown: string): readonly Block[] {
  const out: Block[] = [];
  const lines = markdown.split('\n');
  for (let i = 0; i < lines.length; i++) {
    const open = /^```(\w*)$/.exec(lines[i]);
    if (!open) continue;
    const line = i + 1;
    const text: string[] = [];
    while (++i < lines.length && lines[i] !== '```') text.push(lines[i]);
    if (i === lines.length) throw new Error(`the block of line ${line} has no end`);
    out.push({ language: open[1], text: text.map((t) => `${t}\n`).join(''), line });
  }
  return out;
}

/** The text without fenced blocks. */
export const proseOf = (markdown: string): string => markdown.replace(/^```\w*$[\s\S]*?^```$/gm, '');

/** Targets of links, those of other hosts left out. */
export const localLinksOf = (markdown: string): readonly string[] =>
  [...proseOf(markdown).matchAll(/\]\(([^)\s]+)\)/g)]
    .map((m) => m[1])
    .filter((target) => !/^[a-z]+:/.test(target));

/** Anchor of a heading, as GitHub makes it. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

/** Anchors of all headings. */
export const anchorsOf = (markdown: string): readonly string[] =>
  [...proseOf(markdown).matchAll(/^#+ (.*)$/gm)].map((m) => `#${anchorOf(m[1])}`);
