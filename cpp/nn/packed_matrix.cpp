#include <algorithm>
#include <cstdlib>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "nn/linear.h"

namespace nd {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}

void PackedMatrix::Free::operator()(float* p) const { std::free(p); }

PackedMatrix::PackedMatrix(Loader& loader, int64_t rows, int64_t inner, const std::function<void(int64_t, float*)>& fill)
    : n(rows), k(inner) {
  const int64_t nr = loader.kernels.nr, panels = (n + nr - 1) / nr;
  const size_t bytes = sizeof(float) * static_cast<size_t>(panels * nr * k);
  // Large matrices are read front to back at every forward: huge pages spare the TLB.
  const size_t alignment = bytes >= 2 * kHugePage ? kHugePage : 64;
  data_.reset(static_cast<float*>(std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)));
  if (!data_) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (alignment == kHugePage) madvise(data_.get(), bytes, MADV_HUGEPAGE);
#endif
  loader.packed_bytes += bytes;
  loader.pool.parallel_for(panels, loader.cancel, [&](int64_t panel, int) {
    const int64_t first = panel * nr, count = std::min(nr, n - first);
    std::vector<float> rows_of_panel(static_cast<size_t>(count * k));
    std::vector<const float*> pointers(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      float* row = rows_of_panel.data() + i * k;
      fill(first + i, row);
      pointers[static_cast<size_t>(i)] = row;
    }
    loader.kernels.pack_panel(pointers.data(), count, k, data_.get() + panel * nr * k);
  });
}

}  // namespace nd
