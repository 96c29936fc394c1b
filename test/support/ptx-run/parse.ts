// PTX text to instructions, for the functional interpreter in this folder. It takes what our printer writes, one
// statement per line; anything it does not know is an error.

export type Operand =
  | { readonly kind: 'reg'; readonly name: string }
  | { readonly kind: 'imm'; readonly value: number | bigint; readonly float: 32 | 64 | null }
  | { readonly kind: 'address'; readonly base: Operand; readonly offset: number }
  /** A tensor map's address and coordinates, innermost first. */
  | { readonly kind: 'tensor'; readonly base: Operand; readonly coordinates: readonly Operand[] }
  | { readonly kind: 'vector'; readonly items: readonly Operand[] }
  | { readonly kind: 'pair'; readonly first: Operand; readonly second: Operand }
  | { readonly kind: 'not'; readonly of: Operand }
  | { readonly kind: 'sink' }
  /** A label, a parameter or a variable. */
  | { readonly kind: 'symbol'; readonly name: string };

export interface PtxInstruction {
  readonly guard: { readonly name: string; readonly negated: boolean } | null;
  readonly opcode: string;
  readonly modifiers: readonly string[];
  readonly operands: readonly Operand[];
  /** Line of the PTX text, from 1. */
  readonly line: number;
  readonly text: string;
}

export interface PtxEntry {
  readonly name: string;
  readonly parameters: readonly { readonly name: string; readonly type: string; readonly bytes: number }[];
  readonly threads: readonly [number, number, number];
  /** Register name → class. */
  readonly registers: ReadonlyMap<string, string>;
  /** Shared variables: bytes, or null for the launch's dynamic memory. */
  readonly shared: readonly {
    readonly name: string;
    readonly bytes: number | null;
    readonly align: number;
  }[];
  readonly instructions: readonly PtxInstruction[];
  readonly labels: ReadonlyMap<string, number>;
}

const bytesOfType: Record<string, number> = {
  u8: 1,
  s8: 1,
  b8: 1,
  u16: 2,
  s16: 2,
  b16: 2,
  u32: 4,
  s32: 4,
  b32: 4,
  f32: 4,
  u64: 8,
  s64: 8,
  b64: 8,
  f64: 8,
};

const scratch = new DataView(new ArrayBuffer(8));

function parseImmediate(text: string): Operand | null {
  const single = /^0[fF]([0-9a-fA-F]{8})$/.exec(text);
  if (single) {
    scratch.setUint32(0, parseInt(single[1], 16));
    return { kind: 'imm', value: scratch.getFloat32(0), float: 32 };
  }
  const double = /^0[dD]([0-9a-fA-F]{16})$/.exec(text);
  if (double) {
    scratch.setBigUint64(0, BigInt(`0x${double[1]}`));
    return { kind: 'imm', value: scratch.getFloat64(0), float: 64 };
  }
  if (!/^-?(0x[0-9a-fA-F]+|\d+)U?$/.test(text)) return null;
  const digits = text.replace(/U$/, '');
  const negative = digits.startsWith('-');
  const magnitude = BigInt(negative ? digits.slice(1) : digits);
  const value = negative ? -magnitude : magnitude;
  return { kind: 'imm', value: Number.isSafeInteger(Number(value)) ? Number(value) : value, float: null };
}

/** Splits at commas that are not inside braces or brackets. */
function splitOperands(text: string): string[] {
  const out: string[] = [];
  let depth = 0;
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    if ('{[('.includes(text[i])) depth++;
    else if ('}])'.includes(text[i])) depth--;
    else if (text[i] === ',' && depth === 0) {
      out.push(text.slice(from, i));
      from = i + 1;
    }
  }
  out.push(text.slice(from));
  return out.map((s) => s.trim()).filter((s) => s !== '');
}

function parseOperand(text: string): Operand {
  if (text === '_') return { kind: 'sink' };
  if (text.startsWith('!')) return { kind: 'not', of: parseOperand(text.slice(1)) };
  if (text.startsWith('{'))
    return { kind: 'vector', items: splitOperands(text.slice(1, -1)).map(parseOperand) };
  if (text.startsWith('[')) {
    const match = /^\[\s*([%$A-Za-z_][\w.$]*)\s*(?:([+-])\s*(-?\d+))?\s*\]$/.exec(text);
    if (!match) {
      const tensor = /^\[\s*(%\w+)\s*,\s*\{(.*)\}\s*\]$/.exec(text);
      if (!tensor) throw new Error(`ptx-run: address ${text}`);
      return {
        kind: 'tensor',
        base: parseOperand(tensor[1]),
        coordinates: splitOperands(tensor[2]).map(parseOperand),
      };
    }
    const offset = match[3] === undefined ? 0 : Number(match[3]) * (match[2] === '-' ? -1 : 1);
    return { kind: 'address', base: parseOperand(match[1]), offset };
  }
  const bar = text.indexOf('|');
  if (bar > 0)
    return {
      kind: 'pair',
      first: parseOperand(text.slice(0, bar)),
      second: parseOperand(text.slice(bar + 1)),
    };
  const immediate = parseImmediate(text);
  if (immediate) return immediate;
  return text.startsWith('%') ? { kind: 'reg', name: text } : { kind: 'symbol', name: text };
}

