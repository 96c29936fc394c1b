// Which CTA computes which tile, and the same in TypeScript for the tests: a persistent loop over tiles, in bands of
// `rasterRows` M blocks so that the CTAs of one wave share rows of A and columns of B in L2.
import type { Kernel } from '../../ptx/builder.ts';
import { at, special, type Reg } from '../../ptx/operands.ts';
import { groupAlignment, type Fp8GemmShape } from './plan.ts';

/** A tile's place: first row of A, first column of the output, expert of a grouped GEMM. */
export interface TileRegisters {
  readonly row: Reg<'u32'>;
  readonly column: Reg<'u32'>;
  readonly expert: Reg<'s32'> | undefined;
}

/** Values that all roles need, computed once at the kernel's start. */
export interface SchedulerRegisters {
  /** Rows of A that are in use: M, or the padded rows of all experts. */
  readonly rows: Reg<'u32'>;
  readonly expertOfBlock: Reg<'u64'> | undefined;
  /** Token of each row of a grouped GEMM, negative on padding. */
  readonly tokenOf: Reg<'u64'> | undefined;
}

/**
 * Emits `for (tile = ctaid; tile < tiles; tile += nctaid)` around `body`. In a grouped GEMM blocks without an expert
 * (-1) are skipped, by every role alike, so that the ring stays in step.
 */
export function forEachTile(
  k: Kernel,
  shape: Fp8GemmShape,
  { rows, expertOfBlock }: SchedulerRegisters,
  hint: string,
  body: (tile: TileRegisters) => void,
): void {
  const { bm, bn } = shape.plan.tile;
  const tile = k.reg('u32', 'tile');
  const rowTiles = k.reg('u32', 'rowTiles');
  const tiles = k.reg('u32', 'tiles');
  k.mov.u32(tile, special.ctaidX);
  k.add.u32(rowTiles, rows, bm - 1);
  k.shr.u32(rowTiles, rowTiles, Math.log2(bm));
  k.mul.lo.u32(tiles, rowTiles, shape.columnTiles);
  k.loop(`${hint}_tile`, ({ done }) => {
    const finished = k.reg('pred', 'finished');
    k.setp.ge.u32(finished, tile, tiles);
    k.when(finished, () => k.bra(done));
    const next = k.label(`${hint}_next_tile`);
    const place = placeOf(k, shape, tile, rowTiles);
    let expert: Reg<'s32'> | undefined;
    if (expertOfBlock) {
      expert = k.reg('s32', 'expert');
      const entry = k.reg('u64');
      const block = k.reg('u32');
      const unused = k.reg('pred', 'unused');
      k.shr.u32(block, place.row, Math.log2(groupAlignment));
      k.mad.wide.u32(entry, block, 4, expertOfBlock);
      k.ld.global.s32(expert, at(entry));
      k.setp.lt.s32(unused, expert, 0);
      k.when(unused, () => k.bra(next));
    }
    body({ ...place, expert });
    k.place(next);
    const ctas = k.reg('u32');
    k.mov.u32(ctas, special.nctaidX);
    k.add.u32(tile, tile, ctas);
  });

  function placeOf(
    k: Kernel,
    { columnTiles, rasterRows }: Fp8GemmShape,
    tile: Reg<'u32'>,
    rowTiles: Reg<'u32'>,
  ): Omit<TileRegisters, 'expert'> {
    const band = k.reg('u32');
    const inBand = k.reg('u32');
    const firstRow = k.reg('u32');
    const height = k.reg('u32');
    const column = k.reg('u32', 'column');
    const row = k.reg('u32', 'row');
    const bandTiles = rasterRows * columnTiles;
    k.div.u32(band, tile, bandTiles);
    k.mul.lo.u32(inBand, band, bandTiles);
    k.sub.u32(inBand, tile, inBand);
    k.mul.lo.u32(firstRow, band, rasterRows);
    // The last band may be lower.
    k.sub.u32(height, rowTiles, firstRow);
    k.min.u32(height, height, rasterRows);
    k.div.u32(column, inBand, height);
    k.mul.lo.u32(row, column, height);
    k.sub.u32(row, inBand, row);
    k.add.u32(row, row, firstRow);
    k.mul.lo.u32(row, row, bm);
    k.mul.lo.u32(column, column, bn);
    return { row, column };
  }
}

/** What the emitted code computes for a tile index: first row and column. */
export function tilePlace(shape: Fp8GemmShape, rows: number, tile: number): { row: number; column: number } {
  const { bm, bn } = shape.plan.tile;
  const rowTiles = Math.ceil(rows / bm);
  const bandTiles = shape.rasterRows * shape.columnTiles;
  const band = Math.floor(tile / bandTiles);
  const inBand = tile - band * bandTiles;
  const firstRow = band * shape.rasterRows;
  const height = Math.min(rowTiles - firstRow, shape.rasterRows);
  const column = Math.floor(inBand / height);
  return { row: (firstRow + inBand - column * height) * bm, column: column * bn };
}
