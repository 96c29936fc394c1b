// A decoded program as bytes: little-endian, without padding. The string table stands at the front, so the rest is
// written first.
import { ByteWriter } from '../../../ir/byte-stream.ts';
import {
  formatVersion,
  immediateForms,
  operandKinds,
  type DecodedFunction,
  type DecodedInstruction,
  type DecodedOperand,
  type DecodedParameter,
  type DecodedProgram,
  type DecodedVariable,
  type Signature,
} from './program.ts';

const kindNumber = Object.fromEntries(operandKinds.map((kind, i) => [kind, i])) as Record<
  DecodedOperand['kind'],
  number
>;

class Encoder {
  readonly #out = new ByteWriter();
  readonly #strings = new Map<string, number>();

  program(p: DecodedProgram): Uint8Array {
    const out = this.#out;
    out.u8(p.ptxMajor);
    out.u8(p.ptxMinor);
    this.#string(p.target);
    out.u8(64);
    out.each(p.files, ({ index, name }) => {
      out.u32(index);
      this.#string(name);
    });
    out.each(p.variables, (v) => this.#variable(v));
    out.each(p.functions, (f) => this.#function(f));

    const front = new ByteWriter();
    const utf8 = new TextEncoder();
    front.raw(utf8.encode('DPTX'));
    front.u32(formatVersion);
    front.each([...this.#strings.keys()], (text) => {
      const bytes = utf8.encode(text);
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

  #variable(v: DecodedVariable): void {
    const out = this.#out;
    this.#string(v.name);
    out.u8(v.space);
    out.u32(v.align);
    out.u64(v.size);
    out.flag(v.isExtern);
    out.u32(v.init.length);
    out.raw(v.init);
    out.each(v.relocations, (r) => {
      out.u64(r.at);
      out.u8(r.to === 'variable' ? 0 : 1);
      out.u32(r.index);
      out.u64(r.addend);
      out.flag(r.isGeneric);
    });
  }

  #parameters(all: readonly DecodedParameter[]): void {
    const out = this.#out;
    out.each(all, (p) => {
      this.#string(p.name);
      out.u8(p.type);
      out.u32(p.align);
      out.u64(p.size);
      out.u64(p.offset);
    });
  }

  #signature(s: Signature): void {
    this.#parameters(s.parameters);
    this.#parameters(s.returns);
  }

  #function(f: DecodedFunction): void {
    const out = this.#out;
    const { limits } = f;
    this.#string(f.name);
    out.flag(f.isEntry);
    out.flag(f.isExtern);
    this.#signature(f);
    for (const n of [...limits.reqntid, ...limits.maxntid]) out.u32(n);
    out.u32(limits.minnctapersm);
    out.u32(limits.maxnctapersm);
    out.u32(limits.maxnreg);
    for (const n of limits.reqnctapercluster) out.u32(n);
    out.u32(limits.maxclusterrank);
    out.flag(limits.explicitcluster);
    out.flag(limits.noreturn);
    for (const n of f.registers) out.u32(n);
    out.each(f.registerNames, (r) => {
      out.u8(r.class);
      out.u32(r.index);
      this.#string(r.name);
    });
    out.each(f.branchTables, (table) => out.each(table, (target) => out.u32(target)));
    out.each(f.prototypes, (p) => this.#signature(p));
    out.each(f.instructions, (i) => this.#instruction(i));
  }

  #instruction(i: DecodedInstruction): void {
    const out = this.#out;
    out.u16(i.mnemonic);
    out.u8(i.modifiers.length);
    for (const m of i.modifiers) out.u16(m);
    out.u8(i.guard === null ? 0 : i.guard.negated ? 2 : 1);
    if (i.guard) out.u32(i.guard.predicate);
    out.u32(i.line);
    out.u16(Math.min(i.column, 0xffff));
    out.u32(i.loc.file);
    out.u32(i.loc.line);
    out.u16(Math.min(i.loc.column, 0xffff));
    this.#operands(i.operands);
  }

  #operands(all: readonly DecodedOperand[]): void {
    this.#out.u8(all.length);
    for (const o of all) this.#operand(o);
  }

  #operand(o: DecodedOperand): void {
    const out = this.#out;
    out.u8(kindNumber[o.kind]);
    switch (o.kind) {
      case 'register':
        out.u8(o.class);
        out.u32(o.index);
        break;
      case 'immediate':
        out.u8(immediateForms.indexOf(o.form));
        out.u64(o.bits);
        break;
      case 'address':
        this.#operand(o.base);
        out.u64(o.offset);
        break;
      case 'label':
        out.u32(o.instruction);
        break;
      case 'vector':
        this.#operands(o.items);
        break;
      case 'special':
        out.u8(o.id);
        break;
      case 'symbol':
        out.u32(o.variable);
        out.u64(o.offset);
        break;
      case 'sink':
        break;
      case 'pair':
        this.#operand(o.first);
        this.#operand(o.second);
        break;
      case 'parameter':
        out.u32(o.index);
        out.flag(o.isReturn);
        out.u64(o.offset);
        break;
      case 'notPredicate':
      case 'function':
      case 'branchTable':
      case 'prototype':
        out.u32(o.index);
        break;
      case 'tensor':
        this.#operand(o.map);
        this.#operands(o.coordinates);
        break;
    }
  }
}

/** The program's bytes, the same for the same program. */
export const encodeProgram = (program: DecodedProgram): Uint8Array => new Encoder().program(program);
