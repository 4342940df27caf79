// One forward pass: where its memory, threads and cancellation come from, and the tensors it passes along.
#pragma once
#include <cstdint>
#include <utility>

#include "core/arena.h"
#include "core/cancel.h"
#include "core/thread_pool.h"
#include "kernels/kernels.h"
#include "nn/profile.h"

namespace nd {

struct Run {
  Arena& arena;
  ThreadPool& pool;
  const Kernels& kernels;
  const CancelToken* cancel = nullptr;
  Profile* profile = nullptr;  // null: nobody measures

  /// While true, memory is only being planned: nothing may be read or written.
  bool measuring() const { return arena.measuring(); }

  /// task(index, thread) for each index; nothing while measuring.
  template <class Task>
  void parallel(int64_t count, Task&& task) {
    if (!measuring()) pool.parallel_for(count, cancel, std::forward<Task>(task));
  }
};

/// While it lives, the run's time is that of this kind of layer.
class Profiled {
 public:
  Profiled(Run& run, const char* kind, Compute compute) : profile_(run.profile) {
    if (profile_) before_ = profile_->enter(kind, compute);
  }
  ~Profiled() {
    if (profile_) profile_->resume(before_);
  }
  Profiled(const Profiled&) = delete;
  Profiled& operator=(const Profiled&) = delete;
  /// Operations of a product that this layer computes.
  void count(double operations) {
    if (profile_) profile_->count(operations);
  }

 private:
  Profile* profile_;
  size_t before_ = 0;
};

/// Activations in the run's arena, [n][h][w][c] row-major (NHWC). A sequence of tokens is h = 1, w = length.
/// Owns its memory, unless it is borrowed; moves, never copies.
class Feature {
 public:
  Feature() = default;
  /// Of memory that somebody else keeps for as long as the run lasts.
  static Feature borrowed(float* data, int64_t n, int64_t h, int64_t w, int64_t c) {
    Feature feature;
    feature.n = n, feature.h = h, feature.w = w, feature.c = c;
    feature.data_ = data;
    return feature;
  }
  Feature(Run& run, int64_t n, int64_t h, int64_t w, int64_t c)
      : n(n),
        h(h),
        w(w),
        c(c),
        arena_(&run.arena),
        data_(static_cast<float*>(run.arena.allocate(sizeof(float) * static_cast<size_t>(n * h * w * c)))) {}
  Feature(Feature&& other) noexcept { *this = std::move(other); }
  Feature& operator=(Feature&& other) noexcept {
    if (this != &other) {
      release();
      n = other.n, h = other.h, w = other.w, c = other.c;
      arena_ = other.arena_;
      data_ = std::exchange(other.data_, nullptr);
    }
    return *this;
  }
  ~Feature() { release(); }

  float* data() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }
  int64_t pixels() const { return h * w; }  // of one image
  int64_t rows() const { return n * h * w; }
  int64_t size() const { return n * h * w * c; }
  void release() {
    if (data_ && arena_) arena_->release(data_);
    data_ = nullptr;
  }

  int64_t n = 0, h = 0, w = 0, c = 0;

 private:
  Arena* arena_ = nullptr;
  float* data_ = nullptr;
};

/// A run's array of anything else (offsets, packed keys), for as long as this object lives.
template <class T>
class Scratch {
 public:
  Scratch(Run& run, int64_t count)
      : arena_(&run.arena),
        data_(static_cast<T*>(arena_->allocate(sizeof(T) * static_cast<size_t>(count)))) {}
  ~Scratch() { arena_->release(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() const { return data_; }

 private:
  Arena* arena_;
  T* data_;
};

/// A model's working memory: plans a forward, makes room, runs it.
class Workspace {
 public:
  /// forward(Run&) is called twice: measuring, then computing.
  template <class Forward>
  void run(const Kernels& kernels, const CancelToken* cancel, Forward&& forward) {
    Run run{arena_, ThreadPool::shared(), kernels, cancel};
    arena_.begin_measuring();
    forward(run);
    arena_.reserve(arena_.peak());
    if (!Profile::enabled()) return forward(run);
    Profile profile;
    run.profile = &profile;
    forward(run);
    Profile::add(profile);
  }
  /// Bytes that such a forward needs.
  template <class Forward>
  static size_t measure(const Kernels& kernels, Forward&& forward) {
    Arena arena;
    Run run{arena, ThreadPool::shared(), kernels, nullptr};
    arena.begin_measuring();
    forward(run);
    return arena.peak();
  }
  void trim() { arena_.free(); }
  /// Bytes that are held until the next trim().
  size_t bytes() const { return arena_.capacity(); }

 private:
  Arena arena_;
};

/// [n][c][h][w] (what JavaScript holds) to a Feature and back.
Feature from_planar(Run& run, const float* x, int64_t n, int64_t c, int64_t h, int64_t w);
void to_planar(Run& run, const Feature& x, float* out);
/// Channels of a, then channels of b.
Feature concat(Run& run, const Feature& a, const Feature& b);

}  // namespace nd
