#include "earlier.h"

#include <map>
#include <utility>
#include <vector>

#include "driver.h"
#include "driver_contexts.h"

namespace emu {
namespace {

using Notes = std::map<nd::cuda::DevicePointer, std::vector<uint8_t>>;
Notes &before_previous = *new Notes, &before_this = *new Notes;

}  // namespace

void note_memory() {
  before_previous = std::move(before_this);
  before_this.clear();
  if (!driver_options.keeps_earlier) return;
  for (const auto& [pointer, block] : blocks) {
    const auto* begin = reinterpret_cast<const uint8_t*>(pointer);
    before_this[pointer].assign(begin, begin + block.bytes);
  }
}

const uint8_t* earlier(const uint8_t* byte) {
  const auto address = reinterpret_cast<nd::cuda::DevicePointer>(byte);
  auto found = before_previous.upper_bound(address);
  if (found == before_previous.begin()) return byte;
  --found;
  const uint64_t offset = address - found->first;
  return offset < found->second.size() ? found->second.data() + offset : byte;
}

}  // namespace emu
