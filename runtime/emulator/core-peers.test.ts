// Several devices in one machine: peer access by direction, flags and atomics across devices, blocks admitted per device.
import { expect, test } from 'vitest';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import { moduleOf, pattern, summary, waitForBar, type Argument } from './async.testing.ts';
import type { DeviceHandle, DeviceSettings, LaunchRequest, Report } from './device.ts';
import { loadCore } from './load-core.ts';

const core = loadCore();

interface Shape {
  readonly grid?: number;
  readonly block?: number;
  readonly dynamicSharedBytes?: number;
}

/** A launch of the module's first kernel on a device. */
function prepare(device: DeviceHandle, ptx: string, args: readonly Argument[], shape: Shape = {}) {
  const { program, diagnostics } = decodePtx(ptx, 'test.ptx');
  if (!program) throw new Error(diagnostics.map((d) => d.message).join('\n'));
  const handle = core.loadProgram(device, program);
  const [kernel] = core.describeProgram(handle).kernels;
  const parameterBlock = new Uint8Array(kernel.parameterBytes);
  const view = new DataView(parameterBlock.buffer);
  for (const [i, value] of args.entries()) {
    const { offset } = kernel.parameters[i];
    if (typeof value === 'number') view.setUint32(offset, value, true);
    else if (typeof value === 'bigint') view.setBigUint64(offset, value, true);
    else parameterBlock.set(value, offset);
  }
  const request: LaunchRequest = {
    kernel: kernel.name,
    grid: [shape.grid ?? 1, 1, 1],
    block: [shape.block ?? 32, 1, 1],
    cluster: [0, 0, 0],
    dynamicSharedBytes: shape.dynamicSharedBytes ?? 0,
    parameterBlock,
  };
  return { device, program: handle, request };
}

const words = (device: DeviceHandle, address: bigint, count: number): number[] => [
  ...new Uint32Array(core.read(device, address, 4 * count).slice().buffer),
];

function bufferOf(device: DeviceHandle, content: readonly number[] | Uint8Array, name: string): bigint {
  const bytes = content instanceof Uint8Array ? content : new Uint8Array(Uint32Array.from(content).buffer);
  const address = core.allocate(device, bytes.length, name);
  core.write(device, address, bytes);
  return address;
}

function devicesOf(count: number, settings: DeviceSettings = {}, peers = true): DeviceHandle[] {
  const devices = core.createDevices(count, settings);
  if (peers) for (const a of devices) for (const b of devices) if (a !== b) core.setPeerAccess(a, b, true);
  return devices;
}

/** Takes the token of its own mailbox (value, turn) when its turn comes, and puts it into the next one's. */
const ring = moduleOf(
  '.param .u64 mine, .param .u64 next, .param .u32 rank, .param .u32 ranks, .param .u32 rounds, .param .u64 seen',
  `ld.param.u64 %rd0, [mine];
ld.param.u64 %rd1, [next];
ld.param.u64 %rd2, [seen];
ld.param.u32 %r0, [rank];
ld.param.u32 %r1, [ranks];
ld.param.u32 %r2, [rounds];
mov.u32 %r3, 0;
ROUND:
mad.lo.u32 %r4, %r3, %r1, %r0;
SPIN:
ld.acquire.sys.global.u32 %r5, [%rd0+4];
setp.ne.u32 %p0, %r5, %r4;
@%p0 bra SPIN;
ld.global.u32 %r6, [%rd0];
st.global.u32 [%rd2], %r6;
add.u64 %rd2, %rd2, 4;
add.u32 %r6, %r6, %r0;
add.u32 %r6, %r6, 1;
st.global.u32 [%rd1], %r6;
add.u32 %r4, %r4, 1;
st.release.sys.global.u32 [%rd1+4], %r4;
add.u32 %r3, %r3, 1;
setp.lt.u32 %p1, %r3, %r2;
@%p1 bra ROUND;`,
);

