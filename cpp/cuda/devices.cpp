#include "cuda/devices.h"

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "cuda/trial/hopper_trial.h"
#include "cuda/trial/overlap_trial.h"
#include "cuda/trial/tile_trial.h"

namespace nd::cuda {
namespace {

constexpr int kHopper = 90;  // wgmma is an instruction of 9.0 alone
constexpr int kMaxTrials = 3;
constexpr std::chrono::milliseconds kCancelPoll{20};

/// What the process knows about a GPU. `mutex` guards what others may read meanwhile; the rest belongs to the
/// thread that opens it.
struct Known {
  bool opening = false;
  std::weak_ptr<CudaBackend> open;
  std::string tiles_note, hopper_note, overlap_note;  // see DeviceDescription::tiles, ::hopper and ::overlap

  std::optional<TileTimes> tiles;
  std::optional<bool> overlap;
  std::optional<HopperVerdict> hopper;
  int trials = 0;

  /// Whether the trial failed by something that may pass.
  bool tries_again() const { return hopper && hopper->may_pass && trials < kMaxTrials; }
  /// Whether that may have passed by now: another trial in a context beside one in use would take more
  /// memory.
  bool tries_now() const { return tries_again() && (!hopper->unfinished || hopper->unfinished->has_ended()); }
};

std::mutex mutex;
std::condition_variable opened;

std::map<int, Known>& known_devices() {
  static std::map<int, Known> devices;
  return devices;
}

/// The only one that opens this GPU while this lives. Others may open other GPUs.
class Opening {
 public:
  /// Throws Cancelled.
  Opening(int number, const CancelToken* cancel) {
    std::unique_lock<std::mutex> lock(mutex);
    Known& known = known_devices()[number];
    while (known.opening) {
      opened.wait_for(lock, kCancelPoll);
      if (cancel) cancel->check();
    }
    known.opening = true;
    known_ = &known;
  }
  ~Opening() {
    const std::lock_guard<std::mutex> lock(mutex);
    known_->opening = false;
    opened.notify_all();
  }
  Opening(const Opening&) = delete;
  Opening& operator=(const Opening&) = delete;

  Known& known() const { return *known_; }
  std::shared_ptr<CudaBackend> backend() const {
    const std::lock_guard<std::mutex> lock(mutex);
    return known_->open.lock();
  }
  void set_backend(const std::shared_ptr<CudaBackend>& backend) const {
    const std::lock_guard<std::mutex> lock(mutex);
    known_->open = backend;
  }
  /// `which`: the note of Known to set; others read it meanwhile.
  void set_note(std::string Known::*which, std::string note) const {
    const std::lock_guard<std::mutex> lock(mutex);
    known_->*which = std::move(note);
  }

