// The plan in the form that executors run (runtime/core/plan/plan.h is the other side): names are numbers, every value
// has a place for each of its arrays, and a function that is repeated under several prefixes or for several ranges of
// layers stands once for each, so that a weight's place needs no search. Plain data; encode.ts makes the bytes.

export const planFileMagic = 'DPLN';
export const planFileVersion = 1;

/** Stands for "none" where a number is expected. */
export const none = 0xffffffff;

/** constant + sum of factor · dim; dims by number. */
export interface FileExtent {
  readonly constant: number;
  readonly terms: readonly { readonly dim: number; readonly factor: number }[];
}

export interface FileDim {
  readonly name: string;
  /** 0: no bound. */
  readonly bound: number;
  /** Follows from another dim. */
  readonly ragged?: {
    readonly of: number;
    readonly per: number;
    readonly groups: number;
    readonly align: number;
  };
}

export interface FileComponent {
  readonly name: string;
  readonly dtype: string;
  readonly bits: number;
  readonly shape: readonly FileExtent[];
}

export interface FileType {
  readonly text: string;
  readonly components: readonly FileComponent[];
}

// Positions in these lists are the numbers in the file.
export const bases = ['arena', 'argument', 'weight'] as const;
export const modes = ['same', 'carry', 'indexed'] as const;
export const parameterKinds = ['pointer', 'u32', 'tensorMap'] as const;
export const stepKinds = ['launch', 'repeat'] as const;
export const mapSwizzles = ['none', '32B', '64B', '128B'] as const;

/** Where an array begins. `index`: an argument's array, counted through all arguments; a weight. */
export interface FilePlace {
  readonly base: (typeof bases)[number];
  readonly index: number;
  readonly offset: number;
}

export interface FileValue {
  readonly type: number;
  /** By component. */
  readonly places: readonly FilePlace[];
}

export interface FileState {
  readonly name: string;
  readonly policy: string;
  readonly page: number;
}

export interface FileWeight {
  readonly name: string;
  readonly type: number;
  /** [start, stop), or null outside of repeats. */
  readonly layers: readonly [number, number] | null;
  readonly offset: number;
  readonly stride: number;
}

/** `at`: byte of the parameter block. `value` none: the kernel's scratch memory. */
export type FileParameter =
  | { readonly kind: 'u32'; readonly at: number; readonly dim: number }
  | {
      readonly kind: 'pointer';
      readonly at: number;
      readonly value: number;
      readonly component: number;
      readonly offset: number;
    }
  | {
      readonly kind: 'tensorMap';
      readonly at: number;
      readonly value: number;
      readonly component: number;
      readonly offset: number;
      /** As tensormap.replace numbers it. */
      readonly element: number;
      readonly swizzle: (typeof mapSwizzles)[number];
      readonly dims: readonly FileExtent[];
      readonly strides: readonly FileExtent[];
      readonly box: readonly number[];
    };

export interface FileKernel {
  readonly name: string;
  readonly threads: number;
  readonly cluster: readonly [number, number, number];
  readonly dynamicSharedBytes: number;
  readonly parameterBytes: number;
  /** 0: none. */
  readonly scratchBytes: number;
  readonly grid: readonly { readonly extent: FileExtent; readonly per: number }[];
  /** 0: no cap. */
  readonly atMost: number;
  readonly parameters: readonly FileParameter[];
}

export type FileStep =
  | {
      readonly kind: 'launch';
      readonly at: string;
      readonly kernel: number;
      /** How many of the values are operands; results follow. */
      readonly operands: number;
      readonly values: readonly FileValue[];
    }
  | {
      readonly kind: 'repeat';
      readonly at: string;
      readonly function: number;
      readonly start: number;
      readonly stop: number;
      readonly arena: number;
      readonly operands: readonly FileOperand[];
    };

export interface FileOperand {
  readonly mode: (typeof modes)[number];
  readonly value: FileValue;
  /** Of a carried one. */
  readonly result?: FileValue;
}

export interface FileFunction {
  readonly name: string;
  readonly isEntry: boolean;
  readonly arguments: readonly { readonly name: string; readonly type: number; readonly inout: boolean }[];
  readonly arenaBytes: number;
  readonly steps: readonly FileStep[];
  readonly results: readonly FileValue[];
}

export interface PlanFile {
  /** Those of the module, then `pages`: columns of the page table. */
  readonly dims: readonly FileDim[];
  readonly types: readonly FileType[];
  readonly states: readonly FileState[];
  /** In the order of the plan's. */
  readonly weights: readonly FileWeight[];
  readonly weightBytes: number;
  readonly kernels: readonly FileKernel[];
  /** A function stands behind those that it repeats. */
  readonly functions: readonly FileFunction[];
}