test.each([0, 1, 7, 1234])('a token goes round a ring of four devices by flags, seed %i', (seed) => {
  const [ranks, rounds] = [4, 5];
  const devices = devicesOf(ranks, { seed, checks: ['all'] });
  const boxes = devices.map((d, r) => bufferOf(d, [100, r === 0 ? 0 : 0xffffffff], 'box'));
  const seen = devices.map((d) => core.allocate(d, 4 * rounds, 'seen'));
  // The one whose turn comes first is launched last.
  const launches = devices
    .map((d, r) =>
      prepare(d, ring, [boxes[r], boxes[(r + 1) % ranks], r, ranks, rounds, seen[r]], { block: 1 }),
    )
    .reverse();
  expect(summary(core.launchTogether(launches).reports)).toEqual([]);
  const round = (ranks * (ranks + 1)) / 2;
  for (const [r, device] of devices.entries())
    expect(words(device, seen[r], rounds)).toEqual(
      Array.from({ length: rounds }, (_, k) => 100 + k * round + (r * (r + 1)) / 2),
    );
});

const store = moduleOf(
  '.param .u64 to',
  'ld.param.u64 %rd0, [to];\nmov.u32 %r0, 5;\nst.global.u32 [%rd0], %r0;',
);

test('peer access has a direction; without it the report says whose memory it is', () => {
  const [a, b, c] = devicesOf(3, { stopAtError: false }, false);
  core.setPeerAccess(a, b, true);
  const onB = bufferOf(b, [1, 2, 3, 4], 'table');
  const onA = bufferOf(a, [0], 'other');
  const run = (on: DeviceHandle, to: bigint): readonly Report[] =>
    core.launchTogether([prepare(on, store, [to], { block: 1 })]).reports;
  expect(run(a, onB + 8n)).toEqual([]);
  expect(words(b, onB, 4)).toEqual([1, 2, 5, 4]);

  const [fromB] = run(b, onA);
  expect(fromB).toMatchObject({ code: 'emu/out-of-bounds', severity: 'error', kernel: 'k' });
  expect(fromB.device).toBe(core.deviceOrdinal(b));
  expect(fromB.message).toContain(
    `byte 0 of other in the memory of device ${core.deviceOrdinal(a)}: peer access from device ${core.deviceOrdinal(b)} is not enabled`,
  );
  expect(fromB.fix).toContain('enable peer access');
  expect(words(a, onA, 1)).toEqual([0]);
  expect(summary(run(c, onB))).toEqual(['error emu/out-of-bounds']);

  // Past the end of a peer's buffer, and in one that the peer has freed.
  expect(run(a, onB + 16n)[0].message).toContain(
    `the peer device ${core.deviceOrdinal(b)} is table, 16 bytes`,
  );
  core.free(b, onB);
  expect(summary(run(a, onB))).toEqual(['error emu/use-after-free']);
  core.setPeerAccess(a, b, false);
  expect(run(a, onB)[0].message).toContain('is not enabled');
});

test('atomics of all devices meet in one word', () => {
  const ptx = moduleOf(
    '.param .u64 counter, .param .u64 out',
    `ld.param.u64 %rd0, [counter];
ld.param.u64 %rd1, [out];
mov.u32 %r0, %tid.x;
mov.u32 %r1, %ctaid.x;
mov.u32 %r2, %ntid.x;
mad.lo.u32 %r0, %r1, %r2, %r0;
mul.wide.u32 %rd2, %r0, 4;
add.u64 %rd1, %rd1, %rd2;
atom.add.sys.global.u32 %r3, [%rd0], 1;
st.global.u32 [%rd1], %r3;`,
  );
  const devices = devicesOf(3, { seed: 5 });
  const counter = bufferOf(devices[2], [0], 'counter');
  const outs = devices.map((d) => core.allocate(d, 4 * 256, 'out'));
  const launches = devices.map((d, r) => prepare(d, ptx, [counter, outs[r]], { grid: 4, block: 64 }));
  expect(summary(core.launchTogether(launches).reports)).toEqual([]);
  expect(words(devices[2], counter, 1)).toEqual([768]);
  const tickets = devices.flatMap((d, r) => words(d, outs[r], 256)).sort((x, y) => x - y);
  expect(tickets).toEqual(Array.from({ length: 768 }, (_, k) => k));
});

