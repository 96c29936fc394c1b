// Kernels for the tests of `dsvc emu`.

/** Copies an 8 x 8 box of F32 by tensor map to `out`. One struct: map, out, first column, first row. */
export const tileKernel = `.version 8.0
.target sm_90a
.address_size 64
.visible .entry tile(.param .align 64 .b8 all[144])
{
  .shared .align 128 .b8 box[256];
  .shared .align 8 .b64 bar;
  .reg .pred %other, %done;
  .reg .b32 %t, %bar, %box, %c0, %c1, %at;
  .reg .b64 %map, %out, %step;
  .reg .f32 %v;
  mov.u32 %t, %tid.x;
  mov.u32 %bar, bar;
  mov.u32 %box, box;
  setp.ne.u32 %other, %t, 0;
  @%other bra together;
  mbarrier.init.shared::cta.b64 [%bar], 1;
  fence.mbarrier_init.release.cluster;
  mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], 256;
  mov.b64 %map, all;
  cvta.param.u64 %map, %map;
  ld.param.u32 %c0, [all+136];
  ld.param.u32 %c1, [all+140];
  cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%box], [%map, {%c0, %c1}], [%bar];
together:
  bar.sync 0;
again:
  mbarrier.try_wait.parity.shared::cta.b64 %done, [%bar], 0;
  @!%done bra again;
  shl.b32 %at, %t, 2;
  add.u32 %at, %at, %box;
  ld.shared.f32 %v, [%at];
  ld.param.u64 %out, [all+128];
  mul.wide.u32 %step, %t, 4;
  add.u64 %out, %out, %step;
  st.global.f32 [%out], %v;
  ret;
}
`;
