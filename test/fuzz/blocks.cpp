#include <cmath>

#include "cpu/kernels/kernels.h"
#include "cpu/kernels/reduced_gemm.h"
#include "input.h"
#include "targets.h"
#include "weights/formats/int4_rows.h"
#include "weights/formats/traits.h"

namespace nd::fuzz {
namespace {

/// A type's blocks at an odd address, in memory that ends where they end.
void decode_and_encode(const TypeTraits& type, const std::vector<uint8_t>& bytes) {
  const size_t blocks = bytes.size() / static_cast<size_t>(type.block_bytes);
  const int64_t count = static_cast<int64_t>(blocks) * type.block;
  if (count == 0) return;
  require(stored_bytes(type.type, count) == static_cast<int64_t>(blocks) * type.block_bytes);
  std::vector<uint8_t> data(1 + blocks * static_cast<size_t>(type.block_bytes));
  std::copy_n(bytes.begin(), data.size() - 1, data.begin() + 1);
  std::vector<float> values(static_cast<size_t>(count));
  type.decode(scalar_decoders, data.data() + 1, count, values.data());
  if (int4_kind(type.type) != Int4Kind::none) {
    const size_t scales = values.size() / kInt4RowBlock;
    std::vector<uint8_t> q(values.size());
    std::vector<float> scale(scales), offset(scales);
    unpack_int4(type.type, data.data() + 1, count, q.data(), scale.data(), offset.data());
    for (const uint8_t value : q) require(value < 16);
  }
  if (!type.encode) return;
  std::vector<uint8_t> encoded(data.size());
  type.encode(values.data(), count, encoded.data() + 1);
  std::vector<float> again(values.size());
  type.decode(scalar_decoders, encoded.data() + 1, count, again.data());
  bool finite = true;
  for (const float value : values) finite = finite && std::isfinite(value) && std::fabs(value) < 1e4f;
  // Finite weights stay finite, whatever rounding does.
  for (const float value : again) require(!finite || std::isfinite(value));
}

/// Floats with any bits, packed as weights by every table that this CPU can run.
void pack(Input& input) {
  constexpr int64_t kLength = 64;
  const std::vector<uint8_t> bytes = input.bytes(kLength * sizeof(float));
  std::vector<float> row(kLength);
  if (!bytes.empty()) std::memcpy(row.data(), bytes.data(), bytes.size());
  const cpu::KGroup group{0, kLength, 0};
  int count = 0;
  const cpu::Kernels* const* tables = cpu::available_kernels(&count);
  for (int i = 0; i < count; ++i) {
    const std::vector<const float*> rows(static_cast<size_t>(tables[i]->nr), row.data());
    for (const cpu::ReducedGemm* reduced : {tables[i]->bf16, tables[i]->i8}) {
      if (!reduced) continue;
      std::vector<uint8_t> panel(static_cast<size_t>(reduced->panel_bytes(&group, 1)) + 64);
      uint8_t* const aligned = panel.data() + (64 - reinterpret_cast<uintptr_t>(panel.data()) % 64) % 64;
      reduced->pack_panel(rows.data(), tables[i]->nr, &group, 1, aligned);
    }
  }
}

}  // namespace

void blocks(const uint8_t* data, size_t size) {
  Input input(data, size);
  int count = 0;
  const TypeTraits* types = all_traits(&count);
  const TypeTraits& type = types[input.below(count)];
  const bool packs = input.below(4) == 0;
  if (packs) return pack(input);
  decode_and_encode(type, input.bytes(4096));
}

}  // namespace nd::fuzz
