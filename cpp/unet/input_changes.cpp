#include "unet/input_changes.h"

#include <algorithm>

#include "core/require.h"
#include "weights/formats/half.h"

namespace nd {

void ChangedInputs::describe(std::vector<uint64_t>& key) const {
  kept->describe(key);
  key.push_back(networks->id());
  key.push_back(bits_of(scale));
  for (const int64_t row : {first, count}) key.push_back(static_cast<uint64_t>(row));
}

bool InputChanges::any(Projection projection) const {
  return all && std::any_of(all->begin(), all->end(), [&](const ChangedInputs& one) {
           return one.networks->changes(block, projection);
         });
}

Tensor InputChanges::apply(ForwardContext& ctx, Projection projection, const Tensor& x) const {
  Tensor changed(ctx, x.n, x.h, x.w, x.c);
  if (!ctx.measuring()) ctx.backend.copy_rows(ctx, x, 0, changed, 0, x.rows());
  for (const ChangedInputs& one : *all) {
    if (!one.networks->changes(block, projection)) continue;
    const Tensor change = one.networks->forward(ctx, block, projection, changed, one.kept);
    if (ctx.measuring()) continue;
    ctx.backend.add_rows(ctx, change, one.first * x.pixels(), changed, one.first * x.pixels(),
                         one.count * x.pixels(), one.scale, false);
  }
  return changed;
}

void check_input_changes(const std::vector<ChangedInputs>& changes, int64_t n, const Memory& memory) {
  for (const ChangedInputs& one : changes) {
    require(one.networks && one.kept && one.first >= 0 && one.count >= 0 && one.first + one.count <= n,
            "Expected input changes of rows of this batch");
    one.networks->check(*one.kept, memory);
  }
}

}  // namespace nd