 private:
  Known* known_ = nullptr;
};

/// Measured once, so that all models of the process get the same kernels.
void choose_tiles(const Opening& opening, Device& device, const CancelToken* cancel) {
  Known& known = opening.known();
  if (!known.tiles) {
    const TileVerdict verdict = try_tiles(device, cancel);
    known.tiles = verdict.times;
    opening.set_note(&Known::tiles_note, verdict.note);
  }
  device.use_tile_times(*known.tiles);
}

std::string forced_note(bool on, const char* variable) {
  return std::string(on ? "on: " : "off: ") + variable + " says so";
}

/// Tried once, like the tiles.
void choose_overlap(const Opening& opening, Device& device, const CancelToken* cancel) {
  if (!device.can_overlap_launches()) return;
  if (const std::optional<bool> forced = forced_overlapping_launches()) {
    opening.set_note(&Known::overlap_note, forced_note(*forced, "NODE_DIFFUSION_CUDA_OVERLAP"));
    return device.use_overlapping_launches(*forced);
  }
  Known& known = opening.known();
  if (!known.overlap) {
    OverlapVerdict verdict;
    try {
      verdict = try_overlap(device, cancel);
    } catch (const Error& error) {
      known.overlap = false;
      throw Error(ErrorCode::device_lost,
                  std::string("The trial of overlapping kernels failed, and the GPU's context with it (") +
                      error.what() +
                      "). Load the models again, or start with NODE_DIFFUSION_CUDA_OVERLAP=0.");
    }
    opening.set_note(&Known::overlap_note, verdict.note);
    if (verdict.may_pass) return;  // the next load tries again
    known.overlap = verdict.on;
  }
  device.use_overlapping_launches(*known.overlap);
}

/// What people are told about the last trial.
std::string note_of(const Known& known) {
  const std::string& note = known.hopper->note;
  if (!known.hopper->may_pass) return note;
  const std::string times = std::to_string(known.trials) + " of " + std::to_string(kMaxTrials);
  return note + (known.tries_again() ? " (trial " + times + "; the next load tries again)"
                                     : " (trial " + times + ")");
}

void try_again(const Opening& opening, const Device& device, const std::vector<char>& image,
               const CancelToken* cancel) {
  Known& known = opening.known();
  // The context of a trial whose kernel has ended meanwhile is closed before another one is opened.
  if (known.hopper) known.hopper->unfinished.reset();
  known.hopper = try_hopper(device.driver(), device.description().number, image, device.tile_times(), cancel);
  ++known.trials;
  opening.set_note(&Known::hopper_note, note_of(known));
}

void choose_hopper(const Opening& opening, CudaBackend& backend, const std::vector<char>& image,
                   const CancelToken* cancel) {
  Device& device = backend.device();
  if (device.capability() != kHopper || !device.has_warpgroup_products()) return;
  if (const std::optional<WarpgroupProducts> forced = forced_warpgroup_products()) {
    // Device's constructor has applied it.
    opening.set_note(&Known::hopper_note,
                     forced_note(*forced != WarpgroupProducts::none, "NODE_DIFFUSION_CUDA_WGMMA"));
    return;
  }
  Known& known = opening.known();
  if (!known.hopper || known.tries_now()) try_again(opening, device, image, cancel);
  // CUDA promises nothing to other contexts of a process in which a kernel has failed.
  if (!known.hopper->on && device.lost())
    throw Error(ErrorCode::device_lost,
                "The trial of Hopper's kernels failed, and this process cannot use the GPU any more (" +
                    known.hopper->note + "). Start it again with NODE_DIFFUSION_CUDA_WGMMA=0.");
  apply(*known.hopper, device);
}

}  // namespace

std::vector<DeviceDescription> list_devices(const Driver& driver) {
  check(driver, driver.init(0), "Could not start the NVIDIA driver");
  int count = 0;
  check(driver, driver.device_count(&count), "Could not count GPUs");
  std::vector<DeviceDescription> list;
  const std::lock_guard<std::mutex> lock(mutex);
  for (int number = 0; number < count; ++number) {
    list.push_back(describe_device(driver, number));
    const auto known = known_devices().find(number);
    if (known == known_devices().end()) continue;
    list.back().tiles = known->second.tiles_note;
    list.back().hopper = known->second.hopper_note;
    list.back().overlap = known->second.overlap_note;
  }
  return list;
}

std::shared_ptr<CudaBackend> open_device(const Driver& driver, int number, const std::vector<char>& image,
                                         const CancelToken* cancel) {
  const Opening opening(number, cancel);
  // A lost device never recovers: whoever loads a model again gets a new context.
  std::shared_ptr<CudaBackend> before = opening.backend();
  if (before && before->device().lost()) before = nullptr;
  if (before && (forced_warpgroup_products() || !opening.known().tries_now())) return before;
  if (before) {
    try_again(opening, before->device(), image, cancel);
    if (!opening.known().hopper->on && !before->device().lost()) return before;
    // Models that are open keep their kernels, as their plans have them, and no spare memory, of which the
    // new device would not know.
    before->device().keep_spare_blocks(0);
    before->device().release_spare_blocks();
  }
  auto backend = std::make_shared<CudaBackend>(driver, number, image);
  Device& device = backend->device();
  choose_tiles(opening, device, cancel);
  choose_hopper(opening, *backend, image, cancel);
  choose_overlap(opening, device, cancel);
  device.keep_spare_blocks();
  opening.set_backend(backend);
  return backend;
}

MemoryInfo memory_info(CudaBackend& backend) {
  return backend.device().memory_info();
}

}  // namespace nd::cuda
