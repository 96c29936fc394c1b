// Streams at work. Work is queued and runs when somebody waits for it: all streams of all devices together in one
// machine, so that kernels which wait for each other find each other. The order within a stream, the default stream's
// and that of events are kept; nothing else is.
#pragma once
#include <thread>

#include "state.h"

namespace dsvc::driver {

class Queue {
 public:
  explicit Queue(Process& p) : p_(p) {}

  void push(CUstream stream, Op op);
  // As push, but does it at once when nothing stands before it.
  void issue(CUstream stream, std::function<CUresult()> action);
  // Runs until `done` holds. Another thread may be running already: then waits for it.
  void runUntil(const std::function<bool()>& done);
  // Runs for a bounded while, for queries.
  void runBriefly(const std::function<bool()>& done);
  // Waits until a stream, or everything of a context, has ended; returns the context's error.
  CUresult finish(CUstream stream);
  CUresult finish(CUctx_st& context);
  // Drops what a context still has queued: it failed, or it goes.
  void drop(CUctx_st& context);
  // A virtual time in nanoseconds: one for each instruction of a warp, a thousand for each operation of a stream.
  uint64_t nanoseconds() const;
  void forget(CUstream stream);
  // Starts the thread that runs queued work when the program has made no call for a while: it may be waiting for a
  // kernel's write to its own memory, without asking anybody. The thread ends before the program does.
  void startWatch();
  void add(CUstream stream) { streams_.push_back(stream); }

 private:
  void run(const std::function<bool()>& done, uint64_t rounds);
  emu::Machine::Feed feed();
  bool advance();
  bool mayStart(const CUstream_st& stream, const Op& op) const;
  void startOp(CUstream_st& stream);
  void launch(CUstream_st& stream, Op& op);
  void takeReports();
  void fail(CUctx_st& context, CUresult result);
  void yield();
  void watch();
  bool inFlight() const { return open_ > 0; }

  Process& p_;
  std::vector<CUstream> streams_;  // by age
  std::unique_ptr<emu::Machine> machine_;
  struct Launched {
    CUcontext context;
    std::shared_ptr<const Source> source;
    std::shared_ptr<emu::Program> program;
  };
  std::unordered_map<uint64_t, Launched> launched_;  // by grid, for the machine's life
  size_t printed_ = 0, open_ = 0;
  bool running_ = false;
  const std::function<bool()>* done_ = nullptr;
  uint64_t rounds_ = 0;
  uint64_t past_ = 0, operations_ = 0;
  std::thread watcher_;
  std::atomic<bool> stopping_{false};
};

}  // namespace dsvc::driver
