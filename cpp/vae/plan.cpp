#include "vae/plan.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "nn/profile.h"

namespace nd {

namespace {

// Rows in one band. Fewer rows need less memory, but more of them are computed twice where bands meet.
constexpr int64_t kRows[] = {64, 32, 16};

// A plan that stores half precision counts as this much slower, so that float32 is preferred where it fits.
constexpr double kHalfPrecisionCost = 1.05;

/// How many levels, counted from the highest resolution, run in bands; how many of these store the image only
/// after residual blocks; and how many of those store nothing inside the level.
struct Depths {
  size_t joined, blocks, banded;
};

Plan make_plan(const Chain& chain, const Depths& depths, int64_t rows) {
  const std::vector<Link>& links = chain.links();
  const auto& levels = chain.levels();
  // Levels by resolution, the highest first.
  const auto rank = [&](size_t level) { return chain.ascending() ? levels.size() - 1 - level : level; };
  Plan plan;
  plan.rows = rows;
  if (depths.banded == 0) return plan;
  plan.first = chain.ascending() ? levels[levels.size() - depths.banded].first : 0;
  plan.last = chain.ascending() ? links.size() : levels[depths.banded - 1].second;
  for (size_t level = 0; level < levels.size(); ++level) {
    if (rank(level) >= depths.banded) continue;
    const auto [first, last] = levels[level];
    const bool joined = rank(level) < depths.joined, blocks = rank(level) < depths.blocks;
    for (size_t i = first; i + 1 < last && !joined; ++i) {
      // The result of a downsampling convolution is smaller than its input.
      if (links[i + 1].downsamples()) continue;
      if (links[i].closes_residual || !blocks) plan.cuts.push_back(i + 1);
    }
    const bool continues = level + 1 < levels.size() ? rank(level + 1) < depths.joined : true;
    if (!(joined && continues) && last < plan.last) plan.cuts.push_back(last);
  }
  plan.cuts.push_back(plan.last);
  return plan;
}

/// Multiplications of links [first, last) for one band of output rows, or for the whole image.
double work(const Chain& chain, const std::vector<ImageShape>& shapes, size_t first, size_t last,
            std::optional<Rows> out) {
  double sum = 0;
  Rows in = out ? chain.input_rows(shapes, first, last, *out) : Rows{0, shapes[first].h};
  int64_t rows = in.count();
  for (size_t i = first; i < last; ++i) {
    const Link& link = chain.links()[i];
    if (link.upsamples()) rows *= 2;
    if (link.downsamples()) rows /= 2;
    const double pixels = static_cast<double>(rows * shapes[i + 1].w);
    const double each = static_cast<double>(link.conv->in() * link.conv->out());
    // Upsampling is folded into four 2×2 convolutions; Winograd needs 4 multiplications instead of 9.
    sum += pixels * each * (link.downsamples() ? 9 : 4);
    if (link.shortcut) sum += pixels * each;
  }
  return sum;
}

/// Calls pass(first, last) for each time that links [first, last) run in bands: for the moments of every
/// normalization, and for what is kept.
template <class Pass>
void each_pass(const Chain& chain, const Plan& plan, const Pass& pass) {
  size_t first = plan.first;
  for (const size_t last : plan.cuts) {
    for (size_t i = first + 1; i < last; ++i)
      if (chain.links()[i].norm) pass(first, i);
    pass(first, last);
    first = last;
  }
}

double cost(const Chain& chain, const std::vector<ImageShape>& shapes, const Plan& plan) {
  double sum = work(chain, shapes, 0, plan.first, {});
  sum += work(chain, shapes, plan.last, chain.links().size(), {});
  const auto pass = [&](size_t first, size_t last) {
    const int64_t height = shapes[last].h, bands = (height + plan.rows - 1) / plan.rows, middle = bands / 2;
    const Rows rows{middle * plan.rows, std::min(height, (middle + 1) * plan.rows)};
    sum += work(chain, shapes, first, last, rows) * static_cast<double>(height) /
           static_cast<double>(rows.count());
  };
  each_pass(chain, plan, pass);
  return sum;
}

/// Elements of the largest tensor that a plan has: of a whole image, or of a band in the middle of one.
int64_t largest_tensor(const Chain& chain, const std::vector<ImageShape>& shapes, const Plan& plan) {
  int64_t largest = 0;
  const auto pass = [&](size_t first, size_t last) {
    const int64_t height = shapes[last].h, middle = height / plan.rows / 2 * plan.rows;
    int64_t rows =
        chain.input_rows(shapes, first, last, {middle, std::min(height, middle + plan.rows)}).count();
    for (size_t i = first; i < last; ++i) {
      largest = std::max(largest, rows * shapes[i].row());
      if (chain.links()[i].upsamples()) rows *= 2;
      if (chain.links()[i].downsamples()) rows /= 2;
      largest = std::max(largest, rows * shapes[i + 1].row());
    }
  };
  each_pass(chain, plan, pass);
  for (size_t i = 0; i < shapes.size(); ++i) {
    const bool after = i >= plan.last && plan.last + 1 < shapes.size();
    if (!plan.banded() || i <= plan.first || after) largest = std::max(largest, shapes[i].size());
  }
  return largest;
}

std::vector<Depths> all_depths(const Chain& chain) {
  const size_t levels = chain.levels().size();
  std::vector<Depths> result;
  for (size_t banded = 0; banded <= levels; ++banded) {
    // Without norms there is only one way to run links in bands.
    if (!chain.normalizes()) {
      result.push_back({banded, banded, banded});
      continue;
    }
    for (size_t blocks = 0; blocks <= banded; ++blocks)
      for (size_t joined = 0; joined <= std::min<size_t>(1, blocks); ++joined)
        result.push_back({joined, blocks, banded});
  }
  return result;
}

}  // namespace

Plan choose_plan(const Chain& chain, const ImageShape& input, size_t max_bytes, int64_t max_elements,
                 const std::function<size_t(const Plan&)>& bytes) {
  const std::vector<ImageShape> shapes = chain.shapes(input);
  struct Candidate {
    Plan plan;
    double cost;
  };
  std::vector<Candidate> candidates;
  for (const Depths& depths : all_depths(chain))
    for (const int64_t rows : kRows) {
      Plan plan = make_plan(chain, depths, rows);
      const double time = cost(chain, shapes, plan);
      candidates.push_back({plan, time});
      if (depths.banded == 0) break;
      plan.fp16 = true;
      candidates.push_back({std::move(plan), time * kHalfPrecisionCost});
    }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; });
  const auto too_large = std::stable_partition(
      candidates.begin(), candidates.end(),
      [&](const Candidate& one) { return largest_tensor(chain, shapes, one.plan) <= max_elements; });
  if (too_large != candidates.begin()) candidates.erase(too_large, candidates.end());
  if (max_bytes == std::numeric_limits<size_t>::max()) return candidates.front().plan;
  // What candidates would compute is not work.
  const Profile::Counting uncounted(nullptr);
  const Plan* smallest = nullptr;
  size_t smallest_bytes = 0;
  for (const Candidate& candidate : candidates) {
    const size_t needed = bytes(candidate.plan);
    if (needed <= max_bytes) return candidate.plan;
    if (smallest && needed >= smallest_bytes) continue;
    smallest = &candidate.plan;
    smallest_bytes = needed;
  }
  return *smallest;
}

Plan KnownPlans::choose(const Chain& chain, const ImageShape& input, size_t max_bytes, int64_t max_elements,
                        const std::function<size_t(const Plan&)>& bytes) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const Known& one : known_)
      if (one.h == input.h && one.w == input.w && one.max_bytes == max_bytes) return one.plan;
  }
  Plan plan = choose_plan(chain, input, max_bytes, max_elements, bytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (known_.size() == kMost) known_.erase(known_.begin());
  known_.push_back({input.h, input.w, max_bytes, plan});
  return plan;
}

}  // namespace nd
