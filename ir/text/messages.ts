// What the grammar says when a line does not fit: what was expected, what stands there, and how such a line looks.
import { tokenLabel, EOF, type IParserErrorMessageProvider, type IToken, type TokenType } from 'chevrotain';

import { StringLiteral, ValueName } from './tokens.ts';

/** How each kind of line is written, for the `fix` of a syntax error. */
export const lineForms: Readonly<Record<string, string>> = {
  versionLine: 'the first line is `dsir 1`',
  moduleLine: 'write `module @name {precision = bf16} {`',
  dimLine:
    'write `dim tokens <= 16384` or `dim slots = ragged(tokens * 8, groups = 256, align = 128) <= 163584` (with blanks around *)',
  stateLine: 'write `state cache paged(64) { rows: bf16[cached, 512] }` (or ring(rows), recurrent)',
  headerLine: 'write `block @name(%x: f32[8], inout %c: state cache) -> (f32[8]) {`',
  parameterLine: 'write `param "name": bf16[8, 4] stored [8, 4]`',
  deriveLine: 'write `derive "name": bf16[16, 4] = concat(param "a", param "b") {axis = 0}`',
  returnLine: 'write `return %a, param "w"; %final`',
  opLine: 'write `%result = op %a, param "w" {attribute = 1} : f32[8] at file:1:2-3`',
  scheduleLine: 'write `schedule @name {kind = "dualpipe", micro_batches = 8, …} {`',
  layerLine:
    'write `layer moe = attention + weights, dispatch on comm, mlp + weights, combine on comm` (with blanks around +)',
  stageLine: 'write `stage 0 = dense * 3, moe` (with blanks around *)',
  orderLine: 'write `order forward moe {` or `order overlap moe & moe {`',
  stepLine:
    'write `compute attention(F) after input(F), combine(B)` or `comm dispatch(F) after attention(F)`',
  rankLine: 'write `rank 0 stages [0, 7] {`',
  rankOpsLine: 'write ops such as `forward d0 m0` or `commit`, with ; between them',
};

/** How each op of a rank is written. */
export const rankOpForms: Readonly<Record<string, string>> = {
  forward: 'write `forward d0 m0`',
  backward: 'write `backward d0 m0`',
  backward_input: 'write `backward_input d0 m0`',
  weights: 'write `weights d0 m0`',
  overlap: 'write `overlap forward d0 m3 & backward d1 m1`',
  send: 'write `send activations d0 m0 -> 1` or `send gradients d0 m0 -> 1`',
  receive: 'write `receive activations d0 m0 <- 1` or `receive gradients d0 m0 <- 1`',
  commit: 'write `commit` alone',
};

const found = (token: IToken | undefined): string => {
  if (token === undefined || token.tokenType === EOF) return 'the line ends';
  const text = token.image.length > 40 ? `${token.image.slice(0, 40)}…` : token.image;
  // Odd characters are named by their code: a terminal shows nothing, or the wrong thing, for them.
  const shown = text.replace(
    /[^\u0020-\u007e\u00a1-\u024f…]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return `found \`${shown}\``;
};

const list = (types: readonly TokenType[]): string => {
  const labels = [...new Set(types.map((t) => tokenLabel(t)))];
  return labels.length > 1
    ? `${labels.slice(0, -1).join(', ')} or ${labels.at(-1)}`
    : (labels[0] ?? 'something else');
};

export const grammarMessages: IParserErrorMessageProvider = {
  buildMismatchTokenMessage: ({ expected, actual }) => `expected ${list([expected])}, but ${found(actual)}`,
  buildNotAllInputParsedMessage: ({ firstRedundant }) => {
    if (firstRedundant.image === 'at') return 'a place stands after `at`: file:line:column-endColumn';
    const comma = firstRedundant.tokenType === ValueName || firstRedundant.tokenType === StringLiteral;
    return `expected ${comma ? '`,` or ' : ''}the end of the line, but ${found(firstRedundant)}`;
  },
  buildNoViableAltMessage: ({ expectedPathsPerAlt, actual }) =>
    `expected ${list(expectedPathsPerAlt.flatMap((paths) => paths.map((path) => path[0])))}, but ${found(actual[0])}`,
  buildEarlyExitMessage: ({ expectedIterationPaths, actual }) =>
    `expected ${list(expectedIterationPaths.map((path) => path[0]))}, but ${found(actual[0])}`,
};