/** Says that it is there, then waits until the other one is. */
const meet = moduleOf(
  '.param .u64 mine, .param .u64 other',
  `ld.param.u64 %rd0, [mine];
ld.param.u64 %rd1, [other];
mov.u32 %r0, 1;
st.release.sys.global.u32 [%rd0], %r0;
SPIN:
ld.acquire.sys.global.u32 %r1, [%rd1];
setp.eq.u32 %p0, %r1, 0;
@%p0 bra SPIN;`,
);

test('each device admits blocks to its own multiprocessors', () => {
  // A block takes the whole of a device that has one SM.
  const shape = { block: 1, dynamicSharedBytes: 200 * 1024 };
  const settings = { sms: 1, stopAtError: false, maxInstructions: 100_000 };
  const [a, b] = devicesOf(2, settings);
  const flags = [bufferOf(a, [0], 'a'), bufferOf(b, [0], 'b')];
  const [first, second] = [prepare(a, meet, flags, shape), prepare(b, meet, [...flags].reverse(), shape)];
  expect(summary(core.launchTogether([first, second]).reports)).toEqual([]);

  for (const [d, address] of [
    [a, flags[0]],
    [b, flags[1]],
  ] as const)
    core.write(d, address, new Uint8Array(4));
  // On one device the second waits for room that the first never gives.
  const both = [prepare(a, meet, flags, shape), prepare(a, meet, [...flags].reverse(), shape)];
  expect(summary(core.launchTogether(both).reports)).toEqual(['error emu/too-long']);
});

const fetchBytes = moduleOf(
  '.param .u64 from, .param .u64 to',
  `.shared .align 128 .b8 box[256];
.shared .align 8 .b64 bar;
ld.param.u64 %rd0, [from];
ld.param.u64 %rd1, [to];
mov.u32 %r0, bar;
mov.u32 %r1, box;
mbarrier.init.shared::cta.b64 [bar], 1;
fence.mbarrier_init.release.cluster;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 256;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd0], 256, [%r0];
${waitForBar('WAIT')}
cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], 256;
cp.async.bulk.commit_group;
cp.async.bulk.wait_group 0;`,
);

test('bulk copies read and write the memory of peers', () => {
  const [a, b] = devicesOf(2, { stopAtError: false }, false);
  const bytes = pattern(256);
  const [from, to] = [bufferOf(b, bytes, 'from'), bufferOf(b, new Uint8Array(256), 'to')];
  const launch = prepare(a, fetchBytes, [from, to], { block: 1 });
  const refused = core.launchTogether([launch]).reports[0];
  expect(refused.code).toBe('emu/out-of-bounds');
  expect(refused.message).toContain('byte 0 of from in the memory of device');
  core.setPeerAccess(a, b, true);
  expect(summary(core.launchTogether([launch]).reports)).toEqual([]);
  expect(core.read(b, to, 256)).toEqual(bytes);
});

test('what cannot be peers is refused', () => {
  const [a] = core.createDevices(2);
  const [other] = core.createDevices(2);
  const refused = { code: 'emu/bad-argument' };
  const thrown = (f: () => unknown): unknown => {
    try {
      f();
    } catch (error) {
      return error;
    }
    return undefined;
  };
  expect(thrown(() => core.setPeerAccess(a, other, true))).toMatchObject(refused);
  expect(thrown(() => core.setPeerAccess(a, a, true))).toMatchObject(refused);
  expect(thrown(() => core.createDevices(0))).toMatchObject(refused);
  const on = (d: DeviceHandle) => prepare(d, store, [bufferOf(d, [0], 'x')], { block: 1 });
  expect(thrown(() => core.launchTogether([on(a), on(other)]))).toMatchObject(refused);
  expect(thrown(() => core.launchTogether([]))).toMatchObject(refused);
});
