// One GPU: its context, our kernels on it, its memory and its streams. Any thread may use it.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/memory.h"
#include "cuda/driver.h"
#include "cuda/hopper_times.h"
#include "cuda/kernels.h"
#include "cuda/spare_blocks.h"
#include "cuda/staging.h"
#include "cuda/tile_times.h"

namespace nd {
class Loader;
}

namespace nd::cuda {

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

struct DeviceDescription {
  int number = 0;
  std::string name;
  int capability = 0;  // 90 for compute capability 9.0
  size_t memory_bytes = 0;
  std::string tiles;    // where the times of products come from; empty where that is not known
  std::string hopper;   // whether Hopper's kernels are used, and why; empty where that is not known
  std::string overlap;  // whether kernels overlap, and why; empty where that is not known
};

/// The GPU of this number; opens nothing. Error device_unavailable.
DeviceDescription describe_device(const Driver& driver, int number);

struct MemoryInfo {
  size_t free = 0, total = 0;
};

/// Products that Hopper's kernels compute: none, those that are expected to be faster, or all that can be.
enum class WarpgroupProducts { none, faster, all };

/// What NODE_DIFFUSION_CUDA_WGMMA asks for: 0, 1 (those that are expected to be faster) or always.
std::optional<WarpgroupProducts> forced_warpgroup_products();

/// Whether NODE_DIFFUSION_CUDA_TILES allows to measure the kernels of products: it does not if it is 0.
bool may_try_tiles();

/// What NODE_DIFFUSION_CUDA_OVERLAP asks for: 0 or 1.
std::optional<bool> forced_overlapping_launches();

/// The context that all of a process share, or one that nothing else is in.
enum class ContextKind { shared, separate };

/// Products of int8 among those whose weights allow it: none, those that are expected to be faster, or all.
enum class Int8Products { none, faster, all };

class Device {
 public:
  /// The GPU of this number, with kernels from `image` (a cubin, a fat binary or PTX). Errors
  /// device_unavailable.
  Device(const Driver& driver, int number, const std::vector<char>& image,
         ContextKind kind = ContextKind::shared);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Driver& driver() const { return driver_; }
  const DeviceDescription& description() const { return description_; }
  const std::string& name() const { return description_.name; }
  int multiprocessors() const { return multiprocessors_; }
  /// 90 for compute capability 9.0.
  int capability() const { return description_.capability; }
  /// Which products use Hopper's kernels. Without a call, none do, or, where the image has those kernels,
  /// what forced_warpgroup_products() says.
  WarpgroupProducts warpgroup_products() const { return warpgroups_; }
  void use_warpgroup_products(WarpgroupProducts which);
  /// kBuiltInTimes without a call.
  const TileTimes& tile_times() const { return tile_times_; }
  void use_tile_times(const TileTimes& times) { tile_times_ = times; }
  /// Blocks of a kernel that a multiprocessor runs side by side.
  int resident_blocks(Kernel kernel) const;
  const HopperTimes& hopper_times() const { return hopper_times_; }
  void use_hopper_times(const HopperTimes& times) { hopper_times_ = times; }
  /// Whether the image has them.
  bool has_warpgroup_products() const { return functions_[static_cast<int>(Kernel::product_hopper_128)]; }
  /// Without a call those that are faster, or what NODE_DIFFUSION_CUDA_INT8 says (0 or always).
  Int8Products int8_products() const { return int8_; }
  void use_int8_products(Int8Products which) { int8_ = which; }
  /// Whether a kernel's blocks are placed while the previous kernel ends (CUDA's programmatic dependent
  /// launch). Kernels never overlap copies. Off without a call.
  bool overlapping_launches() const { return overlapping_; }
  void use_overlapping_launches(bool overlapping) { overlapping_ = overlapping && can_overlap_; }
  /// Whether the GPU and the compiled kernels support it: both need compute capability 9.0.
  bool can_overlap_launches() const { return can_overlap_; }
  /// Free memory of the GPU, spare blocks included.
  MemoryInfo memory_info() const;
  /// Keeps up to so many bytes of working memory that nobody uses: none without a call. They are released
  /// when memory runs out, and by release_spare_blocks().
  void keep_spare_blocks(size_t bytes) { spare_.limit(bytes); }
  /// A 32nd of the GPU's memory; nothing where NODE_DIFFUSION_CUDA_KEEP is 0.
  void keep_spare_blocks();
  bool keeps_spare_blocks() const { return spare_.keeps(); }
  void release_spare_blocks() const noexcept;
  /// call(), again as long as it runs out of memory and spare blocks were released meanwhile.
  template <class Call>
  Result with_spare_blocks(const Call& call) const {
    for (;;) {
      const uint64_t before = spare_releases_;
      const Result result = call();
      if (result != kOutOfMemory) return result;
      release_spare_blocks();
      if (spare_releases_ == before) return result;
    }
  }
  /// Whether its context cannot be used any more.
  bool lost() const;
  /// Whether the destructor asks nothing of it: a separate context with a kernel that does not end stays
  /// open, as closing it would wait for the kernel.
  void abandon(bool abandoned) { abandoned_ = abandoned; }

