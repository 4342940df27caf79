// Four-bit weights: what every table expands from nibbles is exact against the reference, lies as pack_panel
// lays it, and differs from the stored weights by little more than half a step of int8.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "harness.h"
#include "cpu/kernels/int4.h"
#include "weights/formats/int4_rows.h"
#include "weights/formats/traits.h"
#include "tables.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Rows of blocks, among them such as no encoder would write.
struct Rows {
  int64_t count, k;
  bool offsets;
  std::vector<uint8_t> q;
  std::vector<float> scale, offset;

  Rows(const std::string& seed, int64_t count, int64_t k, bool offsets)
      : count(count), k(k), offsets(offsets), q(static_cast<size_t>(count * k)) {
    Random random(seed);
    for (int64_t block = 0; block < count * k / kInt4Block; ++block) {
      const int kind = static_cast<int>(random.below(8));
      scale.push_back(random.uniform());
      offset.push_back(2 * random.uniform());
      if (kind == 0) scale.back() = 0;
      if (kind == 1) scale.back() *= 1e-6f;
      // One nibble alone, whose scale may be anything; without minima only 8, whose weight is 0.
      const bool alone = kind == 2;
      if (alone) scale.back() = offsets ? 7.0f : 1e20f;
      if (alone && offsets) offset.back() = -7.0f * 11 + 0.3f;
      for (int64_t i = 0; i < kInt4Block; ++i)
        q[static_cast<size_t>(block * kInt4Block + i)] =
            static_cast<uint8_t>(alone ? (offsets ? 11 : 8) : random.below(kind == 3 ? 2 : 16));
    }
  }
  std::vector<Int4Row> rows() const {
    std::vector<Int4Row> result;
    for (int64_t j = 0; j < count; ++j) {
      const int64_t block = j * k / kInt4Block;
      result.push_back({q.data() + j * k, scale.data() + block, offsets ? offset.data() + block : nullptr});
    }
    return result;
  }
  double weight(int64_t j, int64_t i) const {
    const size_t at = static_cast<size_t>(j * k + i), block = at / kInt4Block;
    if (offsets) return static_cast<double>(scale[block]) * q[at] + static_cast<double>(offset[block]);
    return static_cast<double>(scale[block]) * (q[at] - 8);
  }
};

struct Expanded {
  std::vector<uint8_t> panels;
  int64_t panel_bytes = 0;
};

Expanded expand(const Kernels& table, const Rows& all, const std::vector<KGroup>& groups, std::string& why) {
  const ReducedGemm& low = *table.i8;
  const int64_t count = static_cast<int64_t>(groups.size()), nr = table.nr;
  const std::vector<Int4Row> rows = all.rows();
  Expanded result;
  result.panel_bytes = low.panel_bytes(groups.data(), count);
  for (int64_t first = 0; first < all.count; first += nr) {
    Floats nibbles(int4_panel_bytes(nr, all.offsets, groups.data(), count) / 4),
        panel(result.panel_bytes / 4);
    uint8_t* const packed = reinterpret_cast<uint8_t*>(nibbles.get());
    pack_int4(rows.data() + first, std::min(nr, all.count - first), nr, groups.data(), count, packed);
    uint8_t* const to = reinterpret_cast<uint8_t*>(panel.get());
    low.expand_int4(packed, all.offsets, groups.data(), count, to);
    for (const Floats* buffer : {&nibbles, &panel})
      if (why.empty()) why = buffer->guards();
    result.panels.insert(result.panels.end(), to, to + result.panel_bytes);
  }
  return result;
}

/// Every column's scale and bytes, in order, out of panels whose layout is taken from pack_panel.
struct Column {
  std::vector<float> scales;
  std::vector<int8_t> bytes;
};

std::vector<Column> columns(const Kernels& table, const Rows& all, const std::vector<KGroup>& groups,
                            const Expanded& expanded) {
  // Where pack_panel puts element i of column j: a panel of which it alone is not zero.
  const ReducedGemm& low = *table.i8;
  const int64_t nr = table.nr, header = low.panel_bytes(groups.data(), 1) - groups[0].length * nr;
  std::vector<Column> result(static_cast<size_t>(all.count));
  for (int64_t j = 0; j < all.count; ++j) {
    const uint8_t* panel = expanded.panels.data() + j / nr * expanded.panel_bytes;
    const int64_t slot = j % nr;
    Column& column = result[static_cast<size_t>(j)];
    for (const KGroup& group : groups) {
      float scale;
      std::memcpy(&scale, panel + 4 * slot, sizeof scale);
      column.scales.push_back(scale);
      const int64_t depth = std::string(table.name) == "ref" ? 1 : low.multiple;
      for (int64_t i = 0; i < group.length; ++i)
        column.bytes.push_back(
            static_cast<int8_t>(panel[header + i / depth * depth * nr + slot * depth + i % depth]));
      panel += header + group.length * nr;
    }
  }
  return result;
}

