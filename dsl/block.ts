// Blocks: functions that are traced once and called any number of times. A model of 61 layers is two blocks and two
// repeats, before and after every pass.
import { currentSpan, report, writtenParameters } from './context.ts';
import { poison } from './tensor.ts';
import { attempt, refusePoison, type FunctionTrace } from './trace.ts';
import {
  checkOwners,
  definitions,
  handlesFor,
  traceBlock,
  updateStates,
  valueOf,
  type Definition,
} from './traced.ts';
import { hasPoison, leavesOf } from './tree.ts';
import { describe } from './words.ts';

/** A function of the model: call it with tensors, positions, caches, and plain values. */
export interface Block<P extends readonly unknown[], R> {
  (...args: P): R;
  readonly blockName: string;
  /** The same block with its weights under another prefix: `expert.at('mlp.first')(x)`. */
  at(prefix: string): Block<P, R>;
}

/** Names of a function's parameters where they are plain names. */
function parameterNames(f: (...args: never[]) => unknown): readonly string[] {
  const head = /^(?:async\s*)?(?:function\s*[\w$]*\s*)?\(([^()]*)\)|^([\w$]+)\s*=>/.exec(f.toString());
  const list = head?.[1] ?? head?.[2] ?? '';
  return list.split(',').map((p) => /^[\w$]+/.exec(p.trim())?.[0] ?? '');
}

/**
 * Makes a block: `block('self_attn', (x: Tensor<['tokens', 'hidden']>, at: Positions) => …)`. Weights inside have
 * names relative to the call's prefix, which is the block's name and a dot unless `prefix` says otherwise ('' for
 * none). Traced once per list of argument types, whatever the number of calls.
 */
export function block<P extends readonly unknown[], R>(
  name: string,
  run: (...args: P) => R,
  { prefix = `${name}.` }: { readonly prefix?: string } = {},
): Block<P, R> {
  if (typeof name !== 'string' || !/^[A-Za-z_][A-Za-z0-9_.]*$/.test(name) || typeof run !== 'function')
    report({
      code: 'dsl/bad-block',
      message: 'a block needs a name of letters, digits and _, and a function',
      label: `block(${describe(name)}, ${describe(run)})`,
      fix: `block('self_attn', (x: Tensor<['tokens', 'hidden']>) => …)`,
    });
  checkPrefix(prefix);
  const definition: Definition = {
    name,
    run,
    parameters: writtenParameters() ?? parameterNames(run),
    declaredAt: currentSpan(),
  };
  return callable(definition, prefix) as Block<P, R>;
}

/** Refuses what cannot stand before a weight's name. */
function checkPrefix(prefix: unknown): void {
  if (typeof prefix === 'string' && /^([A-Za-z0-9_][A-Za-z0-9_.]*\.)?$/.test(prefix)) return;
  report({
    code: 'dsl/bad-name',
    message: 'a prefix is the beginning of checkpoint names, with its dot: letters, digits, _ and .',
    label: `this is ${describe(prefix)}`,
    fix: `write it like 'mlp.', or '' for none`,
  });
}

function callable(definition: Definition, prefix: string): Block<never[], unknown> {
  const call = (...args: never[]): unknown =>
    attempt(definition.name, (t) => callBlock(t, definition, prefix, args));
  definitions.set(call, definition);
  return Object.assign(call, {
    blockName: definition.name,
    at: (other: string) => {
      const next = other === '' || String(other).endsWith('.') ? other : `${other}.`;
      checkPrefix(next);
      return callable(definition, next);
    },
  });
}

function callBlock(
  t: FunctionTrace,
  definition: Definition,
  prefix: string,
  args: readonly unknown[],
): unknown {
  if (hasPoison(args)) refusePoison(poison);
  const leaves = leavesOf(args).map((l) => l.handle);
  checkOwners(t, definition.name, leaves);
  const traced = traceBlock(t.module, definition, args);
  // After a mistake inside, what comes out may be anything: the caller goes on without it.
  if (!traced.result || !traced.clean) return poison;
  const outs = t.op('call', leaves.map(valueOf), { callee: traced.fn.name, prefix }, null, definition.name);
  updateStates(leaves, outs.slice(traced.results.length));
  return handlesFor(t, traced, outs, (h) => h);
}
