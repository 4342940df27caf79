// What the engine asks of the operating system: pages of memory, files that are read at any offset, and to
// stay loaded. One source for each family of systems.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace nd::os {

/// Zeroed pages of their own; null if there are none. release_pages() returns them to the system at once.
void* allocate_pages(size_t bytes);
void release_pages(void* pages, size_t bytes);
/// Asks for huge pages where the system has them on request.
void prefer_huge_pages(void* pages, size_t bytes);

/// Heap memory aligned to 64 bytes; null if there is none.
void* allocate_aligned(size_t bytes);
void free_aligned(void* memory);

/// What tells a file and its state from others. Times are in nanoseconds.
struct FileState {
  bool regular = false;
  uint64_t device = 0, inode = 0;  // 0 where the system does not tell
  uint64_t size = 0;
  int64_t modified = 0;
  int64_t changed = 0;  // unlike `modified`, a program cannot set it; 0 where the system has no such time
  uint64_t links = 0;
};

/// A file that is open for reading. Others may write to it, rename it and delete it meanwhile.
class File {
 public:
  /// The path is UTF-8, of any length that the system allows. A file that cannot be opened is `!is_open()`.
  explicit File(const std::string& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool is_open() const { return handle_ != kNone; }
  /// False: failed, see last_error().
  bool state(FileState& result) const;
  /// The number of bytes read, at most `bytes`; 0 at the end of the file. Below 0: failed, see last_error().
  int64_t read(uint64_t offset, size_t bytes, uint8_t* out) const;

 private:
  static constexpr intptr_t kNone = -1;
  intptr_t handle_ = kNone;
};

/// Why this thread's last call failed, in the system's words.
std::string last_error();

/// Keeps this library in memory until the process ends, even if whoever loaded it unloads it. The engine's
/// threads outlive a worker thread of Node that was the only one to load the addon.
void stay_loaded();

}  // namespace nd::os