std::string compare(const Rows& all, const std::vector<KGroup>& groups, const std::vector<Column>& found) {
  for (int64_t j = 0; j < all.count; ++j) {
    int64_t i = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
      const double scale = found[static_cast<size_t>(j)].scales[g];
      for (const int64_t end = i + groups[g].length; i < end; ++i) {
        const double w = all.weight(j, i),
                     got = scale * found[static_cast<size_t>(j)].bytes[static_cast<size_t>(i)];
        const double tol = scale * (0.5 + 9.0 / 256) + 1e-5 * std::fabs(w);
        if (!(std::fabs(got - w) <= tol))
          return "column " + std::to_string(j) + " element " + std::to_string(i) + ": " + text(got) +
                 ", expected " + text(w) + " within " + text(tol);
      }
    }
  }
  return "";
}

/// pack_panel of the bytes themselves, scaled by powers of two so that rounding cannot hide a wrong place.
std::string same_layout(const Kernels& table, const std::vector<KGroup>& groups,
                        const std::vector<Column>& found, const Expanded& expanded) {
  const ReducedGemm& low = *table.i8;
  const int64_t nr = table.nr, count = static_cast<int64_t>(found.size());
  std::vector<std::vector<float>> rows;
  for (const Column& column : found) rows.emplace_back(column.bytes.begin(), column.bytes.end());
  for (int64_t first = 0; first < count; first += nr) {
    std::vector<const float*> panel_rows;
    for (int64_t j = first; j < std::min(count, first + nr); ++j)
      panel_rows.push_back(rows[static_cast<size_t>(j)].data());
    std::vector<uint8_t> packed(static_cast<size_t>(expanded.panel_bytes) + 64);
    uint8_t* const to = packed.data() + (64 - reinterpret_cast<uintptr_t>(packed.data()) % 64) % 64;
    low.pack_panel(panel_rows.data(), static_cast<int64_t>(panel_rows.size()), groups.data(),
                   static_cast<int64_t>(groups.size()), to);
    const uint8_t* ours = expanded.panels.data() + first / nr * expanded.panel_bytes;
    int64_t at = 0;
    for (const KGroup& group : groups) {
      const int64_t header = low.panel_bytes(&group, 1) - group.length * nr;
      if (std::memcmp(ours + at + header, to + at + header, static_cast<size_t>(group.length * nr)) != 0)
        return "bytes lie otherwise than pack_panel's";
      // s·Σw of every column, where the table keeps it.
      for (int64_t j = 0; header > 4 * nr && j < static_cast<int64_t>(panel_rows.size()); ++j) {
        float scale, sum, total;
        std::memcpy(&scale, ours + at + 4 * j, 4);
        std::memcpy(&sum, ours + at + 4 * (nr + j), 4);
        std::memcpy(&total, to + at + 4 * (nr + j), 4);
        if (!(std::fabs(sum - scale * total) <= 1e-5f * std::fabs(sum)))
          return "column " + std::to_string(first + j) + ": sum " + text(sum) + ", expected " +
                 text(scale * total);
      }
      at += header + group.length * nr;
    }
  }
  return "";
}

void kernels() {
  const std::vector<std::vector<KGroup>> all_groups = {
      {{0, 32, 0}}, {{0, 64, 0}, {64, 32, 1}}, {{0, 448, 0}, {448, 448, 1}, {896, 384, 2}}};
  for (const Kernels* table : all_tables()) {
    if (!table->i8) continue;
    for (const bool offsets : {false, true})
      for (const std::vector<KGroup>& groups : all_groups)
        for (const int64_t count : {1, 17, 64, 70}) {
          const int64_t k = groups.back().offset + groups.back().length;
          const std::string shape = "n=" + std::to_string(count) + " k=" + std::to_string(k) +
                                    " offsets=" + std::to_string(offsets);
          const std::string name = std::string("nibbles/") + table->name + " " + shape;
          if (!wanted(name)) continue;
          const Rows rows(shape, count, k, offsets);
          std::string why;
          if (!table->i8->expand_int4) why = "int8 without expand";
          std::vector<Column> found;
          Expanded expanded;
          if (why.empty()) expanded = expand(*table, rows, groups, why);
          if (why.empty()) found = columns(*table, rows, groups, expanded);
          if (why.empty()) why = compare(rows, groups, found);
          if (why.empty()) why = same_layout(*table, groups, found, expanded);
          if (why.empty()) {
            const std::vector<Column> truth =
                columns(reference(), rows, groups, expand(reference(), rows, groups, why));
            for (size_t j = 0; j < truth.size() && why.empty(); ++j)
              if (truth[j].bytes != found[j].bytes || truth[j].scales != found[j].scales)
                why = "column " + std::to_string(j) + " differs from the reference's";
          }
          report(name, why);
        }
  }
}