/** Statements with their lines. The printer writes one per line, and an entry's header over several. */
function* statements(text: string): Generator<{ readonly text: string; readonly line: number }> {
  let header = '';
  let from = 0;
  for (const [i, raw] of text.split('\n').entries()) {
    const s = raw.replace(/\/\/.*$/, '').trim();
    if (s === '') continue;
    if (header !== '' || /\.entry\b/.test(s)) {
      if (header === '') from = i + 1;
      header += `${s} `;
      if (!s.endsWith(')')) continue;
      yield { text: header.trim(), line: from };
      header = '';
    } else yield { text: s.endsWith(';') ? s.slice(0, -1) : s, line: i + 1 };
  }
}

function parseInstruction(text: string, line: number): PtxInstruction {
  const guard = /^@(!?)(%[\w]+)\s+/.exec(text);
  const rest = guard ? text.slice(guard[0].length) : text;
  const space = rest.search(/\s/);
  const mnemonic = space < 0 ? rest : rest.slice(0, space);
  // `shared::cta` and `L1::evict` hold colons, never dots, so dots separate modifiers.
  const [opcode, ...modifiers] = mnemonic.split('.');
  const operands = space < 0 ? [] : splitOperands(rest.slice(space)).map(parseOperand);
  return {
    guard: guard ? { name: guard[2], negated: guard[1] === '!' } : null,
    opcode,
    modifiers,
    operands,
    line,
    text,
  };
}

/** Every entry of a module. Throws an Error with the line on what it does not understand. */
export function parsePtx(text: string): PtxEntry[] {
  const entries: PtxEntry[] = [];
  let current: {
    entry: PtxEntry;
    instructions: PtxInstruction[];
    labels: Map<string, number>;
    registers: Map<string, string>;
    shared: PtxEntry['shared'][number][];
    threads: [number, number, number];
  } | null = null;
  const moduleShared: PtxEntry['shared'][number][] = [];
  for (const { text: s, line } of statements(text)) {
    const entry = /^(?:\.visible\s+)?\.entry\s+([\w$]+)\s*\(([\s\S]*)\)$/.exec(s);
    if (entry) {
      const parameters = splitOperands(entry[2]).map((p) => {
        const m = /^\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?$/.exec(p);
        if (!m) throw new Error(`ptx-run: line ${line}: parameter ${p}`);
        return { name: m[2], type: m[1], bytes: m[3] ? Number(m[3]) * bytesOfType[m[1]] : bytesOfType[m[1]] };
      });
      const [instructions, labels, registers] = [
        [] as PtxInstruction[],
        new Map<string, number>(),
        new Map<string, string>(),
      ];
      const shared = [...moduleShared];
      const threads: [number, number, number] = [1, 1, 1];
      current = {
        entry: { name: entry[1], parameters, threads, registers, shared, instructions, labels },
        instructions,
        labels,
        registers,
        shared,
        threads,
      };
      entries.push(current.entry);
      continue;
    }
    if (s === '{' || s === '}') continue;
    const variable = /^(?:\.extern\s+)?\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d*)\]$/.exec(s);
    if (variable) {
      (current?.shared ?? moduleShared).push({
        name: variable[2],
        bytes: variable[3] === '' ? null : Number(variable[3]),
        align: Number(variable[1]),
      });
      continue;
    }
    const reqntid = /^\.reqntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?$/.exec(s);
    if (reqntid && current) {
      for (const i of [0, 1, 2]) current.threads[i] = Number(reqntid[i + 1] ?? 1);
      continue;
    }
    if (/^\.(version|target|address_size|loc|file|maxnreg|minnctapersm|maxntid)\b/.test(s)) continue;
    if (!current) throw new Error(`ptx-run: line ${line}: ${s} outside of an entry`);
    const registers = /^\.reg\s+\.(\w+)\s+(%[\w]+)<(\d+)>$/.exec(s);
    if (registers) {
      for (let i = 0; i < Number(registers[3]); i++)
        current.registers.set(`${registers[2]}${i}`, registers[1]);
      continue;
    }
    const named = /^\.reg\s+\.(\w+)\s+(%[\w]+(?:\s*,\s*%[\w]+)*)$/.exec(s);
    if (named) {
      for (const name of named[2].split(',')) current.registers.set(name.trim(), named[1]);
      continue;
    }
    if (s.endsWith(':')) current.labels.set(s.slice(0, -1), current.instructions.length);
    else current.instructions.push(parseInstruction(s, line));
  }
  return entries;
}
