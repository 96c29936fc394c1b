// Streams and events.
#include <algorithm>
#include <cstring>

#include "queue.h"

using namespace dsvc::driver;
namespace emu = dsvc::emulator;

namespace {

// A function of one stream.
template <class F>
CUresult onStream(CUstream stream, F body) {
  return inContext([&](Process& p, CUctx_st& c) -> CUresult {
    CUstream s = streamOf(p, c, stream);
    return s ? body(p, s) : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUresult create(CUstream* stream, unsigned int flags, int priority) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (!stream || flags > 1) return CUDA_ERROR_INVALID_VALUE;
    *stream = newStream(p, c, flags, priority);
    return CUDA_SUCCESS;
  });
}

template <class T>
CUresult writeValue(CUstream stream, CUdeviceptr to, T value) {
  return onStream(stream, [&](Process& p, CUstream s) {
    int gpu = -1;
    emu::Allocation* a = allocationOf(p, to, gpu);
    if (!a || !a->bytes || !a->holds(to, sizeof value) || to % sizeof value) return CUDA_ERROR_INVALID_VALUE;
    p.queue->issue(s, [&p, to, value] {
      int where = -1;
      emu::Allocation* at = allocationOf(p, to, where);
      if (!at || !at->bytes) return CUDA_ERROR_ILLEGAL_ADDRESS;
      std::memcpy(at->bytes + (to - at->base), &value, sizeof value);
      at->markInitialised(to - at->base, sizeof value, true);
      return CUDA_SUCCESS;
    });
    return CUDA_SUCCESS;
  });
}

template <class T>
CUresult waitValue(CUstream stream, CUdeviceptr from, T value, unsigned int flags) {
  return onStream(stream, [&](Process& p, CUstream s) {
    int gpu = -1;
    emu::Allocation* a = allocationOf(p, from, gpu);
    if (!a || !a->bytes || !a->holds(from, sizeof value) || from % sizeof value || (flags & 0xffff) > 3) return CUDA_ERROR_INVALID_VALUE;
    Op op;
    op.ready = [&p, from, value, flags] {
      int where = -1;
      emu::Allocation* at = allocationOf(p, from, where);
      if (!at || !at->bytes) return true;  // the action then fails
      T now;
      std::memcpy(&now, at->bytes + (from - at->base), sizeof now);
      switch (flags & 3) {
        case CU_STREAM_WAIT_VALUE_GEQ: return static_cast<std::make_signed_t<T>>(now - value) >= 0;
        case CU_STREAM_WAIT_VALUE_EQ: return now == value;
        case CU_STREAM_WAIT_VALUE_AND: return (now & value) != 0;
        default: return static_cast<T>(~(now | value)) != 0;
      }
    };
    op.action = [&p, from] {
      int where = -1;
      emu::Allocation* at = allocationOf(p, from, where);
      return at && at->bytes ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS;
    };
    p.queue->push(s, std::move(op));
    return CUDA_SUCCESS;
  });
}

// A function of one event.
template <class F>
CUresult onEvent(CUevent event, F body) {
  return inContext([&](Process& p, CUctx_st& c) -> CUresult { return p.alive(event) ? body(p, c) : CUDA_ERROR_INVALID_HANDLE; });
}

}  // namespace

CUresult cuStreamCreate(CUstream* stream, unsigned int flags) { return create(stream, flags, 0); }
CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority) { return create(stream, flags, priority); }

