import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { encodeBytes } from '../../ir/formats/index.ts';
import type { Module } from '../../ir/module.ts';
import { parseModule } from '../../ir/text/parser.ts';
import { openCheckpoint, writeSafetensors, type TensorToWrite } from '../../runtime/safetensors.ts';
import {
  CheckpointWeights,
  compareCheckpoint,
  isFp8Checkpoint,
  wantedTensors,
} from './checkpoint-weights.ts';

const text = `dsir 1
module @m {
  dim tokens <= 8

  block @layer(%x: f32[tokens, 4]) -> (f32[tokens, 4]) {
    param "w.weight": f32[4, 4] stored [4, 4] at m.ts:3:5-9
    param "experts.{experts}.up.weight": f32[2, 3, 4] stored [3, 4] at m.ts:4:5-9
    %y = matmul %x, param "w.weight" : f32[tokens, 4]
    return %y
  }

  entry @prefill(%x: f32[tokens, 4]) -> (f32[tokens, 4]) {
    param "head.weight": f32[4, 4] stored [4, 4] at m.ts:9:1-5
    %h = repeat @layer %x {start = 0, stop = 2, prefix = "model.layers.{i}.", modes = [carry]} : f32[tokens, 4]
    %y = matmul %h, param "head.weight" : f32[tokens, 4]
    return %y
  }
}
`;

let module: Module;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dsvc-weights-'));
  const parsed = parseModule(text, 'm.dsir');
  expect(parsed.diagnostics).toEqual([]);
  module = parsed.module!;
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const f32 = (name: string, shape: readonly number[]): TensorToWrite => {
  const count = shape.reduce((n, s) => n * s, 1);
  return {
    name,
    dtype: 'F32',
    shape,
    data: encodeBytes(
      'f32',
      Float64Array.from({ length: count }, (_, i) => i),
    ),
  };
};

const complete = (): TensorToWrite[] => [
  f32('head.weight', [4, 4]),
  ...[0, 1].flatMap((l) => [
    f32(`model.layers.${l}.w.weight`, [4, 4]),
    ...[0, 1].map((e) => f32(`model.layers.${l}.experts.${e}.up.weight`, [3, 4])),
  ]),
];

function opened(tensors: readonly TensorToWrite[]) {
  writeSafetensors(join(dir, 'model.safetensors'), tensors);
  return openCheckpoint(dir);
}

test('wanted tensors are written out over layers and experts', () => {
  expect(wantedTensors(module).map((w) => w.name)).toEqual([
    'head.weight',
    'model.layers.0.w.weight',
    'model.layers.1.w.weight',
    'model.layers.0.experts.0.up.weight',
    'model.layers.0.experts.1.up.weight',
    'model.layers.1.experts.0.up.weight',
    'model.layers.1.experts.1.up.weight',
  ]);
});

describe('compareCheckpoint', () => {
  test('finds nothing in a checkpoint that fits', () => {
    expect(compareCheckpoint(opened(complete()), module)).toEqual([]);
  });

  test('lists everything wrong at once, at the declarations', () => {
    const tensors = complete().filter(
      (t) => t.name !== 'head.weight' && t.name !== 'model.layers.1.experts.0.up.weight',
    );
    tensors.push(f32('heads.weight', [4, 4]));
    const misshapen = tensors.map((t) => (t.name === 'model.layers.0.w.weight' ? f32(t.name, [2, 8]) : t));
    const found = compareCheckpoint(
      opened([
        ...misshapen.filter((t) => t.name !== 'model.layers.1.w.weight'),
        { name: 'model.layers.1.w.weight', dtype: 'I32', shape: [4, 4], data: new Uint8Array(64) },
      ]),
      module,
    );
    expect(found.map((d) => [d.code, d.severity, d.at?.line])).toEqual([
      ['weights/missing', 'error', 9],
      ['weights/shape', 'error', 3],
      ['weights/dtype', 'error', 3],
      ['weights/missing', 'error', 4],
      ['weights/unexpected', 'warning', undefined],
    ]);
    expect(found[0].fix).toContain('did you mean heads.weight?');
    expect(found[1].message).toBe(
      'model.layers.0.w.weight is [2, 8] in the checkpoint, but the model declares [4, 4]',
    );
  });

  test('FP8 weights need scales of their shape', () => {
    const w = (scale: TensorToWrite[]): TensorToWrite[] => [
      ...complete().filter((t) => t.name !== 'head.weight'),
      { name: 'head.weight', dtype: 'F8_E4M3', shape: [4, 4], data: new Uint8Array(16).fill(0x38) },
      ...scale,
    ];
    expect(compareCheckpoint(opened(w([])), module).map((d) => d.code)).toEqual(['weights/scale']);
    const wrong = compareCheckpoint(opened(w([f32('head.weight_scale_inv', [2, 1])])), module);
    expect(wrong.map((d) => d.message)).toEqual([
      'head.weight has scales F32 [2, 1], but [4, 4] in blocks of 128x128 needs F32 [1, 1]',
    ]);
    const good = opened(w([f32('head.weight_scale_inv', [1, 1])]));
    expect(compareCheckpoint(good, module)).toEqual([]);
    expect(isFp8Checkpoint(good)).toBe(true);
  });
});

describe('CheckpointWeights', () => {
  test('gives values in the stored dtype, with scales for FP8, and nothing for what is absent', () => {
    const checkpoint = opened([
      f32('a', [2, 2]),
      { name: 'b.weight', dtype: 'F8_E4M3', shape: [1, 2], data: Uint8Array.of(0x38, 0x40) },
      {
        name: 'b.weight_scale_inv',
        dtype: 'F32',
        shape: [1, 1],
        data: encodeBytes('f32', Float64Array.of(0.5)),
      },
      { name: 'ids', dtype: 'I64', shape: [1], data: new Uint8Array(8) },
    ]);
    const source = new CheckpointWeights(checkpoint);
    expect(source.get('a')).toEqual({
      kind: 'tensor',
      dtype: 'f32',
      shape: [2, 2],
      data: Float64Array.of(0, 1, 2, 3),
      scales: [],
    });
    const b = source.get('b.weight')!;
    expect([b.dtype, [...b.data], b.scales]).toEqual([
      'f8e4m3',
      [1, 2],
      [{ shape: [1, 1], data: Float64Array.of(0.5) }],
    ]);
    expect(source.get('none')).toBeUndefined();
    expect(source.get('ids')).toBeUndefined();
  });
});
