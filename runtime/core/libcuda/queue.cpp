#include "queue.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>

namespace dsvc::driver {

using emu::Machine;

void Queue::push(CUstream stream, Op op) {
  op.sequence = ++p_.sequence;
  stream->queue.push_back(std::move(op));
}

void Queue::issue(CUstream stream, std::function<CUresult()> action) {
  Op op;
  op.action = std::move(action);
  push(stream, std::move(op));
  if (stream->queue.size() == 1 && mayStart(*stream, stream->queue.front())) {
    startOp(*stream);
    p_.changed.notify_all();
  }
}

uint64_t Queue::nanoseconds() const {
  return past_ + (machine_ ? machine_->statistics.warpInstructions : 0) + 1000 * operations_;
}

// The default stream waits for what was issued before in every stream that is not "non-blocking", and they wait for it.
bool Queue::mayStart(const CUstream_st& stream, const Op& op) const {
  const CUctx_st& c = *stream.context;
  if (&stream == c.legacy.get()) {
    for (auto& other : c.streams)
      if (!(other->flags & CU_STREAM_NON_BLOCKING) && !other->queue.empty() && other->queue.front().sequence < op.sequence) return false;
  } else if (!(stream.flags & CU_STREAM_NON_BLOCKING)) {
    if (!c.legacy->queue.empty() && c.legacy->queue.front().sequence < op.sequence) return false;
  }
  return !op.ready || op.ready();
}

void Queue::launch(CUstream_st& stream, Op& op) {
  if (!machine_) {
    machine_ = std::make_unique<Machine>(p_.settings.options);
    // The checks of `dsvc emu` are installed where addon.cpp installs them.
    machine_->feed = [this] { return feed(); };
  }
  try {
    emu::Grid& g = machine_->submit(p_.of(stream.context).device, *op.program, op.request);
    op.grid = &g;
    launched_[g.id] = {stream.context, op.source, op.program};
    ++open_;
  } catch (const emu::EmulatorError& e) {
    // The launch was checked when it was made; what fails now is memory.
    fail(*stream.context, refused(e));
  }
}

void Queue::startOp(CUstream_st& stream) {
  Op& op = stream.queue.front();
  ++operations_;
  if (!op.action) return launch(stream, op);
  // It stays in the queue until it is done: the stream is then not idle, and cannot go away meanwhile.
  auto action = op.action;
  CUcontext context = stream.context;
  bool unlocked = op.unlocked;
  CUresult result = CUDA_SUCCESS;
  if (unlocked) p_.lock.unlock();
  try {
    result = action();
  } catch (const emu::EmulatorError& e) {
    result = refused(e);
  }
  if (unlocked) p_.lock.lock();
  if (!stream.queue.empty()) stream.queue.pop_front();
  if (result != CUDA_SUCCESS) fail(*context, result);
}

// Starts and ends what can be; true when something happened.
bool Queue::advance() {
  bool moved = false, again = true;
  while (again) {
    again = false;
    for (size_t k = 0; k < streams_.size(); ++k) {
      CUstream_st& s = *streams_[k];
      while (!s.queue.empty()) {
        Op& op = s.queue.front();
        if (op.grid) {
          if (!op.grid->ended) break;
          --open_;
          op.grid = nullptr;
          takeReports();
          if (!s.queue.empty()) s.queue.pop_front();  // the reports may have failed the context and dropped it
          moved = again = true;
          continue;
        }
        if (!mayStart(s, op)) break;
        startOp(s);
        moved = again = true;
        if (!s.queue.empty() && s.queue.front().grid) break;
      }
    }
    for (size_t k = 0; k < streams_.size();)
      if (streams_[k]->destroyed && streams_[k]->queue.empty()) forget(streams_[k]);
      else ++k;
  }
  if (moved) p_.changed.notify_all();
  return moved;
}

// Lets the other threads of the program in: a kernel may wait for what one of them is about to launch.
void Queue::yield() {
  while (p_.wanting > 0) {
    p_.lock.unlock();
    std::this_thread::yield();
    p_.lock.lock();
  }
}

Machine::Feed Queue::feed() {
  yield();
  advance();
  if ((*done_)() || open_ == 0 || rounds_ == 0) return Machine::Feed::pause;
  --rounds_;
  return Machine::Feed::goOn;
}

void Queue::takeReports() {
  if (!machine_) return;
  // Printing may fail contexts, which drops queues, but never the machine.
  for (; printed_ < machine_->reports.size(); ++printed_) {
    const emu::Report r = machine_->reports[printed_];
    auto it = launched_.find(r.site.grid);
    print(r, it == launched_.end() ? nullptr : it->second.source.get());
    if (r.severity != emu::Severity::error) continue;
    if (it != launched_.end()) {
      if (p_.contexts.contains(it->second.context)) fail(*it->second.context, resultOf(r.code));
    } else {
      // Of nobody in particular: of all that run.
      for (auto& [id, l] : launched_)
        if (p_.contexts.contains(l.context)) fail(*l.context, resultOf(r.code));
    }
  }
}

void Queue::fail(CUctx_st& context, CUresult result) {
  if (context.failure == CUDA_SUCCESS) context.failure = result;
  drop(context);
}

// Kernels that run already go on: they are on the chip. What waits behind them is gone.
void Queue::drop(CUctx_st& context) {
  auto clear = [&](CUstream_st& s) {
    while (!s.queue.empty() && !s.queue.back().grid) s.queue.pop_back();
  };
  clear(*context.legacy);
  for (auto& s : context.streams) clear(*s);
  for (auto& e : context.events) e->state->completed = e->state->recorded;
}

void Queue::run(const std::function<bool()>& done, uint64_t rounds) {
  running_ = true;
  done_ = &done;
  rounds_ = rounds;
  std::exception_ptr broken;
  for (;;) {
    advance();
    if (done() || open_ == 0) break;
    try {
      machine_->run();
    } catch (...) {
      broken = std::current_exception();
    }
    if (machine_->paused()) {
      if (done() || rounds_ == 0) break;
      continue;
    }
    // It ended on its own: a deadlock, or too many instructions. All kernels that ran are lost.
    std::vector<CUcontext> lost;
    for (CUstream s : streams_)
      if (!s->queue.empty() && s->queue.front().grid) {
        s->queue.pop_front();
        lost.push_back(s->context);
      }
    open_ = 0;
    takeReports();
    for (CUcontext c : lost) fail(*c, broken ? CUDA_ERROR_LAUNCH_FAILED : CUDA_ERROR_LAUNCH_TIMEOUT);
    past_ += machine_->statistics.warpInstructions;
    machine_.reset();
    launched_.clear();
    printed_ = 0;
    if (broken) break;
  }
  if (open_ == 0 && machine_) {
    takeReports();
    past_ += machine_->statistics.warpInstructions;
    machine_.reset();
    launched_.clear();
    printed_ = 0;
  }
  done_ = nullptr;
  running_ = false;
  p_.changed.notify_all();
  if (broken) std::rethrow_exception(broken);
}

void Queue::runUntil(const std::function<bool()>& done) {
  std::unique_lock<std::mutex> held(p_.lock, std::adopt_lock);
  while (!done()) {
    if (running_) {
      p_.changed.wait(held);
      continue;
    }
    run(done, std::numeric_limits<uint64_t>::max());
    // Nothing can run, yet something is missing: another thread's work, or a value that a stream waits for.
    if (!done()) p_.changed.wait_for(held, std::chrono::milliseconds(1));
  }
  held.release();
}

void Queue::runBriefly(const std::function<bool()>& done) {
  constexpr uint64_t kRounds = 64;
  if (!running_ && !done()) run(done, kRounds);
}

void Queue::startWatch() {
  if (watcher_.joinable()) return;
  watcher_ = std::thread([this] { watch(); });
  static const pid_t owner = getpid();
  std::atexit([] {
    Queue& q = *process().queue;
    q.stopping_ = true;
    // A forked child has no such thread; a host function that ends the program may run in it.
    if (getpid() != owner || q.watcher_.get_id() == std::this_thread::get_id()) q.watcher_.detach();
    else if (q.watcher_.joinable()) q.watcher_.join();
  });
}

void Queue::watch() {
  constexpr auto kLook = std::chrono::milliseconds(20), kPatience = std::chrono::milliseconds(300);
  constexpr uint64_t kRounds = 64;
  while (!stopping_) {
    bool worked = false;
    ++p_.wanting;
    p_.lock.lock();
    --p_.wanting;
    auto pending = [&] { return std::any_of(streams_.begin(), streams_.end(), [](CUstream s) { return !s->queue.empty(); }); };
    if (!running_ && std::chrono::steady_clock::now() - p_.lastCall > kPatience && pending()) {
      uint64_t before = operations_;
      try {
        run([&] { return stopping_ || !pending(); }, kRounds);
      } catch (...) {
        // A call of the program will meet it again.
      }
      worked = open_ > 0 || operations_ != before;
    }
    p_.lock.unlock();
    if (!worked) std::this_thread::sleep_for(kLook);
  }
}

CUresult Queue::finish(CUstream stream) {
  CUcontext context = stream->context;
  // Only what is queued now: others may add to the stream meanwhile.
  uint64_t last = stream->queue.empty() ? 0 : stream->queue.back().sequence;
  runUntil([&] { return !p_.contexts.contains(context) || stream->queue.empty() || stream->queue.front().sequence > last; });
  return p_.contexts.contains(context) ? context->failure : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult Queue::finish(CUctx_st& context) {
  uint64_t last = p_.sequence;
  CUcontext c = &context;
  auto ended = [last](const CUstream_st& s) { return s.queue.empty() || s.queue.front().sequence > last; };
  runUntil([&] {
    return !p_.contexts.contains(c) ||
           (ended(*c->legacy) && std::all_of(c->streams.begin(), c->streams.end(), [&](auto& s) { return ended(*s); }));
  });
  return p_.contexts.contains(c) ? c->failure : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

void Queue::forget(CUstream stream) {
  std::erase(streams_, stream);
  p_.live.erase(stream);
  auto& list = stream->context->streams;
  std::erase_if(stream->context->perThread, [&](auto& t) { return t.second == stream; });
  std::erase_if(list, [&](auto& s) { return s.get() == stream; });
}

}  // namespace dsvc::driver
