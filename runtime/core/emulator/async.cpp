#include "async.h"

namespace dsvc::emulator {

uint64_t AsyncEngine::random() {
  // splitmix64: small, and good enough to permute.
  uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

void AsyncEngine::post(uint64_t least, uint64_t most, std::function<void()> complete) {
  uint64_t span = most > least ? most - least + 1 : 1;
  uint64_t delay = seeded_ ? least + random() % span : least;
  queue_.push({now_ + delay, sequence_++, std::move(complete)});
}

void AsyncEngine::runTop() {
  auto complete = queue_.top().complete;
  queue_.pop();
  ++completed;
  complete();
}

bool AsyncEngine::runDue() {
  bool ran = false;
  while (!queue_.empty() && queue_.top().due <= now_) {
    runTop();
    ran = true;
  }
  return ran;
}

bool AsyncEngine::runNext() {
  if (queue_.empty()) return false;
  if (queue_.top().due > now_) now_ = queue_.top().due;
  runTop();
  return true;
}

}  // namespace dsvc::emulator
