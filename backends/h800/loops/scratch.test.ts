import { test } from 'vitest';
import { writeFileSync, mkdirSync } from 'node:fs';
import { loadModel } from '../../../dsl/load.ts';
import { traceModel } from '../../../dsl/trace-model.ts';
import { compileModule } from '../../../compiler/compile.ts';
import { emitContraction } from './contraction.ts';
import { emitNestedLoops } from './index.ts';
import { emitRoute } from './route.ts';
import { assemble } from '../../ptx/ptxas.ts';
import { printFunction } from '../../../ir/text/printer.ts';
import { chooseFp8Gemm } from '../gemm/emit.ts';

test('examples', async () => {
  const only = process.env.MODEL ? process.env.MODEL.split(',') : ['tiny', 'deepseek-v3', 'dense-gqa', 'deepseek-v2-lite', 'differential'];
  for (const name of only) for (const precision of ['bf16', 'fp8'] as const) {
    try {
      const dslNamespace = (await import('../../../dsl/index.ts')) as unknown as Readonly<Record<string, unknown>>;
      const loaded = await loadModel(`examples/${name}.ts`, { settings: {}, dslNamespace });
      const { module } = traceModel(loaded.model, { precision, settings: {} });
      const out: string[] = [];
      const c = compileModule(module, {
        target: { name: 'h800', doc: '', memoryBytes: null, choose: (f, m) => { const g = chooseFp8Gemm(f, m); return typeof g === 'string' ? { family: 'loops', settings: {}, why: '' } : g; },
          emit: (f, m) => {
            const start = performance.now();
            try {
              if (f.attributes.bm !== undefined) return { name: 'gemm', ptx: '', family: 'loops', parameters: [], grid: { axes: [] }, threads: 0, cluster: [1, 1, 1], dynamicSharedBytes: 0, staticSharedBytes: 0 };
              if (f.body.some((o) => o.op === 'route')) return emitRoute(f, m);
              if (f.body.some((o) => ['matmul', 'einsum', 'grouped_matmul'].includes(o.op))) return emitContraction(f, m);
              return emitNestedLoops(f, m);
            } catch (e) {
              out.push(`FAIL ${f.name}: ${(e as Error).message}\n${printFunction(f)}`);
              return { name: f.name, ptx: '', family: 'loops', parameters: [], grid: { axes: [] }, threads: 0, cluster: [1, 1, 1], dynamicSharedBytes: 0, staticSharedBytes: 0 };
            } finally {
              const ms = performance.now() - start;
              if (ms > 100) out.push(`SLOW ${f.name} ${ms.toFixed(0)} ms`);
            }
          } },
        disabled: new Set(), verifyEach: false,
      });
      mkdirSync('/tmp/scratch/k', { recursive: true });
      for (const k of c.kernels) {
        if (k.ptx === '' || k.name === 'gemm') continue;
        writeFileSync(`/tmp/scratch/k/${name}_${precision}_${k.name}.ptx`, k.ptx);
        const f = c.module.functions.find((x) => x.name === k.name)!;
        writeFileSync(`/tmp/scratch/k/${name}_${precision}_${k.name}.dsir`, printFunction(f));
        const r = await assemble(k.ptx);
        if (r.status === 'rejected') out.push(`PTXAS ${k.name}: ${JSON.stringify(r.errors)}`);
        else if (r.status === 'assembled') {
          const x = r.kernels[k.name];
          if (process.env.ALL || x.spills.storeBytes > 0 || x.stackBytes > 0 || r.seconds > 0.5 || x.registers > 80) out.push(`${k.name}: ${x.registers} regs, spills ${x.spills.storeBytes}, stack ${x.stackBytes}, ${r.seconds.toFixed(2)} s, lines ${k.ptx.split('\n').length}, threads ${k.threads}, grid ${JSON.stringify(k.grid)}`);
        }
      }
      console.log(`== ${name} ${precision}: ${c.kernels.length} kernels\n${out.join('\n')}`);
    } catch (e) { console.log(`== ${name} ${precision}: ${(e as Error).stack?.slice(0, 600)}`); }
  }
}, 600000);
