// A plan file as bytes: little-endian, without padding. Strings stand in a table at the front, so the rest is written
// first. read.ts and runtime/core/plan/load.cpp read it.
import { ByteWriter } from '../../ir/byte-stream.ts';
import {
  bases,
  mapSwizzles,
  modes,
  none,
  parameterKinds,
  planFileMagic,
  planFileVersion,
  stepKinds,
  type FileExtent,
  type FileFunction,
  type FileKernel,
  type FileParameter,
  type FilePlace,
  type FileStep,
  type FileType,
  type FileValue,
  type FileWeight,
  type PlanFile,
} from './form.ts';

/** Refuses what does not fit: a plan that is cut would run somewhere else. */
class Writer extends ByteWriter {
  override u32(value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > none)
      throw new RangeError(`plan file: ${value} is no u32`);
    super.u32(value);
  }
  override u64(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`plan file: ${value} is no u64`);
    super.u64(value);
  }
}

class Encoder {
  readonly #out = new Writer();
  readonly #strings = new Map<string, number>();

  file(f: PlanFile): Uint8Array {
    const out = this.#out;
    out.each(f.dims, ({ name, bound, ragged }) => {
      this.#string(name);
      out.u64(bound);
      out.u32(ragged?.of ?? none);
      if (!ragged) return;
      out.u64(ragged.per);
      out.u64(ragged.groups);
      out.u64(ragged.align);
    });
    out.each(f.types, (t) => this.#type(t));
    out.each(f.states, (s) => {
      this.#string(s.name);
      this.#string(s.policy);
      out.u32(s.page);
    });
    out.each(f.weights, (w) => this.#weight(w));
    out.u64(f.weightBytes);
    out.each(f.kernels, (k) => this.#kernel(k));
    out.each(f.functions, (g) => this.#function(g));

    const front = new Writer();
    const utf8 = new TextEncoder();
    front.raw(utf8.encode(planFileMagic));
    front.u32(planFileVersion);
    front.each([...this.#strings.keys()], (s) => {
      const bytes = utf8.encode(s);
      front.u32(bytes.length);
      front.raw(bytes);
    });
    front.raw(out.take());
    return front.take();
  }

  #string(text: string): void {
    let index = this.#strings.get(text);
    if (index === undefined) this.#strings.set(text, (index = this.#strings.size));
    this.#out.u32(index);
  }

  #extent(e: FileExtent): void {
    this.#out.u64(e.constant);
    this.#out.each(e.terms, ({ dim, factor }) => {
      this.#out.u32(dim);
      this.#out.u64(factor);
    });
  }

  #type(t: FileType): void {
    this.#string(t.text);
    this.#out.each(t.components, (c) => {
      this.#string(c.name);
      this.#string(c.dtype);
      this.#out.u32(c.bits);
      this.#out.each(c.shape, (e) => this.#extent(e));
    });
  }

  #place({ base, index, offset }: FilePlace): void {
    this.#out.u8(bases.indexOf(base));
    this.#out.u32(index);
    this.#out.u64(offset);
  }

  #value(v: FileValue): void {
    this.#out.u32(v.type);
    this.#out.each(v.places, (p) => this.#place(p));
  }

  #weight({ name, type, layers, offset, stride }: FileWeight): void {
    const out = this.#out;
    this.#string(name);
    out.u32(type);
    out.u8(layers ? 1 : 0);
    out.u32(layers?.[0] ?? 0);
    out.u32(layers ? layers[1] - layers[0] : 1);
    out.u64(offset);
    out.u64(stride);
  }

  #kernel(k: FileKernel): void {
    const out = this.#out;
    this.#string(k.name);
    out.u32(k.threads);
    for (const n of k.cluster) out.u32(n);
    out.u32(k.dynamicSharedBytes);
    out.u32(k.parameterBytes);
    out.u64(k.scratchBytes);
    out.each(k.grid, ({ extent, per }) => {
      this.#extent(extent);
      out.u64(per);
    });
    out.u64(k.atMost);
    out.each(k.parameters, (p) => this.#parameter(p));
  }

  #parameter(p: FileParameter): void {
    const out = this.#out;
    out.u8(parameterKinds.indexOf(p.kind));
    out.u32(p.at);
    if (p.kind === 'u32') return out.u32(p.dim);
    out.u32(p.value);
    out.u32(p.component);
    out.u64(p.offset);
    if (p.kind === 'pointer') return;
    out.u8(p.element);
    out.u8(mapSwizzles.indexOf(p.swizzle));
    out.each(p.dims, (e) => this.#extent(e));
    out.each(p.strides, (e) => this.#extent(e));
    out.each(p.box, (n) => out.u32(n));
  }

  #step(s: FileStep): void {
    const out = this.#out;
    out.u8(stepKinds.indexOf(s.kind));
    this.#string(s.at);
    if (s.kind === 'launch') {
      out.u32(s.kernel);
      out.u32(s.operands);
      return out.each(s.values, (v) => this.#value(v));
    }
    out.u32(s.function);
    out.u32(s.start);
    out.u32(s.stop);
    out.u64(s.arena);
    out.each(s.operands, (o) => {
      out.u8(modes.indexOf(o.mode));
      this.#value(o.value);
      if (o.mode === 'carry') this.#value(o.result!);
    });
  }

  #function(f: FileFunction): void {
    const out = this.#out;
    this.#string(f.name);
    out.u8(f.isEntry ? 1 : 0);
    out.each(f.arguments, (a) => {
      this.#string(a.name);
      out.u32(a.type);
      out.u8(a.inout ? 1 : 0);
    });
    out.u64(f.arenaBytes);
    out.each(f.steps, (s) => this.#step(s));
    out.each(f.results, (v) => this.#value(v));
  }
}

/** Equal plan files give equal bytes. Throws RangeError for a number that has no place in the form. */
export const encodePlanFile = (file: PlanFile): Uint8Array => new Encoder().file(file);
