import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ptxasOrWarning } from './cubins.ts';
import { MissingToolError } from './names.ts';
import { defaultSettings, Terminal } from './terminal.ts';

vi.mock('../../backends/ptx/ptxas.ts', () => ({
  findPtxas: async () => undefined,
  assemble: async () => ({ status: 'missing', searched: [] }),
}));

let said: string;
beforeEach(() => {
  said = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((said += String(text)), true));
});
afterEach(() => vi.restoreAllMocks());

const terminal = (): Terminal => new Terminal({ ...defaultSettings, color: 'never' });

test('without ptxas there is one warning, and no cubins', async () => {
  expect(await ptxasOrWarning(false, terminal())).toBeNull();
  expect(said.match(/^warning\[tool\/ptxas-missing\]/gm)).toHaveLength(1);
  expect(said).toContain('fix: install the CUDA toolkit');
});

test('--require=cubin makes it an error, for exit code 4', async () => {
  await expect(ptxasOrWarning(true, terminal())).rejects.toThrow(MissingToolError);
  expect(said).toBe('');
});
