#include "free_elsewhere.h"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "core/executor.h"

namespace nd_binding {
namespace {

struct Shares {
  std::mutex mutex;
  std::condition_variable freed;
  int left = 0;

  /// The process's. Never destroyed: threads may use it when the process ends.
  static Shares& all() {
    static Shares* shares = new Shares();
    return *shares;
  }
};

class Share {
 public:
  explicit Share(std::shared_ptr<void> object) : object_(std::move(object)) {
    const std::lock_guard<std::mutex> lock(Shares::all().mutex);
    ++Shares::all().left;
  }
  ~Share() {
    object_.reset();
    const std::lock_guard<std::mutex> lock(Shares::all().mutex);
    if (--Shares::all().left == 0) Shares::all().freed.notify_all();
  }
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;

 private:
  std::shared_ptr<void> object_;
};

}  // namespace

void free_elsewhere(std::shared_ptr<void> object) noexcept {
  if (!object) return;
  try {
    auto share = std::make_shared<Share>(std::move(object));
    nd::Executor::shared().submit([share = std::move(share)]() mutable { share.reset(); });
  } catch (...) {
    // The share went with what could not be made or submitted.
  }
}

void wait_until_freed() noexcept {
  Shares& shares = Shares::all();
  std::unique_lock<std::mutex> lock(shares.mutex);
  shares.freed.wait(lock, [&] { return shares.left == 0; });
}

}  // namespace nd_binding
