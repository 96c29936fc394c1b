// Outputs that cannot be written, and folders that are no bundles.
import { smallModel } from '../small.ts';
import type { BadInput } from './case.ts';

const compile = ['compile', 'm.ts', '-o', 'out'];
const run = ['run', 'b', '--weights', 'w', '--input', 'i', '--output', 'o'];

export const outputCases: readonly BadInput[] = [
  {
    name: 'model in the output',
    files: { 'out/m.ts': smallModel },
    args: ['compile', 'out/m.ts', '-o', 'out'],
    codes: ['usage/output-is-input'],
    exit: 2,
  },
  {
    name: 'dumps in the output',
    files: { 'm.ts': smallModel },
    args: [...compile, '--dump-dir', 'out/ir'],
    codes: ['usage/output-is-input'],
    exit: 2,
  },
  {
    name: 'output would replace a folder',
    files: { 'm.ts': smallModel, 'out/thesis.tex': 'years' },
    args: compile,
    codes: ['bundle/would-replace'],
    exit: 1,
  },
  {
    name: 'output is a file',
    files: { 'm.ts': smallModel, out: '' },
    args: compile,
    codes: ['file/not-a-folder'],
    exit: 1,
  },
  {
    name: 'output inside a file',
    files: { 'm.ts': smallModel, file: '' },
    args: ['compile', 'm.ts', '-o', 'file/out'],
    codes: ['file/not-a-folder'],
    exit: 1,
  },
  {
    name: 'dumps into a file',
    files: { 'm.ts': smallModel, file: '' },
    args: [...compile, '--dump-dir', 'file'],
    codes: ['file/not-a-folder'],
    exit: 1,
  },
  {
    name: 'folder that is no bundle',
    files: { 'b/readme.md': '', 'w/x': '' },
    args: run,
    codes: ['bundle/no-manifest'],
    exit: 1,
  },
  {
    name: 'bundle with a broken manifest',
    files: { 'b/bundle.json': '{' },
    args: run,
    codes: ['bundle/manifest'],
    exit: 1,
  },
  {
    name: 'bundle of another version',
    files: { 'b/bundle.json': '{"format": 99}' },
    args: run,
    codes: ['bundle/format'],
    exit: 1,
  },
  {
    name: 'bundle without IR',
    files: { 'b/bundle.json': '{"format": 1}' },
    args: run,
    codes: ['bundle/no-ir'],
    exit: 1,
  },
  {
    name: 'settings for a bundle',
    files: { 'b/bundle.json': '{"format": 1}' },
    args: [...run, '--set', 'layers=1'],
    codes: ['usage/conflict'],
    exit: 2,
  },
];
