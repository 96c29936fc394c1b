// Wrong checkpoints and inputs of `dsvc run`: byte positions in tensor files, places in the model for what it declares.
import type { TensorToWrite } from '../../../runtime/safetensors.ts';
import { f32, i64, rawSafetensors, safetensors, smallModel, smallWeights } from '../small.ts';
import type { BadInput } from './case.ts';

const ids = safetensors([i64('input_ids', [1, 3], [1, 2, 3])]);
const args = ['run', 'm.ts', '--weights', 'w', '--input', 'in.safetensors', '--output', 'out.safetensors'];

const weights = (
  name: string,
  file: Uint8Array | string,
  codes: readonly string[],
  at: readonly string[],
): BadInput => ({
  name,
  files: { 'm.ts': smallModel, 'in.safetensors': ids, 'w/model.safetensors': file },
  args,
  codes,
  exit: 1,
  at,
});

const good = safetensors(smallWeights());
const without = (name: string, ...more: TensorToWrite[]): Uint8Array =>
  safetensors([...smallWeights().filter((t) => t.name !== name), ...more]);

const inputs = (
  name: string,
  tensors: readonly TensorToWrite[],
  codes: readonly string[],
  ...flags: string[]
): BadInput => ({
  name,
  files: { 'm.ts': smallModel, 'w/model.safetensors': good, 'in.safetensors': safetensors(tensors) },
  args: [...args, ...flags],
  codes,
  exit: 1,
});

const entry = (dtype: string, shape: string, offsets: string): string =>
  `{"a":{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}}`;
const bytes = (n: number): Uint8Array => new Uint8Array(n);
const index = (text: string): BadInput['files'] => ({
  'm.ts': smallModel,
  'in.safetensors': ids,
  'w/model.safetensors.index.json': text,
});