  /// Makes the device's context the calling thread's while it lives.
  class Current {
   public:
    explicit Current(const Device& device);
    ~Current();
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

   private:
    const Driver& driver_;
  };

  struct Lane {
    StreamHandle stream = nullptr;
    std::unique_ptr<Staging> staging;  // null before the first copy
  };

  /// A stream of its own for as long as this lives, with memory to copy by; both are kept for the next one.
  class Stream {
   public:
    explicit Stream(Device& device);
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    StreamHandle handle() const { return lane_.stream; }
    Staging& staging() const;
    void synchronize() const;

   private:
    Device& device_;
    mutable Lane lane_;
  };

  // These need the context to be current.

  template <class Arguments>
  void launch(StreamHandle stream, Kernel kernel, const Grid& grid, const Arguments& arguments) const {
    launch_with(stream, kernel, grid, &arguments);
  }
  Address allocate(size_t bytes) const;
  void release(Address address) const noexcept;
  /// Working memory, which may be a spare block and become one. Nothing that was put into a stream uses it
  /// when it is released.
  Address allocate_working(size_t bytes) const;
  void release_working(Address address, size_t bytes) const noexcept;
  /// Returns when `from` may be changed, which need not be when the copy is done.
  void upload(Address to, const void* from, size_t bytes, StreamHandle stream) const;
  /// Returns when `to` is filled.
  void download(void* to, Address from, size_t bytes, StreamHandle stream) const;
  void copy(Address to, Address from, size_t bytes, StreamHandle stream) const;

 private:
  void launch_with(StreamHandle stream, Kernel kernel, const Grid& grid, const void* arguments) const;
  void open_context();
  void close_context();
  void load_kernels(const std::vector<char>& image);

  const Driver& driver_;
  const ContextKind kind_;
  DeviceDescription description_;
  DeviceNumber number_ = 0;
  ContextHandle context_ = nullptr;
  ModuleHandle module_ = nullptr;
  FunctionHandle functions_[static_cast<int>(Kernel::count)] = {};
  int multiprocessors_ = 1;
  WarpgroupProducts warpgroups_ = WarpgroupProducts::none;
  TileTimes tile_times_;
  HopperTimes hopper_times_;
  bool abandoned_ = false;
  bool can_overlap_ = false, overlapping_ = false;
  Int8Products int8_ = Int8Products::faster;
  mutable SpareBlocks spare_;
  mutable std::mutex spare_mutex_;  // while all of them are released, or counted with what is free
  mutable std::atomic<uint64_t> spare_releases_{0};
  std::mutex lanes_mutex_;
  std::vector<Lane> lanes_;  // those that nobody uses
};

/// The GPU's working memory.
class DeviceMemory final : public Memory {
 public:
  explicit DeviceMemory(const Device& device) : device_(device) {}
  Address allocate(size_t bytes) override;
  void release(Address block, size_t bytes) noexcept override;
  bool reuses_blocks() const override { return device_.keeps_spare_blocks(); }

 private:
  const Device& device_;
};

/// Memory that a layer owns.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Device& device, size_t bytes);
  /// Of a layer that is loaded: its bytes are counted, and where the loader only plans, they are all there
  /// is.
  Buffer(const Device& device, Loader& loader, size_t bytes);
  ~Buffer() { reset(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;

  /// Empty where `values` is.
  static Buffer of(const Device& device, Loader& loader, const std::vector<float>& values);

  explicit operator bool() const { return static_cast<bool>(address_); }
  Address address() const { return address_; }
  /// Waits until the copy is done.
  void fill(const void* from, size_t bytes, size_t at = 0) const;

 private:
  void reset() noexcept;

  const Device* device_ = nullptr;
  Address address_;
};

/// Fills buffers with weights: what is reserved next is read while the last part is copied.
class WeightUpload {
 public:
  explicit WeightUpload(Device& device) : current_(device), stream_(device) {}

  /// Memory for `count` elements, to fill and send() before the next call but one.
  template <class T>
  T* reserve(int64_t count) {
    return reinterpret_cast<T*>(stream_.staging().reserve(static_cast<size_t>(count) * sizeof(T)));
  }
  /// To byte `at` of a buffer, which must outlive this object.
  template <class T>
  void send(const Buffer& to, size_t at, const T* from, int64_t count) {
    stream_.staging().send(to.address() + at, reinterpret_cast<const uint8_t*>(from),
                           static_cast<size_t>(count) * sizeof(T));
  }
  /// Waits for the last parts. Error device_lost.
  void finish() { stream_.synchronize(); }

 private:
  Device::Current current_;
  Device::Stream stream_;
};

}  // namespace nd::cuda
