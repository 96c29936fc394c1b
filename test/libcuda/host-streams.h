// Scenarios of host.cpp: work of several streams, devices and threads.
#pragma once
#include "host.h"

// Kernels of two streams that wait for each other; order by events and by the default stream; host functions.
static void streams() {
  open();
  CUstream a, b;
  CHECK(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
  CHECK(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
  CUdeviceptr flag = bufferOf(4), out = bufferOf(4), counter = bufferOf(4);
  CHECK(cuMemsetD32(flag, 0, 1));
  CHECK(cuMemsetD32(out, 0, 1));
  CHECK(cuMemsetD32(counter, 0, 1));
  unsigned five = 5, result = 0;
  CHECK(launch(functionOf("wait_for"), 1, 1, a, {&flag, &five, &out}));
  EXPECT(cuStreamQuery(a) == CUDA_ERROR_NOT_READY);
  CHECK(launch(functionOf("set_flag"), 1, 1, b, {&flag, &five}));
  CHECK(cuStreamSynchronize(a));
  CHECK(cuMemcpyDtoH(&result, out, 4));
  EXPECT(result == 6);

  // The host sets a flag in its own memory while the kernel runs.
  unsigned* pinned;
  CHECK(cuMemHostAlloc(reinterpret_cast<void**>(&pinned), 4, CU_MEMHOSTALLOC_DEVICEMAP));
  *pinned = 0;
  CUdeviceptr seen;
  CHECK(cuMemHostGetDevicePointer(&seen, pinned, 0));
  unsigned nine = 9;
  CHECK(launch(functionOf("wait_for"), 1, 1, a, {&seen, &nine, &out}));
  EXPECT(cuStreamQuery(a) == CUDA_ERROR_NOT_READY);
  *pinned = 9;
  CHECK(cuStreamSynchronize(a));

  // b counts only after a's event; the copy in b comes after that.
  CUevent done;
  CHECK(cuEventCreate(&done, CU_EVENT_DISABLE_TIMING));
  *pinned = 0;
  unsigned seven = 7, copied = 0;
  CHECK(launch(functionOf("wait_for"), 1, 1, a, {&seen, &seven, &out}));
  for (int i = 0; i < 3; ++i) CHECK(launch(functionOf("count"), 4, 64, a, {&counter}));
  CHECK(cuEventRecord(done, a));
  CHECK(cuStreamWaitEvent(b, done, 0));
  unsigned* target;
  CHECK(cuMemAllocHost(reinterpret_cast<void**>(&target), 4));
  *target = 1;
  CHECK(cuMemcpyDtoHAsync(target, counter, 4, b));
  EXPECT(cuStreamQuery(b) == CUDA_ERROR_NOT_READY && *target == 1);
  CHECK(cuLaunchHostFunc(b, [](void* p) { *static_cast<unsigned*>(p) += 1; }, target));
  *pinned = 7;
  CHECK(cuStreamSynchronize(b));
  EXPECT(*target == 3 * 256 + 1);

  // The default stream waits for a blocking stream, and the other way round.
  CUstream c;
  CHECK(cuStreamCreate(&c, CU_STREAM_DEFAULT));
  CHECK(launch(functionOf("count"), 1, 32, c, {&counter}));
  CHECK(cuMemcpyDtoH(&copied, counter, 4));
  EXPECT(copied == 3 * 256 + 32);
  // A stream that waits for a value in memory.
  CHECK(cuMemsetD32(flag, 0, 1));
  CHECK(cuStreamWaitValue32(a, flag, 2, CU_STREAM_WAIT_VALUE_GEQ));
  CHECK(launch(functionOf("count"), 1, 32, a, {&counter}));
  EXPECT(cuStreamQuery(a) == CUDA_ERROR_NOT_READY);
  CHECK(cuStreamWriteValue32(b, flag, 3, 0));
  CHECK(cuCtxSynchronize());
  CHECK(cuMemcpyDtoH(&copied, counter, 4));
  EXPECT(copied == 3 * 256 + 64);
}

// The host waits for what a kernel writes to its memory, and the kernel for the host, without a call in between.
static void poll() {
  open();
  unsigned* pinned;
  CHECK(cuMemAllocHost(reinterpret_cast<void**>(&pinned), 8));
  pinned[0] = pinned[1] = 0;
  CUdeviceptr flag = reinterpret_cast<CUdeviceptr>(pinned), out = flag + 4;
  unsigned one = 1, four = 4;
  CHECK(launch(functionOf("set_flag"), 1, 1, nullptr, {&out, &one}));
  CHECK(launch(functionOf("wait_for"), 1, 1, nullptr, {&flag, &four, &out}));
  volatile unsigned* seen = pinned;
  while (seen[1] != 1) {
  }
  seen[0] = 4;
  while (seen[1] != 5) {
  }
}

static constexpr unsigned kRanks = 4, kRounds = 6;

static void ringOf(bool threads) {
  struct Rank {
    CUcontext context;
    CUmodule module;
    CUdeviceptr box, seen;
    CUstream stream;
  } ranks[kRanks];
  for (unsigned r = 0; r < kRanks; ++r) {
    ranks[r].context = open(static_cast<int>(r));
    ranks[r].module = module;
    ranks[r].box = bufferOf(8);
    ranks[r].seen = bufferOf(kRounds * 4);
    CHECK(cuStreamCreate(&ranks[r].stream, CU_STREAM_NON_BLOCKING));
    unsigned initial[2] = {100, r == 0 ? 0u : 0xffffffffu};
    CHECK(cuMemcpyHtoD(ranks[r].box, initial, 8));
  }
  auto start = [&](unsigned r) {
    Rank& me = ranks[r];
    Rank& next = ranks[(r + 1) % kRanks];
    CHECK(cuCtxSetCurrent(me.context));
    int can = 0;
    CHECK(cuDeviceCanAccessPeer(&can, static_cast<int>(r), static_cast<int>((r + 1) % kRanks)));
    EXPECT(can);
    CHECK(cuCtxEnablePeerAccess(next.context, 0));
    EXPECT(cuCtxEnablePeerAccess(next.context, 0) == CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
    unsigned rank = r, all = kRanks, rounds = kRounds;
    CHECK(launch(functionOf("ring", me.module), 1, 1, me.stream, {&me.box, &next.box, &rank, &all, &rounds, &me.seen}));
  };
  auto finish = [&](unsigned r) {
    CHECK(cuCtxSetCurrent(ranks[r].context));
    CHECK(cuStreamSynchronize(ranks[r].stream));
    unsigned seen[kRounds];
    CHECK(cuMemcpyDtoH(seen, ranks[r].seen, sizeof seen));
    // A round adds 1 + 2 + ... + ranks; on the way a rank finds what those before it have added.
    for (unsigned k = 0; k < kRounds; ++k) EXPECT(seen[k] == 100 + k * kRanks * (kRanks + 1) / 2 + r * (r + 1) / 2);
  };
  if (!threads) {
    for (unsigned r = 0; r < kRanks; ++r) start(r);
    for (unsigned r = 0; r < kRanks; ++r) finish(r);
    return;
  }
  std::vector<std::thread> all;
  for (unsigned r = 0; r < kRanks; ++r)
    all.emplace_back([&, r] {
      start(r);
      finish(r);
    });
  for (std::thread& t : all) t.join();
}

static void noPeer() {
  open(0);
  CUdeviceptr counter = bufferOf(4);
  CUcontext other;
  CHECK(createContext(&other, 1));
  CHECK(cuMemcpyPeer(counter, nullptr, counter, nullptr, 4));
  CHECK(cuModuleLoadData(&module, ptx.c_str()));
  CHECK(launch(functionOf("count"), 1, 32, nullptr, {&counter}));
  std::printf("without peer access: %s\n", nameOf(cuCtxSynchronize()));
  CUdeviceptr more;
  std::printf("afterwards: %s\n", nameOf(cuMemAlloc(&more, 4)));
  // The first device's context is fine.
  CHECK(cuCtxDestroy(other));
  CHECK(cuMemsetD32(counter, 0, 1));
}