export const checkpointCases: readonly BadInput[] = [
  {
    name: 'missing checkpoint',
    files: { 'm.ts': smallModel, 'in.safetensors': ids },
    args,
    codes: ['checkpoint/missing'],
    exit: 1,
  },
  {
    name: 'folder without checkpoint',
    files: { 'm.ts': smallModel, 'in.safetensors': ids, 'w/readme.md': '' },
    args,
    codes: ['checkpoint/missing'],
    exit: 1,
  },
  weights('empty file', '', ['safetensors/empty-file'], []),
  weights('four bytes', bytes(4), ['safetensors/truncated'], ['at byte 0']),
  weights(
    'absurd header length',
    rawSafetensors('{}', bytes(0), 2n ** 62n),
    ['safetensors/header-length'],
    ['at byte 0'],
  ),
  weights(
    'header beyond the file',
    rawSafetensors('{}', bytes(0), 4000n),
    ['safetensors/header-length'],
    ['at byte 0'],
  ),
  weights('header is no JSON', rawSafetensors('{"a": nothing}'), ['safetensors/json'], ['at byte 8']),
  weights('header is a list', rawSafetensors('[1,2,3]'), ['safetensors/not-an-object'], ['at byte 8']),
  weights(
    'pickle',
    Buffer.from('PK\u0003\u0004archive/data.pkl and so on'),
    ['safetensors/header-length'],
    ['at byte 0'],
  ),
  weights(
    'unknown dtype',
    rawSafetensors(entry('F7', '[1]', '[0,1]'), bytes(1)),
    ['safetensors/dtype'],
    ['at byte 9'],
  ),
  weights(
    'negative shape',
    rawSafetensors(entry('F32', '[-1]', '[0,4]'), bytes(4)),
    ['safetensors/shape'],
    ['at byte 9'],
  ),
  weights(
    'uncountable shape',
    rawSafetensors(entry('F32', '[9007199254740991,9007199254740991]', '[0,4]'), bytes(4)),
    ['safetensors/shape'],
    ['at byte 9'],
  ),
  weights(
    'offsets backwards',
    rawSafetensors(entry('F32', '[1]', '[8,4]'), bytes(8)),
    ['safetensors/offsets'],
    ['at byte 9'],
  ),
  weights(
    'offsets that do not fit the shape',
    rawSafetensors(entry('F32', '[2]', '[0,4]'), bytes(4)),
    ['safetensors/size'],
    ['at byte 9'],
  ),
  weights(
    'offsets beyond the file',
    rawSafetensors(entry('F32', '[250000000000]', '[0,1000000000000]'), bytes(4)),
    ['safetensors/truncated'],
    ['at byte 9'],
  ),
  weights('truncated data', good.subarray(0, good.length - 5), ['safetensors/truncated'], ['at byte ']),
  weights('trailing bytes', Buffer.concat([good, bytes(3)]), ['safetensors/trailing-bytes'], ['at byte ']),
  weights(
    'name twice',
    rawSafetensors(
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      bytes(1),
    ),
    ['safetensors/duplicate-name'],
    ['at byte '],
  ),
  weights(
    'missing tensor',
    without('lm_head.weight', f32('lm_heads.weight', [8, 4])),
    ['weights/missing', 'weights/unexpected'],
    ['m.ts:7:'],
  ),
  weights(
    'misshapen tensor',
    without('lm_head.weight', f32('lm_head.weight', [4, 8])),
    ['weights/shape'],
    ['m.ts:7:', 'at byte '],
  ),
  weights(
    'integers as weights',
    without('model.norm.weight', i64('model.norm.weight', [4], [1, 1, 1, 1])),
    ['weights/dtype'],
    ['m.ts:7:'],
  ),
  weights(
    'FP8 without scales',
    without('lm_head.weight', { name: 'lm_head.weight', dtype: 'F8_E4M3', shape: [8, 4], data: bytes(32) }),
    ['weights/scale'],
    ['m.ts:7:'],
  ),
  weights(
    'several at once',
    safetensors([f32('model.norm.weight', [5]), i64('lm_head.weight', [8, 4], Array<number>(32).fill(0))]),
    ['weights/missing', 'weights/shape', 'weights/dtype'],
    ['m.ts:7:'],
  ),
  {
    name: 'index without its shard',
    files: index('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'),
    args,
    codes: ['checkpoint/missing-shard'],
    exit: 1,
  },
  {
    name: 'index that leads out of its folder',
    files: index('{"weight_map": {"a": "../../../etc/passwd"}}'),
    args,
    codes: ['checkpoint/path'],
    exit: 1,
  },
  {
    name: 'index that is no JSON',
    files: index('{"weight_map": '),
    args,
    codes: ['checkpoint/json'],
    exit: 1,
  },
  {
    name: 'missing input',
    files: { 'm.ts': smallModel, 'w/model.safetensors': good },
    args,
    codes: ['file/not-found'],
    exit: 1,
  },
  {
    name: 'model, checkpoint and input wrong at once',
    files: {
      'm.ts': smallModel.replace("'hidden', 4", "'hidden', 0"),
      'w/model.safetensors': bytes(4),
      'in.safetensors': safetensors([]),
    },
    args,
    codes: ['safetensors/truncated', 'dsl/bad-size', 'input/missing'],
    exit: 1,
  },
  inputs('input without token ids', [i64('ids', [1, 2], [1, 2])], ['input/missing']),
  inputs('token ids in F32', [f32('input_ids', [1, 2])], ['input/dtype']),
  inputs('token ids with one axis', [i64('input_ids', [2], [1, 2])], ['input/shape']),
  inputs('no tokens', [i64('input_ids', [1, 0], [])], ['input/empty']),
  inputs('token id beyond the vocabulary', [i64('input_ids', [1, 2], [1, 8])], ['input/token-id']),
  inputs('negative token id', [i64('input_ids', [1, 2], [-1, 2])], ['input/token-id']),
  inputs(
    'more tokens than the bound',
    [i64('input_ids', [1, 5], [1, 2, 3, 4, 5])],
    ['input/too-long'],
    '--set',
    'tokens=4',
  ),
  {
    ...inputs(
      'model without layers',
      [i64('input_ids', [1, 1], [1])],
      ['capture/no-layers'],
      '--capture',
      'hidden',
    ),
  },
  {
    name: 'output folder missing',
    files: { 'm.ts': smallModel, 'w/model.safetensors': good, 'in.safetensors': ids },
    args: [...args.slice(0, -1), 'no/such/out.safetensors'],
    codes: ['file/not-found'],
    exit: 1,
  },
  {
    name: 'output is a folder',
    files: { 'm.ts': smallModel, 'w/model.safetensors': good, 'in.safetensors': ids, 'out.safetensors/': '' },
    args,
    codes: ['file/not-a-file'],
    exit: 1,
  },
];
