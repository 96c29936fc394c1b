// Mistakes in PTX: characters, tokens and lines of the text, and bytes of the decoded program.
import type { Choices } from '../random.ts';

/** What is put in place of a number: the edges of every width, and sizes that nobody has. */
const numbers = [
  ...[
    '0',
    '1',
    '-1',
    '2',
    '3',
    '4',
    '5',
    '7',
    '8',
    '12',
    '15',
    '16',
    '17',
    '31',
    '32',
    '33',
    '63',
    '64',
    '65',
  ],
  ...['127', '128', '129', '255', '256', '1023', '1024', '1025', '4095', '4096', '32767', '65535', '65536'],
  ...['232448', '1048576', '16777215', '0x7fffffff', '0x80000000', '0xffffffff', '4294967296', '68719476736'],
  ...['0x7fffffffffffffff', '0x8000000000000000', '0xffffffffffffffff', '18446744073709551616'],
];
const pieces = [
  ...'{ } ( ) [ ] ; , : " /* // @ @! ! | % _ + - < > . .b8 .b16 .b32 .b64 .f16 .bf16 .f32 .f64 .u8 .s64 .pred'.split(
    ' ',
  ),
  ...'.v2 .v4 .sync .aligned .shared .global .local .param .const .shared::cluster .shared::cta ret; exit; trap;'.split(
    ' ',
  ),
  ...[
    '%tid.x',
    '%ctaid.x',
    '%laneid',
    'bar.sync 0;',
    'bar.sync 17;',
    'membar.gl;',
    '\n',
    '\0',
    'é',
    '\ud800',
  ],
];
const token = /0[xXfFdD][0-9a-fA-F]+|\d+(?:\.\d+)?|[%.$A-Za-z_][\w$%.:]*|[^\s\w]/g;
const isNumber = /^(0[xXfFdD]|\d)/;

/** Where a text's tokens lie. */
const tokensOf = (text: string): { readonly at: number; readonly text: string }[] =>
  [...text.matchAll(token)].map((m) => ({ at: m.index, text: m[0] }));

const replaced = (text: string, at: number, length: number, by: string): string =>
  text.slice(0, at) + by + text.slice(at + length);

function mutateCharacter(text: string, c: Choices): string {
  const at = c.below(text.length + 1);
  switch (c.below(4)) {
    case 0:
      return replaced(text, at, 1 + c.below(c.chance(0.2) ? 200 : 4), '');
    case 1:
      return replaced(text, at, 0, String.fromCharCode(c.below(c.chance(0.9) ? 128 : 65536)));
    case 2:
      return replaced(text, at, 1, c.pick([...'0123456789%.,;[]{}abfrs+-']));
    default:
      return replaced(text, at, 0, ` ${c.pick(pieces)} `);
  }
}

function mutateToken(text: string, c: Choices): string {
  const tokens = tokensOf(text);
  if (tokens.length === 0) return text;
  const one = c.pick(tokens);
  switch (c.below(6)) {
    case 0: {
      const found = tokens.filter((t) => isNumber.test(t.text));
      const n = found.length > 0 ? c.pick(found) : one;
      return replaced(text, n.at, n.text.length, c.pick(numbers));
    }
    case 1: {
      // Another token of its own kind: a register for a register, a mnemonic for a mnemonic.
      const kind = one.text[0] === '%' ? '%' : /[A-Za-z_$]/.test(one.text[0]) ? 'a' : one.text[0];
      const like = tokens.filter((t) =>
        kind === 'a' ? /[A-Za-z_$]/.test(t.text[0]) : t.text[0] === kind || isNumber.test(t.text),
      );
      return replaced(text, one.at, one.text.length, like.length > 0 ? c.pick(like).text : '');
    }
    case 2:
      return replaced(text, one.at, one.text.length, '');
    case 3:
      return replaced(text, one.at, 0, `${one.text} `);
    case 4: {
      // One part of a mnemonic.
      const parts = one.text.split('.');
      const others = c.pick(tokens).text.split('.');
      parts[c.below(parts.length)] = c.pick(others);
      return replaced(text, one.at, one.text.length, parts.join('.'));
    }
    default:
      return replaced(text, one.at, one.text.length, c.pick(pieces));
  }
}

function mutateLine(text: string, c: Choices): string {
  const lines = text.split('\n');
  const [at, other] = [c.below(lines.length), c.below(lines.length)];
  switch (c.below(4)) {
    case 0:
      lines.splice(at, 1);
      break;
    case 1:
      lines.splice(at, 0, lines[other]);
      break;
    case 2:
      [lines[at], lines[other]] = [lines[other], lines[at]];
      break;
    default:
      // One instruction less, the others on their lines: what a forgotten wait or barrier is.
      lines[at] = lines[at].replace(/^(\s*)(@!?%?\w+\s+)?[a-z][\w.:]*[^;]*;/, '$1');
  }
  return lines.join('\n');
}

/** The text with one to three mistakes. */
export function mutateText(text: string, c: Choices): string {
  let out = text;
  for (let n = 1 + (c.chance(0.3) ? 1 + c.below(2) : 0); n > 0; n--)
    out = c.pick([mutateCharacter, mutateToken, mutateToken, mutateToken, mutateLine, mutateLine])(out, c);
  return out;
}

/** The program with one to four bytes or words changed, cut or repeated. */
export function mutateBytes(bytes: Uint8Array, c: Choices): Uint8Array {
  let out = bytes.slice();
  for (let n = 1 + c.below(4); n > 0; n--) {
    const at = c.below(out.length);
    const view = new DataView(out.buffer, out.byteOffset, out.byteLength);
    switch (c.below(6)) {
      case 0:
        out[at] ^= 1 << c.below(8);
        break;
      case 1:
        out[at] = c.pick([0, 1, 127, 128, 254, 255, c.below(256)]);
        break;
      case 2:
        if (at + 4 <= out.length)
          view.setUint32(
            at,
            c.pick([0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0, c.below(2 ** 32)]),
            true,
          );
        break;
      case 3:
        // A small step: an index just beyond its table.
        out[at] = (out[at] + c.pick([1, -1, 2, 8])) & 255;
        break;
      case 4:
        if (c.chance(0.2)) out = out.slice(0, at);
        else out.copyWithin(at, c.below(out.length), c.below(out.length));
        break;
      default:
        out = Uint8Array.from([
          ...out.subarray(0, at),
          ...out.subarray(at, at + 1 + c.below(16)),
          ...out.subarray(at),
        ]);
    }
    if (out.length === 0) break;
  }
  return out;
}
