// One launch of a plan: the kernel's code, its grid and its parameter block at the sizes of the run.
#include <algorithm>
#include <cstring>

#include "executor.h"

namespace dsvc::plan {

using device::Address;

Status Site::arrays(uint32_t k, std::vector<Array>& arrays) const {
  const Value& v = step.values[k];
  arrays.clear();
  for (size_t c = 0; c < v.places.size(); ++c) {
    Array a;
    a.address = executor.address(v.places[c], frame);
    DSVC_TRY(sizes.bytesOf(executor.plan().types[v.type].components[c], a.bytes));
    arrays.push_back(a);
  }
  return Status::ok();
}

std::string Site::text() const {
  std::string s = kernel.name;
  if (layer != kNone) s += ", layer " + std::to_string(layer);
  if (!step.at.empty()) s += " (" + step.at + ")";
  return s;
}

Status Executor::prepare(uint32_t number) {
  Loaded& l = loaded_[number];
  const Kernel& k = plan_.kernels[number];
  if (!l.isReady) {
    Bytes code;
    DSVC_TRY(code_(k, code));
    DSVC_TRY(device_.loadModule(code, l.module));
    if (Status s = device_.function(l.module, k.name, l.function); s.failed()) {
      // The first failure tells what is wrong.
      Status unloaded = device_.unloadModule(l.module);
      return s;
    }
    l.isReady = true;
  }
  if (k.scratchBytes == 0 || l.scratch) return Status::ok();
  Address scratch = 0;
  DSVC_TRY(device_.allocate(k.scratchBytes, "scratch of " + k.name, scratch));
  l.scratch = scratch;
  return device_.fill(scratch, 0, k.scratchBytes);
}

Status Executor::launch(const Frame& frame, uint32_t index, Run& run) {
  const Step& step = frame.function.steps[index];
  Site site{frame.function, index, step, plan_.kernels[step.kernel], frame.layer, run.launches++, *this, frame, run.sizes};
  auto body = [&] {
    DSVC_TRY(prepare(step.kernel));
    if (run.observer) DSVC_TRY(run.observer->before(site));
    DSVC_TRY(issue(site));
    return run.observer ? run.observer->after(site) : Status::ok();
  };
  Status s = body();
  if (s.failed() && s.where.empty()) s.where = site.text();
  return s;
}

namespace {

Status gridOf(const Kernel& k, const Sizes& sizes, uint32_t (&grid)[3]) {
  constexpr uint64_t kMost = 0x7fffffff;
  uint64_t blocks[3] = {1, 1, 1}, all = 1;
  for (size_t a = 0; a < k.grid.size(); ++a) {
    uint64_t n = 0;
    DSVC_TRY(sizes.evaluate(k.grid[a].extent, n));
    blocks[a] = n / k.grid[a].per + (n % k.grid[a].per != 0);
    if (__builtin_mul_overflow(all, blocks[a], &all)) all = ~0ull;
  }
  // A persistent kernel's blocks lie along x.
  if (k.atMost > 0) {
    blocks[0] = std::min(k.atMost, all);
    blocks[1] = blocks[2] = 1;
  }
  for (int a = 0; a < 3; ++a) {
    if (blocks[a] > kMost) return Status::error("plan/grid", "a grid of " + std::to_string(blocks[a]) + " blocks; at most 2147483647", "give smaller sizes");
    grid[a] = static_cast<uint32_t>(blocks[a]);
  }
  return Status::ok();
}

template <class T>
void put(Bytes& block, uint32_t at, const T& value) {
  std::memcpy(block.data() + at, &value, sizeof value);
}

}  // namespace

Status Executor::issue(const Site& site) {
  const Kernel& k = site.kernel;
  const Loaded& loaded = loaded_[site.step.kernel];
  device::Launch launch;
  launch.function = loaded.function;
  launch.tag = site.tag;
  launch.block[0] = k.threads;
  launch.dynamicSharedBytes = k.dynamicSharedBytes;
  std::copy(std::begin(k.cluster), std::end(k.cluster), launch.cluster);
  DSVC_TRY(gridOf(k, site.sizes, launch.grid));
  // Nothing to do: devices refuse empty grids.
  if (std::find(std::begin(launch.grid), std::end(launch.grid), 0u) != std::end(launch.grid)) return Status::ok();
  Bytes block(k.parameterBytes);
  DSVC_TRY(parameters(site, loaded, block));
  launch.parameters = block;
  return device_.launch(launch);
}

Status Executor::parameters(const Site& site, const Loaded& loaded, Bytes& block) const {
  for (const Parameter& p : site.kernel.parameters) {
    if (p.kind == Parameter::Kind::size) {
      uint64_t size = 0;
      DSVC_TRY(site.sizes.of(p.dim, size));
      if (size > 0xffffffff)
        return Status::error("plan/overflow", plan_.dims[p.dim].name + " is " + std::to_string(size) + ", and kernels take 32 bits", "give smaller sizes");
      put(block, p.at, static_cast<uint32_t>(size));
      continue;
    }
    Address start = (p.value == kNone ? loaded.scratch : address(site.step.values[p.value].places[p.component], site.frame)) + p.offset;
    if (p.kind == Parameter::Kind::pointer) {
      put(block, p.at, start);
      continue;
    }
    device::TensorMap map;
    map.type = p.type;
    map.swizzle = p.swizzle;
    map.address = start;
    map.rank = static_cast<uint32_t>(p.dims.size());
    for (size_t d = 0; d < p.dims.size(); ++d) {
      DSVC_TRY(site.sizes.evaluate(p.dims[d], map.dims[d]));
      if (d > 0) DSVC_TRY(site.sizes.evaluate(p.strides[d - 1], map.strides[d - 1]));
      map.box[d] = p.box[d];
    }
    uint8_t object[device::kTensorMapBytes];
    DSVC_TRY(device_.encodeTensorMap(map, object));
    put(block, p.at, object);
  }
  return Status::ok();
}

}  // namespace dsvc::plan