CUresult cuStreamDestroy_v2(CUstream stream) {
  return inProcess([&](Process& p) {
    if (!p.alive(stream) || stream->destroyed) return CUDA_ERROR_INVALID_HANDLE;
    // What is queued still runs; the stream goes after it.
    stream->destroyed = true;
    if (stream->queue.empty()) p.queue->forget(stream);
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamSynchronize(CUstream stream) {
  return onStream(stream, [&](Process& p, CUstream s) { return p.queue->finish(s); });
}

CUresult cuStreamQuery(CUstream stream) {
  return onStream(stream, [&](Process& p, CUstream s) -> CUresult {
    CUcontext c = s->context;
    p.queue->runBriefly([&] { return s->queue.empty(); });
    if (c->failure != CUDA_SUCCESS) return c->failure;
    return s->queue.empty() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) {
  return onStream(stream, [&](Process& p, CUstream s) {
    if (flags > 1) return CUDA_ERROR_INVALID_VALUE;
    if (!p.alive(event)) return CUDA_ERROR_INVALID_HANDLE;
    // Waits for the record that is the last one now.
    std::shared_ptr<EventState> state = event->state;
    uint64_t wanted = state->recorded;
    if (state->completed >= wanted) return CUDA_SUCCESS;
    Op op;
    op.ready = [state, wanted] { return state->completed >= wanted; };
    op.action = [] { return CUDA_SUCCESS; };
    p.queue->push(s, std::move(op));
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamGetPriority(CUstream stream, int* priority) {
  return onStream(stream, [&](Process&, CUstream s) {
    if (!priority) return CUDA_ERROR_INVALID_VALUE;
    *priority = s->priority;
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamGetFlags(CUstream stream, unsigned int* flags) {
  return onStream(stream, [&](Process&, CUstream s) {
    if (!flags) return CUDA_ERROR_INVALID_VALUE;
    *flags = s->flags;
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamGetId(CUstream stream, unsigned long long* id) {
  return onStream(stream, [&](Process&, CUstream s) {
    if (!id) return CUDA_ERROR_INVALID_VALUE;
    *id = s->id;
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamGetCtx(CUstream stream, CUcontext* context) {
  return onStream(stream, [&](Process&, CUstream s) {
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    *context = s->context;
    return CUDA_SUCCESS;
  });
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  return onStream(stream, [&](Process&, CUstream) {
    if (!status) return CUDA_ERROR_INVALID_VALUE;
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamAddCallback(CUstream stream, CUstreamCallback callback, void* data, unsigned int flags) {
  return onStream(stream, [&](Process& p, CUstream s) {
    if (!callback || flags != 0) return CUDA_ERROR_INVALID_VALUE;
    Op op;
    op.unlocked = true;
    op.action = [=] {
      callback(stream, CUDA_SUCCESS, data);
      return CUDA_SUCCESS;
    };
    p.queue->push(s, std::move(op));
    return CUDA_SUCCESS;
  });
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
  return onStream(stream, [&](Process& p, CUstream s) {
    if (!function) return CUDA_ERROR_INVALID_VALUE;
    Op op;
    op.unlocked = true;
    op.action = [=] {
      function(data);
      return CUDA_SUCCESS;
    };
    p.queue->push(s, std::move(op));
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr to, cuuint32_t value, unsigned int) { return writeValue(stream, to, value); }
CUresult cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr to, cuuint64_t value, unsigned int) { return writeValue(stream, to, value); }
CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr at, cuuint32_t value, unsigned int flags) { return waitValue(stream, at, value, flags); }
CUresult cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr at, cuuint64_t value, unsigned int flags) { return waitValue(stream, at, value, flags); }

CUresult cuEventCreate(CUevent* event, unsigned int flags) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (!event || flags > 7) return CUDA_ERROR_INVALID_VALUE;
    if (flags & CU_EVENT_INTERPROCESS) return CUDA_ERROR_NOT_SUPPORTED;
    auto made = std::make_unique<CUevent_st>();
    made->context = &c;
    made->state = std::make_shared<EventState>();
    made->state->timing = !(flags & CU_EVENT_DISABLE_TIMING);
    *event = made.get();
    p.live.insert(made.get());
    c.events.push_back(std::move(made));
    return CUDA_SUCCESS;
  });
}

CUresult cuEventDestroy_v2(CUevent event) {
  return inProcess([&](Process& p) {
    if (!p.alive(event)) return CUDA_ERROR_INVALID_HANDLE;
    p.live.erase(event);
    std::erase_if(event->context->events, [&](auto& e) { return e.get() == event; });
    return CUDA_SUCCESS;
  });
}

namespace dsvc::driver {
void recordEvent(Process& p, CUevent event, CUstream s) {
  std::shared_ptr<EventState> state = event->state;
  uint64_t number = ++state->recorded;
  p.queue->issue(s, [&p, state, number] {
    state->completed = std::max(state->completed, number);
    state->nanoseconds = p.queue->nanoseconds();
    return CUDA_SUCCESS;
  });
}
}  // namespace dsvc::driver

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags) {
  return onStream(stream, [&](Process& p, CUstream s) {
    if (flags > 1) return CUDA_ERROR_INVALID_VALUE;
    if (!p.alive(event) || event->context != s->context) return CUDA_ERROR_INVALID_HANDLE;
    recordEvent(p, event, s);
    return CUDA_SUCCESS;
  });
}
CUresult cuEventRecord(CUevent event, CUstream stream) { return cuEventRecordWithFlags(event, stream, 0); }

CUresult cuEventSynchronize(CUevent event) {
  return onEvent(event, [&](Process& p, CUctx_st&) -> CUresult {
    std::shared_ptr<EventState> state = event->state;
    CUcontext c = event->context;
    uint64_t wanted = state->recorded;
    p.queue->runUntil([&] { return state->completed >= wanted; });
    return p.contexts.contains(c) ? c->failure : CUDA_ERROR_CONTEXT_IS_DESTROYED;
  });
}

CUresult cuEventQuery(CUevent event) {
  return onEvent(event, [&](Process& p, CUctx_st&) -> CUresult {
    std::shared_ptr<EventState> state = event->state;
    CUcontext c = event->context;
    uint64_t wanted = state->recorded;
    p.queue->runBriefly([&] { return state->completed >= wanted; });
    if (c->failure != CUDA_SUCCESS) return c->failure;
    return state->completed >= wanted ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
  return onEvent(start, [&](Process& p, CUctx_st&) {
    if (!milliseconds) return CUDA_ERROR_INVALID_VALUE;
    if (!p.alive(end)) return CUDA_ERROR_INVALID_HANDLE;
    for (CUevent e : {start, end}) {
      if (!e->state->timing || e->state->recorded == 0) return CUDA_ERROR_INVALID_HANDLE;
      if (e->state->completed < e->state->recorded) return CUDA_ERROR_NOT_READY;
    }
    *milliseconds = static_cast<float>((static_cast<double>(end->state->nanoseconds) - static_cast<double>(start->state->nanoseconds)) / 1e6);
    return CUDA_SUCCESS;
  });
}
CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) { return cuEventElapsedTime_v2(milliseconds, start, end); }
