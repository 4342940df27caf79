#include "cuda/device.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

#include "nn/loader.h"

namespace nd::cuda {
namespace {

/// Shared memory that needs no opting in.
constexpr int kPlainShared = 48 << 10;
constexpr size_t kSpareShare = 32;  // one part in so many of a GPU's memory
constexpr int kKeptStagings = 2;    // that nobody uses: 16 MB of pinned memory
constexpr int kMinCapability = 75;  // Turing: the first with mma.m16n8k8 and ldmatrix
constexpr int kMinToOverlap = 90;   // Hopper: the first with griddepcontrol

std::string environment(const char* name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing in this process changes the environment meanwhile
  const char* value = std::getenv(name);
  return value ? value : "";
}

int attribute(const Driver& driver, DeviceNumber device, DeviceAttribute which) {
  int value = 0;
  check(driver, driver.device_attribute(&value, which, device), "Could not read an attribute of the GPU");
  return value;
}

}  // namespace

DeviceDescription describe_device(const Driver& driver, int number) {
  int count = 0;
  check(driver, driver.device_count(&count), "Could not count GPUs");
  if (number < 0 || number >= count)
    throw Error(ErrorCode::device_unavailable, "Expected a GPU number below " + std::to_string(count) +
                                                   " but received " + std::to_string(number));
  DeviceNumber device = 0;
  check(driver, driver.device_get(&device, number), "Could not open the GPU");
  DeviceDescription result;
  result.number = number;
  char text[256] = {};
  check(driver, driver.device_name(text, sizeof text - 1, device), "Could not read the GPU's name");
  result.name = text;
  check(driver, driver.device_memory(&result.memory_bytes, device), "Could not read the GPU's memory size");
  result.capability =
      attribute(driver, device, kComputeMajor) * 10 + attribute(driver, device, kComputeMinor);
  return result;
}

std::optional<WarpgroupProducts> forced_warpgroup_products() {
  const std::string value = environment("NODE_DIFFUSION_CUDA_WGMMA");
  if (value == "0") return WarpgroupProducts::none;
  if (value == "1") return WarpgroupProducts::faster;
  if (value == "always") return WarpgroupProducts::all;
  return std::nullopt;
}

bool may_try_tiles() {
  return environment("NODE_DIFFUSION_CUDA_TILES") != "0";
}

std::optional<bool> forced_overlapping_launches() {
  const std::string value = environment("NODE_DIFFUSION_CUDA_OVERLAP");
  if (value == "0") return false;
  if (value == "1") return true;
  return std::nullopt;
}

Device::Device(const Driver& driver, int number, const std::vector<char>& image, ContextKind kind)
    : driver_(driver), kind_(kind) {
  check(driver, driver.init(0), "Could not start the NVIDIA driver");
  description_ = describe_device(driver, number);
  if (capability() < kMinCapability)
    throw Error(ErrorCode::device_unavailable,
                "Expected a GPU of compute capability 7.5 (Turing, 2018) or newer but " + name() + " has " +
                    std::to_string(capability() / 10) + "." + std::to_string(capability() % 10));
  check(driver, driver.device_get(&number_, number), "Could not open the GPU");
  multiprocessors_ = attribute(driver, number_, kMultiprocessors);
  open_context();
  try {
    load_kernels(image);
  } catch (...) {
    close_context();
    throw;
  }
  use_warpgroup_products(forced_warpgroup_products().value_or(WarpgroupProducts::none));
  const std::string int8 = environment("NODE_DIFFUSION_CUDA_INT8");
  if (int8 == "0") use_int8_products(Int8Products::none);
  if (int8 == "always") use_int8_products(Int8Products::all);
}

void Device::open_context() {
  constexpr const char* kWhat = "Could not open a context on the GPU";
  if (kind_ == ContextKind::shared) return check(driver_, driver_.context_retain(&context_, number_), kWhat);
  check(driver_, driver_.context_create(&context_, 0, number_), kWhat);
  ContextHandle popped;
  driver_.context_pop(&popped);
}

void Device::close_context() {
  if (kind_ == ContextKind::shared)
    driver_.context_release(number_);
  else
    driver_.context_destroy(context_);
}

void Device::load_kernels(const std::vector<char>& image) {
  const Current current(*this);
  check(driver_, driver_.module_load(&module_, image.data()), "Could not load the kernels");
  for (int i = 0; i < static_cast<int>(Kernel::count); ++i) {
    const KernelInfo& info = kKernels[i];
    const Result found = driver_.module_function(&functions_[i], module_, info.name);
    if (found == kNotFound && is_hopper(static_cast<Kernel>(i))) continue;
    check(driver_, found, info.name);
    if (info.shared_bytes > kPlainShared)
      check(driver_, driver_.function_set(functions_[i], kMaxDynamicShared, info.shared_bytes), info.name);
  }
  int compiled_for = 0;
  check(driver_, driver_.function_get(&compiled_for, kPtxVersion, functions_[0]),
        "Could not read what the kernels were compiled for");
  can_overlap_ = std::min(compiled_for, capability()) >= kMinToOverlap;
}

int Device::resident_blocks(Kernel kernel) const {
  const KernelInfo& info = kKernels[static_cast<int>(kernel)];
  int blocks = 0;
  check(driver_,
        driver_.resident_blocks(&blocks, functions_[static_cast<int>(kernel)], info.threads,
                                static_cast<size_t>(info.shared_bytes)),
        info.name);
  return blocks;
}

void Device::use_warpgroup_products(WarpgroupProducts which) {
  warpgroups_ = has_warpgroup_products() ? which : WarpgroupProducts::none;
}

Device::~Device() {
  if (abandoned_) return;
  // Nothing can be done about errors here; after a lost device every call fails. A separate context takes all
  // that is in it with it, also where kernels are still running.
  if (kind_ == ContextKind::shared && driver_.context_push(context_) == kSuccess) {
    for (Lane& lane : lanes_) {
      lane.staging.reset();
      driver_.stream_destroy(lane.stream);
    }
    driver_.module_unload(module_);
    ContextHandle popped;
    driver_.context_pop(&popped);
    release_spare_blocks();
  }
  close_context();
}

MemoryInfo Device::memory_info() const {
  const Current current(*this);
  const std::lock_guard<std::mutex> lock(spare_mutex_);
  MemoryInfo info;
  check(driver_, driver_.memory_info(&info.free, &info.total), "Could not read the GPU's free memory");
  info.free += spare_.bytes();
  return info;
}

bool Device::lost() const {
  try {
    memory_info();
    return false;
  } catch (const Error&) {
    return true;
  }
}

Device::Current::Current(const Device& device) : driver_(device.driver_) {
  check(driver_, driver_.context_push(device.context_), "Could not use the GPU's context");
}
Device::Current::~Current() {
  ContextHandle popped;
  driver_.context_pop(&popped);
}

Device::Stream::Stream(Device& device) : device_(device) {
  {
    const std::lock_guard<std::mutex> lock(device.lanes_mutex_);
    if (!device.lanes_.empty()) {
      lane_ = std::move(device.lanes_.back());
      device.lanes_.pop_back();
      return;
    }
  }
  check(device.driver_,
        device.with_spare_blocks([&] { return device.driver_.stream_create(&lane_.stream, kNonBlocking); }),
        "Could not create a stream");
}
Device::Stream::~Stream() {
  // After an error or a cancellation kernels may still be running; their memory is not free before they end.
  device_.driver_.stream_synchronize(lane_.stream);
  if (lane_.staging) lane_.staging->reuse();
  const std::lock_guard<std::mutex> lock(device_.lanes_mutex_);
  const auto stages = [](const Lane& lane) { return lane.staging != nullptr; };
  if (std::count_if(device_.lanes_.begin(), device_.lanes_.end(), stages) >= kKeptStagings)
    lane_.staging.reset();
  // The last one is taken first: one with memory.
  const auto place = lane_.staging ? device_.lanes_.end() : device_.lanes_.begin();
  try {
    device_.lanes_.insert(place, std::move(lane_));
  } catch (const std::bad_alloc&) {
    lane_.staging.reset();
    device_.driver_.stream_destroy(lane_.stream);
  }
}
Staging& Device::Stream::staging() const {
  if (!lane_.staging) lane_.staging = std::make_unique<Staging>(device_.driver_, lane_.stream);
  return *lane_.staging;
}
void Device::Stream::synchronize() const {
  check(device_.driver_, device_.driver_.stream_synchronize(lane_.stream), "The GPU failed");
}

void Device::launch_with(StreamHandle stream, Kernel kernel, const Grid& grid, const void* arguments) const {
  const KernelInfo& info = kKernels[static_cast<int>(kernel)];
  void* parameters[] = {const_cast<void*>(arguments)};
  const auto size = [](int64_t n) { return static_cast<unsigned>(n); };
  FunctionHandle function = functions_[static_cast<int>(kernel)];
  if (!overlapping_)
    return check(driver_,
                 driver_.launch(function, size(grid.x), size(grid.y), size(grid.z), size(info.threads), 1, 1,
                                size(info.shared_bytes), stream, parameters, nullptr),
                 info.name);
  LaunchAttribute overlaps{kOverlapsPrevious, 1, {}};
  const LaunchConfig config{{size(grid.x), size(grid.y), size(grid.z)},
                            {size(info.threads), 1, 1},
                            size(info.shared_bytes),
                            stream,
                            &overlaps,
                            1};
  check(driver_, driver_.launch_configured(&config, function, parameters, nullptr), info.name);
}

Address Device::allocate(size_t bytes) const {
  DevicePointer pointer = 0;
  const Result result = with_spare_blocks([&] { return driver_.memory_allocate(&pointer, bytes); });
  if (result == kOutOfMemory) {
    size_t free = 0, total = 0;
    driver_.memory_info(&free, &total);
    throw Error(ErrorCode::out_of_memory,
                "Could not allocate " + std::to_string(bytes >> 20) + " MB on " + name() + ", of whose " +
                    std::to_string(total >> 20) + " MB " + std::to_string(free >> 20) +
                    " are free. Use smaller pictures or batches, a quantized model, or "
                    "device 'cpu'.");
  }
  check(driver_, result, "Could not allocate memory on the GPU");
  return {static_cast<uintptr_t>(pointer)};
}
void Device::release(Address address) const noexcept {
  driver_.memory_release(address.value);
}
Address Device::allocate_working(size_t bytes) const {
  const Address spare = spare_.take(bytes);
  return spare ? spare : allocate(bytes);
}
void Device::release_working(Address address, size_t bytes) const noexcept {
  try {
    for (const Address block : spare_.put(address, bytes)) release(block);
  } catch (const std::bad_alloc&) {
    release(address);
  }
}
void Device::keep_spare_blocks() {
  const bool keeps = environment("NODE_DIFFUSION_CUDA_KEEP") != "0";
  keep_spare_blocks(keeps ? description_.memory_bytes / kSpareShare : 0);
}
void Device::release_spare_blocks() const noexcept {
  try {
    const Current current(*this);
    const std::lock_guard<std::mutex> lock(spare_mutex_);
    while (const Address block = spare_.take_any()) {
      release(block);
      ++spare_releases_;
    }
  } catch (const Error&) {
    // The device is lost, and its memory with it.
  }
}
void Device::upload(Address to, const void* from, size_t bytes, StreamHandle stream) const {
  check(driver_, driver_.copy_to_device(to.value, from, bytes, stream), "Could not copy to the GPU");
}
void Device::download(void* to, Address from, size_t bytes, StreamHandle stream) const {
  check(driver_, driver_.copy_to_host(to, from.value, bytes, stream), "Could not copy from the GPU");
  check(driver_, driver_.stream_synchronize(stream), "The GPU failed");
}
void Device::copy(Address to, Address from, size_t bytes, StreamHandle stream) const {
  check(driver_, driver_.copy_on_device(to.value, from.value, bytes, stream), "Could not copy on the GPU");
}

Address DeviceMemory::allocate(size_t bytes) {
  const Device::Current current(device_);
  return device_.allocate_working(bytes);
}
void DeviceMemory::release(Address block, size_t bytes) noexcept {
  try {
    const Device::Current current(device_);
    device_.release_working(block, bytes);
  } catch (const Error&) {
    // The device is lost, and its memory with it.
  }
}

Buffer::Buffer(const Device& device, size_t bytes) : device_(&device) {
  const Device::Current current(device);
  address_ = device.allocate(bytes);
}
Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  reset();
  device_ = other.device_;
  address_ = std::exchange(other.address_, Address{});
  return *this;
}
Buffer::Buffer(const Device& device, Loader& loader, size_t bytes) {
  loader.add_packed_bytes(bytes);
  if (!loader.plans()) *this = Buffer(device, bytes);
}
Buffer Buffer::of(const Device& device, Loader& loader, const std::vector<float>& values) {
  if (values.empty()) return {};
  Buffer buffer(device, loader, values.size() * sizeof(float));
  if (buffer) buffer.fill(values.data(), values.size() * sizeof(float));
  return buffer;
}
void Buffer::fill(const void* from, size_t bytes, size_t at) const {
  const Device::Current current(*device_);
  device_->upload(address_ + at, from, bytes, nullptr);
  check(device_->driver(), device_->driver().stream_synchronize(nullptr), "Could not copy to the GPU");
}
void Buffer::reset() noexcept {
  if (!address_) return;
  try {
    const Device::Current current(*device_);
    device_->release(address_);
  } catch (const Error&) {
    // The device is lost, and its memory with it.
  }
  address_ = {};
}

}  // namespace nd::cuda
