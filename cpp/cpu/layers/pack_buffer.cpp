#include "cpu/layers/pack_buffer.h"

#include <condition_variable>
#include <mutex>
#include <new>
#include <utility>

#include "core/memory.h"

namespace nd::cpu {

/// The head of a buffer, within its own memory, so that returning one allocates nothing.
struct alignas(64) PackBuffer::Block {
  size_t bytes;  // with this head
  Block* next;   // of those that are not in use

  float* data() { return reinterpret_cast<float*>(this + 1); }
};

struct PackBuffer::Pool {
  std::mutex mutex;
  std::condition_variable returned;
  Block* unused = nullptr;
  size_t held = 0;

  static Pool& shared() {
    // Never destroyed: a call may still be running when the process ends.
    static Pool* pool = new Pool();
    return *pool;
  }

  void free(Block* block) noexcept {
    held -= block->bytes;
    host_memory().release({reinterpret_cast<uintptr_t>(block)}, block->bytes);
  }

  /// An unused buffer that is large enough, if any.
  Block* take(size_t bytes) {
    for (Block** link = &unused; *link; link = &(*link)->next)
      if ((*link)->bytes >= bytes) return std::exchange(*link, (*link)->next);
    return nullptr;
  }
};

PackBuffer::PackBuffer(size_t floats) {
  const size_t bytes = sizeof(Block) + floats * sizeof(float);
  Pool& pool = Pool::shared();
  std::unique_lock<std::mutex> lock(pool.mutex);
  for (;;) {
    block_ = pool.take(bytes);
    if (block_) return;
    // Too small ones make room for a larger one.
    if (pool.unused) pool.free(std::exchange(pool.unused, pool.unused->next));
    if (pool.held == 0 || pool.held + bytes <= kMaxBytes) break;
    if (!pool.unused) pool.returned.wait(lock);
  }
  const Address memory = host_memory().allocate(bytes);
  block_ = new (reinterpret_cast<void*>(memory.value)) Block{bytes, nullptr};
  pool.held += bytes;
}

PackBuffer::~PackBuffer() {
  Pool& pool = Pool::shared();
  {
    const std::lock_guard<std::mutex> lock(pool.mutex);
    block_->next = std::exchange(pool.unused, block_);
  }
  pool.returned.notify_one();
}

float* PackBuffer::data() const {
  return block_->data();
}

void PackBuffer::free_unused() noexcept {
  Pool& pool = Pool::shared();
  {
    const std::lock_guard<std::mutex> lock(pool.mutex);
    while (pool.unused) pool.free(std::exchange(pool.unused, pool.unused->next));
  }
  pool.returned.notify_all();
}

size_t PackBuffer::held_bytes() {
  Pool& pool = Pool::shared();
  const std::lock_guard<std::mutex> lock(pool.mutex);
  return pool.held;
}

}  // namespace nd::cpu