void not_a_number() {
  for (const float value : {kNan, std::numeric_limits<float>::infinity()}) {
    const std::string name = "nibbles nan value=" + text(value);
    if (!wanted(name)) continue;
    Rows rows("nan", 3, 64, false);
    for (float& scale : rows.scale) scale = 1;
    rows.scale[3] = value;  // second row, second block
    std::string why;
    const std::vector<KGroup> groups = {{0, 64, 0}};
    const std::vector<Column> found =
        columns(reference(), rows, groups, expand(reference(), rows, groups, why));
    for (size_t j = 0; j < 3 && why.empty(); ++j)
      if (std::isnan(found[j].scales[0]) != (j == 1)) why = "column " + std::to_string(j);
    report(name, why);
  }
}

/// Rows whose scale has no finite inverse become zeros, and only those.
void tiny_values() {
  for (const bool offsets : {false, true}) {
    const std::string name = "int4 tiny offsets=" + std::to_string(offsets);
    if (!wanted(name)) continue;
    Rows rows("tiny", 3, 64, offsets);
    for (size_t block = 0; block < rows.scale.size(); ++block) {
      rows.scale[block] = block / 2 == 1 ? 0x1p-140f : 1.0f;  // the second row
      rows.offset[block] = block / 2 == 1 ? -0x1p-139f : -7.0f;
    }
    std::string why;
    const std::vector<KGroup> groups = {{0, 64, 0}};
    const std::vector<Column> found =
        columns(reference(), rows, groups, expand(reference(), rows, groups, why));
    for (size_t j = 0; j < 3 && why.empty(); ++j) {
      const bool zero =
          std::all_of(found[j].bytes.begin(), found[j].bytes.end(), [](int8_t x) { return x == 0; });
      if (!std::isfinite(found[j].scales[0]) || zero != (j == 1)) why = "column " + std::to_string(j);
    }
    report(name, why);
  }
}

/// Stored blocks taken apart are the weights that decoding them gives.
void unpacking() {
  int count = 0;
  const TypeTraits* rows = all_traits(&count);
  int kinds = 0;
  for (int t = 0; t < count; ++t) {
    const TypeTraits& row = rows[t];
    if (int4_kind(row.type) == Int4Kind::none) continue;
    ++kinds;
    const std::string name = std::string("nibbles unpack ") + row.name;
    if (!wanted(name)) continue;
    Random random(name);
    std::vector<float> x(1024), decoded(x.size());
    for (float& value : x) value = random.uniform();
    std::vector<uint8_t> stored(x.size() / static_cast<size_t>(row.block) *
                                static_cast<size_t>(row.block_bytes));
    row.encode(x.data(), 1024, stored.data());
    row.decode(reference().decoders, stored.data(), 1024, decoded.data());
    std::vector<uint8_t> q(x.size());
    std::vector<float> scale(32), offset(32);
    unpack_int4(row.type, stored.data(), 1024, q.data(), scale.data(), offset.data());
    std::string why;
    for (size_t i = 0; i < x.size() && why.empty(); ++i) {
      const bool symmetric = int4_kind(row.type) == Int4Kind::symmetric;
      const float value = symmetric ? scale[i / 32] * static_cast<float>(q[i] - 8)
                                    : scale[i / 32] * static_cast<float>(q[i]) + offset[i / 32];
      if (!(std::fabs(value - decoded[i]) <= 1e-6f))
        why = "element " + std::to_string(i) + ": " + text(value);
    }
    report(name, why);
  }
  report("nibbles types", kinds == 3 ? "" : std::to_string(kinds) + " types");
}

const Register suite([] {
  kernels();
  not_a_number();
  tiny_values();
  unpacking();
});

}  // namespace
}  // namespace nd::test
